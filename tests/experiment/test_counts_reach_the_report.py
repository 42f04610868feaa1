"""What was dropped, replaced or warned of reaches comparison.json and the report, for every model by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import SMALL

from recbole_diffusion.data import pipeline as data_module
from recbole_diffusion.data.account import account_of
from recbole_diffusion.experiment import report
from recbole_diffusion.experiment.compare import compare
from recbole_diffusion.experiment.compare.models_on_datasets import join_notes
from recbole_diffusion.experiment.report import accounts
from recbole_diffusion.experiment.tune import tune

pytestmark = pytest.mark.usefixtures("no_plots")

QUICK = {**SMALL, "epochs": 1}
QUICK.pop("state")


@pytest.fixture
def dropping(monkeypatch):
    """Data sets whose account holds rows that were dropped."""
    original = data_module.create_dataset

    def create(config):
        dataset = original(config)
        account = account_of(dataset)
        account.record_file("board.inter", 1000)
        account.record_dropped("items that board.item lacks", 15, requested=False)
        account.record_dropped("val_interval={'rating': '[4,inf)'}", 7, requested=True)
        return dataset

    monkeypatch.setattr(data_module, "create_dataset", create)


def test_notes_are_lines_with_the_names_of_their_models():
    notes = [("A", "x"), ("B", "y"), ("B", "x"), ("", "z"), ("A", "x"), ("A", "z")]
    assert join_notes(notes) == ["A, B: x", "B: y", "z"]


def test_rows_and_reasons_are_in_the_report(checkerboard, dropping, capsys):
    store = compare(["EASE", "BPR", "SASRec"], ["board"], [1], "here", QUICK)
    warning = "15 rows were dropped: items that board.item lacks"
    assert f"EASE, BPR, SASRec: {warning}" in store.plan()["notes"]
    account = store.plan()["datasets"]["board"]["account"]
    assert account["files"]["board.inter"] == 1000
    assert {"reason": "items that board.item lacks", "rows": 15, "requested": False} in account["dropped"]
    shown = capsys.readouterr().err
    assert "rows dropped: 15, items that board.item lacks (no setting asks for it)" in shown
    assert f"note: EASE, BPR, SASRec: {warning}" in shown
    report.write("here")
    text = Path("here/report/results.md").read_text()
    assert "- rows read: 1,000 (board.inter)" in text
    assert "- rows dropped: 7, val_interval={'rating': '[4,inf)'}\n" in text
    assert f"- EASE, BPR, SASRec: {warning}" in text
    found = json.loads(Path("here/report/results.json").read_text())["results"]["board"]
    assert [each["models"] for each in found["accounts"]] == [["EASE", "BPR", "SASRec"]]
    assert found["accounts"][0]["dropped"] == account["dropped"]
    assert all(warning in model["warnings"] for model in found["models"])
    assert "rows dropped: 15" in report.summary(store.folder)


def test_accounts_that_differ_are_told_by_models():
    class Run:
        def __init__(self, label, rows):
            self.label, self.account = label, {"files": {"a.inter": rows}, "dropped": []} if rows else {}

    assert accounts.account_lines([Run("A", 5), Run("B", 6), Run("C", 5), Run("D", 0)]) == [
        "A, C: rows read: 5 (a.inter)",
        "B: rows read: 6 (a.inter)",
    ]
    assert accounts.account_lines([Run("A", 5)]) == ["rows read: 5 (a.inter)"]


def test_every_models_own_warnings_are_in_the_report(checkerboard):
    """A key that only one model does not know, and the warning of another one's loss of meaning."""
    own = {"BPR": {"emb_size": 4}, "EASE": {"reg_wieght": 3.0}}
    store = compare(["EASE", "BPR", "Pop"], ["board"], [1, 2], "here", {**QUICK, "stpes": 3}, own)
    notes = store.plan()["notes"]
    assert sum("key 'emb_size' is unknown to BPR" in note for note in notes) == 1
    assert sum("key 'reg_wieght' is unknown to EASE" in note for note in notes) == 1
    assert [note.partition(":")[0] for note in notes if "key 'stpes'" in note] == ["EASE", "BPR", "Pop"]


def test_notes_name_the_data_set_where_there_are_several(checkerboard):
    Path("dataset/other").mkdir()
    text = Path("dataset/board/board.inter").read_text()
    Path("dataset/other/other.inter").write_text(text + "u0\ti0\t5.0\t1\n" * 3)
    store = compare(["EASE"], ["board", "other"], [1], "here", {**QUICK, "reg_wieght": 3.0})
    notes = [note for note in store.plan()["notes"] if "reg_wieght" in note]
    assert [note.split(": ")[:2] for note in notes] == [["EASE", "board"], ["EASE", "other"]]


def test_a_tuning_says_what_was_dropped(checkerboard, dropping, capsys):
    result = tune("EASE", "board", 1, settings=QUICK, executor="serial", folder="here")
    assert "15 rows were dropped: items that board.item lacks" in result.notes
    assert "rows dropped: 7, val_interval={'rating': '[4,inf)'}" in capsys.readouterr().err
    kept = json.loads(Path("here/tune.json").read_text())
    assert [each["rows"] for each in kept["split"]["account"]["dropped"]] == [15, 7]
    assert "15 rows were dropped: items that board.item lacks" in kept["request"]["notes"]
