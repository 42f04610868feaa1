"""The items of users who are not identified by an id of the training, for models that score from them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Histories(NamedTuple):
    """The items of B users.

    Attributes:
        items: ids of the items, user after user and each user's in chronological order, int64, (n,).
        offsets: user b has ``items[offsets[b]:offsets[b + 1]]``, int64, (B + 1,).
        seeds: numbers by which the noise of a user is drawn, as the id of a training user does, int64, (B,).
    """

    items: Tensor
    offsets: Tensor
    seeds: Tensor

    @property
    def n_users(self) -> int:
        """The number of users, B."""
        return len(self.seeds)

    def row_index(self) -> Tensor:
        """The user of each item, from 0 to B - 1, int64, (n,)."""
        return torch.repeat_interleave(torch.arange(self.n_users), self.offsets.diff())

    def select(self, start: int, end: int) -> Histories:
        """The histories of the users from ``start`` to ``end - 1``."""
        offsets = self.offsets[start : end + 1]
        items = self.items[int(offsets[0]) : int(offsets[-1])]
        return Histories(items, offsets - offsets[0], self.seeds[start:end])

    def sequences(self, width: int) -> tuple[Tensor, Tensor]:
        """The last ``width`` items of each user, padded with 0 on the right, (B, width), and their numbers, (B,)."""
        lengths = self.offsets.diff().clamp(max=width)
        position = torch.arange(width)
        index = (self.offsets[1:] - lengths)[:, None] + position
        exists = position < lengths[:, None]
        items = torch.zeros(self.n_users, width, dtype=torch.int64)
        items[exists] = self.items[index[exists]]
        return items, lengths
