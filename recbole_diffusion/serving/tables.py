"""Columns of users, items and times in the tables that users write, and lists of names, one a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import pandas as pd

from recbole_diffusion.data.importing import frames

#: Names of columns by what they hold, in lower case, beside the data set's own field.
ALIASES = {
    "user": ("user", "user_id", "userid", "uid"),
    "item": ("item", "item_id", "itemid", "iid"),
    "time": ("time", "timestamp", "date", "datetime"),
}
#: A list of names is a table if its first line holds one of these.
_SEPARATORS = "\t,;|"


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
    if {".parquet", ".jsonl", ".ndjson", ".json"} & {suffix.lower() for suffix in file.suffixes}:
        return _names_of_table(file, kind, field)
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"file {str(file)!r} is no text in UTF-8; write one name a line, or a csv file") from error
    if not lines:
        raise ValueError(f"file {str(file)!r} holds no {kind}s")
    if not any(separator in lines[0] for separator in _SEPARATORS):
        is_title = lines[0].partition(":")[0].lower() in (field.lower(), *ALIASES[kind])
        return lines[1:] if is_title else lines
    return _names_of_table(file, kind, field)


def _names_of_table(file: Path, kind: str, field: str) -> list[str]:
    frame = frames.read(file, (field, *ALIASES[kind]))
    names: list[str] = frames.texts(frame[needed_column(frame, kind, field, f"file {str(file)!r}")]).tolist()
    return names


def distinct(names: Sequence[str]) -> list[str]:
    """The names without repetitions, in order of their first occurrence."""
    return list(dict.fromkeys(names))
