"""Augmentation of sequences (CL4SRec), and negatives for each of their positions, vectorised over the batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

REORDER_SHARE, MASK_SHARE, CROP_SHARE = 0.6, 0.3, 0.6  # as in CL4SRec and the official CDDRec


def reorder(sequences: Tensor, lengths: Tensor) -> Tensor:
    """Shuffle a random block of 60 % of each sequence.

    Args:
        sequences: (B, L), right-padded.
        lengths: (B,).
    """
    in_block, start, size = _random_block(sequences, lengths, REORDER_SHARE)
    position = torch.arange(sequences.shape[1], device=sequences.device).expand_as(sequences).double()
    random_position = start + torch.rand(sequences.shape, dtype=torch.float64, device=sequences.device) * size
    return sequences.gather(1, torch.where(in_block, random_position, position).argsort(dim=1))


def mask(sequences: Tensor, lengths: Tensor, token: int) -> Tensor:
    """Replace a random 30 % of each sequence's items by ``token``. sequences: (B, L), right-padded; lengths: (B,)."""
    draw = torch.rand(sequences.shape, device=sequences.device).masked_fill(~_is_item(sequences, lengths), 2.0)
    masked = draw.argsort(dim=1).argsort(dim=1) < (lengths[:, None] * MASK_SHARE).floor()
    return sequences.masked_fill(masked, token)


def crop(sequences: Tensor, lengths: Tensor) -> Tensor:
    """Keep a random block of 60 % of each sequence and pad the rest. sequences: (B, L), right-padded; lengths: (B,).

    The block keeps its position, so that its items keep their targets. The official code moves it to the beginning of
    the row, away from its targets. A sequence of one item is not cropped.
    """
    in_block, _, size = _random_block(sequences, lengths, CROP_SHARE)
    return sequences.masked_fill(~in_block & (size > 0), 0)


def augment(sequences: Tensor, lengths: Tensor, operations: Sequence[str], token: int) -> Tensor:
    """Apply one of the operations, drawn for each sequence.

    Args:
        sequences: (B, L), right-padded.
        lengths: (B,).
        operations: some of ``reorder``, ``mask``, ``crop``.
        token: the item id that ``mask`` writes.

    Returns:
        The augmented sequences, (B, L).
    """
    augmented = []
    for operation in operations:
        if operation == "mask":
            augmented.append(mask(sequences, lengths, token))
        else:
            augmented.append((reorder if operation == "reorder" else crop)(sequences, lengths))
    if len(augmented) == 1:
        return augmented[0]
    choice = torch.randint(len(augmented), (len(sequences),), device=sequences.device)
    return torch.stack(augmented, dim=1)[torch.arange(len(sequences), device=sequences.device), choice]


def _is_item(sequences: Tensor, lengths: Tensor) -> Tensor:
    """Whether a position holds an item rather than padding, (B, L)."""
    return torch.arange(sequences.shape[1], device=sequences.device) < lengths[:, None]


def _random_block(sequences: Tensor, lengths: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a block of each sequence: whether a position is in it, (B, L), its start and its size, (B, 1)."""
    size = (lengths[:, None] * share).floor()
    draw = torch.rand(len(sequences), 1, dtype=torch.float64, device=sequences.device)
    start = (draw * (lengths[:, None] - size + 1)).floor()  # float32 could round up, beyond the end of the sequence
    position = torch.arange(sequences.shape[1], device=sequences.device)
    return (position >= start) & (position < start + size), start, size


class Negatives(torch.nn.Module):
    """Sampler of uniform negatives: items without a training interaction of the user.

    Args:
        pairs: (N, 2), the (user, item) pairs of training.
        n_items: number of items, including the padding item 0, which is never drawn.
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

    def is_positive(self, users: Tensor, items: Tensor) -> Tensor:
        """Whether pairs of users and items, of one shape, are training interactions."""
        if not len(self.keys):
            return torch.zeros_like(items, dtype=torch.bool)
        key = users * self.n_items + items
        position = torch.searchsorted(self.keys, key).clamp(max=len(self.keys) - 1)
        return self.keys[position] == key

    def sample(self, users: Tensor, count: int) -> Tensor:
        """Draw ``count`` negatives for each of users (B,), by rejection.

        After 100 rounds the remaining positives are returned. A user with all items gets uniform items at once.

        Returns:
            int64, (B, count).
        """
        users = users[:, None].expand(-1, count)
        negatives = torch.randint(1, self.n_items, users.shape, device=users.device)
        has_negative = ~F.pad(self.has_all, (0, 1))[users.clamp(max=len(self.has_all))]
        for _ in range(100):
            rejected = self.is_positive(users, negatives) & has_negative
            n_rejected = int(rejected.sum())
            if not n_rejected:
                break
            negatives[rejected] = torch.randint(1, self.n_items, (n_rejected,), device=users.device)
        return negatives
