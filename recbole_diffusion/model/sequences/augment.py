"""Augmentation of sequences (CL4SRec), vectorised over the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

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
