"""Comparisons and tunings that go on after their folder, or the whole project, has been moved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import HEADER, SMALL, write_inter

from recbole_diffusion import run
from recbole_diffusion.experiment.compare import compare, resume
from recbole_diffusion.experiment.compare import comparison as module
from recbole_diffusion.experiment.jobs.moved_paths import moved_path
from recbole_diffusion.experiment.tune import serial as tune_serial
from recbole_diffusion.experiment.tune import tune
from recbole_diffusion.experiment.tune.trials import run_trial

QUICK = {key: value for key, value in SMALL.items() if key not in {"state", "data_path"}} | {"epochs": 1}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's folder with data, in which we stand."""
    rows = [(f"u{u}", f"i{i}", 5.0, 100 * u + i) for u in range(20) for i in range(20) if i % 2 == u % 2]
    write_inter(tmp_path / "project" / "dataset", "board", rows, HEADER)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def ran(monkeypatch):
    """The label of each run that is really made."""
    seen, original = [], module.run_one
    monkeypatch.setattr(module, "run_one", lambda job: seen.append(job.spec.label) or original(job))
    return seen


def test_a_path_is_where_it_was_or_where_it_lies_from_the_folder(tmp_path):
    for name in ("old/data", "new/data", "new/outputs/x"):
        (tmp_path / name).mkdir(parents=True)
    old, before, now = str(tmp_path / "old/data"), str(tmp_path / "old/outputs/x"), tmp_path / "new/outputs/x"
    assert moved_path(old, before, now) == old
    shutil.rmtree(old)
    assert moved_path(old, before, now) == str(tmp_path / "new/data")
    assert moved_path(old, before, now, "board") == old  # neither holds it
    assert moved_path("/elsewhere", before, now) == "/elsewhere"
    assert moved_path("recbole", before, now, "ml-100k") == "recbole"  # the data that RecBole brings along


@pytest.mark.parametrize("given", [{}, {"data_path": "dataset"}])
def test_a_comparison_goes_on_where_the_project_is_now(project, ran, monkeypatch, given):
    """Its data, its models' files and its checkpoints are found beside it; what was finished is not run again."""
    run("BPR", "board", config_dict={**QUICK, "checkpoint_dir": "mine", "state": "ERROR"})
    (checkpoint,) = Path("mine").glob("*.pth")
    Path("mine.yaml").write_text(f"base_checkpoint: {checkpoint}\ndims: [8, 8]\nsteps: 3\n")
    models = ["DDRM:BPR@mine.yaml", "EASE"]
    before = compare(models, ["board"], [1], "outputs/here", {**QUICK, **given})
    records = {file.name: file.read_text() for file in (before.folder / "runs").glob("*.json")}
    (key,) = [key for key, text in records.items() if json.loads(text)["label"] == "EASE"]
    (before.folder / "runs" / key).unlink()
    monkeypatch.chdir(project.parent)
    shutil.move(project, project.parent / "moved")
    ran.clear()
    after = resume("moved/outputs/here")
    assert ran == ["EASE"]
    again = {file.name: json.loads(file.read_text()) for file in (after.folder / "runs").glob("*.json")}
    assert {name: each["test"] for name, each in again.items()} == {
        name: json.loads(text)["test"] for name, text in records.items()
    }
    assert after.plan()["datasets"]["board"]["data_path"] == str(project.parent / "moved" / "dataset")
    asked = after.plan()["asked"]
    assert asked["contents"]["DDRM:BPR@mine.yaml"]["base_checkpoint"] == str(project.parent / "moved" / checkpoint)


def test_a_comparisons_folder_alone_may_be_moved(project, ran, monkeypatch):
    compare(["EASE", "Pop"], ["board"], [1], "outputs/here", QUICK)
    ran.clear()
    shutil.move("outputs/here", project.parent / "away")
    monkeypatch.chdir(project.parent)
    store = resume("away")
    assert ran == []
    assert store.plan()["datasets"]["board"]["data_path"] == str(project / "dataset")


def test_what_is_missing_after_a_move_is_one_line(project, monkeypatch):
    compare(["EASE"], ["board"], [1], "outputs/here", QUICK)
    shutil.move("outputs/here", project.parent / "away")
    monkeypatch.chdir(project.parent)
    shutil.rmtree(project)
    with pytest.raises(ValueError, match=r"^dataset='board' is not in .*$") as error:
        resume("away")
    assert "\n" not in str(error.value)
    assert Path("away/runs").is_dir()  # what was there is not lost


def test_a_models_file_may_change_after_the_comparison_was_asked_for(project, ran):
    """What was asked goes on as it was."""
    Path("mine.yaml").write_text("reg_weight: 3.0\n")
    compare(["EASE@mine.yaml"], ["board"], [1], "here", QUICK, files=[])
    Path("mine.yaml").unlink()
    ran.clear()
    store = resume("here")
    assert ran == []
    assert store.plan()["models"][0]["settings"] == {"reg_weight": 3.0}


def test_a_tuning_goes_on_where_the_project_is_now(project, monkeypatch):
    calls = []
    monkeypatch.setattr(tune_serial, "run_trial", lambda *a: calls.append(a[1]) or run_trial(*a))
    Path("s.yaml").write_text("reg_weight: {choice: [1.0, 10.0, 100.0]}\n")
    options = {"executor": "serial", "show": False}
    before = tune("EASE", "board", 2, "s.yaml", QUICK, folder="outputs/t", **options)
    monkeypatch.chdir(project.parent)
    shutil.move(project, project.parent / "moved")
    after = tune(resume="moved/outputs/t", trials=3, **options)
    assert calls == [0, 1, 2]
    assert {n: after.records[n]["valid_score"] for n in (0, 1)} == {
        n: r["valid_score"] for n, r in before.records.items()
    }
    assert "data_path" not in yaml.safe_load(after.file.read_text())
