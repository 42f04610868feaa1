"""Second views of sequences, and negatives for each of their places, drawn for a whole batch at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

REORDER_SHARE, MASK_SHARE, CROP_SHARE = 0.6, 0.3, 0.6  # CL4SRec's and the official CDDRec's


def reorder(sequences: Tensor, lengths: Tensor) -> Tensor:
    """Shuffle a block of 60 % of each row at a random place. sequences: (B, L), right-padded; lengths: (B,)."""
    inside, start, size = _block(sequences, lengths, REORDER_SHARE)
    place = torch.arange(sequences.shape[1], device=sequences.device).expand_as(sequences).double()
    among = start + torch.rand(sequences.shape, dtype=torch.float64, device=sequences.device) * size
    return sequences.gather(1, torch.where(inside, among, place).argsort(dim=1))


def mask(sequences: Tensor, lengths: Tensor, token: int) -> Tensor:
    """Put ``token`` in 30 % of each row's places, drawn at random."""
    draw = torch.rand(sequences.shape, device=sequences.device).masked_fill(~_real(sequences, lengths), 2.0)
    chosen = draw.argsort(dim=1).argsort(dim=1) < (lengths[:, None] * MASK_SHARE).floor()
    return sequences.masked_fill(chosen, token)


def crop(sequences: Tensor, lengths: Tensor) -> Tensor:
    """Keep a block of 60 % of each row at a random place, where it stands, so that it meets its own next items.

    A row of one item stays. The official code moves the block to the row's start, away from its targets.
    """
    inside, _, size = _block(sequences, lengths, CROP_SHARE)
    return sequences.masked_fill(~inside & (size > 0), 0)


def view(sequences: Tensor, lengths: Tensor, kinds: Sequence[str], token: int) -> Tensor:
    """One of ``kinds`` (reorder, mask, crop), drawn for each row; ``token`` is what masks. (B, L)."""
    made = []
    for kind in kinds:
        if kind == "mask":
            made.append(mask(sequences, lengths, token))
        else:
            made.append((reorder if kind == "reorder" else crop)(sequences, lengths))
    if len(made) == 1:
        return made[0]
    drawn = torch.randint(len(made), (len(sequences),), device=sequences.device)
    return torch.stack(made, dim=1)[torch.arange(len(sequences), device=sequences.device), drawn]


def _real(sequences: Tensor, lengths: Tensor) -> Tensor:
    return torch.arange(sequences.shape[1], device=sequences.device) < lengths[:, None]


def _block(sequences: Tensor, lengths: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Whether a place is in its row's block (B, L), and the block's start and size, (B, 1)."""
    size = (lengths[:, None] * share).floor()
    draw = torch.rand(len(sequences), 1, dtype=torch.float64, device=sequences.device)
    start = (draw * (lengths[:, None] - size + 1)).floor()  # float32 could round up, past the row's end
    place = torch.arange(sequences.shape[1], device=sequences.device)
    return (place >= start) & (place < start + size), start, size


class Negatives(torch.nn.Module):
    """Uniform items that a user has no training interaction with.

    Args:
        pairs: (N, 2), the (user, item) pairs of training.
        n_items: items with the padding item 0, which is never drawn.
    """

    keys: Tensor
    has_all: Tensor

    def __init__(self, pairs: np.ndarray, n_items: int) -> None:
        super().__init__()
        self.n_items = n_items
        keys = np.unique(pairs[:, 0].astype(np.int64) * n_items + pairs[:, 1])
        self.register_buffer("keys", torch.from_numpy(keys), persistent=False)
        has_all = np.bincount(keys // n_items) >= n_items - 1
        self.register_buffer("has_all", torch.from_numpy(has_all), persistent=False)

    def known(self, users: Tensor, items: Tensor) -> Tensor:
        """Whether they are pairs of training; the shape of both."""
        if not len(self.keys):
            return torch.zeros_like(items, dtype=torch.bool)
        key = users * self.n_items + items
        found = torch.searchsorted(self.keys, key).clamp(max=len(self.keys) - 1)
        return self.keys[found] == key

    def sample(self, users: Tensor, places: int) -> Tensor:
        """(B, places) for users (B,). Who has all items gets any; who has nearly all may, after a hundred draws."""
        users = users[:, None].expand(-1, places)
        drawn = torch.randint(1, self.n_items, users.shape, device=users.device)
        free = ~F.pad(self.has_all, (0, 1))[users.clamp(max=len(self.has_all))]
        for _ in range(100):
            again = self.known(users, drawn) & free
            count = int(again.sum())
            if not count:
                break
            drawn[again] = torch.randint(1, self.n_items, (count,), device=users.device)
        return drawn
