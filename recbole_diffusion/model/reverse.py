"""What modules with a reverse process have in common: the solver, and the number of network calls read off it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from torch import Tensor

from recbole_diffusion.diffusion import AffineSolver, Generators, Solver, Step, row_generators


class Reverse:
    """The reverse process of a module: its solver, and what is read off it.

    Attributes:
        solver: how the reverse process is walked.
        sampling_steps: forward steps by which the start is noised first.
        eval_seed: of the noise at inference.
    """

    solver: Solver
    sampling_steps: int
    eval_seed: int

    @property
    def nfe(self) -> Optional[int]:
        """Number of function evaluations: network calls per sample."""
        return self.solver.nfe

    @property
    def reverse(self) -> Sequence[Step]:
        """The affine steps of the solver; assigning a list makes it the solver."""
        return self.solver.steps if isinstance(self.solver, AffineSolver) else []

    @reverse.setter
    def reverse(self, steps: Sequence[Step]) -> None:
        self.solver = AffineSolver(steps)

    def generators(self, users: Tensor) -> Generators:
        """Each user's own noise at inference; None where there is none. users: (B,)."""
        noisy = self.sampling_steps > 0 or self.solver.stochastic
        return row_generators(users.tolist(), self.eval_seed, users.device) if noisy else None


class CountsCalls:
    """A model that knows its number of function evaluations."""

    @property
    def nfe(self) -> Optional[int]:
        """Number of function evaluations: network calls per user and ranking; None if it varies."""
        raise NotImplementedError

    @property
    def denoiser_calls(self) -> Optional[int]:
        """The former name of :attr:`nfe`, still read of models that have it alone."""
        return self.nfe
