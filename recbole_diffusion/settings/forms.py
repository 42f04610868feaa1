"""Named forms of values in RecBole's settings: intervals, split ratios, evaluation modes, values of a column."""

from __future__ import annotations

import re
from typing import Any, Callable

from recbole_diffusion.settings import intervals


def is_number(value: Any) -> bool:
    """Whether the value is a number; True and False are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shares(value: Any) -> list[float]:
    """Check the split ratios of train, valid and test. They need not sum to one.

    Raises:
        ValueError: not three finite numbers >= 0, or the first is 0.
    """
    has_three_numbers = isinstance(value, (list, tuple)) and len(value) == 3 and all(map(is_number, value))
    if not (has_three_numbers and all(0 <= share < float("inf") for share in value) and value[0] > 0):
        raise ValueError(f"{value!r} are no shares")
    return list(value)


def mode(value: Any) -> str:
    """Check the mode of an evaluation.

    Raises:
        ValueError: not one of RecBole's modes, or sampled with 0 negatives, where every answer ranks first.
    """
    if not (isinstance(value, str) and re.match(r"^(full|labeled|(uni|pop)[1-9]\d*)$", value)):
        raise ValueError(f"{value!r} is no mode")
    return value


def values(value: Any) -> list[Any]:
    """Check a list of values of a column.

    Raises:
        ValueError: not a list of strings and numbers, or empty.
    """
    is_list = isinstance(value, (list, tuple)) and len(value) > 0
    if not (is_list and all(isinstance(item, str) or is_number(item) for item in value)):
        raise ValueError(f"{value!r} is no list of values")
    return list(value)


#: By the name of the form in a rule: the function that checks a value, and the description in messages.
FORMS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "interval": (intervals.normalise, intervals.EXAMPLE),
    "shares": (shares, "three numbers >= 0 for train, valid and test, the first > 0, e.g. [0.8, 0.1, 0.1]"),
    "mode": (mode, "full | labeled | uniN | popN with N >= 1 negatives, e.g. uni100"),
    "values": (values, "a list of values, e.g. ['a', 'b']"),
}
