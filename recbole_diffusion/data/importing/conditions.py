"""Conditions on rows, such as ``rating >= 4``: which interactions count as positive."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from recbole_diffusion.data.importing import numbers
from recbole_diffusion.data.importing.coded import Coded
from recbole_diffusion.data.importing.table import Table

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    "=": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_COMPARISON = re.compile(r"\s*(?P<column>.+?)\s*(?P<operator>>=|<=|==|!=|=|>|<)\s*(?P<value>.+?)\s*")
_BETWEEN = re.compile(r"\s*(?P<column>.+?)\s+between\s+(?P<low>\S+)\s+and\s+(?P<high>\S+)\s*", re.IGNORECASE)
EXAMPLE = "'rating >= 4', 'rating between 4 and 5', 'event == transaction', several joined by 'and'"


class Comparison(NamedTuple):
    """One comparison of a column with a constant.

    Attributes:
        column: name of the column, or of a role (rating, time, …).
        operator: one of ``>= <= == != > <``.
        value: the constant, as text.
    """

    column: str
    operator: str
    value: str


def parse(text: str) -> list[Comparison]:
    """Parse a condition; its comparisons must all hold.

    Raises:
        ValueError: it is not of the form of :data:`EXAMPLE`.
    """
    comparisons: list[Comparison] = []
    for part in _parts(text):
        between, simple = _BETWEEN.fullmatch(part), _COMPARISON.fullmatch(part)
        if between:
            comparisons += [Comparison(between["column"], ">=", between["low"])]
            comparisons += [Comparison(between["column"], "<=", between["high"])]
        elif simple and not re.search(r"[<>=!]", simple["value"] + simple["column"]):
            comparisons.append(Comparison(simple["column"], simple["operator"], _unquoted(simple["value"])))
        else:
            raise ValueError(f"--positive={text!r} is not allowed; allowed: {EXAMPLE}")
    return comparisons


def _parts(text: str) -> list[str]:
    """Split at ``and``, but not at that of ``between 4 and 5``."""
    pieces = re.split(r"\s+and\s+", text, flags=re.IGNORECASE)
    parts: list[str] = []
    for piece in pieces:
        if parts and re.search(r"\sbetween\s+\S+$", parts[-1], re.IGNORECASE):
            parts[-1] += f" and {piece}"
        else:
            parts.append(piece)
    return parts


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def matches(table: Table, name: str, column: Coded, comparison: Comparison) -> np.ndarray:
    """Which rows fulfil a comparison, bool (rows,); rows without a value do not.

    Args:
        table: the table, for messages.
        name: the name of the column in the table.
        column: its values.
        comparison: the comparison.

    Raises:
        ValueError: order is asked of a column of texts, or a column of numbers is compared with a text.
    """
    compare, constant = _OPERATORS[comparison.operator], numbers.parse(comparison.value)
    if numbers.all_numbers(column):
        if constant is None or np.isnan(constant):
            raise ValueError(f"--positive: the column {name!r} holds numbers, {comparison.value!r} is none")
        values = [numbers.parse(value) for value in column.values]
        results = [value is not None and bool(compare(value, constant)) for value in values]
    elif comparison.operator in {"==", "=", "!="}:
        results = [bool(compare(str(value), comparison.value)) for value in column.values]
        known = {str(value) for value in column.values}
        if comparison.value not in known:
            some = ", ".join(sorted(known)[:5])
            raise table.fault(
                f"--positive names the value {comparison.value!r}, which is in no row; in it: {some}", name
            )
    else:
        wrong = next(value for value in column.values if np.isnan(numbers.parse(value) or 0.0))
        raise table.fault(f"--positive orders its values, but {str(wrong)[:40]!r} is no number; use == or !=", name)
    return np.append(np.array(results, dtype=bool), False)[column.codes]
