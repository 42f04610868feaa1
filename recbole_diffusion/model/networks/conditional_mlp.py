"""DDRM's denoising network, which takes a condition in addition to x_t and t."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.diffusion import Step, full_time
from recbole_diffusion.model.networks.denoiser import RowMLP, chain_follows_forward
from recbole_diffusion.model.networks.dropout import dropout

#: Rows per block in :meth:`ConditionalMLP.chain` on a CPU.
BLOCK = 512


class ConditionalMLP(RowMLP):
    r"""DDRM's network: :class:`RowMLP` on the concatenation :math:`[x_t, \tau(t), c]` with a condition c.

    Only x_t has dropout.

    Args:
        width: width d of x_t.
        condition: width of the condition; 0 for none.
        hidden: widths of the hidden layers.
        options: see :class:`RowMLP`.
    """

    def __init__(self, width: int, condition: int, hidden: Sequence[int], **options: Any) -> None:
        super().__init__([width, *hidden, width], **options)
        self.condition = nn.Linear(condition, hidden[0], bias=False) if condition else None
        if self.condition is not None:
            weights = (self.input.weight, self.time_input.weight, self.condition.weight)
            fan_in = sum(weight.shape[1] for weight in weights)  # of the concatenation
            for weight in weights:
                nn.init.normal_(weight, std=math.sqrt(2 / (fan_in + hidden[0])))

    def forward(self, x: Tensor, t: Tensor, condition: Optional[Tensor] = None) -> Tensor:
        """Compute the network's output (B, width) from x (B, width), times t (B,) and condition (B, its width)."""
        if self.normalize:
            x = F.normalize(x)
        x = dropout(x, self.dropout, self.training)
        weight = self.input.weight
        if self.condition is not None:  # one product of the concatenation: two separate ones take a quarter more time
            assert condition is not None
            x, weight = torch.cat([x, condition], dim=1), torch.cat([weight, self.condition.weight], dim=1)
        time = self._embed_time(t, x.dtype)
        a = torch.addmm(F.linear(x, weight, self.input.bias), time, self.time_input.weight.t())
        return self.output(self._hidden_layers(a))

    @property
    def folds(self) -> bool:
        """Whether :meth:`chain` equals the loop over the steps: in eval mode."""
        return not self.training and chain_follows_forward(type(self))

    @torch.no_grad()
    def chain(self, x: Tensor, steps: Sequence[Step], condition: Optional[Tensor] = None) -> Tensor:
        """Run a deterministic reverse chain; equals the loop over the steps up to rounding.

        Unlike in :class:`RowMLP` no layers are folded, since the width is small. The input layer's products with the
        condition, which all steps share, and with the time embeddings, which all rows share, are computed once. On a
        CPU, rows are processed in blocks whose hidden states fit its cache, which takes 0.6 of the time.

        Args:
            x: (B, width), the state at the first step.
            steps: steps with r = 0.
            condition: (B, its width).

        Returns:
            The state after the last step, (B, width).

        Raises:
            ValueError: a step with noise.
        """
        if any(step.r for step in steps):
            raise ValueError("this chain needs deterministic steps")
        if not steps:
            return x.clone()
        times = torch.cat([full_time(step.t, x[:1]) for step in steps])
        time_terms = self.time_input(self._embed_time(times, x.dtype))
        row_terms = self.input.bias if self.condition is None else self.condition(condition) + self.input.bias
        row_terms = row_terms.expand(len(x), -1)
        size = BLOCK if x.device.type == "cpu" else max(len(x), 1)
        blocks = zip(x.split(size), row_terms.split(size))
        return torch.cat([self._run_block(block, steps, time_terms, terms) for block, terms in blocks])

    def _run_block(self, x: Tensor, steps: Sequence[Step], time_terms: Tensor, row_terms: Tensor) -> Tensor:
        """Run the chain on a block x (B, width).

        Args:
            time_terms: (len(steps), first hidden width), the input layer's product with the time embeddings.
            row_terms: (B, first hidden width), its product with the condition, and the bias.
        """
        for step, time_term in zip(steps, time_terms):
            h = F.normalize(x) if self.normalize else x
            h = self.activation(torch.addmm(row_terms + time_term, h, self.input.weight.t()))
            for layer in self.hidden:
                h = self.activation(layer(h))
            out = self.output(h)
            x = torch.add(step.q * out, x, alpha=step.p) if step.p else out * step.q
        return x


class Conditioned:
    """A :class:`ConditionalMLP` bound to a condition: a denoiser that a solver can call.

    Args:
        network: the network.
        condition: (B, its width), one per row of the reverse process; None for a network without condition.
    """

    def __init__(self, network: ConditionalMLP, condition: Optional[Tensor]) -> None:
        self.network, self.condition = network, condition

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Compute the network's output (B, width) from x (B, width) and times t (B,)."""
        out: Tensor = self.network(x, t, self.condition)
        return out

    @property
    def folds(self) -> bool:
        """Whether :meth:`chain` equals the loop over the steps."""
        return self.network.folds

    def chain(self, x: Tensor, steps: Sequence[Step]) -> Tensor:
        """Run a deterministic reverse chain; see :meth:`ConditionalMLP.chain`."""
        return self.network.chain(x, steps, self.condition)
