"""CDDRec's decoder: a Transformer decoder layer that is told the step, nearly all of it computed once for all steps."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.model.networks.dropout import dropout
from recbole_diffusion.model.sequences.transformer import attend_heads


class StepDecoder(nn.Module):
    r"""A Transformer decoder layer whose memory is one vector, the step's.

    Attention to one vector, however often it is repeated, is a constant:
    :math:`W_o (W_v \tau_t + b_v) + b_o` for step t. Self-attention does not see the step: it is computed once.

    Args:
        size: d. heads: attention heads. steps: T. p: dropout.
        attention: ``causal`` within a sequence, ``batch`` across the batch at each place (the official code, which
            reads the batch as the sequence), ``skip``.
        std: of the initial weights.
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
        bound = (6 / (4 * size)) ** 0.5  # Xavier of torch's stacked (3 d, d) projection
        for name, layer in self.named_modules():
            if isinstance(layer, (nn.Linear, nn.Embedding)):
                nn.init.normal_(layer.weight, std=std)
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)
                if name in {"qkv", "step_value"}:
                    nn.init.uniform_(layer.weight, -bound, bound)

    def self_attention(self, states: Tensor, real: Tensor) -> Tensor:
        """States (B, L, d) after self-attention; real: (B, L), False at padded places. The same for every step."""
        if self.qkv is None or self.out is None:
            return self.norms[0](states)
        across = self.attention == "batch"
        x = states.transpose(0, 1) if across else states
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        seen = None
        if not across:
            places = real.shape[1]
            itself = torch.eye(places, dtype=torch.bool, device=real.device)
            causal = torch.ones_like(itself).tril()
            seen = ((causal & real[:, None, :]) | itself)[:, None]
        mixed = self.out(attend_heads(q, k, v, self.heads, seen, self.p if self.training else 0.0))
        x = self.norms[0](x + dropout(mixed, self.p, self.training))
        return x.transpose(0, 1) if across else x

    def step_bias(self) -> Tensor:
        """What each step adds, (T, d)."""
        return self.step_out(self.step_value(self.step_embedding.weight))

    def forward(self, states: Tensor, step_bias: Tensor) -> Tensor:
        """The prediction for one step from (…, d) and the step's (d,)."""
        added = dropout(step_bias.expand_as(states), self.p, True) if self.training and self.p else step_bias
        x = self.norms[1](states + added)
        hidden = dropout(F.gelu(self.widen(x)), self.p, self.training)
        result: Tensor = self.norms[2](x + dropout(self.narrow(hidden), self.p, self.training))
        return result

    def per_step_parameters(self) -> list[nn.Parameter]:
        """The parameters that :meth:`forward` reads."""
        layers = (self.norms[1], self.widen, self.narrow, self.norms[2])
        return [parameter for layer in layers for parameter in layer.parameters()]
