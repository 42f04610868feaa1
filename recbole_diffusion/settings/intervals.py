"""Parser of intervals, which accepts several spellings and returns the one that RecBole's filters read.

An interval is a string such as ``[4,inf)``; several are joined by ``;``. RecBole skips an interval that it cannot read
and filters nothing. Its warning is lost, since it is logged before the log is set up.
"""

from __future__ import annotations

import math
import re
from typing import Any

_INTERVAL = re.compile(r"^\s*(?P<left>[\[(])(?P<low>[^,\[\]()]+),(?P<high>[^,\[\]()]+)(?P<right>[\])])\s*$")
#: The description of the form, for messages.
EXAMPLE = "an interval, e.g. '[4,inf)'; several: '[0,2];[4,5]'"


def normalise(value: Any) -> str:
    """Normalise intervals to one spelling: no spaces, ``inf``, integers without a decimal point.

    Args:
        value: a string; two numbers, which stand for a closed interval; or a list of strings.

    Raises:
        ValueError: not an interval, or an interval that contains no number.
    """
    if _is_pair(value):
        return _normalise_one(f"[{value[0]},{value[1]}]")
    parts = value if isinstance(value, (list, tuple)) else [value]
    if not parts or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"{value!r} is no interval")
    return ";".join(_normalise_one(text) for part in parts for text in part.split(";"))


def _is_pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _normalise_one(text: str) -> str:
    match = _INTERVAL.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no interval")
    low, high = float(match["low"]), float(match["high"])
    closed = match["left"] == "[" and match["right"] == "]"
    if not (low < high or (low == high and closed)):  # nan is neither
        raise ValueError(f"{text!r} holds no number")
    return f"{match['left']}{_format(low)},{_format(high)}{match['right']}"


def _format(number: float) -> str:
    """The shortest text that ``float`` reads as the same number."""
    if math.isfinite(number) and number == int(number) and abs(number) < 2**53:
        return str(int(number))
    return repr(number)
