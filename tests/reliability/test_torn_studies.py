"""Torn files of tunings and studies: made again or named, never believed; and no file that nobody has thought of."""

from __future__ import annotations

import fnmatch
import shutil
from pathlib import Path
from typing import Any, Callable

import pytest
from conftest import SMALL
from test_torn_files import damages, never_believed

from recbole_diffusion import run
from recbole_diffusion.experiment import robustness as robustness_module
from recbole_diffusion.experiment import study
from recbole_diffusion.experiment.jobs.store import Store
from recbole_diffusion.experiment.report import study_section
from recbole_diffusion.experiment.report import write as write_report
from recbole_diffusion.experiment.space.search_space import parse
from recbole_diffusion.experiment.tune import tune, tuning_plan
from recbole_diffusion.support import json_files
from recbole_diffusion.testing import write_board

SPACE = {"learning_rate": {"choice": [0.01, 0.03]}}
#: What is read again, and tested here: with a checksum each.
READ = ("tune.json", "comparison.json", "section.json", "runs/*.json", "runs/*.npz", "lists/*.npz")
#: What is written for people and programs, and never read again; the yaml files are config files that people may edit.
WRITTEN = (
    "report/*",
    "plots/*",
    "*.csv",
    "*.md",
    "*.png",
    "*.svg",
    "*.pdf",
    "best.yaml",
    "best-full.yaml",
    "trials/*.log",
    "*.lock",
)


def unknown_files(folder: Path) -> list[str]:
    """Files of a tuning or a study, below its parts too, that are in neither list."""
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    parts = ("", "ratio-*/", "train/")
    known = [f"{part}{pattern}" for part in parts for pattern in (*READ, *WRITTEN)]
    return [name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in known)]


def readers(folder: Path) -> dict[Path, Callable[[], Any]]:
    """How each file of a study is read."""
    store = Store(folder)
    files: dict[Path, Callable[[], Any]] = {folder / "comparison.json": store.plan}
    if (folder / "section.json").is_file():
        files[folder / "section.json"] = lambda: study_section.read(folder)
    for file in (folder / "runs").iterdir():
        key, suffix = file.stem, file.suffix
        files[file] = {".json": lambda key=key: store.record(key), ".npz": lambda key=key: store.users(key)}[suffix]
    for file in (folder / "lists").glob("[!s]*.npz"):
        files[file] = lambda key=file.stem: Store(folder).lists(key).lists
    return files


@pytest.fixture
def tuned(settings: dict[str, Any], no_plots: None) -> Callable[..., Any]:
    """A tuning of two trials, one after the other."""
    more = {**settings, "epochs": 1, "embedding_size": 4, "train_batch_size": 256}
    common = {"executor": "serial", "show": False}
    return lambda **arguments: tune(
        **({} if "resume" in arguments else {"model": "BPR", "dataset": "board", "space": parse(SPACE, "here")}),
        **({} if "resume" in arguments else {"settings": more, "scheduler": "none", "trials": 2, "folder": "folder"}),
        **{**common, **arguments},
    )


def test_the_record_of_a_tuning(untrained, tuned):
    tuned()
    folder = Path("folder")
    assert unknown_files(folder) == []
    assert never_believed(folder / "tune.json", lambda: vars(tuning_plan.read_plan(folder, None)), 60) == 65
    for file in (folder / "runs").glob("*.json"):
        never_believed(file, lambda key=file.stem: Store(folder).record(key), 20)


def test_damaged_trials_are_run_again_and_the_choice_is_the_same(tuned):
    first = tuned()
    files = sorted(Path("folder/runs").glob("*.json"))
    before = {file.name: json_files.read(file) for file in files}
    for file in files:
        text = file.read_text()
        place = text.index('"valid_score"') + len('"valid_score": 0.')
        file.write_text(text[:place] + "9" + text[place + 1 :])  # would win
    again = tuned(resume="folder")
    assert (again.best, again.valid_score, again.test) == (first.best, first.valid_score, first.test)
    for file in files:
        assert json_files.read(file)["valid_score"] == before[file.name]["valid_score"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: Any) -> Any:
    folder = tmp_path_factory.mktemp("trained")
    settings = {**SMALL, "data_path": str(write_board(folder / "dataset")), "steps": 3, "dims": [8], "epochs": 1}
    settings |= {"checkpoint_dir": str(folder / "saved"), "output_dir": str(folder / "outputs")}
    return run("DiffRec", "board", config_dict=settings)["checkpoint"]


def steps(checkpoint: str) -> Any:
    return study.steps(checkpoint, [1], ["ddim"], folder="folder", progress=lambda text: None)


def test_the_files_of_a_study(trained, no_plots):
    steps(trained)
    folder = Path("folder")
    assert unknown_files(folder) == []
    files = readers(folder)
    assert {file.suffix for file in files} == {".json", ".npz"}
    assert len(files) == 2 + 3 * 2
    for file, read in files.items():
        never_believed(file, read, 40)


@pytest.mark.parametrize("pattern", ["runs/*.json", "lists/[!s]*.npz"])
def test_what_a_study_lacks_is_evaluated_again(pattern, trained, no_plots):
    first = steps(trained)
    for file in Path("folder").glob(pattern):
        file.unlink()
    again = steps(trained)
    assert [row.metrics for row in again.rows] == [row.metrics for row in first.rows]
    assert [row.overlap for row in again.rows] == [row.overlap for row in first.rows]


def test_a_damaged_section_names_the_way_out(trained, no_plots):
    steps(trained)
    file = Path("folder/section.json")
    content = file.read_text()
    for name, damaged in damages(file.read_bytes(), 0):
        file.write_bytes(damaged)
        if file.read_text(errors="replace").rstrip() == content.rstrip():
            continue  # without the line feed at the end
        with pytest.raises(ValueError, match=r"section.json' cannot be read .*; delete it, and run"):
            write_report("folder")
        assert name
    file.unlink()
    steps(trained)
    assert json_files.read(file)["title"] == "Steps: DiffRec on board"


def test_robustness_after_damages(checkerboard, no_plots):
    """Its parts are comparisons: what is damaged in one is run again."""
    settings = {**SMALL, "epochs": 1, "topk": [5], "valid_metric": "NDCG@5"}
    arguments: dict[str, Any] = {"ratios": [0, 0.5], "seeds": [1], "folder": "folder", "settings": settings}
    first = robustness_module.robustness(["Pop", "EASE"], "board", **arguments)
    assert unknown_files(Path("folder")) == []
    for file in Path("folder").glob("ratio-*/runs/*.json"):
        file.write_bytes(file.read_bytes()[:-40])
    shutil.rmtree("folder/ratio-0.5/lists", ignore_errors=True)
    again = robustness_module.robustness(["Pop", "EASE"], "board", **arguments)
    assert again.failed == 0
    assert again.rows == first.rows
