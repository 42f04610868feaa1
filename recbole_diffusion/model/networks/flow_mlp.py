"""FlowCF's network: DiffRec's multi-layer perceptron with dropout before every layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recbole_diffusion.model.networks.denoiser import RowMLP
from recbole_diffusion.model.networks.dropout import dropout


class FlowMLP(RowMLP):
    """:class:`RowMLP` with dropout on the row, on the time embedding and on every hidden layer.

    Args:
        sizes: widths of all layers, from items to items.
        times: the time that is embedded at each step, (steps,).
        options: see :class:`RowMLP`.
    """

    times: Tensor

    def __init__(self, sizes: Sequence[int], times: Tensor, **options: Any) -> None:
        super().__init__(sizes, **options)
        self.register_buffer("times", times.to(torch.float32), persistent=False)

    def _embed_time(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        """Embed the steps t (B,), (B, time_size)."""
        return dropout(super()._embed_time(self.times[t], dtype), self.dropout, self.training)

    def _hidden_layers(self, a: Tensor) -> Tensor:
        """Apply the activation, dropout and the hidden layers to the first layer's pre-activation ``a``."""
        h = dropout(self.activation(a), self.dropout, self.training)
        for layer in self.hidden:
            h = dropout(self.activation(layer(h)), self.dropout, self.training)
        return h
