"""Solvers: how the reverse process is walked from the start to the clean data; the solver of affine steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional, Protocol, runtime_checkable

import torch
from torch import Tensor

from recbole_diffusion.diffusion.noise import Generators
from recbole_diffusion.diffusion.sampler import Denoiser, Step, StepCallback, sample


class Solver(Protocol):
    """The reverse process.

    Attributes:
        nfe: number of function evaluations: network calls per sample; None if it depends on the sample.
        stochastic: whether noise is drawn on the way.
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
        """The clean data, shape of ``start`` (B, ...), which is not changed. Arguments: see :func:`sample`."""
        ...


@runtime_checkable
class ChainDenoiser(Protocol):
    """A denoiser that can apply a list of deterministic affine steps at once, faster than one after another."""

    @property
    def folds(self) -> bool:
        """Whether :meth:`chain` equals the loop now, up to rounding."""
        ...

    def chain(self, x: Tensor, steps: Sequence[Step]) -> Tensor:
        """The state after all steps, without gradients; shape of ``x``."""
        ...


class AffineSolver:
    """A list of affine steps.

    Deterministic steps go to the denoiser's ``chain`` (:class:`ChainDenoiser`) where it has one, unless a callback
    watches the steps or gradients are wanted.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = list(steps)

    @property
    def nfe(self) -> int:
        return len(self.steps)

    @property
    def stochastic(self) -> bool:
        return any(step.r for step in self.steps)

    def solve(
        self,
        denoise: Denoiser,
        start: Tensor,
        generator: Generators = None,
        callback: Optional[StepCallback] = None,
    ) -> Tensor:
        plain = callback is not None or self.stochastic or torch.is_grad_enabled()
        if not plain and isinstance(denoise, ChainDenoiser) and denoise.folds:
            return denoise.chain(start, self.steps)
        return sample(denoise, start, self.steps, generator, callback)
