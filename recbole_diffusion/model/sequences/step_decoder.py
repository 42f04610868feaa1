"""CDDRec's decoder: a Transformer decoder layer with cross-attention to the embedding of the diffusion step."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.model.networks.dropout import dropout
from recbole_diffusion.model.sequences.transformer import attend_heads


class StepDecoder(nn.Module):
    r"""A Transformer decoder layer whose memory is the embedding :math:`\tau_t` of the step.

    Attention to a single vector does not depend on the query: its output is the constant
    :math:`W_o (W_v \tau_t + b_v) + b_o`. Self-attention does not depend on the step. So both are computed once for all
    steps.

    Args:
        size: width d.
        heads: number of attention heads.
        steps: number of diffusion steps T.
        p: dropout probability.
        attention: self-attention: ``causal`` within a sequence; ``batch`` across the batch at each position, as in the
            official code, which reads the batch as the sequence; ``skip`` for none.
        std: standard deviation of the initial weights.
    """

    def __init__(self, size: int, heads: int, steps: int, p: float, attention: str, std: float) -> None:
        super().__init__()
        self.heads, self.p, self.attention = heads, p, attention
        self.step_embedding = nn.Embedding(steps, size)
        self.qkv: Optional[nn.Linear] = None if attention == "skip" else nn.Linear(size, 3 * size)
        self.out: Optional[nn.Linear] = None if attention == "skip" else nn.Linear(size, size)
        self.step_value, self.step_out = nn.Linear(size, size), nn.Linear(size, size)
        self.widen, self.narrow = nn.Linear(size, size), nn.Linear(size, size)
        self.norms = nn.ModuleList([nn.LayerNorm(size) for _ in range(3)])
        bound = (6 / (4 * size)) ** 0.5  # Xavier-uniform for torch's stacked (3 d, d) projection
        for name, layer in self.named_modules():
            if isinstance(layer, (nn.Linear, nn.Embedding)):
                nn.init.normal_(layer.weight, std=std)
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)
                if name in {"qkv", "step_value"}:
                    nn.init.uniform_(layer.weight, -bound, bound)

    def self_attention(self, states: Tensor, is_item: Tensor) -> Tensor:
        """Apply self-attention, which is the same for all steps.

        Args:
            states: (B, L, d).
            is_item: (B, L), False at padded positions.

        Returns:
            (B, L, d).
        """
        if self.qkv is None or self.out is None:
            return self.norms[0](states)
        across_batch = self.attention == "batch"
        x = states.transpose(0, 1) if across_batch else states
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        mask = None if across_batch else _causal_mask(is_item)
        attended = self.out(attend_heads(q, k, v, self.heads, mask, self.p if self.training else 0.0))
        x = self.norms[0](x + dropout(attended, self.p, self.training))
        return x.transpose(0, 1) if across_batch else x

    def step_bias(self) -> Tensor:
        """Compute the cross-attention output of every step, (T, d)."""
        return self.step_out(self.step_value(self.step_embedding.weight))

    def forward(self, states: Tensor, step_bias: Tensor) -> Tensor:
        """Decode self-attended states for one step.

        Args:
            states: (..., d), output of :meth:`self_attention`.
            step_bias: (d,), row of :meth:`step_bias`.

        Returns:
            (..., d).
        """
        bias = dropout(step_bias.expand_as(states), self.p, True) if self.training and self.p else step_bias
        x = self.norms[1](states + bias)
        hidden = dropout(F.gelu(self.widen(x)), self.p, self.training)
        result: Tensor = self.norms[2](x + dropout(self.narrow(hidden), self.p, self.training))
        return result

    def per_step_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that :meth:`forward` uses."""
        layers = (self.norms[1], self.widen, self.narrow, self.norms[2])
        return [parameter for layer in layers for parameter in layer.parameters()]


def _causal_mask(is_item: Tensor) -> Tensor:
    """Mask of visible keys, (B, 1, L, L): earlier items and the position itself. is_item: (B, L)."""
    itself = torch.eye(is_item.shape[1], dtype=torch.bool, device=is_item.device)
    causal = torch.ones_like(itself).tril()
    return ((causal & is_item[:, None, :]) | itself)[:, None]
