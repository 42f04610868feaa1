"""A user's own model: found where the user stands, and the settings that it reads and nobody gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_diffusion import cli, load, quick_start, registry, run
from recbole_diffusion.cards import own_models
from recbole_diffusion.experiment.compare.model_entries import ModelEntry, parse_entries
from recbole_diffusion.experiment.tune import tune

pytestmark = pytest.mark.usefixtures("no_plots")
PLAIN = """
import torch
from recbole.model.general_recommender.bpr import BPR

class MyMF(BPR):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.scale = config["scale"]

    def full_sort_predict(self, interaction):
        return super().full_sort_predict(interaction) * self.scale

class Helper:
    pass

def function():
    pass
"""
GIVEN = {"embedding_size": 8, "scale": 2.0, "epochs": 1}
WORDS = ["--dataset=board", "--show_progress=False", "--state=ERROR", "--data_path=dataset", "--epochs=1"]
WORDS += ["--load_col={'inter': ['user_id', 'item_id']}", "--embedding_size=8"]
_count = 0


@pytest.fixture
def module(monkeypatch):
    """``module(source)`` writes it to the working folder under a name of its own, and gives the name."""
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", os.getcwd())])

    def write(source=PLAIN):
        global _count
        _count += 1
        Path(f"own_{_count}.py").write_text(source)
        return f"own_{_count}"

    return write


def test_the_module_is_found_in_the_working_folder_by_run_load_and_resume(module, settings):
    name = f"{module()}:MyMF"
    result = run(name, "board", config_dict={**settings, **GIVEN})
    assert result["model"] == name
    loaded = load(result["checkpoint"])
    assert loaded.model.scale == 2.0
    again = run(resume=result["checkpoint"], config_dict={"epochs": 2})
    assert again["timing"]["epochs"] == 2


@pytest.mark.processes
def test_the_console_scripts_path_lacks_the_working_folder(module, checkerboard):
    """As pip's script: its own folder comes first on the path. A new process, compare's serial worker within."""
    name = module()
    Path("bin").mkdir()
    Path("bin/recbole-diffusion").write_text(
        "import json, sys\nfrom recbole_diffusion.cli import main\nassert '' not in sys.path\n"
        "print([main(each) for each in json.loads(sys.argv[1])])\n"
    )
    common = [word for word in WORDS if "show" not in word and "state" not in word]
    calls = [
        ["run", f"--model={name}:MyMF", *WORDS, "--scale=2"],
        ["compare", f"--models={name}:MyMF,Pop", *common, "--scale=2", "--seeds=1", "--folder=c"],
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "bin/recbole-diffusion", json.dumps(calls)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.stdout.endswith("[0, 0]\n"), done.stderr
    assert "MyMF on board" in done.stdout


@pytest.mark.processes
def test_workers_of_ray_find_it_too(module, checkerboard):
    pytest.importorskip("ray.tune")
    name = f"{module()}:MyMF"
    common = [word for word in WORDS if "show" not in word and "state" not in word]
    words = ["compare", f"--models={name}", *common, "--scale=2", "--seeds=1", "--folder=c", "--workers=1"]
    assert cli.main(words) == 0


def test_the_working_folder_is_on_the_path_that_workers_are_given(module):
    from recbole_diffusion.experiment.cluster.session import search_path

    assert os.getcwd() not in search_path()
    registry.get_model(f"{module()}:MyMF")
    assert search_path()[-1] == os.getcwd()  # after all others: a file here hides no library


def test_a_comparisons_word_with_a_colon(module):
    name = module()
    assert parse_entries([f"{name}:MyMF"]) == [ModelEntry(f"{name}:MyMF", f"{name}:MyMF")]
    assert parse_entries(["DDRM:BPR"])[0].settings == {"base_model": "BPR"}
    with pytest.raises(ValueError, match="did you mean DDRM"):
        parse_entries(["DDMR:BPR"])
    with pytest.raises(ValueError, match=f"no module 'nowhere' in {os.getcwd()}"):
        parse_entries(["nowhere:MyMF"])


@pytest.mark.parametrize(
    ("source", "model", "says"),
    [
        (PLAIN, "nowhere:MyMF", "no module 'nowhere' in {here} or on Python's path"),
        (PLAIN, "nowhere.deep:MyMF", "no module 'nowhere' in {here}"),
        (PLAIN, "{name}:MyMf", "{here}/{name}.py has no class 'MyMf'; did you mean MyMF?"),
        (PLAIN, "{name}:function", "{name}.py has no class 'function'"),
        (PLAIN, "{name}:Helper", "it is not derived from one of RecBole's recommenders"),
        (PLAIN, "{name}.py:MyMF", "names a file; write {name}:MyMF, from its folder"),
        (PLAIN, "{here}/{name}.py:MyMF", "names a file; write {name}:MyMF, from its folder"),
        ("import not_installed_anywhere", "{name}:MyMF", "{name}.py, line 1: No module named 'not_installed_anywhere'"),
        ("x = 1\ny = 1 / 0", "{name}:MyMF", "{name}.py, line 2: ZeroDivisionError: division by zero"),
        ("class MyMF(:", "{name}:MyMF", "SyntaxError: invalid syntax"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(source, model, says, module, capsys):
    name, here = module(source), os.getcwd()
    model, says = model.format(name=name, here=here), says.format(name=name, here=here)
    assert cli.main(["run", f"--model={model}", *WORDS]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert f"model {model!r}" in error
    assert error.count("\n") == 1


# Keys that nothing sets


def checked(name, files=(), **given):
    """The settings, after the check that every command makes before it reads data."""
    config = quick_start.configure(name, "board", files, given)
    own_models.check_keys(config)
    return config


def refusal(name, settings, **given):
    with pytest.raises(ValueError, match="reads") as caught:
        run(name, "board", config_dict={**settings, **given})
    return str(caught.value)


def test_a_key_that_nothing_sets_is_named_before_the_data_are_read(module, settings):
    name = f"{module()}:MyMF"
    nowhere = {**settings, "data_path": "not-there"}
    assert refusal(name, nowhere, embedding_size=8) == (
        "MyMF reads scale, which nothing sets; give --scale=VALUE, or register_model(ModelSpec(properties=FILE.yaml)) "
        "with the defaults"
    )
    assert (
        "MyMF reads embedding_size, scale, which nothing sets; give --embedding_size=VALUE and the others"
        in refusal(name, nowhere)
    )


@pytest.mark.parametrize("given", [{"scale": 1.0}, {"scale": None}])
def test_a_key_that_is_given_is_set_also_to_nothing(given, module, settings):
    config = checked(f"{module()}:MyMF", **{**settings, "embedding_size": 8, **given})
    assert config.notes == []


def test_keys_of_a_yaml_file_and_of_a_spec_are_set(module, settings):
    name = module()
    Path("MyMF.yaml").write_text("embedding_size: 8\nscale: 3\n")
    assert checked(f"{name}:MyMF", ["MyMF.yaml"], **settings)["scale"] == 3
    registry.register_model(registry.ModelSpec(name="MyMF", path=f"{name}:MyMF", properties="MyMF.yaml"))
    try:
        assert checked("MyMF", **settings)["scale"] == 3
    finally:
        registry.unregister_model("MyMF")


def test_every_command_refuses_before_the_data_are_read(module, checkerboard, capsys):
    name = f"{module()}:MyMF"
    common = [word for word in WORDS if "show" not in word and "state" not in word and "data_path" not in word]
    Path("s.yaml").write_text("learning_rate: {choice: [0.01, 0.1]}")
    calls = [["run", f"--model={name}", *WORDS, "--dry-run"]]
    calls += [["compare", f"--models={name}", *common, "--data_path=not-there"]]
    calls += [["tune", f"--model={name}", "--space=s.yaml", "--executor=serial", *common, "--data_path=not-there"]]
    for words in calls:
        assert cli.main(words) == 2
        assert "MyMF reads scale, which nothing sets; give --scale=VALUE" in capsys.readouterr().err


def test_a_key_that_is_tuned_is_set(module, checkerboard, settings):
    Path("s.yaml").write_text("scale: {choice: [1.0, 2.0]}\nembedding_size: {choice: [4, 8]}")
    own = {**settings, "epochs": 1}
    name = f"{module()}:MyMF"
    result = tune(name, "board", 2, "s.yaml", own, executor="serial", folder="t", show=False)
    assert result.best["scale"] in (1.0, 2.0)
    assert result.notes == []


CAREFUL = """
from recbole.model.general_recommender.bpr import BPR

class Careful(BPR):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.a = config["a"] or 3
        self.b = config["b"] if "b" in config else 4
        if config["c"]:
            self.d = config["d"]
        config["written"] = 1
        key = "other"
        self.e = config[key]

    def predict(self, interaction):
        return self.config["f"]
"""


def test_keys_that_may_be_none_are_noted_and_not_refused(module, settings):
    config = checked(f"{module(CAREFUL)}:Careful", **settings, embedding_size=8)
    assert config.notes == [
        f"Careful reads {key!r}, which nothing sets: it may find None there" for key in ("a", "b", "c", "d", "f")
    ]


OTHER_CONSTRUCTOR = """
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.model.general_recommender.bpr import BPR

class Other(BPR):
    def __init__(self, config, dataset):
        GeneralRecommender.__init__(self, config, dataset)
"""


def test_a_constructor_that_is_not_called_reads_nothing(module, settings):
    assert checked(f"{module(OTHER_CONSTRUCTOR)}:Other", **settings).notes == []


@pytest.mark.parametrize("model", ["BPR", "DiffRec", "recbole:DiffRec", "SASRec"])
def test_models_with_defaults_are_not_looked_at(model, settings, monkeypatch):
    monkeypatch.setattr(own_models, "unset_keys", None)
    more = {"train_neg_sample_args": None} if model == "SASRec" else {}
    assert checked(model, **settings, **more).notes == []
