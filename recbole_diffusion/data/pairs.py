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
    """The (user, item) pairs of a split of RecBole's SequentialDataset, int64, (N, 2), as often as they occur.

    Its rows are sequences with their next item: the pairs are the next items, and the first item of each user, which is
    nobody's next. A data set that keeps fewer rows says in ``all_pairs`` what they were made from.
    """
    known = getattr(part, "all_pairs", None)
    if known is not None:
        return known
    rows = part.inter_feat
    users, items = rows[part.uid_field].numpy(), rows[part.iid_field].numpy()
    lists, lengths = item_lists(part).numpy(), rows[part.item_list_length_field].numpy()
    first = lengths == 1
    whole = getattr(part, "whole_lists", None)  # of pre-split files, before they were cut
    if whole is not None:
        users, items = np.append(users, np.repeat(users, whole.counts)), np.append(items, whole.items)
    elif part.config["benchmark_filename"] is not None:  # rows as they were written: any item may be in lists only
        row, place = np.nonzero(np.arange(lists.shape[1]) < lengths[:, None])
        users, items = np.append(users, users[row]), np.append(items, lists[row, place])
    else:
        users, items = np.append(users, users[first]), np.append(items, lists[first, 0])
    return np.stack([users, items], axis=1)
