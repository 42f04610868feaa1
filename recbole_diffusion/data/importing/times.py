"""Times of a table: numbers in a recognised unit, and dates in any unambiguous form, as seconds since 1970 in UTC."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import Any, NamedTuple, Optional

import numpy as np
import pandas as pd

from recbole_diffusion.data.importing.coded import Coded
from recbole_diffusion.data.importing.table import Table
from recbole_diffusion.data.reading.text import shown
from recbole_diffusion.data.reading.times import ISO_DATE, to_utc
from recbole_diffusion.data.reading.values import MISSING, NUMBER

#: Digits to move from a unit to seconds; ``raw`` leaves the numbers as they are.
UNITS = {"s": 0, "ms": 3, "us": 6, "ns": 9, "raw": 0}
_UNIT_NAMES = {"ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
#: Numbers from the first to below the second are in this unit: 10^11 s is the year 5138, 10^11 ms is March 1973.
_RANGES = (("s", 0, 10**11), ("ms", 10**11, 10**14), ("us", 10**14, 10**17), ("ns", 10**17, 10**20))
#: Below this, numbers are taken for counters: 10^8 s is March 1973.
_FIRST_UNIX = 10**8
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", "T%H:%M:%S")
_DAYS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d")
_WORDS = ("%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%m %d, %Y")
#: Forms of dates beside ISO 8601, as of ``strptime``.
FORMATS = (
    *(day + clock for day in (*_DAYS, *_WORDS) for clock in _CLOCKS),
    *("%a %b %d %H:%M:%S %z %Y", "%a, %d %b %Y %H:%M:%S %z", "%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S GMT"),
)


class Times(NamedTuple):
    """The times of a column.

    Attributes:
        column: decimal numbers as text, so that no digit is lost.
        read_as: what they were, for messages.
        are_dates: whether they are seconds since 1970.
    """

    column: Coded
    read_as: str
    are_dates: bool


def to_times(
    table: Table,
    name: str,
    unit: Optional[str] = None,
    form: Optional[str] = None,
    missing: frozenset[str] = frozenset(),
) -> Times:
    """Convert a column to times.

    Args:
        table: the table.
        name: the column.
        unit: one of :data:`UNITS`; None: recognised by the size of the numbers.
        form: the form of dates, as of ``strptime``; None: ISO 8601 or the only one of :data:`FORMATS` that fits.
        missing: texts that stand for a missing value, beside the empty one, NA and similar.

    Raises:
        ValueError: a value is no time, or the times can be read in several ways; the message names the way out.
    """
    raw = table.columns[name]
    if form is None and _are_plain_integers(raw.values):
        seconds, read_as, are_dates = _from_numbers(table, name, list(raw.values), unit)
        return Times(raw.replace(seconds), read_as, are_dates)
    values = [None if _is_missing(value, missing) else value for value in raw.values]
    present = [value for value in values if value is not None]
    if not present:
        raise table.fault("has no time in any row; give --time=none to leave it out", name)
    if all(isinstance(value, (datetime.date, np.datetime64)) for value in present):
        seconds, read_as = _from_moments(table, name, present)
        are_dates = True
    elif form is None and all(_number_text(value) is not None for value in present):
        seconds, read_as, are_dates = _from_numbers(table, name, [str(_number_text(value)) for value in present], unit)
    else:
        seconds, read_as = _from_texts(table, name, [str(value) for value in present], form)
        are_dates = True
    replaced = iter(seconds)
    column = raw.replace([None if value is None else next(replaced) for value in values])
    return Times(column, read_as, are_dates)


def _are_plain_integers(values: np.ndarray) -> bool:
    """Whether all values are texts of digits without a leading zero: the common case, checked fast."""
    if not len(values) or not all(type(value) is str and value for value in values):
        return False
    characters = "".join(values)
    return characters.isascii() and characters.isdigit() and not any(value[0] == "0" for value in values if value[1:])


def _is_missing(value: Any, missing: frozenset[str]) -> bool:
    return isinstance(value, str) and (value.strip() in MISSING or value in missing)


def _number_text(value: Any) -> Optional[str]:
    """A number as decimal text; None if the value is no finite number."""
    if isinstance(value, str):
        return value.strip() if NUMBER.fullmatch(value) else None
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number, Decimal)):
        return None
    if isinstance(value, (float, np.floating)):
        return repr(float(value)) if np.isfinite(value) else None
    return str(value)


def _from_numbers(table: Table, name: str, texts: list[str], unit: Optional[str]) -> tuple[list[str], str, bool]:
    """Numbers as seconds: the texts, what they were, and whether they are seconds since 1970."""
    floats = np.array([float(text) for text in texts])
    low, high = float(floats.min()), float(floats.max())
    if unit is None:
        _check_no_dates(table, name, texts)
        unit = _unit_of(table, name, low, high)
        reason = "recognised by their size"
    else:
        reason = f"--time-unit={unit}"
    digits = UNITS[unit]
    unchanged = not digits and _are_plain_integers(np.array(texts, dtype=object))
    seconds = texts if unchanged else [_shift(text, digits) for text in texts]
    if unit in _UNIT_NAMES:
        return seconds, f"{_UNIT_NAMES[unit]} since 1970 ({reason}), written in seconds", True
    if unit == "raw" or low < _FIRST_UNIX:
        return seconds, "numbers, written as they are", False
    return seconds, "seconds since 1970", True


def _unit_of(table: Table, name: str, low: float, high: float) -> str:
    """The unit of numbers between ``low`` and ``high``.

    Raises:
        ValueError: they are of the size of several units.
    """
    if high < 10**11:
        return "s"
    units = [next((unit for unit, start, end in _RANGES if start <= value < end), "raw") for value in (low, high)]
    if units[0] != units[1] or "raw" in units:
        raise table.fault(
            f"the times lie between {low:.15g} and {high:.15g}, which no one unit explains; give --time-unit=s, ms, us "
            "or ns, or --time-unit=raw to write them as they are",
            name,
        )
    return units[0]


def _check_no_dates(table: Table, name: str, texts: list[str]) -> None:
    """Check that the numbers are no dates such as 20240131.

    Raises:
        ValueError: all are dates of the calendar.
    """
    if not all(len(text) == 8 and re.fullmatch(r"(19|20)\d\d[01]\d[0-3]\d", text) for text in texts):
        return
    if pd.to_datetime(texts, format="%Y%m%d", errors="coerce").notna().all():
        raise table.fault(
            f"{texts[0]} may be a date or a number; give --time-format=%Y%m%d, or --time-unit=s for seconds", name
        )


def _shift(text: str, digits: int) -> str:
    """A decimal number divided by 10 to the power of ``digits``, exactly."""
    if re.fullmatch(r"-?\d+", text) and digits == 0:
        return str(int(text))
    shifted = format(Decimal(text).scaleb(-digits), "f")
    return shifted.rstrip("0").rstrip(".") if "." in shifted else shifted


def _from_moments(table: Table, name: str, values: list[Any]) -> tuple[list[str], str]:
    """Dates of Python, numpy and pandas as seconds."""
    moments = [pd.Timestamp(value) for value in values]
    zoned = {moment.tzinfo is not None for moment in moments}
    if len(zoned) > 1:
        raise table.fault("some times have a time zone and some have none; give all alike", name)
    utc = [moment.tz_convert("UTC") if moment.tzinfo else moment.tz_localize("UTC") for moment in moments]
    dates = _in_range(pd.DatetimeIndex(utc))
    if dates.isna().any():
        raise table.fault("holds dates outside of the years 1678 to 2261", name)
    return _to_seconds(dates), f"dates {'with' if zoned == {True} else 'without'} a time zone{_AS_UTC}"


_AS_UTC = ", written in seconds since 1970 (UTC)"


def _to_seconds(dates: pd.DatetimeIndex) -> list[str]:
    """Seconds since 1970 as decimal text, exact to the nanosecond."""
    nanoseconds = dates.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[ns]").astype(np.int64)
    return [_shift(str(value), 9) if value % 10**9 else str(value // 10**9) for value in nanoseconds.tolist()]


def _from_texts(table: Table, name: str, texts: list[str], form: Optional[str]) -> tuple[list[str], str]:
    """Dates in text as seconds, and their form for messages."""
    if form is not None:
        return _to_seconds(_parse_all(table, name, texts, form)), f"dates of the form {form}{_AS_UTC}"
    stripped = [text.strip() for text in texts]
    if all(map(ISO_DATE.fullmatch, stripped)):
        return _to_seconds(_parse_iso(table, name, stripped)), f"ISO dates{_zone_of(table, name, stripped)}{_AS_UTC}"
    fitting: dict[str, pd.DatetimeIndex] = {}
    for candidate in FORMATS:
        if not _parse(stripped[:20], candidate).isna().any():
            dates = _parse(stripped, candidate)
            if not dates.isna().any():
                fitting[candidate] = dates
    return _only_one(table, name, texts, fitting)


def _only_one(table: Table, name: str, texts: list[str], fitting: dict[str, pd.DatetimeIndex]) -> tuple[list[str], str]:
    """The seconds in the one form that fits all texts.

    Raises:
        ValueError: none does, or several do and give different dates.
    """
    if not fitting:
        numbers = [text for text in texts if NUMBER.fullmatch(text)]
        wrong = next(text for text in texts if not (NUMBER if numbers else ISO_DATE).fullmatch(text.strip()))
        also = f", beside numbers such as {numbers[0]}" if numbers else ""
        raise table.fault(
            f"{shown(wrong)} is no time in a known form{also}; give --time-format (e.g. %d/%m/%Y), or --time=none",
            name,
            table.columns[name].first_row(_code_of(table, name, wrong)),
        )
    forms = list(fitting)
    if any(not fitting[other].equals(fitting[forms[0]]) for other in forms[1:]):
        raise table.fault(
            f"{shown(texts[0])} can be read in several ways; give --time-format={shown(forms[0])} or "
            f"--time-format={shown(forms[1])}",
            name,
        )
    return _to_seconds(fitting[forms[0]]), f"dates of the form {forms[0]}{_AS_UTC}"


def _in_range(dates: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """The dates, with NaT for those that 64 bits of nanoseconds do not hold."""
    return dates.where((dates.year >= 1678) & (dates.year <= 2261))


def _code_of(table: Table, name: str, text: str) -> int:
    return next(code for code, value in enumerate(table.columns[name].values) if str(value) == text)


def _parse(texts: list[str], form: str) -> pd.DatetimeIndex:
    """The dates in UTC; NaT for texts that do not fit the form."""
    try:
        return _in_range(pd.DatetimeIndex(pd.to_datetime(texts, format=form, errors="coerce", utc=True)))
    except (ValueError, OverflowError):  # older pandas for some directives
        return pd.DatetimeIndex([pd.NaT] * len(texts), tz="UTC")


def _parse_all(table: Table, name: str, texts: list[str], form: str) -> pd.DatetimeIndex:
    dates = _parse([text.strip() for text in texts], form)
    wrong = np.flatnonzero(dates.isna())
    if len(wrong):
        text = texts[int(wrong[0])]
        row = table.columns[name].first_row(_code_of(table, name, text))
        raise table.fault(f"{shown(text)} does not fit --time-format={form!r}", name, row)
    return dates


def _parse_iso(table: Table, name: str, texts: list[str]) -> pd.DatetimeIndex:
    dates = _in_range(to_utc(np.array(texts, dtype=object)))
    wrong = np.flatnonzero(dates.isna())
    if len(wrong):
        raise table.fault(f"{shown(texts[int(wrong[0])])} is no date of the calendar (years 1678 to 2261)", name)
    return dates


def _zone_of(table: Table, name: str, texts: list[str]) -> str:
    """The text about the time zone of ISO dates.

    Raises:
        ValueError: some have one and some have none.
    """
    zoned = [bool(match and match["zone"]) for match in map(ISO_DATE.fullmatch, texts)]
    if any(zoned) and not all(zoned):
        raise table.fault(
            f"{shown(texts[zoned.index(True)])} has a time zone and {shown(texts[zoned.index(False)])} has none; write "
            "all alike",
            name,
        )
    return " with a time zone" if zoned[0] else " without a time zone"
