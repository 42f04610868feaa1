"""Mixins for modules with a reverse process, and for models that report their number of function evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

from torch import Tensor

from recbole_diffusion.diffusion import AffineSolver, Generators, Solver, Step, row_generators


class ReverseProcess:
    """Mixin for a module with a solver of its reverse process.

    Attributes:
        process: the forward process.
        solver: numerical method for the reverse process.
        sampling_steps: number of forward steps by which the start is noised first.
        eval_seed: seed of the noise at inference.
    """

    process: Any
    solver: Solver
    sampling_steps: int
    eval_seed: int

    @property
    def nfe(self) -> Optional[int]:
        """Number of function evaluations: network calls per sample."""
        return self.solver.nfe

    @property
    def reverse(self) -> Sequence[Step]:
        """Affine steps of the solver; empty for other solvers. Assigning steps replaces the solver."""
        return self.solver.steps if isinstance(self.solver, AffineSolver) else []

    @reverse.setter
    def reverse(self, steps: Sequence[Step]) -> None:
        self.solver = AffineSolver(steps)

    @property
    def draws_noise(self) -> bool:
        """Whether inference draws noise."""
        return self.sampling_steps > 0 or self.solver.stochastic

    def seed_inference(self, seed: int) -> None:
        """Set the seed of the noise at inference."""
        self.eval_seed = seed

    def generators(self, users: Tensor) -> Generators:
        """Make one noise generator per user, (B,), of the CPU; None if inference draws no noise."""
        return row_generators(users.tolist(), self.eval_seed) if self.draws_noise else None


class ReportsNfe:
    """Mixin for a model that reports its number of function evaluations."""

    @property
    def nfe(self) -> Optional[int]:
        """Number of function evaluations: network calls per user and ranking; None if it varies."""
        raise NotImplementedError

    @property
    def denoiser_calls(self) -> Optional[int]:
        """Former name of :attr:`nfe`."""
        return self.nfe
