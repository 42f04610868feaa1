"""Denoising networks that several models share. Each maps (x_t, t) to the network's output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.diffusion import Step, full_time
from recbole_diffusion.model.networks.dropout import dropout
from recbole_diffusion.model.networks.weights import weights_fingerprint

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "leaky_relu": F.leaky_relu,
    "leakyrelu": F.leaky_relu,  # RecBole's spelling
    "none": lambda x: x,
}


def timestep_embedding(t: Tensor, size: int) -> Tensor:
    r"""Sinusoids of the step: :math:`[\cos(t f_k), \sin(t f_k)]`, :math:`f_k = 10000^{-k/(size/2)}` (Vaswani et al.).

    Args:
        t: (B,), steps.
        size: width; an odd one gets a zero column.

    Returns:
        float32, shape (B, size).
    """
    half = size // 2
    frequency = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angle = t[:, None].to(torch.float32) * frequency
    return F.pad(torch.cat([angle.cos(), angle.sin()], dim=-1), (0, size % 2))


class _Folded(NamedTuple):
    """The input layer applied to the output layer, so that a chain never has to visit the items."""

    matrix: Tensor  # (input width, last hidden width): input weight @ output weight
    offset: Tensor  # (input width,): input weight @ output bias


class RowMLP(nn.Module):
    r"""DiffRec's network on rows over items: input layer, hidden layers, output layer, the step concatenated.

    Args:
        sizes: widths from items to items, e.g. ``[I, 600, 200, 600, I]``.
        time_size: width of the step's embedding.
        dropout: probability on the input row (not on the step).
        normalize: scale each input row to unit length first.
        activation: after every layer but the last, one of :data:`ACTIVATIONS`.
        bias_std: the biases start as :math:`\mathcal N(0, std^2)`; the weights are Xavier-normal.
        time_scale: the step's embedding is of ``t * time_scale``.

    The weight on the concatenation [row, step] is kept as two layers, ``input`` and ``time_input``: no copy of
    the row, and the same function.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        time_size: int = 10,
        dropout: float = 0.5,
        normalize: bool = False,
        activation: str = "tanh",
        bias_std: float = 0.001,
        time_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.time_size, self.dropout, self.normalize = time_size, dropout, normalize
        self.time_scale = time_scale
        self.activation = ACTIVATIONS[activation]
        self.time = nn.Linear(time_size, time_size)
        self.input = nn.Linear(sizes[0], sizes[1])
        self.time_input = nn.Linear(time_size, sizes[1], bias=False)
        hidden = list(sizes[1:-1])
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip(hidden[:-1], hidden[1:]))
        self.output = nn.Linear(sizes[-2], sizes[-1])
        self._folded: Optional[tuple[object, _Folded]] = None
        self._reset_parameters(bias_std)

    def _reset_parameters(self, bias_std: float) -> None:
        for layer in (self.time, *self.hidden, self.output):
            nn.init.xavier_normal_(layer.weight)
        fan_in = self.input.in_features + self.time_size  # of the concatenation
        std = math.sqrt(2 / (fan_in + self.input.out_features))
        nn.init.normal_(self.input.weight, std=std)
        nn.init.normal_(self.time_input.weight, std=std)
        for layer in (self.time, self.input, *self.hidden, self.output):
            nn.init.normal_(layer.bias, std=bias_std)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x: (B, items), t: (B,) int64; returns (B, items)."""
        if self.normalize:
            x = F.normalize(x)
        x = dropout(x, self.dropout, self.training)
        return self.output(self.body(self.input(x), t))

    def body(self, a: Tensor, t: Tensor) -> Tensor:
        """From the input layer's product ``a`` (B, sizes[1]) to the last hidden state; t: (B,) or (1,)."""
        return self._hidden_layers(a + self.time_input(self._time(t, a.dtype)))

    def _time(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        """The embedding of the times t (B,), (B, time_size)."""
        embedded: Tensor = self.time(timestep_embedding(t * self.time_scale, self.time_size).to(dtype))
        return embedded

    def _hidden_layers(self, a: Tensor) -> Tensor:
        """Apply the activation and the hidden layers to the first layer's pre-activation ``a``."""
        h = self.activation(a)
        for layer in self.hidden:
            h = self.activation(layer(h))
        return h

    @property
    def folds(self) -> bool:
        """Whether :meth:`chain` equals the loop: in eval mode, on rows that are not normalised.

        A subclass that changes :meth:`forward` and not :meth:`chain` does not fold.
        """
        return not self.training and not self.normalize and _chain_follows_forward(type(self))

    @torch.no_grad()
    def chain(self, x: Tensor, steps: Sequence[Step]) -> Tensor:
        r"""A deterministic reverse chain in eval mode; the same values as the plain loop up to rounding, for one pass.

        The state is always :math:`x = \alpha x_T + W H + \beta b` with the output layer's W, b. The next call of
        the network needs only the input layer's product with it, :math:`\alpha V x_T + (V W) H + \beta V b`, whose
        matrices are small. So items are visited twice in a chain, not twice per step.

        Args:
            x: (B, items), the state at the first step.
            steps: steps with r = 0.

        Returns:
            (B, items), without gradients: the state is kept in place.

        Raises:
            ValueError: where the state would leave that form: a noisy step, or normalised rows.
        """
        if self.normalize or any(step.r for step in steps):
            raise ValueError("the folded chain needs deterministic steps and rows that are not normalised")
        folded = self._fold()
        start = F.linear(x, self.input.weight)
        hidden = start.new_zeros(len(x), self.output.in_features)
        alpha, beta = 1.0, 0.0
        for step in steps:
            a = torch.addmm(beta * folded.offset + self.input.bias, hidden, folded.matrix.t())
            if alpha:
                a.add_(start, alpha=alpha)
            h = self.body(a, full_time(step.t, x[:1]))
            hidden.mul_(step.p).add_(h, alpha=step.q)
            alpha, beta = step.p * alpha, step.p * beta + step.q
        result = torch.addmm(beta * self.output.bias, hidden, self.output.weight.t())
        return result.add_(x, alpha=alpha) if alpha else result

    def train(self, mode: bool = True) -> RowMLP:
        self._folded = None
        return super().train(mode)

    def _fold(self) -> _Folded:
        """Kept while the network stays in eval mode and its weights stay the same."""
        parts = (self.input.weight, self.output.weight, self.output.bias)
        key = weights_fingerprint(parts)
        if self._folded is None or self._folded[0] != key:
            folded = _Folded(self.input.weight @ self.output.weight, self.input.weight @ self.output.bias)
            self._folded = (key, folded)
        return self._folded[1]


def _chain_follows_forward(kind: type) -> bool:
    """Whether ``chain`` is defined by the class that defines ``forward``, or by one derived from it."""
    return next("chain" in vars(each) for each in kind.__mro__ if {"chain", "forward"} & vars(each).keys())


#: Rows that walk a chain together.
BLOCK = 512


class ConditionalMLP(RowMLP):
    r"""DDRM's network: :class:`RowMLP` with a condition beside the step, :math:`[x_t, \tau(t), c]`.

    Only x_t has dropout. The condition's share of the input layer does not change along a chain and is computed once;
    so is the step's, which is the same for all rows.

    Args:
        width: d, of what is denoised.
        condition: width of the condition; 0 for none.
        hidden: widths of the hidden layers.
        others: see :class:`RowMLP`.
    """

    def __init__(self, width: int, condition: int, hidden: Sequence[int], **options: Any) -> None:
        super().__init__([width, *hidden, width], **options)
        self.condition = nn.Linear(condition, hidden[0], bias=False) if condition else None
        if self.condition is not None:
            parts = (self.input.weight, self.time_input.weight, self.condition.weight)
            fan_in = sum(each.shape[1] for each in parts)  # of the concatenation
            for each in parts:
                nn.init.normal_(each, std=math.sqrt(2 / (fan_in + hidden[0])))

    def forward(self, x: Tensor, t: Tensor, condition: Optional[Tensor] = None) -> Tensor:
        """x: (B, width), t: (B,) int64, condition: (B, its width); returns (B, width)."""
        if self.normalize:
            x = F.normalize(x)
        x = dropout(x, self.dropout, self.training)
        weight = self.input.weight
        if self.condition is not None:  # one product for both: two of half the width take a quarter more time
            assert condition is not None
            x, weight = torch.cat([x, condition], dim=1), torch.cat([weight, self.condition.weight], dim=1)
        time = self._time(t, x.dtype)
        a = torch.addmm(F.linear(x, weight, self.input.bias), time, self.time_input.weight.t())
        return self.output(self._hidden_layers(a))

    @property
    def folds(self) -> bool:
        """Whether :meth:`chain` equals the loop: in eval mode."""
        return not self.training and _chain_follows_forward(type(self))

    @torch.no_grad()
    def chain(self, x: Tensor, steps: Sequence[Step], condition: Optional[Tensor] = None) -> Tensor:
        """A deterministic reverse chain in eval mode; the same values as the plain loop up to rounding.

        Nothing is folded here: d is small. What does not change along the chain is computed once, and rows go through
        in blocks whose hidden states a CPU's cache holds, which takes 0.6 of the time.

        Args:
            x: (B, width), the state at the first step.
            steps: steps with r = 0.
            condition: (B, its width).

        Raises:
            ValueError: a noisy step.
        """
        if any(step.r for step in steps):
            raise ValueError("this chain needs deterministic steps")
        if not steps:
            return x.clone()
        times = torch.cat([full_time(step.t, x[:1]) for step in steps])
        shift = self.time_input(self._time(times, x.dtype))
        fixed = self.input.bias if self.condition is None else self.condition(condition) + self.input.bias
        fixed = fixed.expand(len(x), -1)
        blocks = zip(x.split(BLOCK), fixed.split(BLOCK))
        return torch.cat([self._walk(part, steps, shift, still) for part, still in blocks])

    def _walk(self, x: Tensor, steps: Sequence[Step], shift: Tensor, fixed: Tensor) -> Tensor:
        for step, time in zip(steps, shift):
            h = F.normalize(x) if self.normalize else x
            h = self.activation(torch.addmm(fixed + time, h, self.input.weight.t()))
            for layer in self.hidden:
                h = self.activation(layer(h))
            out = self.output(h)
            x = torch.add(step.q * out, x, alpha=step.p) if step.p else out * step.q
        return x


class Conditioned:
    """A :class:`ConditionalMLP` with its condition: a denoiser that a solver can call.

    Args:
        network: the network.
        condition: (B, its width), of the rows that go through the reverse process; None for none.
    """

    def __init__(self, network: ConditionalMLP, condition: Optional[Tensor]) -> None:
        self.network, self.condition = network, condition

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        out: Tensor = self.network(x, t, self.condition)
        return out

    @property
    def folds(self) -> bool:
        return self.network.folds

    def chain(self, x: Tensor, steps: Sequence[Step]) -> Tensor:
        return self.network.chain(x, steps, self.condition)
