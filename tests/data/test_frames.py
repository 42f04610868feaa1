"""Tables that users write beside the data: the same rows and names in every format, and errors instead of shifts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_diffusion.data.importing import frames

BIG = 9_007_199_254_740_993  # 2^53 + 1, which no float holds


def write(name, text):
    Path(name).write_text(text, encoding="utf-8")
    return Path(name)


@pytest.mark.parametrize(
    "text",
    ["user,item\n1,2,\n3,4,\n", "user,item\n1,2\n3,4,5\n", "user,item,score\n1,2,5\n3,4\n"],
    ids=["a delimiter at the end", "a long row", "a short row"],
)
def test_a_row_of_another_length_is_an_error(text):
    """pandas shifts the columns of the first file (user 2, item missing) and fills up the last one's row."""
    with pytest.raises(ValueError, match=r"cells|fields") as error:
        frames.read(write("lists.csv", text))
    assert "\n" not in str(error.value)


def test_ids_of_json_keep_their_digits_beside_missing_ones():
    rows = [{"user": BIG, "item": "007", "score": 0.1}, {"user": None, "item": 5}]
    write("lines.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write("list.json", json.dumps(rows))
    Path("packed.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    for name in ("lines.jsonl", "list.json", "packed.json.gz"):
        frame = frames.read(Path(name))
        assert frames.texts(frame["user"]).tolist() == [str(BIG), ""]
        assert frames.texts(frame["item"]).tolist() == ["007", "5"]
        assert pd.to_numeric(frame["score"])[0] == 0.1


def test_every_format_has_the_same_texts():
    frame = pd.DataFrame({"user": ["a b", 'say "hi"', "007"], "item": ["x,y", "\u674e", "NA"], "rank": [1, 2, 3]})
    frame.to_csv("a.csv", index=False)
    frame.to_csv("a.tsv", sep="\t", index=False)
    types = {"user": "user:token", "item": "item:token", "rank": "rank:float"}
    frame.rename(columns=types).to_csv("b.csv", index=False)
    frame.to_json("a.jsonl", orient="records", lines=True)
    frame.to_json("a.json", orient="records")
    for name in ("a.csv", "a.tsv", "b.csv", "a.jsonl", "a.json"):
        read = frames.read(Path(name))
        assert [*read] == [*frame], name
        for column in frame:
            assert frames.texts(read[column]).tolist() == frames.texts(frame[column]).tolist(), name


def test_a_first_line_names_the_columns_if_it_holds_a_name_that_is_asked_for():
    file = write("a.csv", "Kunde,Ware\n1,2\n")
    assert [*frames.read(file, ["kunde"])] == ["Kunde", "Ware"]
    assert len(frames.read(file)) == 2


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, np.nan, 3.0], ["1", "", "3"]),
        ([1, 2], ["1", "2"]),
        (["01", None, 2.0, 2.5], ["01", "", "2", "2.5"]),
        (pd.array([1, None], dtype="Int64"), ["1", ""]),
        (np.array([4.0, 5.0], dtype=np.float32), ["4", "5"]),
    ],
)
def test_names_as_texts(values, expected):
    assert frames.texts(values).tolist() == expected
    assert frames.texts(pd.Series(values)).tolist() == expected
