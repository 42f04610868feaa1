"""Checks of the names (tokens) in an atomic file: look-alikes, quotes, and RecBole's reserved padding name."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from recbole_diffusion.data.account import Account
from recbole_diffusion.data.reading.header import Column
from recbole_diffusion.data.reading.text import AtomicText, shown

PADDING = "[PAD]"
#: Characters allowed in a name. RecBole stores names in arrays as wide as the longest one.
LONGEST = 4096
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_INTEGER_SPELLING = re.compile(r"\+?0*(\d+)(?:\.0*)?", re.ASCII)


def check_padding(text: AtomicText, columns: Iterable[Column], frame: pd.DataFrame, separator: str) -> None:
    """Check that no token has RecBole's name for padding, the token of id 0.

    Raises:
        ValueError: one has; the message names the first such row.
    """
    if PADDING.encode() not in text.body:
        return
    for column in columns:
        if not column.type.startswith("token"):
            continue
        for row, value in enumerate(frame[column.name]):
            tokens = value.split(separator) if column.type == "token_seq" and isinstance(value, str) else [value]
            if PADDING in tokens:
                raise text.fault(f"{PADDING!r} is RecBole's name for padding; give it another name", row, column.name)


def check_names(text: AtomicText, column: Column, values: np.ndarray, account: Account, file: str) -> np.ndarray:
    """Note names of users, items or entities that are quoted, padded with spaces, or easily confused.

    Args:
        text: the file.
        column: the column of the names.
        values: str, or nan where a name is missing; (rows,).
        account: takes the notes.
        file: the file's name in the notes.

    Returns:
        Integer codes of the names, -1 where one is missing; (rows,).

    Raises:
        ValueError: a name is longer than :data:`LONGEST` characters.
    """
    codes, names = pd.factorize(values)
    for code, name in enumerate(names):
        if len(name) > LONGEST:
            row = int(np.flatnonzero(codes == code)[0])
            raise text.fault(f"a name of {len(name)} characters; allowed: {LONGEST}", row, column.name)
    where = f"column {column.name!r} in {file}"
    quoted = [name for name in names if len(name) > 1 and name[0] == name[-1] == '"']
    if quoted:
        account.note(
            f"{_counted_names(quoted, where)} in quotes, e.g. {shown(quoted[0])}: atomic files have no quotes, they "
            "belong to the names"
        )
    spaced = [name for name in names if name != name.strip()]
    if spaced:
        counted = _counted_names(spaced, where)
        account.note(f"{counted} with spaces around, e.g. {shown(spaced[0])}: they belong to the names")
    alike = [group for group in _groups_alike(names) if len(group) > 1]
    if alike:
        account.note(
            f"names of {where} look alike and count as different: {_listed(alike[0])}"
            f"{f', and {len(alike) - 1} more such groups' if len(alike) > 1 else ''}"
        )
    return codes


def _counted_names(names: Sequence[str], where: str) -> str:
    return f"{len(names)} {'name' if len(names) == 1 else 'names'} of {where} {'is' if len(names) == 1 else 'are'}"


def _listed(group: Sequence[str]) -> str:
    return ", ".join(ascii(name) for name in group[:4])


def _groups_alike(names: Sequence[str]) -> list[list[str]]:
    """Groups of names that differ only in spaces, invisible or composed characters, or as 1, 01 and 1.0 do."""
    unusual = [name for name in names if _canonical(name) != name]
    groups: dict[str, set[str]] = defaultdict(set)
    for name in unusual:
        groups[_canonical(name)].add(name)
    present = {*names} if unusual else set()
    return [sorted(group | ({canonical} & present)) for canonical, group in groups.items()]


def _canonical(name: str) -> str:
    """The name in a canonical spelling, which look-alikes share."""
    number = _INTEGER_SPELLING.fullmatch(name)
    if number:
        return number[1]
    if name.isascii():
        return name.strip()
    return unicodedata.normalize("NFKC", name).translate(_INVISIBLE).strip()
