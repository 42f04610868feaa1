r"""FMRec's reconstruction term: an MLP decodes the history from a state of the Transformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

import torch
from torch import Tensor, nn

from recbole_diffusion.model.sequences.packing import Packed

WIDTHS = (512, 2048)  # hidden widths, as in the official code


class HistoryCells(NamedTuple):
    """The entries of the batch's multi-hot rows, (B, n_items), as flat indices.

    ``ones``: int64 (n,), rising: the items of each row's history. ``zeros``: int64 (m,): drawn among all others, with
    replacement.
    """

    ones: Tensor
    zeros: Tensor


class HistoryDecoder(nn.Module):
    """Multi-layer perceptron from states to one number per item, with tanh between its layers.

    Args:
        size: width d of the states.
        n_items: number of items, with the padding.
        widths: hidden widths.
    """

    def __init__(self, size: int, n_items: int, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.n_items, sizes = n_items, (size, *widths, n_items)
        self.layers = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in zip(sizes[:-1], sizes[1:]))

    def forward(self, states: Tensor) -> Tensor:
        """Decode states (B, d); (B, n_items)."""
        for layer in self.layers[:-1]:
            states = layer(states).tanh()
        decoded: Tensor = self.layers[-1](states)
        return decoded

    def cells(self, packed: Packed, ratio: float, indices: Optional[Tensor] = None) -> HistoryCells:
        """Find the ones, and draw the zeros that the loss covers: ``ratio`` times as many, with replacement.

        Args:
            packed: the sequences.
            ratio: number of zeros divided by the number of ones.
            indices: (m,), numbers of the zeros among all zeros in row order; None: drawn.
        """
        rows = packed.repeat_rows(torch.arange(len(packed.order), device=packed.items.device)[:, None]).squeeze(1)
        is_item = packed.items > 0
        ones = torch.unique(rows[is_item] * self.n_items + packed.items[is_item])
        n_zeros = len(packed.order) * self.n_items - len(ones)
        if indices is None:
            count = min(n_zeros, int(len(ones) * ratio))
            indices = torch.randint(0, n_zeros, (count,), device=ones.device)
        # A zero's flat index is its number among the zeros plus the number of ones before it.
        before = torch.searchsorted(ones - torch.arange(len(ones), device=ones.device), indices, right=True)
        return HistoryCells(ones, indices + before)

    def loss(self, states: Tensor, cells: HistoryCells, mean_of_all: bool) -> Tensor:
        """Squared error over the ones and the chosen zeros, each zero once; scalar.

        Args:
            states: (B, d), in packed order.
            cells: the entries.
            mean_of_all: divide by the number of all entries of the rows, as the official code does, instead of the
                number of chosen ones.
        """
        decoded, zeros = self(states).flatten(), torch.unique(cells.zeros)
        error = (decoded[cells.ones] - 1).square().sum() + decoded[zeros].square().sum()
        return error / (decoded.numel() if mean_of_all else len(cells.ones) + len(zeros))
