"""Hashes of what rows hold beside their users and items: histories, labels, features, the order in time.

The hash of a split (:func:`recbole_diffusion.data.pipeline.describe`) is of its pairs. The same pairs with other
times are other histories, and with other ratings other labels. Values count by name and not by id, rows in any order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from recbole.utils import FeatureType

from recbole_diffusion.data.time_order import RANK_FIELD

_TOKENS = (FeatureType.TOKEN, FeatureType.TOKEN_SEQ)
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_ROWS = 2**16  # at once, so that lists need no second copy


def digests(dataset: Any, loaders: Sequence[Any]) -> dict[str, str]:
    """A hash of each column, by the file's suffix and the column's name.

    Of times the order counts, which sequences hold; by itself where the model reads it (``inter.time_rank``).

    Args:
        dataset: the whole data set.
        loaders: of train, valid and test.
    """
    hashes: dict[str, Any] = {}
    for loader in loaders:
        part = loader._dataset
        pairs = [_values(part, part.inter_feat, field) for field in (part.uid_field, part.iid_field)]
        for column, values in _columns_of_rows(part, pairs[0]):
            _add(hashes, f"inter.{column}", [*pairs, values])
    for suffix in ("user", "item", "kg"):
        frame = getattr(dataset, f"{suffix}_feat", None)
        if frame is None:
            continue
        keys = {"user": [dataset.uid_field], "item": [dataset.iid_field]}.get(suffix, list(frame.columns)[:1])
        key = [_values(dataset, frame, field) for field in keys]
        for column in frame.columns:
            if column not in keys:
                _add(hashes, f"{suffix}.{column}", [*key, _values(dataset, frame, column)])
    return {column: content.hexdigest()[:20] for column, content in sorted(hashes.items())}


def differing(then: Any, now: Any) -> list[str]:
    """Columns that both have, with other values."""
    return [column for column in then or {} if column in (now or {}) and then[column] != now[column]]


def _columns_of_rows(part: Any, users: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    suffix = part.config["LIST_SUFFIX"]
    times = {field + more for field in (part.time_field, RANK_FIELD) if field for more in ("", suffix)}
    known = {part.uid_field, part.iid_field, *times, getattr(part, "item_list_length_field", None)}
    for column in part.inter_feat.columns:
        if column not in known:
            yield column, _values(part, part.inter_feat, column)
    if RANK_FIELD in part.inter_feat.columns:
        yield RANK_FIELD, _places(users, np.asarray(part.inter_feat[RANK_FIELD]))


def _places(users: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """The place of each row among its user's rows in order of time, uint64, (N,)."""
    order = np.lexsort((ranks, users))
    starts = np.flatnonzero(np.append(True, users[order][1:] != users[order][:-1])) if len(users) else order
    places = np.empty(len(users), np.uint64)
    places[order] = np.arange(len(users)) - np.repeat(starts, np.diff(np.append(starts, len(users))))
    return places


def _values(dataset: Any, frame: Any, column: str) -> np.ndarray:
    """A number for each row's value, uint64, (N,): of tokens the place of the name in alphabetical order."""
    values = np.asarray(frame[column])
    of = column if column in dataset.field2id_token else column[: -len(dataset.config["LIST_SUFFIX"])]
    if dataset.field2type.get(column) in _TOKENS and of in dataset.field2id_token:
        names = np.asarray(dataset.field2id_token[of], dtype=str)
        place = np.zeros(len(names), np.uint64)
        place[1 + np.argsort(names[1:], kind="stable")] = np.arange(1, len(names))
        blocks = (place[values[at : at + _ROWS]] for at in range(0, len(values), _ROWS))
    else:
        blocks = (_bits(values[at : at + _ROWS]) for at in range(0, len(values), _ROWS))
    return np.concatenate([np.zeros(0, np.uint64), *map(_one_number, blocks)])


def _bits(values: np.ndarray) -> np.ndarray:
    exact = np.ascontiguousarray(values, np.float64)
    return (exact + 0.0).view(np.uint64)  # one zero


def _one_number(block: np.ndarray) -> np.ndarray:
    """Rows of several numbers, (B, ...), as one number each, (B,)."""
    if block.ndim == 1:
        return block
    flat = block.reshape(len(block), -1)
    powers: np.ndarray = np.cumprod(np.full(flat.shape[1], _FACTOR))
    mixed: np.ndarray = flat @ powers  # modulo 2**64
    return mixed


def _add(hashes: dict[str, Any], column: str, values: list[np.ndarray]) -> None:
    order = np.lexsort(values[::-1])
    content = hashes.setdefault(column, hashlib.sha256())
    content.update(np.stack(values, axis=1)[order].astype("<u8").tobytes() + b"|")
