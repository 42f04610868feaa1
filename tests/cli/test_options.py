"""Words of the command line: config files with spaces in their names, misspelt options, lines to be pasted."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml

from recbole_diffusion import cli
from recbole_diffusion.cli import option_names, reproduce
from recbole_diffusion.cli import run as run_command
from recbole_diffusion.cli.option_names import OPTIONS, UsageError, nearest_option
from recbole_diffusion.cli.options import config_files, parse
from recbole_diffusion.settings.config import Config

pytestmark = pytest.mark.usefixtures("no_plots")

QUICK = ["--show_progress=False", "--state=ERROR", "--epochs=1", "--data_path=dataset", "--train_batch_size=512"]
RUN = ["run", "--model=DiffRec", "--dataset=board", *QUICK, "--steps=3", "--dims=[16]"]


@pytest.fixture
def files(tmp_path):
    """a.yaml, b.yaml, 'my settings/a.yaml', 'my settings/b c.yaml', my: each sets another number of epochs."""
    (tmp_path / "my settings").mkdir()
    for epochs, name in enumerate(["a.yaml", "b.yaml", "my settings/a.yaml", "my settings/b c.yaml", "x,y.yaml"], 11):
        Path(name).write_text(f"epochs: {epochs}\n")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("  ", []),
        ("a.yaml", ["a.yaml"]),
        ("a.yaml b.yaml", ["a.yaml", "b.yaml"]),
        ("  a.yaml   b.yaml ", ["a.yaml", "b.yaml"]),
        ("a.yaml,b.yaml", ["a.yaml", "b.yaml"]),
        ("a.yaml, b.yaml", ["a.yaml", "b.yaml"]),
        ("[a.yaml, b.yaml]", ["a.yaml", "b.yaml"]),
        ("['my settings/a.yaml', 'b.yaml']", ["my settings/a.yaml", "b.yaml"]),
        ("my settings/a.yaml", ["my settings/a.yaml"]),
        ("my settings/b c.yaml", ["my settings/b c.yaml"]),
        ("my settings/a.yaml b.yaml", ["my settings/a.yaml", "b.yaml"]),
        ("a.yaml my settings/b c.yaml b.yaml", ["a.yaml", "my settings/b c.yaml", "b.yaml"]),
        ("my settings/a.yaml my settings/b c.yaml", ["my settings/a.yaml", "my settings/b c.yaml"]),
        ("'my settings/a.yaml' b.yaml", ["my settings/a.yaml", "b.yaml"]),
        ('"my settings/b c.yaml" "a.yaml"', ["my settings/b c.yaml", "a.yaml"]),
        ("x,y.yaml a.yaml", ["x,y.yaml", "a.yaml"]),
        ("nowhere.yaml", ["nowhere.yaml"]),
    ],
)
def test_config_files(text, found, files):
    assert config_files(text) == found


def test_a_home_folder_is_found(files, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config_files("~/a.yaml ~/my settings/a.yaml") == [str(tmp_path / "a.yaml"), f"{tmp_path}/my settings/a.yaml"]


@pytest.mark.parametrize(
    ("text", "word"),
    [("my settings/c.yaml", "my"), ("a.yaml nowhere.yaml", "nowhere.yaml"), ("a.yaml 'b.yaml", "'b.yaml")],
)
def test_a_file_that_is_not_there_is_named_with_the_whole_word(text, word, files, capsys):
    assert cli.main([*RUN, f"--config_files={text}"]) == 2
    error = capsys.readouterr().err
    assert f"config file {word!r} cannot be read: no such file" in error
    assert f"--config_files={text!r}" in error
    assert error.count("\n") == 1


def test_run_reads_files_with_spaces_in_their_order(files, checkerboard, capsys):
    words = [word for word in RUN if "epochs" not in word]
    for text, epochs in (
        ("my settings/a.yaml", 13),
        ("b.yaml my settings/a.yaml", 13),
        ("my settings/a.yaml b.yaml", 12),
    ):
        assert cli.main([*words, f"--config_files={text}", "--dry-run"]) == 0
        assert yaml.safe_load(capsys.readouterr().out)["epochs"] == epochs


def test_a_tuning_in_a_folder_with_a_space_can_be_pasted(checkerboard, tmp_path, capsys):
    """Files for tune and compare; the line in best.yaml, as a shell would read it."""
    Path("my settings").mkdir()
    Path("my settings/t.yaml").write_text("embedding_size: 4\nepochs: 1\n")
    Path("my settings/space.yaml").write_text("learning_rate: {choice: [0.01, 0.1]}")
    common = ["--dataset=board", "--data_path=dataset", "--config_files=my settings/t.yaml"]
    words = ["--model=BPR", "--trials=1", "--space=my settings/space.yaml", "--executor=serial", "--folder=my tuning"]
    assert cli.main(["tune", *words, *common]) == 0
    best = (tmp_path / "my tuning" / "best.yaml").read_text()
    (line,) = (line for line in best.splitlines() if line.startswith("# Run: "))
    command, *pasted = shlex.split(line[len("# Run: ") :])
    assert command == "recbole-diffusion"
    assert pasted == ["run", f"--config_files={tmp_path}/my tuning/best.yaml"]
    capsys.readouterr()
    assert cli.main([*pasted, "--dry-run"]) == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    assert settings["embedding_size"] == 4
    assert cli.main(["compare", "--models=BPR,Pop", "--seeds=1", "--folder=my comparison", *common]) == 0
    assert cli.main(["tune", *words, *common]) == 2
    assert f"go on with it by '--resume={tmp_path}/my tuning'" in capsys.readouterr().err


# Misspelt options


@pytest.mark.parametrize(
    ("word", "option"),
    [
        ("--dataste=board", "dataset"),
        ("--datase=board", "dataset"),
        ("--Dataset=board", "dataset"),
        ("--modle=DiffRec", "model"),
        ("--models=DiffRec", "model"),
        ("--config_file=a.yaml", "config_files"),
        ("--config-files=a.yaml", "config_files"),
        ("--config_file_list=a.yaml", "config_files"),
        ("--config=a.yaml", "config_files"),
        ("--nprocs=2", "nproc"),
        ("--resum=F", "resume"),
        ("--word_size=2", "world_size"),
        ("--no-saved=1", "no-save"),
        ("--dry_runs=True", "dry-run"),
        ("--trust-checkpoints=True", "trust-checkpoint"),
    ],
)
def test_a_misspelt_option_is_named_before_anything_runs(word, option, checkerboard, capsys):
    assert cli.main([*RUN, word]) == 2
    key = word[2:].partition("=")[0]
    assert capsys.readouterr().err == f"recbole-diffusion: --{key} is not an option of run; did you mean --{option}?\n"
    assert not Path("outputs").exists()


@pytest.mark.parametrize(("word", "flag"), [("--dryrun", "dry-run"), ("--nosave", "no-save"), ("--debg", "debug")])
def test_a_misspelt_flag_without_a_value(word, flag):
    with pytest.raises(UsageError, match=f"^{word} has no value; did you mean --{flag}"):
        parse([word, "--model=DiffRec"])


@pytest.mark.parametrize("key", ["epochs", "seed", "worker", "state", "reg_weights", "noise_scale", "zzz", "id", "tip"])
def test_settings_are_no_misspelt_options(key):
    option_names.check("run", [key])
    option_names.check("reproduce", [key])
    if key != "worker":
        option_names.check("compare", [key])
        option_names.check("tune", [key])


def test_a_key_of_an_own_model_is_none_either(monkeypatch):
    Path("own_resum.py").write_text(
        "from recbole.model.general_recommender.bpr import BPR\n"
        "class Own(BPR):\n    def __init__(self, config, dataset):\n        self.x = config['resum']\n"
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    option_names.check("run", ["resum"], ["own_resum:Own"])
    with pytest.raises(UsageError, match="did you mean --resume"):
        option_names.check("run", ["resum"], ["BPR"])


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["compare", "--models=BPR", "--dataset=board", "--seed_s=1"], "seeds"),
        (["compare", "--models=BPR", "--dataset=board", "--folders=here"], "folder"),
        (["compare", "--models=BPR", "--datasets=board", "--dataset=board"], "dataset"),
        (["tune", "--model=BPR", "--dataset=board", "--trails=3"], "trials"),
        (["tune", "--model=BPR", "--dataset=board", "--spaces=s.yaml"], "space"),
        (["reproduce", "DiffRec", "yelp_clean", "--data=x", "--protocoll=both"], "protocol"),
    ],
)
def test_the_other_commands_know_their_options_too(words, option, checkerboard, capsys):
    assert cli.main([*words, *QUICK]) == 2
    assert f"did you mean --{option}?\n" in capsys.readouterr().err
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("word", "near"),
    [
        *((each, "trials") for each in ("trails", "trial", "rials", "trialss", "triels", "t-rials", "TRIALS")),
        *((each, None) for each in ("trials", "trels", "tralis", "")),
    ],
)
def test_one_edit(word, near):
    assert nearest_option(word, ["trials"]) == near


# Warnings


def test_a_misspelt_key_is_repeated_under_the_result(checkerboard, capsys):
    assert cli.main([*RUN, "--learnin_rate=0.1"]) == 0
    last = capsys.readouterr().out.rstrip().splitlines()[-1]
    assert last == (
        "warning: key 'learnin_rate' is unknown to DiffRec and RecBole and has no effect; did you mean learning_rate?"
    )


def test_a_misspelt_key_is_repeated_under_a_comparison_and_a_tuning(checkerboard, capsys):
    common = ["--dataset=board", "--data_path=dataset", "--epochs=1", "--learnin_rate=0.1", "--embedding_size=4"]
    Path("s.yaml").write_text("learning_rate: {choice: [0.01, 0.1]}")
    assert cli.main(["compare", "--models=BPR,Pop", "--seeds=1", "--folder=c", *common]) == 0
    assert "key 'learnin_rate' is unknown to BPR and RecBole and has no effect" in capsys.readouterr().out
    words = ["tune", "--model=BPR", "--trials=1", "--space=s.yaml", "--executor=serial", "--folder=t", *common]
    assert cli.main(words) == 0
    assert "note: key 'learnin_rate' is unknown to BPR and RecBole and has no effect" in capsys.readouterr().out


def test_what_the_data_warn_of_is_repeated_under_a_tuning(checkerboard, monkeypatch, capsys):
    from recbole_diffusion.data import pipeline

    original = pipeline.create_dataset

    def warned(config):
        config.notes.append("7 rows were dropped: nobody knows why")
        return original(config)

    monkeypatch.setattr(pipeline, "create_dataset", warned)
    Path("s.yaml").write_text("learning_rate: {choice: [0.01, 0.1]}")
    words = ["tune", "--model=BPR", "--dataset=board", "--trials=1", "--space=s.yaml", "--executor=serial"]
    assert cli.main([*words, *QUICK, "--embedding_size=4", "--folder=t"]) == 0
    assert capsys.readouterr().out.count("note: 7 rows were dropped: nobody knows why") == 1


# What the help says is what the command takes


@pytest.mark.parametrize("name", [*cli.COMMANDS])
def test_each_option_is_in_the_commands_help(name, capsys):
    command = importlib.import_module(f"recbole_diffusion.cli.{name}").parser()
    assert cli.main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: recbole-diffusion {name}")
    assert [word for word in [*command.options, *command.flags] if f"  --{word}" not in text] == []
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("name", [*OPTIONS])
def test_the_options_that_slips_are_compared_with_are_the_commands(name):
    command = importlib.import_module(f"recbole_diffusion.cli.{name}").parser()
    assert {*command.options} == {*OPTIONS[name]}
    assert {*command.flags} <= option_names.FLAGS


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["compare", "--models=EASE", "--workers=two"], "--workers=two is not allowed; allowed: a number"),
        (["compare", "--models=EASE", "--gpus", "half"], "--gpus=half is not allowed; allowed: a number"),
        (["tune", "--model=EASE", "--trials=1.5"], "--trials=1.5 is not allowed; allowed: a number"),
        (["tune", "--model=EASE", "--cpus=2"], "--cpus is not an option of tune, whose trials take one CPU slot each"),
        (["tune", "--resume=here", "--gpus=1"], "--gpus is not allowed with --resume"),
        (["tune", "--dry-run"], "--dry-run is not an option of tune"),
        (["report", "here", "--metrics=NDCG@10"], "--metrics is not an option of report; did you mean --metric?"),
        (["convert", "a.npz", "--name=x", "--form=y"], "--form is not an option of convert"),
        (["run", "--port=x"], "--port=x is not allowed; allowed: a number"),
    ],
)
def test_words_of_another_kind_or_command(words, says, capsys):
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"recbole-diffusion: {says}")
    assert error.count("\n") == 1


def test_values_with_spaces_and_equals_signs_stay_whole():
    options, settings = run_command.parser().read(
        [
            "--model",
            "DiffRec",
            "--eval_args={'mode': 'full', 'order': 'TO'}",
            "--config_files=a=b c.yaml",
            "--seed",
            "7",
        ]
    )
    assert (options.model, options.config_files, options.no_save) == ("DiffRec", "a=b c.yaml", False)
    assert settings == {"eval_args": "{'mode': 'full', 'order': 'TO'}", "seed": "7"}
    places, settings = reproduce.parser().read(["DiffRec", "yelp", "--eval_args={'mode': 'full'}", "--data=x"])
    assert (places.model, places.dataset, places.data, places.seeds) == ("DiffRec", "yelp", "x", "3")
    assert settings == {"eval_args": "{'mode': 'full'}"}


# run --help


def test_the_daily_keys_are_in_the_help_with_the_defaults_that_a_run_has(capsys):
    wanted = "epochs learning_rate train_batch_size seed topk metrics valid_metric eval_args stopping_step load_col "
    wanted += "val_interval use_gpu data_path checkpoint_dir"
    assert cli.main(["run", "--help"]) == 0
    text = capsys.readouterr().out
    titles = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    kinds = ("training", "evaluation", "data", "machine and files")
    assert titles == ["options:", *(f"RecBole's keys, {kind}:" for kind in kinds), "this package's keys:"]
    assert [key for key in wanted.split() if text.count(f"\n  --{key}=") != 1] == []
    config = Config("BPR", "no-such-data")
    defaults = dict(re.findall(r"^  --(\w+)=(\S*)   \(", text, flags=re.MULTILINE))
    for key in ("epochs", "learning_rate", "train_batch_size", "seed", "topk", "valid_metric", "checkpoint_dir"):
        assert defaults[key] == str(config[key]), key
    assert "--epochs=300   (int >= 0) The number of training epochs\n" in text
    assert "show_progress=   (bool or null) show progress bars; null: in a terminal only" in text


def test_with_a_model_the_daily_keys_have_its_defaults_and_its_own_come_last(capsys):
    assert cli.main(["run", "--model=DiffRec", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--train_batch_size=400   (int >= 1) The training batch size (DiffRec's default)" in text
    assert text.index("this package's keys:") < text.index("keys of DiffRec:") < text.index("--noise_schedule=")


# run --dry-run


def dry(capsys, *words):
    """The settings that are printed, and the source of each."""
    assert cli.main(["run", "--dry-run", *words]) == 0
    text = capsys.readouterr().out
    sources = dict(re.findall(r"^([\w-]+): .* # (.+)$", text, flags=re.MULTILINE))
    return text, yaml.safe_load(text), sources


def test_a_dry_run_says_where_each_value_is_from(checkerboard, capsys):
    Path("a.yaml").write_text("epochs: 7\nstopping_step: 3\n")
    words = ["--model=DiffuRec", "--dataset=ml-100k", "--config_files=a.yaml", "--epochs=9", "--preset=quick"]
    text, settings, sources = dry(capsys, *words)
    expected = {"model": "command line", "epochs": "command line", "stopping_step": "a.yaml", "learner": "default"}
    expected.update(load_col="data set", noise_schedule="model", split_seed="default", hidden_size="preset")
    assert {key: sources[key] for key in expected} == expected
    assert {*sources} == {*settings}
    assert (settings["epochs"], settings["stopping_step"]) == (9, 3)
    titles = [line[2:] for line in text.splitlines() if line.startswith("# ")]
    assert titles == [
        *("run", "DiffuRec", "training", "evaluation", "machine and files", "data", "this package", "other keys")
    ]


def test_what_follows_from_other_settings_is_derived(checkerboard, capsys):
    _, settings, sources = dry(capsys, "--model=SASRec", "--dataset=board", "--data_path=dataset")
    assert settings["train_neg_sample_args"] is None  # of loss_type: CE
    assert (sources["train_neg_sample_args"], sources["loss_type"]) == ("derived", "model")


def test_a_checkpoint_is_a_source(checkerboard, capsys):
    assert cli.main(RUN) == 0
    capsys.readouterr()
    (file,) = Path("saved").iterdir()
    _, settings, sources = dry(capsys, f"--resume={file}", "--epochs=5")
    assert (settings["steps"], sources["steps"], sources["epochs"]) == (3, f"checkpoint '{file}'", "command line")


def test_its_output_is_a_config_file_for_the_same_settings(checkerboard, capsys):
    words = ["--model=LDiffRec", "--dataset=board", "--data_path=dataset", "--field_separator=\t", "--seed=7"]
    text, settings, _ = dry(capsys, *words)
    assert settings == Config("LDiffRec", "board", None, {"data_path": "dataset", "seed": 7}).plain()
    Path("all.yaml").write_text(text)
    _, again, sources = dry(capsys, "--config_files=all.yaml")
    assert again == settings
    assert {*sources.values()} == {"all.yaml"}
