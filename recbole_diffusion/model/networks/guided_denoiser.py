r"""The denoiser of DreamRec and PreferDiff, classifier-free guidance, and the reverse chain in closed form.

The network sees the noised embedding, the condition and the step's embedding: as published by one linear layer,
:math:`f(x, h, t) = W [x; h; \tau_t] + b`, or by two with a GELU between them. Guidance extrapolates from the network
without a condition (Ho and Salimans 2022): :math:`\hat x_0 = (1 + w) f(x, h, t) - w f(x, \varnothing, t)`.

For the linear layer both terms share :math:`W_x x` and :math:`W_\tau \tau_t + b`, so guidance is one pass with the
condition :math:`\tilde h = (1 + w) h - w \varnothing`. A reverse step is then affine in the state,
:math:`x' = (p I + q W_x) x + q (W_h \tilde h + W_\tau \tau_t + b) + r z`, and so is the whole chain:
:math:`x_0 = A x_T + M \tilde h + v` with matrices A, M (d, d) that depend on the weights alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.diffusion import SharedGenerator, Step, randn
from recbole_diffusion.model.networks.weights import weights_fingerprint

#: Largest width whose chain is computed in closed form for any batch; larger ones need a batch of this many d.
MAX_SIZE, ROWS_PER_SIZE = 128, 4


def sine_first_embedding(t: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    r"""Sinusoidal embedding :math:`[\sin(t f_k), \cos(t f_k)]` with :math:`f_k = 10000^{-k/(size/2 - 1)}`.

    Neither the order nor the spacing is that of :func:`~recbole_diffusion.model.networks.denoiser.timestep_embedding`.

    Args:
        t: (B,), times.
        size: width, even and at least 4.
        dtype: dtype of the result.

    Returns:
        (B, size).
    """
    half = size // 2
    exponent = torch.arange(half, dtype=dtype, device=t.device) * (-math.log(10000) / (half - 1))
    angle = t[:, None].to(dtype) * exponent.exp()
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class _Folded(NamedTuple):
    r"""Matrices of a chain, float64, (d, d): ``state`` A, ``condition`` M of :math:`x_0 = A x_T + M \tilde h + v`."""

    state: Tensor
    condition: Tensor


class GuidedDenoiser(nn.Module):
    """The network that estimates the clean embedding.

    The first layer's weight on the concatenation [x, condition, step embedding] is stored as three layers. The function
    and the distribution of the initial weights are the same.

    Args:
        size: width d, even and at least 4.
        kind: ``linear`` for one layer (3 d to d), ``mlp`` for two (3 d to 2 d to d).

    Raises:
        ValueError: an odd or too small width.
    """

    def __init__(self, size: int, kind: str = "linear") -> None:
        super().__init__()
        if size < 4 or size % 2:
            raise ValueError(f"hidden_size={size} is not allowed; allowed: even numbers from 4, for the step embedding")
        self.size = size
        self.step_mlp = nn.Sequential(nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size))
        width = size if kind == "linear" else 2 * size
        self.state, self.condition = nn.Linear(size, width, bias=False), nn.Linear(size, width, bias=False)
        self.step = nn.Linear(size, width)
        self.output: Optional[nn.Linear] = None if kind == "linear" else nn.Linear(width, size)
        bound = (3 * size) ** -0.5  # torch's default for one layer of 3 d inputs
        for parameter in (*self.state.parameters(), *self.condition.parameters(), *self.step.parameters()):
            nn.init.uniform_(parameter, -bound, bound)
        self._folded: Optional[tuple[object, _Folded]] = None

    def ignore_state(self) -> None:
        """Hold the weights of x_t at 0: the estimate then depends on condition and step alone."""
        nn.init.zeros_(self.state.weight)
        self.state.weight.requires_grad_(False)

    @property
    def is_linear(self) -> bool:
        """Whether the network is one linear layer."""
        return self.output is None

    def embed_step(self, t: Tensor) -> Tensor:
        """Compute the first layer's term of the steps t (B,), its bias included; (B, width)."""
        embedding = sine_first_embedding(t, self.size, self.step.weight.dtype)
        result: Tensor = self.step(self.step_mlp(embedding))
        return result

    def finish(self, first: Tensor) -> Tensor:
        """Compute the output (B, d) from the first layer's output (B, width)."""
        return first if self.output is None else self.output(F.gelu(first))

    def forward(self, x: Tensor, condition: Tensor, t: Tensor) -> Tensor:
        """Estimate the clean embeddings (B, d) from x (B, d), condition (B, d) and steps t (B,)."""
        return self.finish(self.state(x) + self.context(condition, t))

    def context(self, condition: Tensor, t: Tensor) -> Tensor:
        """Compute the first layer's terms beside x's, (B, width): condition (B, d), t (B,)."""
        context: Tensor = self.condition(condition) + self.embed_step(t)
        return context

    def train(self, mode: bool = True) -> GuidedDenoiser:
        """Set the mode as torch does, and drop the cached matrices of the chain."""
        self._folded = None
        return super().train(mode)

    @torch.no_grad()
    def fold(self, steps: Sequence[Step]) -> _Folded:
        """Compute the matrices of a chain, by one product of (d, d) and (d, 2 d) per step; cached for the weights."""
        key = (weights_fingerprint((self.state.weight, self.condition.weight)), tuple(steps))
        if self._folded is None or self._folded[0] != key:
            w_x, w_h = self.state.weight.double(), self.condition.weight.double()
            both = torch.cat([torch.eye(self.size, dtype=w_x.dtype, device=w_x.device), torch.zeros_like(w_h)], dim=1)
            for step in steps:
                both = torch.addmm(both, w_x, both, beta=step.p, alpha=step.q)
                both[:, self.size :].add_(w_h, alpha=step.q)
            self._folded = (key, _Folded(both[:, : self.size], both[:, self.size :]))
        return self._folded[1]


class GuidedChain:
    """A denoiser with guidance for rows of given conditions, for the solvers of :mod:`recbole_diffusion.diffusion`.

    It is called with the same step for all rows. A linear network makes one pass for both terms of the guidance, and
    applies a whole chain at once; an ``mlp`` makes two passes per call.

    Args:
        network: the network, in eval mode.
        condition: (B, d).
        unconditional: (1, d), the learned vector that stands for no condition.
        guidance: the weight w.
    """

    def __init__(self, network: GuidedDenoiser, condition: Tensor, unconditional: Tensor, guidance: float) -> None:
        self.network, self.guidance = network, guidance
        if network.is_linear:
            condition = (1 + guidance) * condition - guidance * unconditional
        self.guided_condition = condition
        self.condition_term: Tensor = network.condition(condition)
        self.unconditional_term: Tensor = network.condition(unconditional)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Estimate the clean embeddings (B, d) from x (B, d) and the step t (B,), the same for all rows."""
        network = self.network
        first = network.state(x) + network.embed_step(t[:1])
        estimate = network.finish(first + self.condition_term)
        if network.is_linear or not self.guidance:
            return estimate
        return (1 + self.guidance) * estimate - self.guidance * network.finish(first + self.unconditional_term)

    @property
    def folds(self) -> bool:
        """Whether the chain is computed in closed form: the network is linear, and the matrices are worth their cost.

        A step of the matrices, (d, d) by (d, 2 d) in double precision, takes about the time of a step of 4 d rows. For
        small widths the calls take the time, and the matrices always are worth it.
        """
        size, rows = self.network.size, len(self.condition_term)
        return self.network.is_linear and (size <= MAX_SIZE or rows >= ROWS_PER_SIZE * size)

    def chain(self, x: Tensor, steps: Sequence[Step]) -> Tensor:
        """Compute the state after deterministic steps; x: (B, d). Equal to the loop up to rounding."""
        return self._apply(x, steps, None)

    def noisy_chain(self, x: Tensor, steps: Sequence[Step], generator: SharedGenerator) -> Tensor:
        """Compute the state after steps with noise that all rows share; x: (B, d). Equal to the loop up to rounding."""
        return self._apply(x, steps, generator)

    @torch.no_grad()
    def _apply(self, x: Tensor, steps: Sequence[Step], generator: Optional[SharedGenerator]) -> Tensor:
        folded = self.network.fold(steps)
        offset = self._offset(x, steps, generator)
        state = torch.addmm(offset, x.double(), folded.state.t())
        return state.addmm_(self.guided_condition.double(), folded.condition.t()).to(x.dtype)

    def _offset(self, x: Tensor, steps: Sequence[Step], generator: Optional[SharedGenerator]) -> Tensor:
        """Run the chain without state and condition: the vector v of the steps' embeddings and the noise, (d,).

        It is computed on the CPU by numpy, whose calls take a third of the time of torch's for vectors.
        """
        network, like = self.network, torch.empty(1, self.network.size, dtype=x.dtype)
        times = torch.tensor([step.t for step in steps], device=x.device)
        step_terms, w_x = network.embed_step(times).double().cpu().numpy(), network.state.weight.double().cpu().numpy()
        noise = torch.cat([randn(like, generator) if step.r else torch.zeros_like(like) for step in steps])
        terms = step_terms * [[step.q] for step in steps] + noise.double().numpy() * [[step.r] for step in steps]
        offset = np.zeros(network.size)
        for step, term in zip(steps, terms):
            offset = step.p * offset + step.q * (w_x @ offset) + term
        return torch.from_numpy(offset).to(x.device)
