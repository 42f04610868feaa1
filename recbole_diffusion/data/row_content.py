"""Hashes of the columns beside users and items: histories, labels, features, chronological order.

The fingerprint of a split (:func:`recbole_diffusion.data.pipeline.describe`) covers its (user, item) pairs only. With
other times the same pairs make other histories, and with other ratings other labels. The hashes use the names of tokens
instead of their ids, and do not depend on the order of the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from recbole.utils import FeatureType

from recbole_diffusion.data.time_order import RANK_FIELD

_TOKENS = (FeatureType.TOKEN, FeatureType.TOKEN_SEQ)
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, as in Fibonacci hashing
_ROWS = 2**16  # hashed at once, so that large columns of lists are not copied as a whole


def digests(dataset: Any, loaders: Sequence[Any]) -> dict[str, str]:
    """Compute a hash of each column.

    Times are not hashed: their order is in the sequences. It has its own hash, ``inter.time_rank``, if the model reads
    it.

    Args:
        dataset: the whole data set.
        loaders: of train, valid and test.

    Returns:
        20 hexadecimal digits by ``suffix.column``, such as ``inter.rating``.
    """
    hashes: dict[str, Any] = {}
    for loader in loaders:
        part = loader._dataset
        pairs = [_codes(part, part.inter_feat, field) for field in (part.uid_field, part.iid_field)]
        for column, codes in _interaction_columns(part, pairs[0]):
            _add(hashes, f"inter.{column}", [*pairs, codes])
    for suffix in ("user", "item", "kg"):
        frame = getattr(dataset, f"{suffix}_feat", None)
        if frame is None:
            continue
        keys = {"user": [dataset.uid_field], "item": [dataset.iid_field]}.get(suffix, list(frame.columns)[:1])
        key_codes = [_codes(dataset, frame, field) for field in keys]
        for column in frame.columns:
            if column not in keys:
                _add(hashes, f"{suffix}.{column}", [*key_codes, _codes(dataset, frame, column)])
    return {column: content.hexdigest()[:20] for column, content in sorted(hashes.items())}


def differing(stored: Any, current: Any) -> list[str]:
    """The columns that are in both results of :func:`digests` with different hashes; either may be None."""
    return [column for column in stored or {} if column in (current or {}) and stored[column] != current[column]]


def _interaction_columns(part: Any, users: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The columns of a split to hash, with a code for each row; ``users`` are the codes of the users."""
    list_suffix = part.config["LIST_SUFFIX"]
    times = {field + suffix for field in (part.time_field, RANK_FIELD) if field for suffix in ("", list_suffix)}
    excluded = {part.uid_field, part.iid_field, *times, getattr(part, "item_list_length_field", None)}
    for column in part.inter_feat.columns:
        if column not in excluded:
            yield column, _codes(part, part.inter_feat, column)
    if RANK_FIELD in part.inter_feat.columns:
        yield RANK_FIELD, _places(users, np.asarray(part.inter_feat[RANK_FIELD]))


def _places(users: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """The chronological place of each row among its user's rows, uint64, (N,)."""
    order = np.lexsort((ranks, users))
    starts = np.flatnonzero(np.append(True, users[order][1:] != users[order][:-1])) if len(users) else order
    places = np.empty(len(users), np.uint64)
    places[order] = np.arange(len(users)) - np.repeat(starts, np.diff(np.append(starts, len(users))))
    return places


def _codes(dataset: Any, frame: Any, column: str) -> np.ndarray:
    """One number for the value of each row, uint64, (N,).

    A token is coded by the alphabetical rank of its name, a number by its float64 bits, a list by a polynomial hash.
    """
    values = np.asarray(frame[column])
    field = column if column in dataset.field2id_token else column[: -len(dataset.config["LIST_SUFFIX"])]
    if dataset.field2type.get(column) in _TOKENS and field in dataset.field2id_token:
        names = np.asarray(dataset.field2id_token[field], dtype=str)
        rank = np.zeros(len(names), np.uint64)
        rank[1 + np.argsort(names[1:], kind="stable")] = np.arange(1, len(names))
        blocks = (rank[values[start : start + _ROWS]] for start in range(0, len(values), _ROWS))
    else:
        blocks = (_bits(values[start : start + _ROWS]) for start in range(0, len(values), _ROWS))
    return np.concatenate([np.zeros(0, np.uint64), *map(_combine, blocks)])


def _bits(values: np.ndarray) -> np.ndarray:
    exact = np.ascontiguousarray(values, np.float64)
    return (exact + 0.0).view(np.uint64)  # + 0.0 turns -0.0 into 0.0


def _combine(block: np.ndarray) -> np.ndarray:
    """Combine rows of several numbers, uint64 (B, ...), into one number each, (B,)."""
    if block.ndim == 1:
        return block
    flat = block.reshape(len(block), -1)
    powers: np.ndarray = np.cumprod(np.full(flat.shape[1], _FACTOR))
    mixed: np.ndarray = flat @ powers  # modulo 2**64
    return mixed


def _add(hashes: dict[str, Any], column: str, codes: list[np.ndarray]) -> None:
    """Update the hash of a column with the sorted rows of several codes, uint64 (N,) each."""
    order = np.lexsort(codes[::-1])
    content = hashes.setdefault(column, hashlib.sha256())
    content.update(np.stack(codes, axis=1)[order].astype("<u8").tobytes() + b"|")
