"""Cells of csv files that people open in a spreadsheet."""

from __future__ import annotations

from typing import Any

#: The first characters of what a spreadsheet takes for a formula.
_FORMULA = frozenset("=+-@\t\r")


def inert(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula.

    A text that begins like one gets an apostrophe; texts of numbers stay. False and True are 0 and 1.
    """
    if not isinstance(value, str) or value[:1] not in _FORMULA or value == "-":
        return int(value) if isinstance(value, bool) else value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
