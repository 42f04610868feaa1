"""Data for sequential models: one training row per user, and the past masked at evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset

from recbole_diffusion.model.history import sequence_pairs


class UserSequenceDataset(SequentialDataset):
    """Of each user's training rows only the longest, the last of these: for models that learn at every place.

    Validation and test are RecBole's. The train split knows what all of its rows were: ``all_targets`` are their (user,
    next item), ``all_pairs`` the pairs of :func:`sequence_pairs`.
    """

    def build(self) -> list[Any]:
        train, *others = super().build()
        rows = train.inter_feat
        users, lengths = rows[train.uid_field].numpy(), rows[train.item_list_length_field].numpy()
        train.all_pairs = sequence_pairs(train)
        train.all_targets = np.stack([users, rows[train.iid_field].numpy()], axis=1)
        order = np.lexsort((np.arange(len(users)), lengths, users))
        last = np.append(users[order][1:] != users[order][:-1], True)
        train.inter_feat = rows[torch.from_numpy(np.sort(order[last]))]
        return [train, *others]


class Past:
    """What each user had before an evaluation row: the items of the earlier splits, and those of the row's sequence.

    Args:
        before: the earlier splits.
        own: the split itself; its rows are looked up one by one, since it may hold several of a user.
    """

    def __init__(self, before: Sequence[Any], own: Any) -> None:
        pairs = np.unique(np.concatenate([*map(sequence_pairs, before)]), axis=0)
        self.items = torch.from_numpy(pairs[:, 1].copy())
        counts = np.bincount(pairs[:, 0], minlength=own.user_num)
        self.start = torch.from_numpy(np.cumsum(counts) - counts)
        self.count = torch.from_numpy(counts)

    def of(self, users: torch.Tensor, sequences: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, items) to mask for users (B,) with sequences (B, L). An answer that comes again is masked too."""
        count = self.count[users]
        row = torch.repeat_interleave(torch.arange(len(users)), count)
        place = torch.arange(len(row)) - (count.cumsum(0) - count)[row] + self.start[users][row]
        inside = sequences.nonzero()[:, 0]
        return torch.cat([row, inside]), torch.cat([self.items[place], sequences[sequences > 0]])
