"""Words of the command line: config files with spaces in their names, misspelt options, lines to be pasted."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from recbole_diffusion import cli
from recbole_diffusion.cli import option_names
from recbole_diffusion.cli.option_names import UsageError, nearest_option
from recbole_diffusion.cli.options import config_files, parse

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
