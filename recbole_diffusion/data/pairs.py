"""The (user, item) pairs of a sequential split."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor


def item_lists(part: Any) -> Tensor:
    """The sequences of a split of RecBole's SequentialDataset, (N, L), padded on the right."""
    lists: Tensor = part.inter_feat[getattr(part, f"{part.iid_field}_list_field")]
    return lists


def sequence_pairs(part: Any) -> np.ndarray:
    """The interactions of a split of RecBole's SequentialDataset as (user, item) pairs, int64, (N, 2).

    Each row is a sequence with its next item. The pairs are all next items, and the items that occur in sequences
    only: the first item of each user, and in pre-split files any items of the lists, each pair once. For a split that
    keeps fewer rows (:class:`UserSequenceDataset`) they are those of its original rows, from ``all_pairs``.
    """
    known = getattr(part, "all_pairs", None)
    if known is not None:
        return known
    rows = part.inter_feat
    targets = np.stack([rows[part.uid_field].numpy(), rows[part.iid_field].numpy()], axis=1)
    if part.config["benchmark_filename"] is None:
        return np.concatenate([targets, _first_items(part, targets[:, 0])])
    list_pairs = _list_pairs(part, targets[:, 0])
    factors = np.array([part.item_num, 1])  # one number for each pair
    _, first_places = np.unique(list_pairs @ factors, return_index=True)
    list_pairs = list_pairs[np.sort(first_places)]
    return np.concatenate([targets, list_pairs[~np.isin(list_pairs @ factors, targets @ factors)]])


def _first_items(part: Any, users: np.ndarray) -> np.ndarray:
    """The first (user, item) pair of each user; ``users`` are those of the rows, which are in chronological order."""
    starts = np.flatnonzero(part.inter_feat[part.item_list_length_field].numpy() == 1)
    _, first_places = np.unique(users[starts], return_index=True)  # with MAX_ITEM_LIST_LENGTH: 1 all lengths are 1
    starts = starts[np.sort(first_places)]
    return np.stack([users[starts], item_lists(part).numpy()[starts, 0]], axis=1)


def _list_pairs(part: Any, users: np.ndarray) -> np.ndarray:
    """The (user, item) pairs of all item lists, with repetitions; ``users`` are those of the rows."""
    whole = getattr(part, "whole_lists", None)  # before they were cut
    if whole is not None:
        return np.stack([np.repeat(users, whole.counts), whole.items], axis=1)
    lists, lengths = item_lists(part).numpy(), part.inter_feat[part.item_list_length_field].numpy()
    row, position = np.nonzero(np.arange(lists.shape[1]) < lengths[:, None])
    return np.stack([users[row], lists[row, position]], axis=1)
