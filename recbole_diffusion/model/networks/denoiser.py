"""DiffRec's denoising network, and the sinusoidal time embedding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional

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
    r"""Sinusoidal embedding :math:`[\cos(t f_k), \sin(t f_k)]`, :math:`f_k = 10000^{-k/(size/2)}` (Vaswani et al.).

    Args:
        t: (B,), times.
        size: width; an odd width gets a zero column.

    Returns:
        float32, shape (B, size).
    """
    half = size // 2
    frequency = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angle = t[:, None].to(torch.float32) * frequency
    return F.pad(torch.cat([angle.cos(), angle.sin()], dim=-1), (0, size % 2))


class _Folded(NamedTuple):
    """Product of the input and the output layer, with which a reverse chain needs no matrix as wide as the items.

    ``matrix``: input weight @ output weight, (first hidden width, last hidden width). ``offset``: input weight @
    output bias, (first hidden width,).
    """

    matrix: Tensor
    offset: Tensor


class RowMLP(nn.Module):
    r"""DiffRec's multi-layer perceptron on rows, with the time embedding concatenated to the input.

    The weight on the concatenation [row, time embedding] is stored as two layers, ``input`` and ``time_input``. The
    function is the same, without a copy of the row.

    Args:
        sizes: widths of all layers, from items to items, e.g. ``[I, 600, 200, 600, I]``.
        time_size: width of the time embedding.
        dropout: dropout probability on the input row (not on the time embedding).
        normalize: scale each input row to unit length first.
        activation: activation after every layer but the last, one of :data:`ACTIVATIONS`.
        bias_std: standard deviation of the initial biases; the initial weights are Xavier-normal.
        time_scale: the time embedding is computed from ``t * time_scale``.
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
        """Compute the network's output (B, items) from x (B, items) and times t (B,)."""
        if self.normalize:
            x = F.normalize(x)
        x = dropout(x, self.dropout, self.training)
        return self.output(self._last_hidden(self.input(x), t))

    def _last_hidden(self, a: Tensor, t: Tensor) -> Tensor:
        """Compute the last hidden state from the output ``a`` (B, sizes[1]) of ``input``; t: (B,) or (1,)."""
        return self._hidden_layers(a + self.time_input(self._embed_time(t, a.dtype)))

    def _embed_time(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        """Embed the times t (B,), (B, time_size)."""
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
        """Whether :meth:`chain` equals the loop over the steps: in eval mode, if rows are not normalised.

        False for a subclass that overrides :meth:`forward` and not :meth:`chain`.
        """
        return not self.training and not self.normalize and chain_follows_forward(type(self))

    @torch.no_grad()
    def chain(self, x: Tensor, steps: Sequence[Step]) -> Tensor:
        r"""Run a deterministic reverse chain for about the cost of one pass over the items.

        In exact arithmetic the result equals the loop over the steps. The state always has the form
        :math:`x = \alpha x_T + W H + \beta b` with the output layer's W, b. The next network call needs only its
        product with the input layer's weight V, :math:`\alpha V x_T + (V W) H + \beta V b`, whose matrices are small.
        So a chain has two products as wide as the items, not two per step.

        Args:
            x: (B, items), the state at the first step.
            steps: steps with r = 0.

        Returns:
            (B, items), without gradients: the state is updated in place.

        Raises:
            ValueError: a step with noise, or normalised rows, for which the state would not keep this form.
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
            h = self._last_hidden(a, full_time(step.t, x[:1]))
            hidden.mul_(step.p).add_(h, alpha=step.q)
            alpha, beta = step.p * alpha, step.p * beta + step.q
        result = torch.addmm(beta * self.output.bias, hidden, self.output.weight.t())
        return result.add_(x, alpha=alpha) if alpha else result

    def train(self, mode: bool = True) -> RowMLP:
        """Set the mode as torch does, and drop the cached product of the layers."""
        self._folded = None
        return super().train(mode)

    def _fold(self) -> _Folded:
        """Product of the input and the output layer; cached until the mode or the weights change."""
        fingerprint = weights_fingerprint((self.input.weight, self.output.weight, self.output.bias))
        if self._folded is None or self._folded[0] != fingerprint:
            folded = _Folded(self.input.weight @ self.output.weight, self.input.weight @ self.output.bias)
            self._folded = (fingerprint, folded)
        return self._folded[1]


def chain_follows_forward(network_class: type) -> bool:
    """Whether ``chain`` is defined by the class that defines ``forward``, or by a subclass of it."""
    definitions = (vars(owner).keys() & {"chain", "forward"} for owner in network_class.__mro__)
    return "chain" in next(names for names in definitions if names)
