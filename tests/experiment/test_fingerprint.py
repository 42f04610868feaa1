"""Which changes make kept runs stale: what a run imports and its yaml do, texts and other models do not."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from recbole_diffusion import registry
from recbole_diffusion.experiment.jobs import fingerprint
from recbole_diffusion.experiment.jobs.fingerprint import PackageFolders, code_fingerprint, files_fingerprint
from recbole_diffusion.experiment.jobs.import_closure import Sources, closure
from recbole_diffusion.registry import ModelSpec
from recbole_diffusion.support import yaml_files

pytestmark = pytest.mark.xdist_group("fingerprint")  # one copy of the package for all

GENERAL, SEQUENTIAL = "model/general_recommender", "model/sequential_recommender"


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The package and its yaml files, to be changed. A test restores what it changes: files are parsed once for all."""
    folder = tmp_path_factory.mktemp("copy")
    folders = PackageFolders(folder / "recbole_diffusion", folder / "properties")
    shutil.copytree(PackageFolders().package, folders.package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(yaml_files.properties(), folders.properties)
    return folders


@contextlib.contextmanager
def changed(*files):
    """Another line in each of the files; then the content and the times that they had."""
    before = [(file, file.read_bytes(), file.stat()) for file in files]
    try:
        for file, content, _ in before:
            file.write_bytes(content + b"# more\n")
        yield
    finally:
        for file, content, status in before:
            file.write_bytes(content)
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def changed_by(folders, file, model, settings=None):
    """Whether another line in a file makes another fingerprint."""
    before = code_fingerprint(model, settings, folders)
    with changed(file):
        after = code_fingerprint(model, settings, folders)
    assert before == code_fingerprint(model, settings, folders)
    return after != before


@pytest.mark.parametrize(
    ("model", "files"),
    [
        (
            "DiffRec",
            [
                "training/trainer.py",
                "data/pipeline.py",
                "settings/config.py",
                "diffusion/gaussian.py",
                "data/convert.py",
            ],
        ),
        ("DiffRec", [f"{GENERAL}/diffrec.py", "model/rows/vector_diffusion.py"]),
        ("LightGCN", ["training/trainer.py", "quick_start.py", "data/sequences.py", "experiment/jobs/run_job.py"]),
        ("CDDRec", [f"{SEQUENTIAL}/cddrec.py", "model/sequences/transformer.py", "data/sequences.py"]),
        ("HDRM", [f"{GENERAL}/hdrm.py", f"{GENERAL}/hgcf.py", "model/embeddings/embedding_diffusion.py"]),
        ("recbole:DiffRec", ["training/trainer.py"]),
    ],
)
def test_what_a_run_imports_counts(copy, model, files):
    assert [file for file in files if not changed_by(copy, copy.package / file, model)] == []


BESIDE = [
    *("cli/__init__.py", "cli/compare.py", "cli/models.py", "__main__.py", "__init__.py", "compat/doctor.py"),
    *("registry.py", "training/run_folder.py", "training/run_result.py", "experiment/compare/plan.py"),
    *("cards/card.py", "cards/documents.py"),
    *("experiment/report/plot.py", "experiment/tune/__init__.py"),
    *(f"{GENERAL}/hgcf.py", f"{GENERAL}/hdrm.py", f"{SEQUENTIAL}/diffurec.py"),
]


@pytest.mark.parametrize("model", ["DiffRec", "EASE", "DDRM", "recbole:DiffRec"])
def test_texts_and_other_models_do_not(copy, model):
    before = code_fingerprint(model, None, copy)
    with changed(*(copy.package / file for file in BESIDE)):
        same = code_fingerprint(model, None, copy) == before
    assert same, [file for file in BESIDE if changed_by(copy, copy.package / file, model)]


def test_a_base_counts_where_it_is_one(copy):
    hgcf = copy.package / GENERAL / "hgcf.py"
    assert not changed_by(copy, hgcf, "DDRM")
    assert changed_by(copy, hgcf, "DDRM", {"base_model": "HGCF"})
    assert changed_by(copy, copy.properties / "model" / "HGCF.yaml", "DDRM", {"base_model": "HGCF"})
    assert changed_by(copy, hgcf, "LDiffRec", {"pretrain": {"model": "HGCF"}})
    assert changed_by(copy, hgcf, "DDRM", {"base_checkpoint": "saved/any.pth"})  # which may hold any of ours


def test_the_yaml_files_of_the_model_count(copy):
    model, quick = copy.properties / "model", copy.properties / "quick"
    assert changed_by(copy, model / "DDRM.yaml", "DDRM")
    assert not changed_by(copy, model / "HDRM.yaml", "DDRM")
    assert not changed_by(copy, quick / "DDRM.yaml", "DDRM")
    assert changed_by(copy, quick / "DDRM.yaml", "DDRM", {"preset": "quick"})
    assert not changed_by(copy, copy.properties / "hyper" / "DDRM.yaml", "DDRM")
    for model in ("DDRM", "EASE"):
        assert changed_by(copy, copy.properties / "overall.yaml", model)
        assert changed_by(copy, copy.properties / "recbole.yaml", model)


def test_a_new_model_leaves_the_others(copy):
    before = [code_fingerprint(model, None, copy) for model in ("DiffRec", "EASE", "DDRM")]
    text = (copy.package / GENERAL / "diffrec.py").read_text()
    module, keys = copy.package / GENERAL / "newrec.py", copy.properties / "model" / "NewRec.yaml"
    card = copy.properties / "card" / "NewRec.yaml"
    module.write_text(text)
    shutil.copy(copy.properties / "model" / "DiffRec.yaml", keys)
    card.write_text("class: x:Y\n")
    registry.register_model(replace(registry.specs()["DiffRec"], name="NewRec", path="no.such:Model"))
    try:
        assert [code_fingerprint(model, None, copy) for model in ("DiffRec", "EASE", "DDRM")] == before
    finally:
        registry.unregister_model("NewRec")
        for file in (module, keys, card):
            file.unlink()


def test_what_the_registry_says_of_the_model_counts(monkeypatch):
    before = code_fingerprint("DiffRec")
    spec = registry.specs()["DiffRec"]
    for change in (
        {"loader": None},
        {"needs_time": True},
        {"dataset": "recbole_diffusion.data.sequences:UserSequenceDataset"},
    ):
        registry.register_model(replace(spec, **change))
        assert code_fingerprint("DiffRec") != before
        registry.unregister_model("DiffRec")
    registry.register_model(replace(spec, paper=None, code=None, tags=("other words",), card=None))
    assert code_fingerprint("DiffRec") == before
    registry.unregister_model("DiffRec")
    monkeypatch.setattr(fingerprint, "version", lambda library: "9.9")
    assert code_fingerprint("DiffRec") != before


def test_every_module_that_is_left_out_is_one():
    package = Path(fingerprint.__file__).parents[2]
    sources = Sources({fingerprint.OURS: package})
    assert all(sources.find(module) is not None for module in fingerprint.BESIDE)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """An own script with a module beside it, and a package of several modules."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_script.py").write_text(
        "from recbole.model.general_recommender.ease import EASE\nimport own_part\n"
        "class Mine(EASE):\n    def later(self):\n        from own_late import thing\n"
    )
    (tmp_path / "own_part.py").write_text("import numpy\n")
    (tmp_path / "own_late.py").write_text("thing = 1\n")
    (tmp_path / "own_other.py").write_text("thing = 2\n")
    package = tmp_path / "own_package"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "deep" / "__init__.py").write_text("")
    (package / "deep" / "model.py").write_text(
        "from recbole_diffusion.model.networks.denoiser import RowMLP\n"
        "from recbole.model.general_recommender.pop import Pop\n"
        "from .. import layers\nfrom ..helpers.more import sum_of\nclass Mine(Pop):\n    pass\n"
    )
    (package / "layers.py").write_text("")
    (package / "unused.py").write_text("")
    (package / "helpers").mkdir()
    (package / "helpers" / "more.py").write_text("def sum_of():\n    pass\n")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("file", "counts"), [("own_script.py", True), ("own_part.py", True), ("own_late.py", True), ("own_other.py", False)]
)
def test_an_own_script_counts_with_the_modules_beside_it(mine, file, counts):
    assert changed_by(PackageFolders(), mine / file, "own_script:Mine") is counts


@pytest.mark.processes
def test_a_script_that_is_run_counts_with_the_modules_beside_it(mine):
    """Its classes are of the module __main__."""
    code = (
        "\nfrom pathlib import Path\nfrom recbole_diffusion.experiment.jobs.fingerprint import code_fingerprint\n"
        "if __name__ == '__main__':\n    found = []\n    for name in ('own_other', 'own_late', 'own_script'):\n"
        "        found.append(code_fingerprint(Mine))\n        file = Path(__file__).with_name(f'{name}.py')\n"
        "        file.write_text(file.read_text() + '# more')\n    found.append(code_fingerprint(Mine))\n"
        "    print([one == two for one, two in zip(found, found[1:])])\n"
    )
    with open(mine / "own_script.py", "a") as script:
        script.write(code)
    done = subprocess.run([sys.executable, mine / "own_script.py"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[True, False, False]"


@pytest.mark.parametrize(
    ("file", "counts"),
    [("deep/model.py", True), ("layers.py", True), ("helpers/more.py", True), ("unused.py", False)],
)
def test_another_packages_model_counts_with_what_it_imports_there(mine, file, counts):
    assert changed_by(PackageFolders(), mine / "own_package" / file, "own_package.deep.model:Mine") is counts


def test_another_packages_model_counts_with_what_it_imports_of_ours(mine, copy):
    assert changed_by(copy, copy.package / "model" / "networks" / "denoiser.py", "own_package.deep.model:Mine")
    assert not changed_by(copy, copy.package / GENERAL / "diffrec.py", "own_package.deep.model:Mine")


def test_another_packages_yaml_counts(mine):
    (mine / "Mine.yaml").write_text("k: 1   # (int) a key\n")
    registry.register_model(ModelSpec("Mine", "own_package.deep.model:Mine", properties=str(mine / "Mine.yaml")))
    try:
        assert changed_by(PackageFolders(), mine / "Mine.yaml", "Mine")
    finally:
        registry.unregister_model("Mine")


def test_imports_for_type_checkers_do_not_count(tmp_path):
    (tmp_path / "a.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import b\nelse:\n    import c\n"
        "try:\n    import d\nexcept ImportError:\n    pass\n"
    )
    for name in "bcd":
        (tmp_path / f"{name}.py").write_text("")
    assert list(closure(["a"], Sources({}, [tmp_path]))) == ["a", "c", "d"]
    assert list(closure(["a"], Sources({}, [tmp_path]), without=["c"])) == ["a", "d"]
    assert closure(["a"], Sources({}, [tmp_path / "site-packages"])) == {}


def test_files_of_settings_count_by_their_content(tmp_path):
    (tmp_path / "one.npz").write_bytes(b"1")
    (tmp_path / "two.npz").write_bytes(b"2")
    first = files_fingerprint({"pretrain": str(tmp_path / "one.npz")})
    shutil.move(tmp_path / "one.npz", tmp_path / "moved.npz")
    assert files_fingerprint({"pretrain": str(tmp_path / "moved.npz")}) == first != ""
    assert files_fingerprint({"pretrain": str(tmp_path / "two.npz")}) != first
    assert files_fingerprint({"pretrain": {"model": "BPR"}}) == ""


def test_the_closure_holds_what_training_imports():
    """Against the interpreter: what a run of DiffRec has really imported of ours is in it, or left out by name."""
    package = Path(fingerprint.__file__).parents[2]
    roots = ["recbole_diffusion.quick_start", registry.specs()["DiffRec"].path.partition(":")[0]]
    static = closure(roots, Sources({fingerprint.OURS: package}), fingerprint.BESIDE)
    for module in static:
        importlib.import_module(module)
    imported = {name for root in roots for name in _reached(sys.modules[root], set())}
    assert {name for name in imported if name not in fingerprint.BESIDE} <= {*static}


def _reached(module, seen):
    """Modules of ours whose objects a module holds, and so on."""
    seen.add(module.__name__)
    for value in vars(module).values():
        name = getattr(value, "__module__", None) or getattr(value, "__name__", "")
        other = sys.modules.get(name) if isinstance(name, str) else None
        if other is not None and name.startswith("recbole_diffusion.") and name not in seen | fingerprint.BESIDE:
            _reached(other, seen)
    return seen
