"""Solvers of the reverse process, from noise to clean data: the protocol, and the solver of affine steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional, Protocol, runtime_checkable

import torch
from torch import Tensor

from recbole_diffusion.diffusion.noise import Generators, SharedGenerator
from recbole_diffusion.diffusion.sampler import Denoiser, Step, StepCallback, sample


class Solver(Protocol):
    """A numerical method for the reverse process.

    Attributes:
        nfe: number of function evaluations: network calls per sample; None if it depends on the sample.
        stochastic: whether the method draws noise.
    """

    @property
    def nfe(self) -> Optional[int]: ...

    @property
    def stochastic(self) -> bool: ...

    def solve(
        self,
        denoise: Denoiser,
        start: Tensor,
        generator: Generators = None,
        callback: Optional[StepCallback] = None,
    ) -> Tensor:
        """Solve the reverse process from ``start`` (B, ...), which is not changed. Arguments: see :func:`sample`.

        Returns:
            The clean data, shape of ``start``.
        """
        ...


@runtime_checkable
class ChainDenoiser(Protocol):
    """A denoiser that can apply a list of deterministic affine steps at once, faster than one after another."""

    @property
    def folds(self) -> bool:
        """Whether :meth:`chain` equals the loop in the current mode, up to rounding."""
        ...

    def chain(self, x: Tensor, steps: Sequence[Step]) -> Tensor:
        """Compute the state after all steps, without gradients; shape of ``x``."""
        ...


@runtime_checkable
class SharedNoiseDenoiser(ChainDenoiser, Protocol):
    """A denoiser that can also apply steps with noise at once, if all rows share the noise."""

    def noisy_chain(self, x: Tensor, steps: Sequence[Step], generator: SharedGenerator) -> Tensor:
        """Compute the state after all steps, without gradients, with the draws of :func:`sample`; shape of ``x``."""
        ...


class AffineSolver:
    """Solver that applies a list of affine steps.

    If no callback is given, gradients are off and the denoiser can, it applies all steps at once: deterministic ones by
    ``chain`` (:class:`ChainDenoiser`), ones with noise that all rows share by ``noisy_chain``
    (:class:`SharedNoiseDenoiser`).
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = list(steps)

    @property
    def nfe(self) -> int:
        """Number of function evaluations: network calls per sample."""
        return len(self.steps)

    @property
    def stochastic(self) -> bool:
        """Whether a step draws noise."""
        return any(step.r for step in self.steps)

    def solve(
        self,
        denoise: Denoiser,
        start: Tensor,
        generator: Generators = None,
        callback: Optional[StepCallback] = None,
    ) -> Tensor:
        """Apply the steps one after another. Arguments: see :func:`sample`."""
        needs_loop = callback is not None or torch.is_grad_enabled()
        if not needs_loop and isinstance(denoise, ChainDenoiser) and denoise.folds:
            if not self.stochastic:
                return denoise.chain(start, self.steps)
            if isinstance(denoise, SharedNoiseDenoiser) and isinstance(generator, SharedGenerator):
                return denoise.noisy_chain(start, self.steps, generator)
        return sample(denoise, start, self.steps, generator, callback)
