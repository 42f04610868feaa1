"""Other columns of a table, as columns of an atomic file: numbers, tokens, and lists such as genres."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from recbole_diffusion.data.importing import numbers
from recbole_diffusion.data.importing.atomic_output import texts
from recbole_diffusion.data.importing.coded import Coded
from recbole_diffusion.data.importing.names import escape
from recbole_diffusion.data.importing.table import Table, counted, rows_of
from recbole_diffusion.data.reading.header import TYPES

#: Columns of this name, in lower case, hold lists whose elements are separated by ``|``.
_LISTS = {"genres", "genre", "categories", "category", "tags", "classes", "class"}
_SEPARATOR = "|"
_LEADING_ZERO = re.compile(r"\s*[+-]?0\d", re.ASCII)


class Feature(NamedTuple):
    """A column to write.

    Attributes:
        entry: its ``name:type``.
        text: of each row, "" where the value is missing, object (rows,).
        notes: what was decided, a line each.
    """

    entry: str
    text: np.ndarray
    notes: list[str]


def requested(table: Table, words: Optional[Sequence[str]], taken: Sequence[str]) -> dict[str, Optional[str]]:
    """The columns that the caller asks for, with their types.

    Args:
        table: the table.
        words: ``name`` or ``name:type``; ``*`` for all; None for none.
        taken: columns that are written already.

    Returns:
        The type by column; None where it is to be decided.

    Raises:
        ValueError: an unknown column or type.
    """
    chosen: dict[str, Optional[str]] = {}
    for word in words or ():
        if word == "*":
            chosen.update({name: chosen.get(name) for name in table.columns if name not in taken})
            continue
        name, _, kind = (word, "", "") if word in table.columns else word.rpartition(":")
        table.check_column(name or word, "--columns")
        if kind and kind not in TYPES:
            raise ValueError(f"--columns={word}: the type {kind!r} is not known; allowed: {' | '.join(TYPES)}")
        if name not in taken:
            chosen[name] = kind or None
    return chosen


def to_feature(table: Table, name: str, kind: Optional[str], kept: np.ndarray) -> Feature:
    """Convert a column.

    Args:
        table: the table.
        name: the column.
        kind: one of RecBole's types; None: lists and ``genres``-like columns are ``token_seq``, numbers ``float``
            (unless one has a leading zero, as postal codes do), others ``token``.
        kept: the rows to write, bool (rows,).

    Raises:
        ValueError: a value that does not fit the type.
    """
    column = table.columns[name].rows(kept)
    kind = kind or _kind_of(name, column)
    field = re.sub(r"[\s:\"']+", "_", name.strip())
    notes: list[str] = []
    if kind == "float":
        values = numbers.to_numbers(Table(table.source, "", {name: column}), name)
        missing = int(values.missing.sum())
        if missing:
            notes.append(f"{counted(missing)} without {name!r}: RecBole fills in the mean where it is loaded")
        return Feature(
            f"{field}:float", texts([numbers.written(value) for value in values.values], values.codes), notes
        )
    if kind.endswith("seq"):
        return Feature(f"{field}:{kind}", _lists(name, column, notes), notes)
    return Feature(f"{field}:token", _tokens(name, column, notes), notes)


def _kind_of(name: str, column: Coded) -> str:
    if name.lower() in _LISTS or any(isinstance(value, tuple) for value in column.values):
        return "token_seq"
    coded_names = any(isinstance(value, str) and _LEADING_ZERO.match(value) for value in column.values)
    booleans = any(isinstance(value, (bool, np.bool_)) for value in column.values)
    return "float" if numbers.all_numbers(column) and not coded_names and not booleans else "token"


def _tokens(name: str, column: Coded, notes: list[str]) -> np.ndarray:
    """One token a row; tabs and line breaks become spaces."""
    written = [_one_line(value) for value in column.values]
    changed = rows_of(column, [str(value) != text for value, text in zip(column.values, written)])
    if changed:
        notes.append(f"{counted(changed)} of {name!r}: tabs and line breaks are written as spaces")
    return texts(written, column.codes)


def _one_line(value: Any) -> str:
    text = " ".join(re.split(r"[\t\n\r\0]+", str(value))) if re.search(r"[\t\n\r\0]", str(value)) else str(value)
    return escape(text)


def _lists(name: str, column: Coded, notes: list[str]) -> np.ndarray:
    """The elements of each row, separated by spaces; spaces inside an element become ``_``."""
    written, changed = [], []
    for value in column.values:
        elements = [str(item) for item in value] if isinstance(value, tuple) else str(value).split(_SEPARATOR)
        elements = [element.strip() for element in elements if element.strip()]
        joined = ["_".join(element.split()) for element in elements]
        written.append(" ".join(escape(element) for element in joined))
        changed.append(joined != elements)
    rows = rows_of(column, changed)
    if rows:
        notes.append(f"{counted(rows)} of {name!r}: spaces inside an element of the list are written as '_'")
    return texts(written, column.codes)
