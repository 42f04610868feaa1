"""Damaged and unusual files: refused with file, place and way out, or read with stated rows and notes."""

from __future__ import annotations

import re
from pathlib import Path

import damaged_files
import pytest
from damaged_files import CASES, HEAD, IN_TIME, Case

from recbole_diffusion import cli
from recbole_diffusion.data import convert


@pytest.mark.parametrize("row", ["u\ti\tnan", "u\ti\tinf", "u\ti\t", "u\t\t5", "\ti\t5", "u\ti"], ids=repr)
def test_sequences_are_not_converted_from_rows_without_time_or_name(row, tmp_path):
    """nan has no place in an order: the rows before and behind it would be in the order of the file."""
    (tmp_path / "some.inter").write_text(f"user_id:token\titem_id:token\ttimestamp:float\nu\ta\t3\n{row}\nu\tb\t1\n")
    with pytest.raises(ValueError, match=r"some\.inter' line 3 must hold user_id, item_id, timestamp"):
        convert.read_sequences(tmp_path / "some.inter")


#: A fault of these keys is one of the settings and not of a file.
KEYS = ("encoding=", "load_col.", "unload_col.", "benchmark_filename=", "USER_ID_FIELD and ITEM_ID_FIELD are both")


@pytest.mark.parametrize("case", [case for case in CASES if case.refused is not None], ids=lambda case: case.what)
def test_a_fault_names_file_place_and_way_out(case: Case):
    with pytest.raises(ValueError, match="; ") as caught:  # behind it stands the way out
        damaged_files.load(case)
    message = str(caught.value)
    assert "\n" not in message
    assert re.search(r"\bd\.\w", message) or message.startswith(KEYS), message
    for text in case.refused or ():
        assert text in message, message


@pytest.mark.parametrize("case", [case for case in CASES if case.refused is None], ids=lambda case: case.what)
def test_what_is_read_is_read_whole(case: Case):
    dataset, notes = damaged_files.load(case)
    assert len(notes) == len(case.notes), notes
    for text in case.notes:
        assert any(text in note for note in notes), notes
    if case.rows is not None:
        assert damaged_files.rows_of(dataset, dataset.inter_feat) == case.rows
    if case.item is not None:
        assert damaged_files.rows_of(dataset, dataset.item_feat.iloc[1:]) == case.item


def test_there_are_many_of_every_kind():
    assert len(CASES) > 150
    assert len({case.what for case in CASES}) == len(CASES)
    assert all(len(cases) > 5 for cases in damaged_files.GROUPS.values())


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    (case,) = (case for case in CASES if case.what == "a good file")

    def forbidden(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(ValueError, match=r"d\.inter: cannot be read: Permission denied"):
        damaged_files.load(case)


COMMANDS = [
    ["run", "--model=DiffRec"],
    ["run", "--model=SASRec"],
    ["compare", "--models=EASE,DiffRec", "--seeds=1"],
    ["tune", "--model=DiffRec", "--trials=2"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words))
def test_every_command_refuses_before_any_training(words, capsys):
    """One line, exit code 2, and no run was begun."""
    folder = Path("dataset") / "d"
    folder.mkdir(parents=True)
    rows = [f"u{user}\ti{(user + step) % 9}\t1\t{step}" for user in range(9) for step in range(6)]
    rows[20] = "u3\ti7\t1\tyesterday"
    (folder / "d.inter").write_text("\n".join([HEAD, *rows]) + "\n")
    more = ["--dataset=d", f"--eval_args={IN_TIME}", "--topk=[5]", "--valid_metric=NDCG@5", "--epochs=1"]
    assert cli.main([*words, *more]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "d.inter: line 22, column 'timestamp': 'yesterday' is no time; allowed: a number, or an ISO" in error
    assert not list(Path().rglob("*.pth"))
    assert not list(Path().rglob("epochs.json"))
