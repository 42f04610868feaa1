"""Data for sequential models: one training row per user, and the past masked at evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset

from recbole_diffusion.model.history import sequence_pairs


class UserSequenceDataset(SequentialDataset):
    """Of each user's training rows only the last, which holds the others: for models that learn at every place.

    Validation and test are RecBole's. The train split knows in ``all_pairs`` what all of its rows were.
    """

    def build(self) -> list[Any]:
        train, *others = super().build()
        train.all_pairs = sequence_pairs(train)
        users = train.inter_feat[train.uid_field].numpy()[::-1]
        _, last = np.unique(users, return_index=True)
        train.inter_feat = train.inter_feat[torch.from_numpy(len(users) - 1 - last)]
        return [train, *others]


class Past:
    """Which items each user had before an evaluation split, by user.

    Args:
        parts: the splits before it, and the split itself: of that one, what its sequences hold.
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        *before, own = parts
        rows, lists = own.inter_feat, own.inter_feat[own.item_id_list_field].numpy()
        row, place = np.nonzero(np.arange(lists.shape[1]) < rows[own.item_list_length_field].numpy()[:, None])
        users = rows[own.uid_field].numpy()
        inside = np.stack([users[row], lists[row, place]], axis=1)
        pairs = np.unique(np.concatenate([*map(sequence_pairs, before), inside]), axis=0)
        self.items = torch.from_numpy(pairs[:, 1].copy())
        counts = np.bincount(pairs[:, 0], minlength=own.user_num)
        self.start = torch.from_numpy(np.cumsum(counts) - counts)
        self.count = torch.from_numpy(counts)

    def of(self, users: torch.Tensor, answers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows, items) to mask for users (B,): their past but for the row's answer (B,)."""
        count = self.count[users]
        row = torch.repeat_interleave(torch.arange(len(users)), count)
        place = torch.arange(len(row)) - (count.cumsum(0) - count)[row] + self.start[users][row]
        items = self.items[place]
        kept = items != answers[row]
        return row[kept], items[kept]
