"""Files of recommendations: csv, tsv, json, json lines and parquet, written batch by batch."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Callable

import numpy as np

from recbole_diffusion.data.importing import frames
from recbole_diffusion.serving.recommendation import Batch
from recbole_diffusion.support.atomic_write import atomic_write

#: The standard output, as csv.
STDOUT = "-"


def columns_of(batch: Batch) -> dict[str, np.ndarray]:
    """The batch as columns: user, item, rank, score, and with several generations the scores' ``score_sd``."""
    columns = batch.lists.rows()
    if batch.sd is not None:
        columns["score_sd"] = batch.sd[batch.lists.items != 0]
    return columns


def check(path: str) -> None:
    """Check before anything is computed that the recommendations can be written.

    Raises:
        ValueError: an unknown suffix, a folder that does not exist, or parquet without pyarrow.
    """
    if path == STDOUT:
        return
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITERS:
        raise ValueError(
            f"out={path!r} is not allowed; allowed: a name that ends in {', '.join(_WRITERS)}, or {STDOUT}"
        )
    if not Path(path).absolute().parent.is_dir() or Path(path).is_dir():
        raise ValueError(f"out={path!r} is not allowed; allowed: a file in an existing folder")
    if suffix == ".parquet":
        frames.need_pyarrow(f"to write {path!r}", "--out=FILE.csv")


def write(path: str, batches: Iterable[Batch]) -> None:
    """Write the recommendations; a file appears when it is complete, and an old one stays until then.

    Args:
        path: :data:`STDOUT`, or a file. Its suffix is the format: a row per item in ``.csv``, ``.tsv`` and
            ``.parquet``; an object per user in ``.jsonl`` and in the array of ``.json``.
        batches: the recommendations.
    """
    if path == STDOUT:
        for text in _csv_texts(batches, ","):
            sys.stdout.write(text)
        return
    writer = _WRITERS[Path(path).suffix.lower()]
    atomic_write(path, lambda file: writer(file, batches))


def _csv_texts(batches: Iterable[Batch], separator: str) -> Iterator[str]:
    for number, batch in enumerate(batches):
        columns = columns_of(batch)
        text = io.StringIO()
        writer = csv.writer(text, delimiter=separator, lineterminator="\n")
        if number == 0:
            writer.writerow(columns)
        # numpy's texts of float32 have the fewest digits that give the same number again
        writer.writerows(zip(*(values.astype(str) for values in columns.values())))
        yield text.getvalue()


def _csv_writer(separator: str) -> Callable[[BinaryIO, Iterable[Batch]], None]:
    def write_csv(file: BinaryIO, batches: Iterable[Batch]) -> None:
        for text in _csv_texts(batches, separator):
            file.write(text.encode())

    return write_csv


def _objects(batches: Iterable[Batch]) -> Iterator[dict[str, Any]]:
    """An object per user: ``user``, ``items``, ``scores``, and with several generations ``score_sd``, ``jaccard``."""
    for lists, sd, jaccard in batches:
        for row, user in enumerate(lists.users.tolist()):
            places = lists.items[row] != 0
            content = {"user": user, "items": lists.names[lists.items[row][places]].tolist()}
            content["scores"] = _short_floats(lists.scores[row][places])
            if sd is not None and jaccard is not None:
                content["score_sd"] = _short_floats(sd[row][places])
                content["jaccard"] = _short_floats(jaccard[row : row + 1])[0]
            yield content


def _short_floats(values: np.ndarray) -> list[Any]:
    """Numbers for json with the digits of float32; None where a value is not finite."""
    numbers = [float(text) for text in values.astype(np.float32).astype(str)]
    return [number if math.isfinite(number) else None for number in numbers]


def _write_json_lines(file: BinaryIO, batches: Iterable[Batch]) -> None:
    for content in _objects(batches):
        file.write(json.dumps(content, ensure_ascii=False).encode() + b"\n")


def _write_json(file: BinaryIO, batches: Iterable[Batch]) -> None:
    file.write(b"[")
    for number, content in enumerate(_objects(batches)):
        file.write((b",\n" if number else b"\n") + json.dumps(content, ensure_ascii=False).encode())
    file.write(b"\n]\n")


def _write_parquet(file: BinaryIO, batches: Iterable[Batch]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for batch in batches:
        table = pa.table({name: _arrow(pa, values) for name, values in columns_of(batch).items()})
        writer = writer or pq.ParquetWriter(file, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _arrow(pa: Any, values: np.ndarray) -> Any:
    """A column for pyarrow; names become texts."""
    return pa.array(values.tolist(), pa.string()) if values.dtype.kind == "U" else pa.array(values)


_WRITERS: dict[str, Callable[[BinaryIO, Iterable[Batch]], None]] = {
    ".csv": _csv_writer(","),
    ".tsv": _csv_writer("\t"),
    ".json": _write_json,
    ".jsonl": _write_json_lines,
    ".parquet": _write_parquet,
}
