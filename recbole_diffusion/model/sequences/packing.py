"""Rows of different length as one matrix of tokens, so that padding costs little or nothing.

Sequences of a batch differ much in length: of Amazon Beauty's training rows, cut to 50, five places in six are padding.
Sorted by length and cut into groups of nearly equal length, the rows need little padding, and everything that works
token by token runs once over all groups' tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

_FILL = 0.75  # a group takes rows down to this part of its longest


class Group(NamedTuple):
    """``rows`` sequences padded to ``width``; their tokens stand at ``start`` and after.

    ``real``: (rows, width), False at padded places; None where there are none (of whole batches: always there).
    """

    first: int
    rows: int
    width: int
    start: int
    real: Optional[Tensor]

    def tokens(self, flat: Tensor) -> Tensor:
        """This group's part of (N, d), as (rows, width, d)."""
        return flat[self.start : self.start + self.rows * self.width].view(self.rows, self.width, -1)


class Packed(NamedTuple):
    """A batch of B sequences as N tokens.

    Attributes:
        items: (N,) int64, 0 at padded places.
        groups: the tokens' groups, longest first.
        order: (B,) the row of the batch that each packed row was.
        inverse: (B,) the packed row of each row of the batch.
        last: (B,) where each packed row's last item stands among the tokens.
        age: (N,) int64, how many items are between a token and its row's last one; negative at padded places.
    """

    items: Tensor
    groups: Sequence[Group]
    order: Tensor
    inverse: Tensor
    last: Tensor
    age: Tensor

    def repeat_rows(self, rows: Tensor) -> Tensor:
        """Repeat the vector of each packed row, (B, d), for each of its tokens, (N, d)."""
        parts = [
            rows[each.first : each.first + each.rows].unsqueeze(1).expand(-1, each.width, -1) for each in self.groups
        ]
        return torch.cat([part.reshape(-1, rows.shape[1]) for part in parts])


def pack(sequences: Tensor, lengths: Tensor, whole: bool = False) -> Packed:
    """Pack right-padded rows.

    Args:
        sequences: (B, L) int64, 0 after each row's end.
        lengths: (B,) int64, each in 1..L.
        whole: keep every padded place: one group of width L.
    """
    device = sequences.device
    if whole:
        spans, order = [(0, len(sequences), sequences.shape[1], True)], torch.arange(len(sequences), device=device)
    else:
        lengths, order = torch.sort(lengths, descending=True, stable=True)
        spans, sequences = _spans(lengths.cpu().numpy()), sequences[order]
    groups, items, age, start = [], [], [], 0
    for first, rows, width, padded in spans:
        away = lengths[first : first + rows, None] - 1 - torch.arange(width, device=device)
        groups.append(Group(first, rows, width, start, away >= 0 if padded else None))
        items.append(sequences[first : first + rows, :width].reshape(-1))
        age.append(away.reshape(-1))
        start += rows * width
    heads = [each.start + each.width * torch.arange(each.rows, device=device) for each in groups]
    return Packed(
        items=torch.cat(items),
        groups=groups,
        order=order,
        inverse=torch.argsort(order),
        last=torch.cat(heads) + lengths - 1,
        age=torch.cat(age),
    )


def _spans(lengths: np.ndarray) -> list[tuple[int, int, int, bool]]:
    """(first row, rows, width, whether any is shorter) of each group; ``lengths`` (B,), falling."""
    spans, first = [], 0
    while first < len(lengths):
        width = int(lengths[first])
        end = int(np.searchsorted(-lengths, -_FILL * width, side="right"))
        spans.append((first, end - first, width, bool(lengths[end - 1] < width)))
        first = end
    return spans
