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
from functools import cached_property
from typing import NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.diffusion import SharedGenerator, Step
from recbole_diffusion.model.networks.weights import weights_fingerprint

#: Largest width d whose chain is computed in closed form for any batch. Larger ones need a batch of at least d rows.
MAX_SIZE = 128


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
    r"""Matrices of a chain, float64, (d, d): M and A of :math:`x_0 = A x_T + M \tilde h + v`; A where it is needed."""

    condition: Tensor
    state: Optional[Tensor]


class _Offset(NamedTuple):
    r"""The vector :math:`v + A x_T` of a chain, float64 (d,), with the start and the noise that it was computed for."""

    vector: Tensor
    start: Tensor
    noise: Tensor


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
        self._offset: Optional[tuple[object, _Offset]] = None

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
        """Set the mode as torch does, and drop what is cached of the chain."""
        self._folded = self._offset = None
        return super().train(mode)

    @torch.no_grad()
    def fold(self, steps: Sequence[Step], with_state: bool = True) -> _Folded:
        """Compute the matrices of a chain, by one product of (d, d) matrices each per step; cached for the weights.

        Args:
            steps: of the chain.
            with_state: compute the matrix of the start too, which a start that all rows share does not need.
        """
        key = (weights_fingerprint((self.state.weight, self.condition.weight)), tuple(steps))
        if self._folded is None or self._folded[0] != key or (with_state and self._folded[1].state is None):
            w_x, w_h = self.state.weight.double(), self.condition.weight.double()
            columns = torch.zeros_like(w_h)  # of M, then of A
            if with_state:
                columns = torch.cat([columns, torch.eye(self.size, dtype=w_x.dtype, device=w_x.device)], dim=1)
            for step in steps:
                columns = torch.addmm(columns, w_x, columns, beta=step.p, alpha=step.q)
                columns[:, : self.size].add_(w_h, alpha=step.q)
            self._folded = (key, _Folded(columns[:, : self.size], columns[:, self.size :] if with_state else None))
        return self._folded[1]

    @torch.no_grad()
    def offset(self, steps: Sequence[Step], start: Tensor, noise: Tensor) -> Tensor:
        """Run a chain without a condition from one start; float64 (d,).

        It is cached for the weights, the start and the noise, which are the same in every batch of an evaluation.

        Args:
            steps: of the chain.
            start: (d,).
            noise: standard normal noise of the steps, (steps, d), on the CPU.
        """
        weights = (self.state.weight, *self.step.parameters(), *self.step_mlp.parameters())
        key = (weights_fingerprint(weights), tuple(steps))
        cached = None if self._offset is None or self._offset[0] != key else self._offset[1]
        if cached is None or not (torch.equal(cached.noise, noise) and torch.equal(cached.start, start)):
            cached = _Offset(self._run_offset(steps, start, noise), start.clone(), noise)
            self._offset = (key, cached)
        return cached.vector

    def _run_offset(self, steps: Sequence[Step], start: Tensor, noise: Tensor) -> Tensor:
        """Compute :meth:`offset` on the CPU by numpy, whose calls take a third of the time of torch's for vectors."""
        weight = self.state.weight
        step_terms = self.embed_step(torch.tensor([step.t for step in steps], device=weight.device))
        terms = step_terms.double().cpu().numpy() * [[step.q] for step in steps]
        terms += noise.double().numpy() * [[step.r] for step in steps]
        offset, w_x = start.double().cpu().numpy(), weight.double().cpu().numpy()
        for step, term in zip(steps, terms):
            offset = step.p * offset + step.q * (w_x @ offset) + term
        return torch.from_numpy(offset).to(weight.device)


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
        self.network, self.guidance, self.unconditional = network, guidance, unconditional
        if network.is_linear:
            condition = (1 + guidance) * condition - guidance * unconditional
        self.guided_condition = condition

    @cached_property
    def condition_term(self) -> Tensor:
        """The first layer's term of the conditions, (B, width); the closed form does not need it."""
        term: Tensor = self.network.condition(self.guided_condition)
        return term

    @cached_property
    def unconditional_term(self) -> Tensor:
        """The first layer's term of no condition, (1, width)."""
        term: Tensor = self.network.condition(self.unconditional)
        return term

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
        """Whether the chain is computed in closed form: the network is linear, and the matrix is worth its cost.

        A step of the matrix, (d, d) by (d, d) in double precision, takes about the time of a step of 2 d rows, but once
        for all batches of an evaluation. For small widths the calls take the time, and the matrix always is worth it.
        """
        size, rows = self.network.size, len(self.guided_condition)
        return self.network.is_linear and (size <= MAX_SIZE or rows >= size)

    def chain(self, x: Tensor, steps: Sequence[Step]) -> Tensor:
        """Compute the state after deterministic steps; x: (B, d). Equal to the loop up to rounding."""
        return self._apply(x, steps, None)

    def noisy_chain(self, x: Tensor, steps: Sequence[Step], generator: SharedGenerator) -> Tensor:
        """Compute the state after steps with noise that all rows share; x: (B, d). Equal to the loop up to rounding."""
        return self._apply(x, steps, generator)

    @torch.no_grad()
    def _apply(self, x: Tensor, steps: Sequence[Step], generator: Optional[SharedGenerator]) -> Tensor:
        noise = _noise_of_steps(steps, self.network.size, x.dtype, generator)
        is_shared = len(x) == 1 or x.stride(0) == 0  # one start, expanded
        folded = self.network.fold(steps, with_state=not is_shared)
        result = self.network.offset(steps, x[0] if is_shared else torch.zeros_like(x[0]), noise)
        if folded.state is not None and not is_shared:
            result = torch.addmm(result, x.double(), folded.state.t())
        return torch.addmm(result, self.guided_condition.double(), folded.condition.t()).to(x.dtype)


def _noise_of_steps(steps: Sequence[Step], size: int, dtype: torch.dtype, shared: Optional[SharedGenerator]) -> Tensor:
    """Draw the noise of each step that has some, (steps, size), on the generator's device; zeros for the others.

    The draws are those of :func:`~recbole_diffusion.diffusion.sample` with a ``shared`` generator, a call for each
    step, in a fifth of its time.
    """
    device = None if shared is None else shared.generator.device
    noise = torch.zeros(len(steps), size, dtype=dtype, device=device)
    for row, step in zip(noise.unbind(), steps):
        if step.r and shared is not None:
            row.normal_(generator=shared.generator)
    return noise.cpu()
