"""RecBole's own forms of values: intervals, shares of a split, modes of an evaluation, values of a column."""

from __future__ import annotations

import re
from typing import Any, Callable

from recbole_diffusion.settings import intervals


def is_number(value: Any) -> bool:
    """Whether the value is a number; True and False are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shares(value: Any) -> list[float]:
    """The shares of train, valid and test. They need not sum to one.

    Raises:
        ValueError: not three finite numbers >= 0, or none for train.
    """
    three = isinstance(value, (list, tuple)) and len(value) == 3 and all(map(is_number, value))
    if not (three and all(0 <= share < float("inf") for share in value) and value[0] > 0):
        raise ValueError(f"{value!r} are no shares")
    return list(value)


def mode(value: Any) -> str:
    """The mode of an evaluation.

    Raises:
        ValueError: not one of RecBole's, or sampled with no negatives, where every answer is at the top.
    """
    if not (isinstance(value, str) and re.match(r"^(full|labeled|(uni|pop)[1-9]\d*)$", value)):
        raise ValueError(f"{value!r} is no mode")
    return value


def values(value: Any) -> list[Any]:
    """Values of a column.

    Raises:
        ValueError: not a list of strings and numbers.
    """
    if not (
        isinstance(value, (list, tuple)) and value and all(isinstance(one, str) or is_number(one) for one in value)
    ):
        raise ValueError(f"{value!r} is no list of values")
    return list(value)


#: By the word that a rule uses: what reads the value, and how messages describe it.
FORMS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "interval": (intervals.normalise, intervals.EXAMPLE),
    "shares": (shares, "three numbers >= 0 for train, valid and test, the first > 0, e.g. [0.8, 0.1, 0.1]"),
    "mode": (mode, "full | labeled | uniN | popN with N >= 1 negatives, e.g. uni100"),
    "values": (values, "a list of values, e.g. ['a', 'b']"),
}
