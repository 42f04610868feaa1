"""Tables and lists of names in files that users write: csv, tsv, json lines, parquet, or one name a line."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pandas as pd

#: Names of columns by what they hold, in lower case, beside the data set's own field.
ALIASES = {
    "user": ("user", "user_id", "userid", "uid"),
    "item": ("item", "item_id", "itemid", "iid"),
    "time": ("time", "timestamp", "date", "datetime"),
}
_SEPARATORS = "\t,;|"


def read_table(file: Path) -> pd.DataFrame:
    """Read a table as texts; a suffix of RecBole's column names, such as ``:token``, is dropped.

    Raises:
        ValueError: the file does not exist, is empty or is no table.
    """
    if not file.is_file():
        raise ValueError(f"file {str(file)!r} does not exist")
    suffixes = [suffix.lower() for suffix in file.suffixes]
    try:
        if suffixes[-1:] == [".parquet"]:
            need_pyarrow(f"to read {str(file)!r}", "a csv file")
            frame = pd.read_parquet(file)
        elif {".jsonl", ".ndjson"} & {*suffixes}:
            frame = pd.read_json(file, lines=True, dtype=False, convert_dates=False)
        else:
            frame = pd.read_csv(file, sep=_separator(file), dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise ValueError(f"file {str(file)!r} cannot be read as a table: {' '.join(str(error).split())}") from error
    return frame.rename(columns=lambda name: str(name).partition(":")[0].strip())


def need_pyarrow(purpose: str, alternative: str) -> None:
    """Check that pyarrow can be imported.

    Raises:
        ValueError: it cannot; the message names the way out.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ValueError(f"pyarrow is needed {purpose}: pip install pyarrow, or take {alternative}") from error


def _separator(file: Path) -> str:
    """The separator that occurs most often in the first line; a comma if none does."""
    openers: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open}
    with openers.get(file.suffix.lower(), open)(file, "rt", encoding="utf-8-sig") as stream:
        line = stream.readline()
    return max(_SEPARATORS, key=lambda separator: (line.count(separator), separator == ","))


def find_column(frame: pd.DataFrame, kind: str, field: str) -> Optional[str]:
    """The column that holds users, items or times; None if there is none.

    Args:
        frame: the table.
        kind: a key of :data:`ALIASES`.
        field: the data set's name of it.
    """
    names = {str(column).lower(): column for column in frame.columns}
    return next((names[name] for name in (field.lower(), *ALIASES[kind]) if name in names), None)


def needed_column(frame: pd.DataFrame, kind: str, field: str, source: str) -> str:
    """Like :func:`find_column`.

    Raises:
        ValueError: there is none; the message lists the columns.
    """
    column = find_column(frame, kind, field)
    if column is None:
        raise ValueError(
            f"{source} has no column of {kind}s: it has {', '.join(map(str, frame.columns))}; "
            f"name the column {ALIASES[kind][0]!r} or {field!r}"
        )
    return column


def texts(column: Any) -> np.ndarray:
    """The values of a column as texts, as they stand in the data's files; object, (n,).

    Whole numbers have no decimal point, also where pandas has made floats of them because a value is missing.
    """
    values = column.tolist() if hasattr(column, "tolist") else list(column)
    whole = [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]
    return np.array([str(value) for value in whole], dtype=object)


def read_names(file: Path, kind: str, field: str) -> list[str]:
    """Read names of users or items: one a line, or a table with a column of them.

    Args:
        file: the file.
        kind: ``user`` or ``item``.
        field: the data set's name of the column.

    Raises:
        ValueError: the file does not exist, cannot be read, or is a table without such a column.
    """
    if not file.is_file():
        raise ValueError(f"file {str(file)!r} does not exist")
    if {".parquet", ".jsonl", ".ndjson"} & {suffix.lower() for suffix in file.suffixes}:
        frame = read_table(file)
        return texts(frame[needed_column(frame, kind, field, f"file {str(file)!r}")]).tolist()
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"file {str(file)!r} is no text in UTF-8; write one name a line, or a csv file") from error
    if not lines:
        raise ValueError(f"file {str(file)!r} holds no {kind}s")
    if not any(separator in lines[0] for separator in _SEPARATORS):
        is_title = lines[0].partition(":")[0].lower() in (field.lower(), *ALIASES[kind])
        return lines[1:] if is_title else lines
    frame = read_table(file)
    return texts(frame[needed_column(frame, kind, field, f"file {str(file)!r}")]).tolist()


def distinct(names: Sequence[str]) -> list[str]:
    """The names without repetitions, in order of their first occurrence."""
    return list(dict.fromkeys(names))
