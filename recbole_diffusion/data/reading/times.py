"""Times of an atomic file as exact float64: numbers as they stand, ISO 8601 dates as seconds since 1970 in UTC."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, NamedTuple, Optional

import numpy as np
import pandas as pd

from recbole_diffusion.data.reading.header import Column
from recbole_diffusion.data.reading.text import AtomicText, shown
from recbole_diffusion.data.reading.values import NUMBER, infinite_word, missing_word

_ZONE = r"\s?(?:Z|[+-]\d\d(?::?\d\d)?)"
_DATE = re.compile(rf"\d{{4}}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d{{1,9}})?)?(?P<zone>{_ZONE})?)?", re.ASCII)
#: Beyond it float64 leaves integers out.
EXACT = 2**53
ALLOWED = "a number, or an ISO 8601 date such as 2024-01-31 or 2024-01-31 12:00:00"


class Times(NamedTuple):
    """The times of a column.

    Attributes:
        values: float64, (rows,); nan where a row has none.
        read_as: ``"numbers"`` or ``"ISO dates"``.
        ranks: their exact ranks (0 for the earliest), only where float64 cannot tell the times apart.
    """

    values: np.ndarray
    read_as: str
    ranks: Optional[np.ndarray] = None


def parse(text: AtomicText, column: Column, texts: np.ndarray) -> Times:
    """The times that texts name.

    Args:
        text: the file, for messages.
        column: the column.
        texts: str, or nan where the field is empty; (rows,).

    Raises:
        ValueError: names the first that is neither a number nor an ISO date, or of another kind than those before.
    """
    present = ~pd.isna(texts)
    times = _numbers(texts[present]) or _dates(text, column, np.flatnonzero(present), texts[present])
    if times is None:
        words = [missing_word(value) or infinite_word(value) for value in texts]
        present &= ~np.array(words, dtype=bool)
        rows = np.flatnonzero(present)
        times = _numbers(texts[present]) or _dates(text, column, rows, texts[present])
    if times is None:
        raise _no_time(text, column, rows, texts[present])
    return Times(_spread(times.values, present), times.read_as, _spread(times.ranks, present))


def may_tie(values: np.ndarray, body: bytes) -> bool:
    """Whether float64 may have made different numbers equal: large ones, or ones with digits behind the point.

    Args:
        values: the times as pandas reads them, float64, (rows,).
        body: the rows of the file.
    """
    finite = values[np.isfinite(values)]
    if (np.abs(finite) > EXACT).any():
        return True
    return b"." in body and len(np.unique(finite)) < len(finite)


def _spread(values: Any, present: np.ndarray) -> Any:
    """The values in the rows that have one, nan in the others."""
    if values is None:
        return None
    result = np.full(len(present), np.nan)
    result[present] = values
    return result


def _numbers(texts: np.ndarray) -> Optional[Times]:
    """The times as finite numbers; None if one of the texts is none."""
    together = "".join(texts)
    if "_" in together or not together.isascii():  # Python reads 1_000 and digits of other scripts
        return None
    try:
        return _integers([int(text) for text in texts])
    except ValueError:
        pass
    try:
        values = np.array([float(text) for text in texts])
    except ValueError:
        return None
    if not np.isfinite(values).all():
        return None
    if len(np.unique(values)) == len(np.unique(texts)):
        return Times(values, "numbers")
    return _distinct(np.array([Decimal(text.strip()) for text in texts], dtype=object), values, "numbers")


def _integers(numbers: list[int]) -> Times:
    try:
        exact = np.array(numbers, dtype=np.int64)
    except OverflowError:
        exact = np.array(numbers, dtype=object)
    values = exact.astype(np.float64)
    large = len(exact) > 0 and max(int(exact.max()), -int(exact.min())) > EXACT
    return _distinct(exact, values, "numbers") if large else Times(values, "numbers")


def _distinct(exact: np.ndarray, values: np.ndarray, read_as: str) -> Times:
    """The values, with the exact ranks if float64 does not tell all times apart."""
    different, ranks = np.unique(exact, return_inverse=True)
    if len(np.unique(values)) == len(different):
        return Times(values, read_as)
    return Times(values, read_as, ranks.reshape(-1))


def _dates(text: AtomicText, column: Column, rows: np.ndarray, texts: np.ndarray) -> Optional[Times]:
    """The times as dates; None if one of the texts does not look like one."""
    if not len(texts) or not all(map(_DATE.fullmatch, texts)):
        return None
    _check_zones(text, column, rows, texts)
    moments = _moments(texts)
    wrong = np.flatnonzero(pd.isna(moments) | (moments.year < 1678) | (moments.year > 2261))
    if len(wrong):
        place = int(wrong[0])
        inside = 1678 <= int(texts[place][:4]) <= 2261
        what = "no date of the calendar" if inside else "outside of the years 1678 to 2261"
        raise text.fault(f"{shown(texts[place])} is {what}; allowed: {ALLOWED}", int(rows[place]), column.name)
    ticks = moments.tz_localize(None).to_numpy().astype("datetime64[ns]").astype(np.int64)
    seconds, rest = np.divmod(ticks, 10**9)
    values = seconds + rest / 1e9
    return _distinct(ticks, values, "ISO dates") if (rest % 1000).any() else Times(values, "ISO dates")


def _check_zones(text: AtomicText, column: Column, rows: np.ndarray, texts: np.ndarray) -> None:
    """Dates with a time zone and dates without have no common order.

    Raises:
        ValueError: names the first that is unlike the one of the first row.
    """
    together = "".join(texts)
    if "Z" not in together and "+" not in together and together.count("-") == 2 * len(texts):
        return
    zoned = [match is not None and match["zone"] is not None for match in map(_DATE.fullmatch, texts)]
    if all(zoned):
        return
    place = zoned.index(not zoned[0])
    raise _unlike(text, column, rows, texts, place, "has a time zone" if zoned[0] else "has no time zone")


def _moments(texts: np.ndarray) -> pd.DatetimeIndex:
    """In UTC; NaT where there is no such date. pandas before 2 has no name for the format and infers it."""
    options = {"format": "ISO8601"} if int(pd.__version__.split(".")[0]) >= 2 else {}
    return pd.DatetimeIndex(pd.to_datetime(list(texts), utc=True, errors="coerce", **options))


def _no_time(text: AtomicText, column: Column, rows: np.ndarray, texts: np.ndarray) -> ValueError:
    """The error about the first text that is no time, or of another kind than the first one."""
    kinds = [
        "is a date" if _DATE.fullmatch(value) else "is a number" if NUMBER.fullmatch(value) else None for value in texts
    ]
    place = next(place for place, kind in enumerate(kinds) if kind is None or kind != kinds[0])
    if kinds[place] is None:
        what = f"{shown(texts[place])} is no time; allowed: {ALLOWED}"
        return text.fault(what, int(rows[place]), column.name)
    return _unlike(text, column, rows, texts, place, str(kinds[0]))


def _unlike(text: AtomicText, column: Column, rows: np.ndarray, texts: np.ndarray, place: int, kind: str) -> ValueError:
    return text.fault(
        f"{shown(texts[place])} cannot be put in order with {shown(texts[0])} of line {text.line(int(rows[0]))}, "
        f"which {kind}; write all alike",
        int(rows[place]),
        column.name,
    )
