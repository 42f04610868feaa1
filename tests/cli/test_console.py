"""What a run shows and leaves: colours and bars in a terminal only, one folder with one name, a result that prints."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from recbole_diffusion import cli, load, run
from recbole_diffusion.support import terminal
from recbole_diffusion.training.run_result import RunResult, result_table

QUICK = {"epochs": 3, "steps": 3, "dims": [16], "train_batch_size": 512}
WORDS = ["run", "--model=DiffRec", "--dataset=board", "--data_path=dataset", "--epochs=3", "--steps=3", "--dims=[16]"]
COLOUR, BAR = "\x1b[", "\r"


class Stream(io.StringIO):
    """A terminal, or none."""

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.fixture
def shown(settings, monkeypatch):
    """``shown(is_terminal, **settings)``: what a run writes to stderr."""

    def show(is_terminal, **more):
        own = {key: value for key, value in settings.items() if key not in {"state", "show_progress"}}
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", Stream(is_terminal))
            run("DiffRec", "board", config_dict={**own, **QUICK, "epochs": 1, **more})
            return sys.stderr.getvalue()

    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return show


@pytest.mark.processes
def test_a_run_in_a_pipe_is_a_page_and_its_log_has_the_rest(checkerboard):
    environment = {key: value for key, value in os.environ.items() if key not in {"FORCE_COLOR", "CLICOLOR_FORCE"}}
    environment["OMP_NUM_THREADS"] = "1"
    words = [sys.executable, "-m", "recbole_diffusion", *WORDS, "--learnin_rate=0.1"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert COLOUR not in done.stdout + done.stderr
    assert BAR not in done.stdout + done.stderr
    assert len((done.stdout + done.stderr).splitlines()) <= 40
    assert len(re.findall("epoch [123] training", done.stderr)) == 3
    assert done.stdout.rstrip().splitlines()[-1].startswith("warning: key 'learnin_rate' is unknown")
    (folder,) = Path("outputs").iterdir()
    log = (folder / "run.log").read_text()
    assert COLOUR not in log
    for part in (
        "General Hyper Parameters",
        "learning_rate = 0.001",
        "The number of users: 65",
        "Trainable parameters",
    ):
        assert part in log, part
        assert part not in done.stderr, part
    assert done.stdout.strip() in log
    assert str(folder / "run.log") in done.stderr


def test_a_terminal_has_colours_and_bars_and_no_color_leaves_the_bars(shown, monkeypatch):
    text = shown(True)
    assert COLOUR in text
    assert BAR in text
    monkeypatch.setenv("NO_COLOR", "1")
    text = shown(True)
    assert COLOUR not in text
    assert BAR in text
    assert "Train     1:" in text


def test_elsewhere_there_are_none_unless_asked_for(shown, monkeypatch):
    text = shown(False)
    assert COLOUR not in text
    assert BAR not in text
    text = shown(False, show_progress=True)
    assert COLOUR not in text
    assert BAR in text
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = shown(False)
    assert COLOUR in text
    assert BAR not in text


def test_a_terminal_has_no_bars_where_they_are_switched_off(shown):
    assert BAR not in shown(True, show_progress=False)


@pytest.mark.parametrize(
    ("is_terminal", "variables", "coloured"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (False, {"FORCE_COLOR": "1"}, True),
        (False, {"FORCE_COLOR": "0"}, False),
        (False, {"CLICOLOR_FORCE": "1"}, True),
        (False, {"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colours(is_terminal, variables, coloured):
    assert terminal.colours(Stream(is_terminal), variables) is coloured


def test_a_stream_that_is_closed_or_missing_is_no_terminal():
    closed = io.StringIO()
    closed.close()
    assert [terminal.is_terminal(stream) for stream in (closed, None, Stream(True))] == [False, False, True]


# One folder, one name


def test_the_checkpoint_has_the_runs_name_and_is_linked_from_its_folder(settings):
    result = run("DiffRec", "board", config_dict={**settings, **QUICK, "save_last_every": 1})
    folder, file = Path(result["folder"]), Path(result["checkpoint"])
    assert file == Path("saved") / f"{folder.name}.pth"
    assert sorted(path.name for path in Path("saved").iterdir()) == [f"{folder.name}-last.pth", f"{folder.name}.pth"]
    assert (folder / "checkpoint.pth").resolve() == file.resolve()
    assert (folder / "checkpoint-last.pth").resolve() == file.with_name(f"{folder.name}-last.pth").resolve()
    assert not os.path.isabs(os.readlink(folder / "checkpoint.pth"))
    kept = {"config.yaml", "manifest.json", "metrics.json", "epochs.json", "tensorboard"}
    assert {path.name for path in folder.iterdir()} >= kept
    os.mkdir("elsewhere")
    for name in ("outputs", "saved"):
        shutil.move(name, f"elsewhere/{name}")
    config = load(Path("elsewhere") / folder / "checkpoint.pth").config
    assert (config["model"], config["dims"]) == ("DiffRec", [16])


def test_a_run_goes_on_from_the_link_of_its_last_epoch(settings):
    """The best weights lie beside the file that the link leads to, not beside the link."""
    keys = {**settings, **QUICK, "save_last_every": 1}
    whole = run("DiffRec", "board", config_dict={**keys, "epochs": 4})
    half = run("DiffRec", "board", config_dict={**keys, "epochs": 2})
    link = Path(half["folder"]) / "checkpoint-last.pth"
    rest = run(resume=link, config_dict={"epochs": 4})
    assert rest["test_result"] == whole["test_result"]
    assert Path(rest["checkpoint"]).stem == Path(rest["folder"]).name
    assert len({result["checkpoint"] for result in (whole, half, rest)}) == 3


def test_the_link_is_there_once_there_is_a_checkpoint_for_runs_that_are_killed(settings):
    seen = []

    def look(epoch, score):
        (folder,) = Path("outputs").iterdir()
        seen.append((folder / "checkpoint.pth").is_file())

    run("DiffRec", "board", config_dict={**settings, **QUICK, "epochs": 1}, callback=look)
    assert seen == [True]


@pytest.mark.parametrize("links", [True, False])
def test_without_a_checkpoint_or_without_links_nothing_dangles(links, settings, monkeypatch):
    if not links:
        monkeypatch.setattr(Path, "symlink_to", lambda *paths: (_ for _ in ()).throw(OSError("no links here")))
    result = run("DiffRec", "board", config_dict={**settings, **QUICK, "epochs": 1}, saved=not links)
    assert not [path for path in Path(result["folder"]).iterdir() if path.is_symlink()]
    manifest = json.loads(Path(result["folder"], "manifest.json").read_text())
    assert manifest["checkpoint"] == result["checkpoint"]
    assert (result["checkpoint"] is None) is links


# The result


RESULT = {
    "best_valid_score": 0.5,
    "valid_score_bigger": True,
    "best_valid_result": {"ndcg@10": 0.5, "recall@10": 0.25},
    "test_result": {"ndcg@10": 0.4, "recall@10": 0.2},
    "model": "DiffRec",
    "dataset": "board",
    "seed": 7,
    "folder": "outputs/x",
    "checkpoint": None,
}


def test_a_result_prints_as_one_line_and_is_a_dict():
    result = RunResult(RESULT)
    line = "<RunResult: DiffRec on board, seed 7; test: ndcg@10 0.4000, recall@10 0.2000; folder outputs/x>"
    assert repr(result) == str(result) == line
    assert repr(RunResult(RESULT, test_result=None)) == line.replace(
        "test: ndcg@10 0.4000, recall@10 0.2000", "valid: ndcg@10 0.5000, recall@10 0.2500"
    )
    assert repr(RunResult()) == "<RunResult: None on None, seed None; test: no metrics; folder None>".replace(
        "test", "valid"
    )
    assert isinstance(result, dict)
    assert result == RESULT
    assert {**result} == RESULT
    copy = pickle.loads(pickle.dumps(result))
    assert type(copy) is RunResult
    assert copy == RESULT
    assert json.loads(json.dumps(result)) == RESULT


def test_the_table_has_four_decimals_whatever_the_value(settings):
    """What looks like a number, a table package prints as it likes: .1910 as 0.191, 1e-5 as 1.000e-05."""
    result = run("EASE", "board", config_dict=settings, saved=False)
    valid, test = {"recall@10": 0.191, "ndcg@10": 1e-5}, {"recall@10": 1.0, "ndcg@10": 0.12346, "popularity": 12345.678}
    rows = [
        line.split() for line in result_table({**result, "best_valid_result": valid, "test_result": test}).split("\n")
    ]
    assert ["recall@10", "0.1910", "1.0000"] in rows
    assert ["ndcg@10", "0.0000", "0.1235"] in rows
    assert ["popularity", "-", "12345.6780"] in rows


def test_run_gives_one_and_a_notebook_shows_the_table_once(settings, capsys, monkeypatch):
    keys = {**settings, **QUICK, "epochs": 1}
    result = run("DiffRec", "board", config_dict={**keys, "state": "INFO"})
    assert type(result) is RunResult
    plain = json.loads(json.dumps(result.plain(), allow_nan=False))
    assert plain["test_result"] == result["test_result"]
    assert plain["per_user"]["users"] == list(result["per_user"].users)
    assert plain["per_user"]["metrics"]["ndcg@10"] == list(result["per_user"].metrics["ndcg@10"])
    assert result.table() == result_table(result)
    assert capsys.readouterr().out == ""
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: object()))
    shown = run("DiffRec", "board", config_dict={**keys, "state": "INFO"})
    assert capsys.readouterr().out == f"{shown.table()}\n"
    run("DiffRec", "board", config_dict={**keys, "state": "ERROR"})  # as a comparison's runs
    assert capsys.readouterr().out == ""
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))  # imported, not running
    assert not terminal.in_notebook()


def test_the_command_colours_its_title_in_a_terminal_only(capsys, checkerboard, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    few = [word for word in WORDS if "epochs" not in word] + ["--epochs=1", "--state=ERROR"]
    assert cli.main(few) == 0
    assert COLOUR not in capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert cli.main(few) == 0
    assert "\x1b[1;35mDiffRec on board\x1b[0m (seed 2020;" in capsys.readouterr().out
