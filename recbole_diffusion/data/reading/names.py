"""Names in an atomic file: users, items and entities that look alike, and names that RecBole keeps for itself."""

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
#: RecBole keeps names in arrays as wide as the longest one.
LONGEST = 4096
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_NUMBER_SPELT = re.compile(r"\+?0*(\d+)(?:\.0*)?", re.ASCII)


def check_padding(text: AtomicText, columns: Iterable[Column], frame: pd.DataFrame, separator: str) -> None:
    """Whether a token is called as RecBole calls its padding, whose id is 0.

    Raises:
        ValueError: names the first.
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
    """Look at the names of users, items or entities; note those that are easily taken for each other.

    Args:
        text: the file.
        column: the column of the names.
        values: str, or nan where a name is missing; (rows,).
        account: takes the notes.
        file: what the notes call the file.

    Returns:
        A number for each row's name, -1 where it is missing; (rows,).

    Raises:
        ValueError: a name is longer than :data:`LONGEST` characters.
    """
    codes, names = pd.factorize(values)
    for number, name in enumerate(names):
        if len(name) > LONGEST:
            row = int(np.flatnonzero(codes == number)[0])
            raise text.fault(f"a name of {len(name)} characters; allowed: {LONGEST}", row, column.name)
    where = f"column {column.name!r} in {file}"
    quoted = [name for name in names if len(name) > 1 and name[0] == name[-1] == '"']
    if quoted:
        account.note(
            f"{_names(quoted, where)} in quotes, e.g. {shown(quoted[0])}: atomic files have no quotes, they belong to "
            "the names"
        )
    spaced = [name for name in names if name != name.strip()]
    if spaced:
        account.note(f"{_names(spaced, where)} with spaces around, e.g. {shown(spaced[0])}: they belong to the names")
    alike = [group for group in _alike(names) if len(group) > 1]
    if alike:
        account.note(
            f"names of {where} look alike and count as different: {_listed(alike[0])}"
            f"{f', and {len(alike) - 1} more such groups' if len(alike) > 1 else ''}"
        )
    return codes


def _names(names: Sequence[str], where: str) -> str:
    return f"{len(names)} {'name' if len(names) == 1 else 'names'} of {where} {'is' if len(names) == 1 else 'are'}"


def _listed(group: Sequence[str]) -> str:
    return ", ".join(ascii(name) for name in group[:4])


def _alike(names: Sequence[str]) -> list[list[str]]:
    """Groups of names that differ only in spelling: spaces, invisible or composed characters, 1 and 01 and 1.0."""
    unusual = [name for name in names if _plain(name) != name]
    groups: dict[str, set[str]] = defaultdict(set)
    for name in unusual:
        groups[_plain(name)].add(name)
    present = {*names} if unusual else set()
    return [sorted(group | ({plain} & present)) for plain, group in groups.items()]


def _plain(name: str) -> str:
    number = _NUMBER_SPELT.fullmatch(name)
    if number:
        return number[1]
    if name.isascii():
        return name.strip()
    return unicodedata.normalize("NFKC", name).translate(_INVISIBLE).strip()
