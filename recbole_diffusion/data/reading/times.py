"""Parser of timestamps in atomic files: numbers unchanged, ISO 8601 dates as seconds since 1970 (UTC), in float64."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, NamedTuple, Optional

import numpy as np
import pandas as pd

from recbole_diffusion.data.reading.header import Column
from recbole_diffusion.data.reading.text import AtomicText, shown
from recbole_diffusion.data.reading.values import NUMBER, is_infinite, is_missing

_ZONE = r"\s?(?:Z|[+-]\d\d(?::?\d\d)?)"
ISO_DATE = re.compile(rf"\d{{4}}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d{{1,9}})?)?(?P<zone>{_ZONE})?)?", re.ASCII)
#: The largest integer up to which float64 represents every integer.
EXACT = 2**53
ALLOWED = "a number, or an ISO 8601 date such as 2024-01-31 or 2024-01-31 12:00:00"


class Times(NamedTuple):
    """The parsed times of a column.

    Attributes:
        values: float64, (rows,); nan where a row has none.
        read_as: ``"numbers"`` or ``"ISO dates"``.
        ranks: exact ranks, 0 for the earliest, float64, (rows,); None where float64 tells all times apart.
    """

    values: np.ndarray
    read_as: str
    ranks: Optional[np.ndarray] = None


def parse(text: AtomicText, column: Column, texts: np.ndarray) -> Times:
    """Parse the times of a column.

    Args:
        text: the file, for messages.
        column: the column.
        texts: str, or nan where the field is empty; (rows,).

    Raises:
        ValueError: a value is neither a number nor an ISO date, or the column mixes the two; the message names the
            first such row.
    """
    present = ~pd.isna(texts)
    times = _parse_numbers(texts[present]) or _parse_dates(text, column, np.flatnonzero(present), texts[present])
    if times is None:
        missing = [is_missing(value) or is_infinite(value) for value in texts]
        present &= ~np.array(missing, dtype=bool)
        rows = np.flatnonzero(present)
        times = _parse_numbers(texts[present]) or _parse_dates(text, column, rows, texts[present])
    if times is None:
        raise _no_time(text, column, rows, texts[present])
    return Times(_fill_rows(times.values, present), times.read_as, _fill_rows(times.ranks, present))


def may_tie(values: np.ndarray, body: bytes) -> bool:
    """Whether rounding to float64 may have made different numbers equal: large ones, or decimal fractions.

    Args:
        values: the times as parsed by pandas, float64, (rows,).
        body: the rows of the file.
    """
    finite = values[np.isfinite(values)]
    if (np.abs(finite) > EXACT).any():
        return True
    return b"." in body and len(np.unique(finite)) < len(finite)


def _fill_rows(values: Any, present: np.ndarray) -> Any:
    """Expand the values of the ``present`` rows to all rows, with nan in the others; None stays None."""
    if values is None:
        return None
    result = np.full(len(present), np.nan)
    result[present] = values
    return result


def _parse_numbers(texts: np.ndarray) -> Optional[Times]:
    """Parse the times as finite numbers; None if a text is not one."""
    characters = "".join(texts)
    if "_" in characters or not characters.isascii():  # Python reads 1_000 and digits of other scripts
        return None
    try:
        return _from_integers([int(text) for text in texts])
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
    return _with_ranks(np.array([Decimal(text.strip()) for text in texts], dtype=object), values, "numbers")


def _from_integers(numbers: list[int]) -> Times:
    try:
        exact = np.array(numbers, dtype=np.int64)
    except OverflowError:
        exact = np.array(numbers, dtype=object)
    values = exact.astype(np.float64)
    large = len(exact) > 0 and max(int(exact.max()), -int(exact.min())) > EXACT
    return _with_ranks(exact, values, "numbers") if large else Times(values, "numbers")


def _with_ranks(exact: np.ndarray, values: np.ndarray, read_as: str) -> Times:
    """The times, with ranks of the ``exact`` numbers if the float64 ``values`` have more ties than these."""
    distinct, ranks = np.unique(exact, return_inverse=True)
    if len(np.unique(values)) == len(distinct):
        return Times(values, read_as)
    return Times(values, read_as, ranks.reshape(-1))


def _parse_dates(text: AtomicText, column: Column, rows: np.ndarray, texts: np.ndarray) -> Optional[Times]:
    """Parse the times as ISO dates; None if a text does not look like one."""
    if not len(texts) or not all(map(ISO_DATE.fullmatch, texts)):
        return None
    _check_zones(text, column, rows, texts)
    dates = to_utc(texts)
    wrong = np.flatnonzero(pd.isna(dates) | (dates.year < 1678) | (dates.year > 2261))
    if len(wrong):
        place = int(wrong[0])
        year_allowed = 1678 <= int(texts[place][:4]) <= 2261
        what = "no date of the calendar" if year_allowed else "outside of the years 1678 to 2261"
        raise text.fault(f"{shown(texts[place])} is {what}; allowed: {ALLOWED}", int(rows[place]), column.name)
    nanoseconds = dates.tz_localize(None).to_numpy().astype("datetime64[ns]").astype(np.int64)
    seconds, fraction = np.divmod(nanoseconds, 10**9)
    values = seconds + fraction / 1e9
    return _with_ranks(nanoseconds, values, "ISO dates") if (fraction % 1000).any() else Times(values, "ISO dates")


def _check_zones(text: AtomicText, column: Column, rows: np.ndarray, texts: np.ndarray) -> None:
    """Check that all dates have a time zone, or none has: dates of the two kinds have no common order.

    Raises:
        ValueError: they differ; the message names the first date that is unlike the first row's.
    """
    characters = "".join(texts)
    if "Z" not in characters and "+" not in characters and characters.count("-") == 2 * len(texts):
        return
    zoned = [match is not None and match["zone"] is not None for match in map(ISO_DATE.fullmatch, texts)]
    if all(zoned):
        return
    place = zoned.index(not zoned[0])
    raise _mixed(text, column, rows, texts, place, "has a time zone" if zoned[0] else "has no time zone")


def to_utc(texts: np.ndarray) -> pd.DatetimeIndex:
    """Convert ISO dates to UTC; NaT for dates that do not exist."""
    # pandas < 2 has no name for the format and infers it
    options = {"format": "ISO8601"} if int(pd.__version__.split(".")[0]) >= 2 else {}
    return pd.DatetimeIndex(pd.to_datetime(list(texts), utc=True, errors="coerce", **options))


def _no_time(text: AtomicText, column: Column, rows: np.ndarray, texts: np.ndarray) -> ValueError:
    """The error about the first text that is not a time, or of another kind than the first text."""
    kinds = [
        "is a date" if ISO_DATE.fullmatch(value) else "is a number" if NUMBER.fullmatch(value) else None
        for value in texts
    ]
    place = next(place for place, kind in enumerate(kinds) if kind is None or kind != kinds[0])
    if kinds[place] is None:
        what = f"{shown(texts[place])} is no time; allowed: {ALLOWED}"
        return text.fault(what, int(rows[place]), column.name)
    return _mixed(text, column, rows, texts, place, str(kinds[0]))


def _mixed(text: AtomicText, column: Column, rows: np.ndarray, texts: np.ndarray, place: int, kind: str) -> ValueError:
    """The error about text number ``place``, which does not compare with the first; ``kind`` describes the first."""
    return text.fault(
        f"{shown(texts[place])} cannot be put in order with {shown(texts[0])} of line {text.line(int(rows[0]))}, "
        f"which {kind}; write all alike",
        int(rows[place]),
        column.name,
    )
