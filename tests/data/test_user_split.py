"""Published data that are split by user: both formats, what is refused, and that RecBole reads the result."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_diffusion import cli, quick_start
from recbole_diffusion.data import user_split

LINES = {"train": "3 1 2\n\n2 3 1 4 2\n", "valid": "1 2 3\n", "test": "4 1\n2 2 3\n"}


@pytest.fixture
def lines(tmp_path):
    folder = tmp_path / "lines"
    folder.mkdir()
    for part, text in LINES.items():
        (folder / f"{part}_data.txt").write_text(text)
    return folder


def frame(sequences, floats, columns=("seq", "len_seq", "next")):
    """Each prefix of each sequence, the empty one included, padded with item 9 to length 3."""
    rows = []
    for sequence in sequences:
        for place, target in enumerate(sequence):
            history = sequence[:place][-3:]
            padded = [float(item) if floats else item for item in history] + [9] * (3 - len(history))
            rows.append((padded, max(len(history), 1), float(target) if floats else target))
    return pd.DataFrame(rows, columns=list(columns))


@pytest.fixture
def frames(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    frame([[0, 4, 2], [5, 1]], floats=False).to_pickle(folder / "train_data.df")
    frame([[3, 3]], floats=True).to_pickle(folder / "val_data.df")
    frame([[1, 2, 0, 4, 5]], floats=False, columns=("seq", "seq_len", "tgt")).to_pickle(folder / "test_data.df")
    return folder


def rows_of(folder, name, part):
    return (folder / name / f"{name}.{part}.inter").read_text().splitlines()


def test_one_user_a_line(lines, tmp_path):
    written, split = user_split.write_user_split(lines, tmp_path / "out", "mine")
    assert written == tmp_path / "out" / "mine"
    assert rows_of(tmp_path / "out", "mine", "train") == [user_split.HEADER, "0\t3 1\t2", "1\t2 3 1 4\t2"]
    assert rows_of(tmp_path / "out", "mine", "test") == [user_split.HEADER, "3\t4\t1", "4\t2 2\t3"]
    assert split.counts() == {"items": 4, "train_rows": 2, "valid_rows": 1, "test_rows": 2}


def test_frames_of_prefixes(frames, tmp_path):
    """The first item of each sequence has no history: it begins a user, and its row is left out."""
    _, split = user_split.write_user_split(frames, tmp_path / "out", "mine")
    assert rows_of(tmp_path / "out", "mine", "train")[1:] == ["0\t0\t4", "0\t0 4\t2", "1\t5\t1"]
    assert rows_of(tmp_path / "out", "mine", "valid")[1:] == ["2\t3\t3"]
    assert rows_of(tmp_path / "out", "mine", "test")[1:] == ["3\t1\t2", "3\t1 2\t0", "3\t1 2 0\t4", "3\t2 0 4\t5"]
    assert split.without_history == {"train": 2, "valid": 1, "test": 1}
    assert split.counts() == {"items": 6, "train_rows": 3, "valid_rows": 1, "test_rows": 4}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("valid_data.txt", None, "lacks 'valid_data.txt'; needed: train_data.txt, valid_data.txt, test_data.txt"),
        ("valid_data.txt", "1 2\n7\n", "line 2 must hold two or more item numbers; got '7'"),
        ("test_data.txt", "1 x\n", "line 1 must hold two or more item numbers; got '1 x'"),
        ("train_data.txt", "\n", "holds no row with a history"),
    ],
)
def test_faults_of_lines_are_named_and_nothing_is_written(name, text, message, lines, tmp_path):
    (lines / name).unlink() if text is None else (lines / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        user_split.write_user_split(lines, tmp_path / "out", "mine")
    assert not (tmp_path / "out").exists()


class Harmful:
    """A pickle that runs a command where it is loaded as any pickle."""

    def __reduce__(self):
        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Harmful(), r"it names (posix|nt)\.system, which is no part of a frame"),
        ({"a": 1}, "must hold a frame with the columns seq and next"),
        (pd.DataFrame({"seq": [["a"]], "next": [1]}), "must hold lists of item numbers"),
        (None, "cannot be read as a pickled frame"),
    ],
)
def test_other_pickles_are_refused(content, message, frames):
    data = b"no pickle" if content is None else pickle.dumps(content)
    (frames / "val_data.df").write_bytes(data)
    with pytest.raises(ValueError, match=message) as raised:
        user_split.read_user_split(frames)
    assert "\n" not in str(raised.value)
    assert "val_data.df" in str(raised.value)
    assert not Path("harmed").exists()


def test_the_command_writes_what_recbole_reads(frames, tmp_path, capsys):
    assert cli.main(["convert", str(frames), "--name=mine", f"--to={tmp_path / 'out'}"]) == 0
    printed = capsys.readouterr().out
    assert "rows: 3 train, 1 valid, 4 test; 4 rows without a history are left out" in printed
    words = printed[printed.index("--dataset") :]
    assert "--benchmark_filename" in words
    settings = {
        **user_split.settings(tmp_path / "out"),
        "MAX_ITEM_LIST_LENGTH": 2,
        "topk": [2],
        "valid_metric": "Hit@2",
    }
    small = {"hidden_size": 8, "steps": 4, "metrics": ["Hit"], "show_progress": False, "state": "error"}
    config = quick_start.configure("DreamRec", "mine", config_dict={**settings, **small})
    dataset, loaders = quick_start.prepare(config)
    test, tokens = loaders[2]._dataset.inter_feat, dataset.field2id_token["item_id"]
    assert [[*map(str, tokens[row])] for row in test["item_id_list"].numpy()] == [
        ["1", "[PAD]"],
        ["1", "2"],
        ["2", "0"],
        ["0", "4"],
    ]
    np.testing.assert_array_equal(tokens[test["item_id"].numpy()], ["2", "0", "4", "5"])
    assert len(loaders[0]._dataset) == 3


def test_protocol_is_for_arrays(lines, tmp_path, capsys):
    assert cli.main(["convert", str(lines), "--name=mine", f"--to={tmp_path / 'out'}", "--protocol=official"]) == 2
    assert "--protocol is for arrays" in capsys.readouterr().err
