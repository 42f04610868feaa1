"""Packing of sequences of different length into one matrix of tokens with little padding.

The sequences of a batch differ much in length: five of six positions are padding in Amazon Beauty's training rows, cut
to 50. Here the rows are sorted by length and split into groups of nearly equal length, which need little padding.
Layers that work token by token run once over the tokens of all groups; attention runs group by group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

_MIN_FILL = 0.75  # length of a group's shortest row over that of its longest


class Group(NamedTuple):
    """Packed rows ``first_row : first_row + n_rows``, padded to ``width``.

    Their tokens begin at ``first_token``. ``is_item``: (n_rows, width), False at padded positions; None if no position
    is padded (never None with ``keep_padding``).
    """

    first_row: int
    n_rows: int
    width: int
    first_token: int
    is_item: Optional[Tensor]

    def tokens(self, flat: Tensor) -> Tensor:
        """Slice the group's tokens out of all tokens (N, d), as (n_rows, width, d)."""
        end = self.first_token + self.n_rows * self.width
        return flat[self.first_token : end].view(self.n_rows, self.width, -1)

    def rows(self, vectors: Tensor) -> Tensor:
        """Slice the group's rows out of one vector per packed row (B, d), as (n_rows, d)."""
        return vectors[self.first_row : self.first_row + self.n_rows]


class Packed(NamedTuple):
    """A batch of B sequences as N tokens.

    Attributes:
        items: (N,) int64, 0 at padded positions.
        groups: the groups of rows, longest first.
        order: (B,) the batch row of each packed row.
        inverse: (B,) the packed row of each batch row.
        last: (B,) the token of each packed row's last item.
        items_after: (N,) int64, number of items after the token in its row; negative at padded positions.
    """

    items: Tensor
    groups: Sequence[Group]
    order: Tensor
    inverse: Tensor
    last: Tensor
    items_after: Tensor

    def pack_rows(self, matrix: Tensor) -> Tensor:
        """Pack another matrix (B, L, ...) in the layout of the sequences, (N, ...)."""
        matrix = matrix[self.order]
        return torch.cat([group.rows(matrix)[:, : group.width].flatten(0, 1) for group in self.groups])

    def repeat_rows(self, vectors: Tensor) -> Tensor:
        """Repeat the vector of each packed row, (B, d), for each of its tokens, (N, d)."""
        repeated = [group.rows(vectors).unsqueeze(1).expand(-1, group.width, -1) for group in self.groups]
        return torch.cat([of_group.reshape(-1, vectors.shape[1]) for of_group in repeated])


def layout(key: str, device: torch.device, training: bool, compiled: bool) -> str:
    """Layout of batches of sequences, ``packed`` or ``padded``, by the key ``sequence_layout``.

    ``auto`` packs on the CPU, where padding costs time, and at ranking. In training on a GPU, padding costs less than
    the groups' many small kernels and the wait for their lengths (docs/results/gpu.md); compiled networks need batches
    of one shape.
    """
    if key != "auto":
        return key
    packs = device.type == "cpu" or not training
    return "packed" if packs and not compiled else "padded"


def pack(sequences: Tensor, lengths: Tensor, keep_padding: bool = False) -> Packed:
    """Pack right-padded sequences.

    Args:
        sequences: (B, L) int64, 0 after each sequence's end.
        lengths: (B,) int64, each in 1..L.
        keep_padding: keep all padded positions, in one group of width L.
    """
    device = sequences.device
    if keep_padding:
        spans, order = [_Span(0, len(sequences), sequences.shape[1], True)], torch.arange(len(sequences), device=device)
    else:
        lengths, order = torch.sort(lengths, descending=True, stable=True)
        spans, sequences = _group_rows(lengths.cpu().numpy()), sequences[order]
    groups, items, items_after, first_token = [], [], [], 0
    for first_row, n_rows, width, padded in spans:
        rows = slice(first_row, first_row + n_rows)
        after = lengths[rows, None] - 1 - torch.arange(width, device=device)
        groups.append(Group(first_row, n_rows, width, first_token, after >= 0 if padded else None))
        items.append(sequences[rows, :width].reshape(-1))
        items_after.append(after.reshape(-1))
        first_token += n_rows * width
    row_starts = [group.first_token + group.width * torch.arange(group.n_rows, device=device) for group in groups]
    return Packed(
        items=torch.cat(items),
        groups=groups,
        order=order,
        inverse=torch.argsort(order),
        last=torch.cat(row_starts) + lengths - 1,
        items_after=torch.cat(items_after),
    )


class _Span(NamedTuple):
    """Rows of a group, its width, and whether any of them is shorter than the width."""

    first_row: int
    n_rows: int
    width: int
    padded: bool


def _group_rows(lengths: np.ndarray) -> list[_Span]:
    """Split rows of falling ``lengths`` (B,) into groups whose shortest row fills 75 % of the width."""
    spans, first_row = [], 0
    while first_row < len(lengths):
        width = int(lengths[first_row])
        end = int(np.searchsorted(-lengths, -_MIN_FILL * width, side="right"))
        spans.append(_Span(first_row, end - first_row, width, bool(lengths[end - 1] < width)))
        first_row = end
    return spans
