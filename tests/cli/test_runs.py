"""``recbole-diffusion runs``: folders of runs as a table and as csv, whatever state they are in."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_diffusion import cli, run
from recbole_diffusion.experiment import runs

TEST = {"recall@10": 0.125, "mrr@10": 0.5, "ndcg@10": 0.25, "hit@10": 0.75}


def write(name, status="finished", started="2026-11-26T10:00:00+00:00", metrics=None, **more):
    """A run's folder with its manifest, and its metrics."""
    folder = Path("outputs", name)
    folder.mkdir(parents=True)
    manifest = {"status": status, "model": "DiffRec", "dataset": "board", "seed": 1, "started": started, **more}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def gone():
    """The number of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    return child.pid


def test_numbers_that_differ_from_their_checksum_are_not_shown():
    folder = write("a", metrics={"test_result": TEST}, files={"metrics.json": "0" * 64})
    found = runs.read(folder)
    assert (found.status, found.test, found.valid) == ("damaged", {}, {})
    assert "metrics.json was changed or damaged" in found.problem


@pytest.fixture
def folders():
    """Nine runs, one or two in each state that a run may be in, and folders that are none."""
    here = platform.node()
    valid = {name: value / 2 for name, value in TEST.items()}
    done = {"best_valid_result": valid, "test_result": TEST}
    write("a", started="2026-11-26T10:01:00+00:00", metrics=done, timing={"total_s": 48.2}, checkpoint="saved/a.pth")
    write("b", started="2026-11-26T10:07:00+00:00", metrics={**done, "test_result": None}, timing={"total_s": 12000})
    write("c", "failed", "2026-11-26T10:03:00+00:00", error="ValueError: inference_steps=9\nis more")
    write("d", "running", "2026-11-26T10:04:00+00:00", process={"host": here, "pid": os.getpid()})
    write("e", "running", "2026-11-26T10:05:00+00:00", process={"host": here, "pid": gone()})
    write("f", "running", "2026-11-26T10:06:00+00:00", process={"host": "another", "pid": 1})
    write("g")  # somebody removed its metrics
    write("h").joinpath("manifest.json").write_text('{"status": "fin')
    os.makedirs("outputs/i")
    Path("outputs/i/config.yaml").write_text("model: DiffRec\n")
    os.utime("outputs/h", (1, 1))
    os.utime("outputs/i", (0, 0))
    os.makedirs("outputs/compare-board-1/report")
    Path("outputs/note.txt").write_text("x")


def test_every_state_is_told_apart_and_the_newest_comes_first(folders):
    found = runs.find(Path("outputs"))
    assert [(each.folder.name, each.status) for each in found] == [
        *[("b", "finished"), ("f", "running"), ("e", "interrupted"), ("d", "running"), ("c", "failed")],
        *[("a", "finished"), ("g", "damaged"), ("h", "damaged"), ("i", "damaged")],
    ]
    problems = {each.folder.name: each.problem for each in found if each.problem}
    assert problems == {
        "c": "ValueError: inference_steps=9 is more",
        "g": "metrics.json is missing",
        "h": "manifest.json is not json",
        "i": "manifest.json is missing",
    }
    one = next(each for each in found if each.folder.name == "a")
    assert (one.model, one.dataset, one.seed, one.seconds, one.test) == ("DiffRec", "board", 1, 48.2, TEST)


def test_the_table_has_a_line_for_each_run_with_three_metrics(folders, capsys):
    assert cli.main(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[0].split()) == "model data seed status recall@10 mrr@10 ndcg@10 time started folder"
    cells = {line.split()[-1]: line.split() for line in lines[1:10]}
    assert cells["a"][:8] == ["DiffRec", "board", "1", "finished", "0.1250", "0.5000", "0.2500", "48"]
    assert cells["b"][4:9] == ["(0.0625)", "(0.2500)", "(0.1250)", "3.3", "h"]
    assert cells["e"][3:8] == ["interrupted", "-", "-", "-", "-"]
    assert cells["i"][:4] == ["-", "-", "-", "damaged"]
    assert lines[10] == ""
    assert "h: manifest.json is not json" in lines[11:]


def test_metrics_are_chosen(folders, capsys):
    assert cli.main(["runs", "outputs", "--metric=Hit@10,nothing"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[4:6] == ["Hit@10", "nothing"]
    assert next(line for line in lines if line.endswith(" a")).split()[4:6] == ["0.7500", "-"]


def test_csv_has_the_metrics_of_both_splits(folders, capsys):
    assert cli.main(["runs", "--csv"]) == 0
    text = capsys.readouterr().out
    rows = {row["folder"]: row for row in csv.DictReader(io.StringIO(text))}
    assert len(rows) == 9
    one = rows["outputs/a"]
    assert (one["valid_ndcg@10"], one["test_ndcg@10"], one["seconds"]) == ("0.125", "0.25", "48.2")
    assert (one["seed"], one["checkpoint"], one["problem"]) == ("1", "saved/a.pth", "")
    assert rows["outputs/b"]["test_ndcg@10"] == ""
    assert cli.main(["runs", "--out=here.csv"]) == 0
    assert capsys.readouterr().out == ""
    assert Path("here.csv").read_text() == text
    assert cli.main(["runs", "--out=here.txt"]) == 0
    assert Path("here.txt").read_text().startswith("model")


def test_one_runs_folder_and_an_empty_one(folders, capsys):
    assert cli.main(["runs", "outputs/a"]) == 0
    assert capsys.readouterr().out.count("finished") == 1
    assert cli.main(["runs", "outputs/compare-board-1"]) == 0
    assert capsys.readouterr().out == "no runs in outputs/compare-board-1\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "folder 'nowhere' does not exist"),
        (["--cvs=1"], "--cvs is not an option of runs"),
        (["--metrics=Recall@10"], "--metrics is not an option of runs; did you mean --metric?"),
        (["--epochs=1"], "--epochs is not an option of runs"),
        (["--model=DiffRec"], "--model is not an option of runs"),
        ([".", "--out=not/there.csv"], "--out=not/there.csv is not allowed"),
    ],
)
def test_a_slip_is_one_line_and_exit_code_two(words, message, capsys):
    assert cli.main(["runs", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"started": "yesterday"}, "damaged"),
        ({"started": None}, "damaged"),
        ({"status": "running", "process": {"host": platform.node(), "pid": None}}, "running"),
        ({"status": "running", "process": {"host": platform.node(), "pid": 10**30}}, "running"),
        ({"status": "running", "process": 7}, "running"),
        ({"metrics": {"test_result": [1], "best_valid_result": {"a": "b"}}, "timing": {"total_s": "long"}}, "finished"),
        ({"metrics": {}, "timing": [], "seed": [1], "model": {"a": 1}}, "finished"),
        ({"metrics": {}, "error": {"a": 1}}, "finished"),
    ],
)
def test_a_manifest_with_odd_values_is_a_line_too(more, status, capsys):
    write("a", **more)
    for words in ([], ["--csv"]):
        assert cli.main(["runs", *words]) == 0
        assert status in capsys.readouterr().out


def test_real_runs(settings, capsys):
    keys = {**settings, "epochs": 1, "steps": 3, "dims": [16]}
    result = run("DiffRec", "board", config_dict=keys)
    with pytest.raises(ValueError, match="inference_steps=9"):
        run("DiffRec", "board", config_dict={**keys, "inference_steps": 9})
    failed, finished = runs.find(Path("outputs"))
    assert (failed.status, finished.status) == ("failed", "finished")
    assert finished.test == result["test_result"]
    assert finished.valid == result["best_valid_result"]
    assert finished.seconds == result["timing"]["total_s"]
    assert finished.checkpoint == result["checkpoint"]


def test_it_imports_nothing_heavy(folders):
    code = "import sys; from recbole_diffusion import cli; cli.main(['runs', '--csv']); "
    code += "assert not {'torch', 'recbole', 'numpy', 'pandas', 'yaml'} & {*sys.modules}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 10
