"""Tables cut and with flipped bits: atomic files, parts of a split, tables to import and lists to evaluate.

A text has no checksum: what can still be read is read. Counted is that nothing else happens: the data are read, or one
line names the file. Packed tables (gzip, zip, parquet) are never believed.
"""

from __future__ import annotations

import gzip
import io
import random
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any, Callable

import pandas as pd
import pytest
from conftest import HEADER, SMALL, write_inter

from recbole_diffusion import quick_start
from recbole_diffusion.data.importing import importer
from recbole_diffusion.data.importing.request import Request
from recbole_diffusion.experiment.evaluate import list_files

ROWS = [(f"u{n % 7}", f"i{n * 5 % 11}", 1 + n % 5, 1000 + n) for n in range(60)]
FRAME = pd.DataFrame(ROWS, columns=["user_id", "item_id", "rating", "timestamp"])
MANY = pytest.mark.slow


def damages(content: bytes, count: int) -> list[bytes]:
    """The content cut, with a flipped, lacking, other or repeated byte, each at a place that is drawn."""
    draw = random.Random(f"{len(content)} {count}")
    damaged = [b"", content[:1], content[:-1], content[: len(content) // 2]]
    while len(damaged) < count:
        place, kind = draw.randrange(len(content)), draw.randrange(5)
        before, byte, after = content[:place], content[place], content[place + 1 :]
        damaged.append(
            [
                before,
                before + bytes([byte ^ 1 << draw.randrange(8)]) + after,
                before + after,
                before + bytes([draw.choice(b'\t\n\r,"\0\xff0-:')]) + after,
                before + content[place : place + 40] * 2 + after,
            ][kind]
        )
    return damaged


def outcome(read: Callable[[], Any], name: str) -> Any:
    """What is read, or None where one line refuses it; the line names the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read()
        except ValueError as error:
            line = str(error)
    assert "\n" not in line
    assert name in line or "board" in line, line
    return None


def _prepared(**more: Any) -> Any:
    config = quick_start.configure("BPR", "board", config_dict={**SMALL, "load_col": None, "state": "ERROR", **more})
    return quick_start.prepare(config)[0]


@pytest.mark.parametrize("count", [25, pytest.param(1000, marks=MANY)])
@pytest.mark.parametrize("suffix", ["inter", "item", "train.inter", "valid.inter"])
def test_atomic_files(suffix, count):
    more: dict[str, Any] = {}
    if suffix in {"inter", "item"}:
        write_inter(Path("dataset"), "board", ROWS, HEADER)
    else:
        more["benchmark_filename"] = ["train", "valid", "test"]
        for part, rows in (("train", ROWS[:40]), ("valid", ROWS[40:50]), ("test", ROWS[50:])):
            write_inter(Path("dataset"), "board", rows, HEADER)
            Path("dataset/board/board.inter").rename(f"dataset/board/board.{part}.inter")
    if suffix == "item":
        items = "".join(f"i{n}\t{n}.5\ta b\n" for n in range(11))
        Path("dataset/board/board.item").write_text(f"item_id:token\tprice:float\ttags:token_seq\n{items}")
    file = Path(f"dataset/board/board.{suffix}")
    read = 0
    for damaged in damages(file.read_bytes(), count):
        file.write_bytes(damaged)
        read += outcome(lambda: _prepared(**more), file.name) is not None
    assert 0 < read < count


def _packed(name: str) -> bytes:
    text = FRAME.to_csv(index=False).encode()
    if name.endswith(".gz"):
        return gzip.compress(text, mtime=0)
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
        return FRAME.to_parquet(index=False)
    if name.endswith(".zip"):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("t.csv", text)
        return stream.getvalue()
    return FRAME.to_json(orient="records", lines=True).encode() if name.endswith(".jsonl") else text


@pytest.mark.parametrize("count", [25, pytest.param(1000, marks=MANY)])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.csv.gz", "t.zip", "t.parquet"])
def test_tables_to_import(name, count):
    """Where it is refused nothing is written."""

    def read() -> bytes:
        importer.import_file(name, Request("new", overwrite=True))
        return Path("dataset/new/new.inter").read_bytes()

    content = _packed(name)
    Path(name).write_bytes(content)
    right = read()
    for damaged in damages(content, count):
        shutil.rmtree("dataset", ignore_errors=True)
        Path(name).write_bytes(damaged)
        value = outcome(read, name)
        if value is None:
            assert not Path("dataset/new").exists()
        elif name.endswith((".gz", ".zip")):
            assert value == right, damaged


@pytest.mark.parametrize("count", [25, pytest.param(1000, marks=MANY)])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_lists_to_evaluate(name, count):
    content = _packed(name)
    Path(name).write_bytes(content)
    assert list_files.read(Path(name)) is not None
    for damaged in damages(content, count):
        Path(name).write_bytes(damaged)
        outcome(lambda: list_files.read(Path(name)), name)


def test_a_carriage_return_alone_ends_a_line():
    """As it does for pandas; the csv module alone raises an error of its own."""
    Path("t.csv").write_bytes(b"user_id,item_id\nu1,i1\ru2,i2\nu3,i3\n")
    importer.import_file("t.csv", Request("new"))
    assert Path("dataset/new/new.inter").read_text().splitlines()[1:] == ["u1\ti1", "u2\ti2", "u3\ti3"]
