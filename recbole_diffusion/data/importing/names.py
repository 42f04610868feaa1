"""Names of users and items: the ids of a table as tokens that RecBole's atomic files hold and give back exactly."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, Optional

import numpy as np

from recbole_diffusion.data.importing.coded import Coded
from recbole_diffusion.data.importing.table import Table, counted, rows_of
from recbole_diffusion.data.reading.names import LONGEST, PADDING
from recbole_diffusion.data.reading.text import shown
from recbole_diffusion.data.reading.values import MISSING

#: The largest integer up to which a float holds every integer.
_EXACT = 2**53
_WITH_FRACTION = re.compile(r"-?\d+\.0", re.ASCII)
#: Characters that end a field or a line of an atomic file, with what stands for them.
_ESCAPES = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0"}
_UNWRITABLE = re.compile("[\t\n\r\0]")


class Names(NamedTuple):
    """The names in a column of ids.

    Attributes:
        column: the names, str.
        renamed: the original of each name that could not be written as it is, by the name written.
        notes: what was decided, a line each.
    """

    column: Coded
    renamed: dict[str, str]
    notes: list[str]


def to_names(table: Table, name: str, missing: frozenset[str] = frozenset()) -> Names:
    """Convert a column of ids to names.

    Text stays as it is (``007``, ``1e15``, names with spaces, commas or quotes). Integers are written in digits.
    Whole numbers of type float, which integers become beside missing values, are written as integers. Tabs, line
    breaks, NUL and RecBole's padding name are replaced by escapes. Empty text and text of spaces only is missing.

    Args:
        table: the table.
        name: the column.
        missing: texts that stand for a missing value.

    Raises:
        ValueError: a value that is no id, or that stands for another one after the replacement.
    """
    notes: list[str] = []
    texts = table.columns[name].replace(_to_texts(table, name, missing, notes))
    _note_words(texts, name, notes)
    column, renamed = _escape(table, name, texts, notes)
    return Names(column, renamed, notes)


def _to_texts(table: Table, name: str, missing: frozenset[str], notes: list[str]) -> list[Optional[str]]:
    """The distinct values of a column as text, in their order."""
    raw = table.columns[name]
    values = [_to_text(table, name, raw, code) for code, _ in enumerate(raw.values)]
    texts = [None if value is None or not value.strip() or value in missing else value for value in values]
    floats = sum(isinstance(value, (float, np.floating)) for value in raw.values)
    if floats:
        notes.append(f"the ids in {name!r} are floats; they are written as integers, e.g. 12.0 as 12")
    present = [text for text in texts if text is not None]
    if not floats and present and all(map(_WITH_FRACTION.fullmatch, present)):
        notes.append(f"all ids in {name!r} end in .0, as integers do beside missing values; they are written without")
        texts = [None if text is None else text[:-2] for text in texts]
    return texts


def _to_text(table: Table, name: str, raw: Coded, code: int) -> Optional[str]:
    value: Any = raw.values[code]
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, np.bool_, bytes, tuple, dict)):
        what = f"{shown(value)} is a {type(value).__name__} and no id; give a column of texts or integers"
        raise table.fault(what, name, raw.first_row(code))
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if not number.is_integer() or abs(number) > _EXACT:
            problem = "no id" if abs(number) <= _EXACT else "too large for a float, so that digits may be lost"
            raise table.fault(f"{value!r} is {problem}; give the ids as texts or integers", name, raw.first_row(code))
        return str(int(number))
    return str(value)


def _note_words(texts: Coded, name: str, notes: list[str]) -> None:
    """Note names such as NA and null, which may stand for missing values."""
    words = [value for value in texts.values if value in MISSING]
    if words:
        rows = rows_of(texts, [value in MISSING for value in texts.values])
        notes.append(
            f"{counted(rows)} have the {name!r} {', '.join(map(repr, words))}; these count as names, and with "
            f"--missing={','.join(words)} as missing"
        )


def _escape(table: Table, name: str, texts: Coded, notes: list[str]) -> tuple[Coded, dict[str, str]]:
    """Replace what an atomic file cannot hold; return the names and the originals of the replaced ones."""
    escaped = [escape(value) for value in texts.values]
    renamed = {new: old for new, old in zip(escaped, texts.values) if new != old}
    present = set(texts.values) if renamed else set()
    for new, old in renamed.items():
        if new in present:
            raise table.fault(f"{shown(old)} must be written as {shown(new)}, which is another id there", name)
    for code, value in enumerate(escaped):
        _check_writable(table, name, texts, code, value)
    if renamed:
        rows = rows_of(texts, [new != old for new, old in zip(escaped, texts.values)])
        new, old = next(iter(renamed.items()))
        notes.append(
            f"{counted(len(renamed), 'name')} in {name!r} ({counted(rows)}) cannot be in an atomic file and "
            f"{'is' if len(renamed) == 1 else 'are'} written with escapes, e.g. {old!r} as {new}; the card holds the "
            "originals, and data export writes them"
        )
    return texts.replace(escaped), renamed


def _check_writable(table: Table, name: str, texts: Coded, code: int, value: str) -> None:
    if len(value) > LONGEST:
        raise table.fault(f"an id of {len(value)} characters; allowed: {LONGEST}", name, texts.first_row(code))
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            what = f"{ascii(value)[:60]} holds half of a character (a surrogate), which no file can hold"
            raise table.fault(what, name, texts.first_row(code)) from None


def escape(name: str) -> str:
    r"""The name as an atomic file can hold it: ``\t``, ``\n``, ``\r``, ``\0`` for these characters."""
    if name == PADDING:
        return "\\" + PADDING
    return _UNWRITABLE.sub(lambda match: _ESCAPES[match[0]], name) if _UNWRITABLE.search(name) else name
