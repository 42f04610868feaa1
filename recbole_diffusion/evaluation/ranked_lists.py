"""The recommended lists that a run keeps of its test, with the data of their split, as compact arrays.

This module needs numpy only, so that a report reads them without torch. Ids are RecBole's: 0 is the padding.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from recbole_diffusion.evaluation.list_evaluation import RankedLists
from recbole_diffusion.evaluation.split_data import SplitData

#: Version of the packed form.
FORMAT = 1


class ListsOfSplit(NamedTuple):
    """Recommended lists with the data of their split."""

    lists: RankedLists
    split: SplitData


def fingerprint(split: SplitData) -> str:
    """A hash of names, training pairs, targets and categories, 12 hexadecimal digits.

    Models that number the same data alike have the same one.
    """
    digest = hashlib.sha256()
    categories = split.categories
    for names in (split.user_names, split.item_names, None if categories is None else categories.names):
        digest.update(b"" if names is None else json.dumps(names.tolist()).encode())
    for pairs in (split.train, split.targets, *([] if categories is None else [categories.pairs])):
        digest.update(b"|" + pairs.astype("<i8").tobytes())
    return digest.hexdigest()[:12]


def pack(lists: RankedLists, split: str) -> dict[str, np.ndarray]:
    """Pack lists into small arrays: ids of the narrowest type, eight hits a byte.

    Args:
        lists: the lists.
        split: the fingerprint of their split's data.
    """
    return {
        "format": np.array(FORMAT),
        "split": np.array(split),
        "users": _narrow(lists.users),
        "items": _narrow(lists.items),
        "hits": np.packbits(lists.hits, axis=1),
        "n_positives": _narrow(lists.n_positives),
    }


def unpack(arrays: Mapping[str, Any]) -> tuple[RankedLists, str]:
    """Unpack :func:`pack`: the lists, and the fingerprint of their split's data.

    Raises:
        ValueError: another version of the packed form.
        KeyError: an array is missing.
    """
    if int(arrays["format"]) != FORMAT:
        raise ValueError(f"it has format {int(arrays['format'])}; this version reads {FORMAT}")
    items = arrays["items"].astype(np.int64)
    hits = np.unpackbits(arrays["hits"], axis=1, count=items.shape[1]).astype(bool)
    users, n_positives = (arrays[name].astype(np.int64) for name in ("users", "n_positives"))
    return RankedLists(users, items, hits, n_positives), str(arrays["split"])


def _narrow(values: np.ndarray) -> np.ndarray:
    """The values, at least 0, in the narrowest unsigned type."""
    largest = int(values.max()) if values.size else 0
    return values.astype(np.min_scalar_type(largest))
