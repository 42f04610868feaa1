"""The (user, item) pairs of a split."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor


def item_lists(part: Any) -> Tensor:
    """The sequences of a split of RecBole's SequentialDataset, (N, L), padded on the right."""
    lists: Tensor = part.inter_feat[getattr(part, f"{part.iid_field}_list_field")]
    return lists


def sequence_pairs(part: Any) -> np.ndarray:
    """The (user, item) pairs of a split of RecBole's SequentialDataset, int64, (N, 2): its interactions.

    Its rows are sequences with their next item: the pairs are the next items, and what stands in sequences only. That
    is the first item of each user, and in pre-split files whatever was written, each pair once. A data set that keeps
    fewer rows says in ``all_pairs`` what they were made from.
    """
    known = getattr(part, "all_pairs", None)
    if known is not None:
        return known
    rows = part.inter_feat
    answers = np.stack([rows[part.uid_field].numpy(), rows[part.iid_field].numpy()], axis=1)
    if part.config["benchmark_filename"] is None:
        return np.concatenate([answers, _first_items(part, answers[:, 0])])
    earlier = _earlier_items(part, answers[:, 0])
    codes = np.array([part.item_num, 1])
    _, once = np.unique(earlier @ codes, return_index=True)
    earlier = earlier[np.sort(once)]
    return np.concatenate([answers, earlier[~np.isin(earlier @ codes, answers @ codes)]])


def _first_items(part: Any, users: np.ndarray) -> np.ndarray:
    """The (user, item) pairs with which sequences begin; users: those of the rows, which are in order of time."""
    begins = np.flatnonzero(part.inter_feat[part.item_list_length_field].numpy() == 1)
    _, once = np.unique(users[begins], return_index=True)  # with MAX_ITEM_LIST_LENGTH: 1 every row is of length 1
    begins = begins[np.sort(once)]
    return np.stack([users[begins], item_lists(part).numpy()[begins, 0]], axis=1)


def _earlier_items(part: Any, users: np.ndarray) -> np.ndarray:
    """The (user, item) pairs of all sequences, as often as they are written."""
    whole = getattr(part, "whole_lists", None)  # before they were cut
    if whole is not None:
        return np.stack([np.repeat(users, whole.counts), whole.items], axis=1)
    lists, lengths = item_lists(part).numpy(), part.inter_feat[part.item_list_length_field].numpy()
    row, place = np.nonzero(np.arange(lists.shape[1]) < lengths[:, None])
    return np.stack([users[row], lists[row, place]], axis=1)
