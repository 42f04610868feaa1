"""Numbers of a table: ratings and other columns of type ``float``."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from recbole_diffusion.data.importing.coded import Coded
from recbole_diffusion.data.importing.table import Table
from recbole_diffusion.data.reading.text import shown
from recbole_diffusion.data.reading.values import LARGEST, MISSING, NUMBER


def to_numbers(table: Table, name: str, missing: frozenset[str] = frozenset()) -> Coded:
    """Convert a column to numbers, float.

    Args:
        table: the table.
        name: the column.
        missing: texts that stand for a missing value, beside the empty one, NA, null, nan and similar.

    Raises:
        ValueError: a value is no finite number; the message names the first such row.
    """
    raw = table.columns[name]
    numbers = []
    for code, value in enumerate(raw.values):
        number = parse(value, missing)
        if number is not None and not abs(number) <= LARGEST:
            number = np.nan
        if number is not None and np.isnan(number):
            raise table.fault(f"{shown(value)} is no finite number", name, raw.first_row(code))
        numbers.append(number)
    return raw.replace(numbers)


def parse(value: Any, missing: frozenset[str] = frozenset()) -> Optional[float]:
    """The number that a value stands for: None where it is missing, nan where it is not a number."""
    if isinstance(value, str):
        if value.strip() in MISSING or value in missing:
            return None
        return float(value) if NUMBER.fullmatch(value) else float("nan")
    if isinstance(value, (bool, np.bool_)):
        return float(value)
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def all_numbers(column: Coded, missing: frozenset[str] = frozenset()) -> bool:
    """Whether every value is a number or missing, and at least one is a number."""
    numbers = [parse(value, missing) for value in column.values]
    present = [number for number in numbers if number is not None]
    return bool(present) and not any(map(np.isnan, present))


def written(number: float) -> str:
    """The shortest text that is read as the same float; whole numbers without a decimal point."""
    return str(int(number)) if number == int(number) and abs(number) < 2**53 else repr(float(number))
