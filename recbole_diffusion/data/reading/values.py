"""The values of an atomic file as a pandas frame: tokens as they stand, numbers checked, sequences cut.

What pandas' default reader does with such files is not wanted here: quotes are characters like others, and a name that
is spelt NA, null, None or nan is a name. A token is missing only where its field is empty.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import pandas as pd

from recbole_diffusion.data.account import Account
from recbole_diffusion.data.reading.header import Column
from recbole_diffusion.data.reading.text import AtomicText, shown

#: Numbers that are missing; pandas' own list differs from release to release.
MISSING = ("", "#N/A", "#NA", "-NaN", "-nan", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")
NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)
_INFINITE = re.compile(r"\s*[+-]?inf(?:inity)?\s*", re.IGNORECASE)
_NAN = re.compile(r"\s*[+-]?nan\s*", re.IGNORECASE)
#: pandas reads True and False as 1 and 0 in a column of numbers.
_FLAGS = (b"rue", b"alse", b"RUE", b"ALSE")
#: RecBole's tensors are float32.
LARGEST = float(np.finfo(np.float32).max)


def read(text: AtomicText, separator: str, columns: Sequence[Column], as_text: Sequence[str] = ()) -> pd.DataFrame:
    """The columns as float64 (``float``) and as objects: str, or nan where the field is empty.

    Args:
        text: the file.
        separator: one byte.
        columns: those to read.
        as_text: columns of numbers that come as text if any is no plain number: times, which may be dates.

    Raises:
        ValueError: a value in a column of numbers is none.
    """
    numbers = [column for column in columns if column.type == "float"]
    if numbers and not any(flag in text.body for flag in _FLAGS):
        try:
            return _parse(text, separator, columns, {column.name for column in numbers})
        except ValueError:
            pass  # pandas does not say where; below, each value is looked at
    frame = _parse(text, separator, columns, set())
    for column in numbers:
        values = frame[column.name].to_numpy()
        if column.name not in as_text or all(isinstance(value, float) or NUMBER.fullmatch(value) for value in values):
            frame[column.name] = to_numbers(text, column, values)
    return frame


def _parse(text: AtomicText, separator: str, columns: Sequence[Column], numbers: set[str]) -> pd.DataFrame:
    names = {column.place: column.name for column in columns}
    if not text.body:  # pandas looks for places among the names it reads, of which there are fewer
        kinds = {name: np.float64 if name in numbers else object for _, name in sorted(names.items())}
        return pd.DataFrame({name: pd.Series([], dtype=kind) for name, kind in kinds.items()})
    width = max(text.head.count(separator) + 1, 1)
    frame = pd.read_csv(
        io.BytesIO(text.body),
        sep=separator,
        header=None,
        names=range(width),
        index_col=False,
        usecols=sorted(names),
        dtype={place: np.float64 if name in numbers else object for place, name in names.items()},
        keep_default_na=False,
        na_values={place: list(MISSING) if name in numbers else [""] for place, name in names.items()},
        quoting=3,  # csv.QUOTE_NONE
        skip_blank_lines=False,
        low_memory=False,
        encoding="utf-8",
    )
    if len(frame) != text.rows:  # what holds for every file, so that no row is lost in silence
        raise RuntimeError(f"{text.path}: {len(frame)} rows were read of {text.rows}; please report this file")
    return frame.rename(columns=names)


def to_numbers(text: AtomicText, column: Column, values: np.ndarray) -> np.ndarray:
    """Texts as float64; nan where a value is missing.

    Raises:
        ValueError: names the first that is no number.
    """
    result = np.empty(len(values))
    for row, value in enumerate(values):
        if isinstance(value, float) or value in MISSING or _NAN.fullmatch(value):
            result[row] = np.nan
        elif NUMBER.fullmatch(value) or _INFINITE.fullmatch(value):
            result[row] = float(value)
        else:
            raise text.fault(f"{shown(value)} is no number; {_way_to_number(value, column)}", row, column.name)
    return result


def _way_to_number(value: str, column: Column) -> str:
    bare = value.strip()
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?", bare):
        return "write it without thousands separators"
    if re.fullmatch(r"[+-]?\d+,\d+", bare):
        return "write a decimal point"
    if bare.strip("\"'") != bare:
        return "write it without quotes: atomic files have none"
    if bare.lower() in {"true", "false", "yes", "no"}:
        return "write 1 and 0"
    if re.match(r"\d{4}-\d\d-\d\d|\d\d?[./]\d\d?[./]\d{2,4}", bare):
        return f"if it is the time, set TIME_FIELD: {column.name}; otherwise name the column {column.name}:token"
    return f"write a number, leave the field empty, or name the column {column.name}:token"


def check_numbers(text: AtomicText, separator: str, column: Column, values: np.ndarray) -> None:
    """Whether float32 holds every number.

    Raises:
        ValueError: names the first that is infinite or too large.
    """
    with np.errstate(invalid="ignore"):
        wrong = np.flatnonzero(np.abs(values) > LARGEST)
    if len(wrong):
        row = int(wrong[0])
        what = "not finite" if np.isinf(values[row]) else "more than float32 holds, which RecBole computes with"
        field = shown(text.row(row).split(separator)[column.place])
        raise text.fault(f"{field} is {what}; write a finite number or leave the field empty", row, column.name)


def to_sequences(
    text: AtomicText, column: Column, values: np.ndarray, separator: str, account: Account, file: str
) -> list[np.ndarray]:
    """The sequences of a column as RecBole's reader makes them: arrays of str or float64, repeated separators ignored.

    Raises:
        ValueError: names the first value of a ``float_seq`` that is no finite number.
    """
    codes, texts = pd.factorize(np.where(pd.isna(values), "", values))
    if column.type == "float_seq":
        arrays = [_floats(_pieces(value, separator)) for value in texts]
        for number, array in enumerate(arrays):
            if array is None:
                row = int(np.flatnonzero(codes == number)[0])
                raise _no_number(text, column, _pieces(texts[number], separator), separator, row)
    else:
        arrays = [np.array(_pieces(value, separator)) for value in texts]
        _note_other_separator(column, separator, texts, account, file)
    return [arrays[code] for code in codes]


def _pieces(value: str, separator: str) -> list[str]:
    return list(filter(None, value.split(separator)))


def _floats(pieces: list[str]) -> Optional[np.ndarray]:
    """The numbers; None if one is no finite number."""
    try:
        numbers = np.array([float(piece) for piece in pieces])
    except ValueError:
        return None
    plain = bool((np.abs(numbers) <= LARGEST).all()) and not any("_" in piece for piece in pieces)
    return numbers if plain else None


def _no_number(text: AtomicText, column: Column, pieces: list[str], separator: str, row: int) -> ValueError:
    piece = next(word for word in pieces if not NUMBER.fullmatch(word) or not abs(float(word)) <= LARGEST)
    other = next((mark for mark in (",", " ", ";", "|") if mark != separator and mark in piece), None)
    hint = f" set seq_separator: {other!r}, or" if other else ""
    return text.fault(
        f"{shown(piece)} in a sequence is no finite number;{hint} write numbers separated by {separator!r}",
        row,
        column.name,
    )


def _note_other_separator(column: Column, separator: str, texts: Any, account: Account, file: str) -> None:
    """Note that no sequence is separated, where another separator stands in most of them."""
    filled = [value for value in texts if value]
    if not filled or any(separator in value for value in filled):
        return
    for other in (",", "|", ";", " "):
        if other != separator and 2 * sum(other in value for value in filled) > len(filled):
            account.note(
                f"no sequence of column {column.name!r} in {file} holds seq_separator={separator!r}, most hold "
                f"{other!r}: each is one token; set seq_separator: {other!r} if that is not meant"
            )
            return


def first(mask: np.ndarray, text: AtomicText) -> str:
    """The line number of the first row of a mask, for a note."""
    return f"first: line {text.line(int(np.flatnonzero(mask)[0]))}"


def missing_word(value: Any) -> bool:
    """Whether a value of a column of numbers, as text, stands for none: empty, NA, nan and their kin."""
    return isinstance(value, float) or value in MISSING or bool(_NAN.fullmatch(value))


def infinite_word(value: str) -> bool:
    """Whether a text is an infinite number."""
    return bool(_INFINITE.fullmatch(value)) or (bool(NUMBER.fullmatch(value)) and np.isinf(float(value)))
