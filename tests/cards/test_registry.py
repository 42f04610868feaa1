"""Names to models: ours, RecBole's, other packages'."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from recbole_diffusion import registry
from recbole_diffusion.registry import ModelSpec
from recbole_diffusion.support import yaml_files


def test_ours_wins_and_the_prefix_names_recboles():
    assert registry.get_model("DiffRec").__module__ == "recbole_diffusion.model.general_recommender.diffrec"
    assert registry.get_model("recbole:DiffRec").__module__ == "recbole.model.general_recommender.diffrec"


@pytest.mark.parametrize("name", ["LightGCN", "SASRec", "MultiVAE", "FM", "Pop"])
def test_recboles_models_fall_through(name):
    assert registry.get_model(name).__name__ == name
    assert registry.find_spec(name) is None


def test_class_and_path():
    from recbole.model.general_recommender.bpr import BPR

    assert registry.get_model(BPR) is BPR
    assert registry.get_model("recbole.model.general_recommender.bpr:BPR") is BPR
    assert registry.find_spec(registry.get_model("DiffRec")).name == "DiffRec"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("DifRec", "did you mean DiffRec"),
        ("lightgcn", "did you mean LightGCN"),
        ("Qqqqqqq", "models --all"),
        ("recbole:Qqqqqq", "neither ours"),
        ("no.module:X", "cannot be loaded"),
        ("../../etc", "neither ours"),
    ],
)
def test_unknown_model_names_the_nearest(name, says):
    with pytest.raises(ValueError, match=says):
        registry.get_model(name)


def point(name, value, monkeypatch):
    found = metadata.EntryPoint(name=name, value=value, group=registry.ENTRY_POINTS)
    original = metadata.entry_points

    class Points:
        def select(self, group):
            return [found] if group == registry.ENTRY_POINTS else original().select(group=group)

    monkeypatch.setattr(registry.metadata, "entry_points", lambda: Points())


THEIRS = ModelSpec(name="TheirModel", path="recbole.model.general_recommender.bpr:BPR")
SHADOW = replace(THEIRS, name="DiffRec")


def several():
    return [THEIRS, replace(THEIRS, name="Another")]


@pytest.mark.parametrize("value", ["test_registry:THEIRS", "test_registry:several"])
def test_another_package_adds_models(value, monkeypatch):
    point("theirs", value, monkeypatch)
    assert registry.get_model("TheirModel").__name__ == "BPR"
    assert "DiffRec" in registry.specs()


def test_another_package_cannot_shadow_ours(monkeypatch):
    point("theirs", "test_registry:SHADOW", monkeypatch)
    assert registry.specs()["DiffRec"].path.startswith("recbole_diffusion.")


def test_a_broken_entry_point_is_skipped_and_named(monkeypatch):
    point("broken", "no_such_module:x", monkeypatch)
    with pytest.warns(UserWarning, match="'broken' skipped"):
        assert "DiffRec" in registry.specs()


def test_register_and_unregister():
    registry.register_model(THEIRS)
    assert registry.find_spec("TheirModel") is THEIRS
    registry.unregister_model("TheirModel")
    assert registry.find_spec("TheirModel") is None


def test_importing_the_package_changes_nothing_and_imports_neither_torch_nor_ray():
    code = (
        "import sys, recbole_diffusion, recbole_diffusion.registry as r; r.specs();"
        "bad = {'torch', 'ray', 'recbole', 'numpy'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class Mine(registry.load_object("recbole_diffusion.model.general_recommender.diffrec:DiffRec")):
    """What another package's model may look like."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.extra = config["my_extra"]


@pytest.fixture
def mine(tmp_path):

    text = (yaml_files.properties() / "model" / "DiffRec.yaml").read_text()
    file = tmp_path / "Mine.yaml"
    file.write_text(text + "\nmy_extra: 3   # (int >= 1) something of its own\n")
    yield registry.register_model(
        ModelSpec(name="Mine", path="test_registry:Mine", loader="user", properties=str(file))
    )
    registry.unregister_model("Mine")


def test_another_packages_model_runs_with_its_own_yaml_under_both_runners(mine, settings, monkeypatch, numpy_restored):
    import recbole_diffusion
    from recbole_diffusion.compat import repairs

    quick = {**settings, "epochs": 1, "steps": 2, "dims": [8]}
    ours = recbole_diffusion.run("Mine", "board", config_dict=quick)
    loaded = recbole_diffusion.load(ours["checkpoint"])
    assert type(loaded.model) is Mine
    assert loaded.model.extra == 3
    with pytest.raises(ValueError, match="my_extra=0 is not allowed; allowed: int >= 1"):
        recbole_diffusion.run("Mine", "board", config_dict={**quick, "my_extra": 0})
    monkeypatch.setattr(sys, "argv", ["x"])
    recbole_diffusion.enable()
    theirs = repairs.quick_start_module().run_recbole(model="Mine", dataset="board", config_dict=quick)
    assert theirs["test_result"].keys() == ours["test_result"].keys()


def test_a_class_without_a_spec_runs_and_is_loaded_again(settings):
    """RecBole's habit: an own class, whose keys come with the call."""
    import recbole_diffusion

    keys = yaml_files.load_yaml(yaml_files.properties() / "model" / "DiffRec.yaml")
    quick = {**keys, **settings, "epochs": 1, "steps": 2, "dims": [8], "my_extra": 5}
    result = recbole_diffusion.run(Mine, "board", config_dict=quick)
    assert result["model"] == "test_registry:Mine"
    assert recbole_diffusion.load(result["checkpoint"]).model.extra == 5


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        *((name, name != "HGCF") for name in ("DiffRec", "LDiffRec", "TDiffRec", "LTDiffRec", "DDRM", "HDRM", "HGCF")),
        *((name, True) for name in ("DiffuRec", "CDDRec", "recbole:DiffRec", "recbole:LDiffRec")),
        *((name, False) for name in ("LightGCN", "SASRec", "EASE", "recbole:Pop")),
        ("recbole.model.general_recommender.diffrec:DiffRec", True),
        ("recbole.model.general_recommender.bpr:BPR", False),
        ("test_registry:Mine", True),  # by its base class
    ],
)
def test_which_models_are_diffusion_models(model, expected):
    assert registry.is_diffusion(model) is expected


class Stated(registry.load_object("recbole.model.general_recommender.bpr:BPR")):
    """An own model that says what it is."""

    diffusion_model = True


def test_foreign_models_are_what_their_author_states():
    """The words of the tags do not matter, and nothing said is no diffusion model."""
    for stated, tags in ((False, ()), (True, ("no diffusion: words",)), (False, ("new users",))):
        registry.register_model(replace(THEIRS, diffusion=stated, tags=tags))
        assert registry.is_diffusion("TheirModel") is stated
        registry.unregister_model("TheirModel")
    assert replace(THEIRS).diffusion is False
    assert registry.is_diffusion("test_registry:Stated") is True


def test_the_report_takes_what_the_comparison_wrote_down(checkerboard):
    """Also where the package that brought the model is not installed any more."""
    from recbole_diffusion.experiment.compare import compare
    from recbole_diffusion.experiment.report.reading import read

    quick = {"data_path": "dataset", "epochs": 1, "topk": [5, 10]}
    Path("Their.yaml").write_text("embedding_size: 4\n")
    registry.register_model(replace(THEIRS, diffusion=True, properties="Their.yaml"))
    registry.register_model(replace(THEIRS, name="Plain", properties="Their.yaml"))
    try:
        store = compare(["TheirModel", "Plain", "test_registry:Stated"], ["board"], [1], "here", quick)
    finally:
        registry.unregister_model("TheirModel")
        registry.unregister_model("Plain")
    assert [model["diffusion"] for model in store.plan()["models"]] == [True, False, True]
    assert [result.diffusion for result in read("here").results["board"]] == [True, False, True]
