"""The recommended lists of an evaluation, and the tables of the split that they refer to, as compact arrays.

This module needs numpy only, so that a report reads them without torch. Ids are RecBole's: 0 is the padding.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

#: Version of the packed form.
FORMAT = 1
_NAMES = ("user_names", "item_names")


class RankedLists(NamedTuple):
    """The recommended lists of one evaluation, one for each evaluated row.

    Attributes:
        users: id of each row's user, int32, (n_rows,). Where a user has several targets in a sequential split, it has
            several rows.
        items: ids of the items, the best first, int32, (n_rows, length); 0 after the last candidate.
        hits: whether the item is a positive of the row, bool, (n_rows, length).
        n_positives: number of positives of each row, int32, (n_rows,).
    """

    users: np.ndarray
    items: np.ndarray
    hits: np.ndarray
    n_positives: np.ndarray


class SplitTables(NamedTuple):
    """Names, train counts and test pairs of a split; arrays by id include the padding.

    Attributes:
        user_names, item_names: names in the data's files by id, str, (n_users,) and (n_items,).
        user_counts: training interactions of each user, int64, (n_users,).
        item_counts: training interactions of each item, int64, (n_items,).
        item_users: number of users with the item in training, int64, (n_items,).
        test_pairs: distinct (user, item) pairs of the test split, int64, (n_pairs, 2).
    """

    user_names: np.ndarray
    item_names: np.ndarray
    user_counts: np.ndarray
    item_counts: np.ndarray
    item_users: np.ndarray
    test_pairs: np.ndarray

    @property
    def fingerprint(self) -> str:
        """A hash of all tables, 12 hexadecimal digits. Models that number the same data alike have the same one."""
        digest = hashlib.sha256()
        for values in self:
            content = _names_as_bytes(values) if values.dtype.kind == "U" else values.astype("<i8").tobytes()
            digest.update(content + b"\0")
        return digest.hexdigest()[:12]


class ListsOfSplit(NamedTuple):
    """Recommended lists with the tables of their split."""

    lists: RankedLists
    split: SplitTables


def pack_lists(lists: RankedLists, split: str) -> dict[str, np.ndarray]:
    """Pack lists into small arrays: ids of the narrowest type, eight hits a byte.

    Args:
        lists: the lists.
        split: the fingerprint of their split's tables.
    """
    return {
        "format": np.array(FORMAT),
        "split": np.array(split),
        "users": _narrow(lists.users),
        "items": _narrow(lists.items),
        "hits": np.packbits(lists.hits, axis=1),
        "n_positives": _narrow(lists.n_positives),
    }


def unpack_lists(arrays: Mapping[str, Any]) -> tuple[RankedLists, str]:
    """Unpack :func:`pack_lists`: the lists, and the fingerprint of their split's tables.

    Raises:
        ValueError: another version of the packed form.
        KeyError: an array is missing.
    """
    _check_format(arrays)
    items = arrays["items"].astype(np.int32)
    hits = np.unpackbits(arrays["hits"], axis=1, count=items.shape[1]).astype(bool)
    users, n_positives = (arrays[name].astype(np.int32) for name in ("users", "n_positives"))
    return RankedLists(users, items, hits, n_positives), str(arrays["split"])


def pack_split(split: SplitTables) -> dict[str, np.ndarray]:
    """Pack the tables of a split into small arrays; names become one text each."""
    return {
        "format": np.array(FORMAT),
        **{
            name: np.frombuffer(_names_as_bytes(values), dtype=np.uint8) if name in _NAMES else _narrow(values)
            for name, values in split._asdict().items()
        },
    }


def unpack_split(arrays: Mapping[str, Any]) -> SplitTables:
    """Unpack :func:`pack_split`.

    Raises:
        ValueError: another version of the packed form.
        KeyError: an array is missing.
    """
    _check_format(arrays)
    names = {name: np.array(json.loads(arrays[name].tobytes()), dtype=str) for name in _NAMES}
    counts = {name: arrays[name].astype(np.int64) for name in SplitTables._fields if name not in _NAMES}
    return SplitTables(**names, **counts)


def _check_format(arrays: Mapping[str, Any]) -> None:
    if int(arrays["format"]) != FORMAT:
        raise ValueError(f"it has format {int(arrays['format'])}; this version reads {FORMAT}")


def _names_as_bytes(names: np.ndarray) -> bytes:
    return json.dumps(names.tolist()).encode("ascii")


def _narrow(values: np.ndarray) -> np.ndarray:
    """The values, at least 0, in the narrowest unsigned type."""
    largest = int(values.max()) if values.size else 0
    return values.astype(np.min_scalar_type(largest))
