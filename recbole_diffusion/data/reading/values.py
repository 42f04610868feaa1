"""Parser of the values of an atomic file into a pandas frame: tokens unchanged, numbers checked, sequences split.

Unlike pandas' default reader it treats quotes as ordinary characters, and NA, null, None and nan as names. A token is
missing only where its field is empty.
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

#: Texts that stand for a missing number; pandas' own list differs from release to release.
MISSING = ("", "#N/A", "#NA", "-NaN", "-nan", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")
NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*", re.ASCII)
_INFINITE = re.compile(r"\s*[+-]?inf(?:inity)?\s*", re.IGNORECASE)
_NAN = re.compile(r"\s*[+-]?nan\s*", re.IGNORECASE)
#: Parts of True and False, which pandas reads as 1 and 0 in a column of numbers.
_BOOLEAN_PARTS = (b"rue", b"alse", b"RUE", b"ALSE")
#: The largest number in RecBole's tensors, which are float32.
LARGEST = float(np.finfo(np.float32).max)


def read(text: AtomicText, separator: str, columns: Sequence[Column], as_text: Sequence[str] = ()) -> pd.DataFrame:
    """Parse columns: type ``float`` as float64, others as objects, which are str or nan for an empty field.

    Args:
        text: the file.
        separator: one byte.
        columns: the columns to parse.
        as_text: columns of type ``float`` that stay text if a value is not a plain number: times, which may be dates.

    Raises:
        ValueError: a value in a column of numbers is not a number.
    """
    number_columns = [column for column in columns if column.type == "float"]
    if number_columns and not any(part in text.body for part in _BOOLEAN_PARTS):
        try:
            return _parse(text, separator, columns, {column.name for column in number_columns})
        except ValueError:
            pass  # pandas does not name the row; the slow path below does
    frame = _parse(text, separator, columns, set())
    for column in number_columns:
        values = frame[column.name].to_numpy()
        if column.name not in as_text or all(isinstance(value, float) or NUMBER.fullmatch(value) for value in values):
            frame[column.name] = to_numbers(text, column, values)
    return frame


def _parse(text: AtomicText, separator: str, columns: Sequence[Column], numbers: set[str]) -> pd.DataFrame:
    """Parse the columns with pandas' C parser, those named in ``numbers`` as float64."""
    names = {column.place: column.name for column in columns}
    if not text.body:  # on empty input pandas looks up ``usecols`` in a shorter list of names, and fails
        dtypes = {name: np.float64 if name in numbers else object for _, name in sorted(names.items())}
        return pd.DataFrame({name: pd.Series([], dtype=dtype) for name, dtype in dtypes.items()})
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
    if len(frame) != text.rows:  # an invariant, so that no row is lost silently
        raise RuntimeError(f"{text.path}: {len(frame)} rows were read of {text.rows}; please report this file")
    return frame.rename(columns=names)


def to_numbers(text: AtomicText, column: Column, values: np.ndarray) -> np.ndarray:
    """Convert texts to float64, (rows,); nan where a value is missing.

    Raises:
        ValueError: a text is not a number; the message names the first such row.
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
    """How to turn a text into a number, for messages."""
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
    """Check that every number is finite in float32.

    Raises:
        ValueError: one is infinite or too large; the message names the first such row.
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
    """Split the sequences of a column as RecBole's reader does; repeated separators count once.

    Args:
        text: the file, for messages.
        column: a column of type ``token_seq`` or ``float_seq``.
        values: str, or nan where the field is empty; (rows,).
        separator: RecBole's ``seq_separator``.
        account: takes a note on a column that seems to use another separator.
        file: the file's name in the note.

    Returns:
        One array for each row, of str or float64.

    Raises:
        ValueError: an element of a ``float_seq`` is not a finite number; the message names the first such row.
    """
    codes, texts = pd.factorize(np.where(pd.isna(values), "", values))
    if column.type == "float_seq":
        arrays = [_to_floats(_split(value, separator)) for value in texts]
        for code, array in enumerate(arrays):
            if array is None:
                row = int(np.flatnonzero(codes == code)[0])
                raise _no_number(text, column, _split(texts[code], separator), separator, row)
    else:
        arrays = [np.array(_split(value, separator)) for value in texts]
        _note_other_separator(column, separator, texts, account, file)
    return [arrays[code] for code in codes]


def _split(value: str, separator: str) -> list[str]:
    return list(filter(None, value.split(separator)))


def _to_floats(elements: list[str]) -> Optional[np.ndarray]:
    """The elements as numbers; None if one is not a finite number."""
    try:
        numbers = np.array([float(element) for element in elements])
    except ValueError:
        return None
    plain = bool((np.abs(numbers) <= LARGEST).all()) and not any("_" in element for element in elements)
    return numbers if plain else None


def _no_number(text: AtomicText, column: Column, elements: list[str], separator: str, row: int) -> ValueError:
    """The error about the first element that is not a finite number."""
    wrong = next(element for element in elements if not NUMBER.fullmatch(element) or not abs(float(element)) <= LARGEST)
    likely = next((mark for mark in (",", " ", ";", "|") if mark != separator and mark in wrong), None)
    hint = f" set seq_separator: {likely!r}, or" if likely else ""
    return text.fault(
        f"{shown(wrong)} in a sequence is no finite number;{hint} write numbers separated by {separator!r}",
        row,
        column.name,
    )


def _note_other_separator(column: Column, separator: str, texts: Any, account: Account, file: str) -> None:
    """Note that no sequence contains the separator, if most of them contain another one."""
    sequences = [value for value in texts if value]
    if not sequences or any(separator in value for value in sequences):
        return
    for candidate in (",", "|", ";", " "):
        if candidate != separator and 2 * sum(candidate in value for value in sequences) > len(sequences):
            account.note(
                f"no sequence of column {column.name!r} in {file} holds seq_separator={separator!r}, most hold "
                f"{candidate!r}: each is one token; set seq_separator: {candidate!r} if that is not meant"
            )
            return


def first_line(rows: np.ndarray, text: AtomicText) -> str:
    """The line number of the first row of a mask, bool (rows,), for messages."""
    return f"first: line {text.line(int(np.flatnonzero(rows)[0]))}"


def is_missing(value: Any) -> bool:
    """Whether a value of a column of numbers, as text, stands for a missing number: empty, NA, nan and similar."""
    return isinstance(value, float) or value in MISSING or bool(_NAN.fullmatch(value))


def is_infinite(value: str) -> bool:
    """Whether a text is a number that is infinite in float64."""
    return bool(_INFINITE.fullmatch(value)) or (bool(NUMBER.fullmatch(value)) and np.isinf(float(value)))
