"""The official files of DiffuRec, FMRec and ADRec: ``dataset.pkl``, the three parts of each user's sequence.

A pickle can run code by naming a function or a class. These files name none: they are dicts, lists and whole numbers.
A file that names one is refused before anything of it is loaded.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

#: A user's sequence is the parts in this order.
PARTS = ("train", "val", "test")


#: Python's own unpickler: that in C reserves as much memory as an entry's number in a file says.
_Base: Any = vars(pickle)["_Unpickler"]


class _PlainUnpickler(_Base):
    """Loads dicts, lists, numbers and text."""

    def find_class(self, module: str, name: str) -> Any:
        raise ValueError(f"names {module}.{name}, which can run code; such a file is not loaded")

    def _refused(self) -> None:
        raise ValueError("holds bytes, which sequences do not have")

    dispatch = {**_Base.dispatch, pickle.BYTEARRAY8[0]: _refused, pickle.NEXT_BUFFER[0]: _refused}


def read(file: Path) -> dict[str, list[str]]:
    """Read the sequences: the item names by user name, in the order of the file.

    Users are named as in the file, or where it has lists, by their place from 0; items by their number there.

    Raises:
        ValueError: a pickle of something else, or a damaged one.
    """
    with open(file, "rb") as content:
        try:
            parts = _PlainUnpickler(content).load()
        except ValueError:
            raise
        except Exception as error:  # the unpickler raises anything on a file of another kind
            raise ValueError(f"is no pickle that can be read: {type(error).__name__}: {error}") from error
    if not isinstance(parts, dict) or not set(PARTS) <= set(parts):
        raise ValueError(f"must hold a dict with {', '.join(PARTS)}")
    by_user = [_by_user(parts[part], part) for part in PARTS]
    if any(set(users) != set(by_user[0]) for users in by_user):
        raise ValueError(f"must hold the same users in {', '.join(PARTS)}")
    _check_names(by_user[0])
    return {str(user): [str(item) for users in by_user for item in users[user]] for user in by_user[0]}


def _check_names(users: Collection[Any]) -> None:
    """Check that each user has a name that can stand in a line, and no two, such as 1 and "1", the same.

    Raises:
        ValueError: a name is empty or has a tab or an end of line, or two users have one name.
    """
    for user in users:
        if isinstance(user, str) and not _is_name(user):
            raise ValueError(f"has a user {user[:20]!r}; a name needs a character and no tab or end of line")
    name, count = Counter(map(str, users)).most_common(1)[0] if users else ("", 0)
    if count > 1:
        raise ValueError(f"names {count} users {name[:20]!r}, as a number and as text; rename one of them")


def _is_name(text: str) -> bool:
    """Whether a text can stand between tabs in a line of UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates
        return False
    return bool(text) and len(text.splitlines()) == 1 and not {*text} & {*"\t\n\r\0"}


def _by_user(part: Any, name: str) -> dict[Any, list[int]]:
    """The items of a part by user.

    Raises:
        ValueError: it holds something else.
    """
    users = dict(enumerate(part)) if isinstance(part, list) else part
    if not isinstance(users, dict):
        raise ValueError(f"{name} must be a list or a dict of users; got {type(part).__name__}")
    for user, items in users.items():
        if isinstance(user, bool) or not isinstance(user, (int, str)) or not isinstance(items, list):
            raise ValueError(f"{name} must hold a list of items for each user; got {str(user)[:20]!r}")
        if not all(isinstance(item, int) and not isinstance(item, bool) for item in items):
            raise ValueError(f"{name} of user {str(user)[:20]!r} must hold whole numbers; got {str(items)[:40]}")
    return users
