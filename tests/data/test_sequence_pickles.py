"""The official pickles of DiffuRec, FMRec and ADRec: read as plain data, never run."""

from __future__ import annotations

import os
import pickle
import struct
import tracemalloc

import pytest

from recbole_diffusion.cli import main
from recbole_diffusion.data import convert


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def write(tmp_path, content):
    file = tmp_path / "dataset.pkl"
    file.write_bytes(pickle.dumps(content))
    return file


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (
            {"train": [[3, 1], [2]], "val": [[5], [1]], "test": [[4], [9]]},  # ADRec
            {"0": ["3", "1", "5", "4"], "1": ["2", "1", "9"]},
        ),
        (
            {"train": {7: [3, 1]}, "val": {7: [5]}, "test": {7: [4]}, "umap": {1: 7}, "smap": {}},  # DiffuRec, FMRec
            {"7": ["3", "1", "5", "4"]},
        ),
    ],
)
def test_a_sequence_is_its_parts_in_time(parts, expected, tmp_path):
    assert convert.read_sequences(write(tmp_path, parts)) == expected


@pytest.mark.parametrize("user", ["", "a\tb", "a\n5\t6", "a\r", "a\u2028b", "\ud800", "\0"])
def test_users_whose_names_would_make_other_rows_are_refused(user, tmp_path):
    parts = {part: {user: [2], "b": [3]} for part in ("train", "val", "test")}
    with pytest.raises(ValueError, match=r"dataset.pkl' has a user .*; a name needs a character and no tab or end of"):
        convert.read_sequences(write(tmp_path, parts))


@pytest.mark.parametrize(
    "content", [b"\x80\x04]r" + struct.pack("<I", 10**9) + b".", b"\x80\x05\x96" + struct.pack("<Q", 10**10) + b"."]
)
def test_a_few_bytes_take_no_memory(content, tmp_path):
    """The number of an entry of the memo, for which the unpickler in C reserves as much; and an array of bytes."""
    (tmp_path / "dataset.pkl").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"must hold a dict|holds bytes, which sequences do not have"):
            convert.read_sequences(tmp_path / "dataset.pkl")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_users_of_one_name_are_refused(tmp_path):
    parts = {part: {1: [2], "1": [3]} for part in ("train", "val", "test")}
    with pytest.raises(ValueError, match="names 2 users '1', as a number and as text"):
        convert.read_sequences(write(tmp_path, parts))


def test_the_command_writes_recboles_file(tmp_path):
    file = write(tmp_path, {"train": [[3, 1], [2]], "val": [[5], [1]], "test": [[4], [9]]})
    assert main(["convert", str(file), "--name=baby", f"--to={tmp_path / 'data'}"]) == 0
    rows = (tmp_path / "data" / "baby" / "baby.inter").read_text().split()
    assert rows[3:9] == ["0", "3", "0", "0", "1", "1"]
    assert len(rows) == 3 * 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": Harmful(), "val": [], "test": []}, "names .*mkdir, which can run code; such a file is not loaded"),
        ([1, 2], "must hold a dict with train, val, test"),
        ({"train": [[1]], "val": [[2]]}, "must hold a dict with train, val, test"),
        ({"train": [[1], [2]], "val": [[2]], "test": [[3]]}, "must hold the same users in train, val, test"),
        ({"train": [[1]], "val": [2], "test": [[3]]}, "val must hold a list of items for each user; got '0'"),
        ({"train": [["1"]], "val": [[2]], "test": [[3]]}, "train of user '0' must hold whole numbers; got"),
        ({"train": 5, "val": [[2]], "test": [[3]]}, "train must be a list or a dict of users; got int"),
        ({"train": [], "val": [], "test": []}, "holds no sequence"),
    ],
)
def test_other_pickles_are_refused(content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        convert.read_sequences(write(tmp_path, content))
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("size", [0, 1, 20, 60])
def test_a_torn_pickle_is_refused(size, tmp_path):
    file = write(tmp_path, {"train": [[3, 1], [2]], "val": [[5], [1]], "test": [[4], [9]]})
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"is no pickle that can be read|must hold"):
        convert.read_sequences(file)
