r"""Affine reverse steps, and the loop that applies them.

Every sampler of a Gaussian process (ancestral with and without noise, strided DDIM with eta) and every Euler step of a
linear flow is affine in the state and the network's output, :math:`x_s = p\,x_t + q\,f(x_t, t) + r z`. One loop
therefore serves all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional, Protocol, Union

from torch import Tensor

from recbole_diffusion.diffusion.noise import Generators, randn
from recbole_diffusion.diffusion.process import Time, full_time

#: ``denoise(x, t)`` with x (B, ...) and t (B,) returns the network's output, shape of x.
Denoiser = Callable[[Tensor, Tensor], Tensor]


class Step(NamedTuple):
    r"""One affine reverse step: :math:`x_{s} = p\,x_t + q\,\mathrm{out} + r z` with z standard normal.

    ``t``: the time given to the network. ``p``, ``q``, ``r``: floats; ``r`` is 0 in deterministic steps.
    """

    t: Time
    p: float
    q: float
    r: float

    @classmethod
    def take_output(cls, t: Time) -> Step:
        """Step that replaces the state by the network's output, :math:`x_s = f(x_t, t)`."""
        return cls(t, 0.0, 1.0, 0.0)


class StepCallback(Protocol):
    """Function called after each step with its t, the network's output and the new x."""

    def __call__(self, t: Time, out: Tensor, x: Tensor) -> None: ...


class _HasSolve(Protocol):
    """The method of a Solver that :func:`sample` needs; ``solver.py`` imports this module, not vice versa."""

    def solve(
        self,
        denoise: Denoiser,
        start: Tensor,
        generator: Generators = None,
        callback: Optional[StepCallback] = None,
    ) -> Tensor: ...


def sample(
    denoise: Denoiser,
    start: Tensor,
    steps: Union[Sequence[Step], _HasSolve],
    generator: Generators = None,
    callback: Optional[StepCallback] = None,
) -> Tensor:
    """Run the reverse process: apply affine steps one after another, or let a solver do it.

    Args:
        denoise: the network.
        start: (B, ...), the state at the first step's t.
        steps: from the noisiest to t = 0; or a :class:`~recbole_diffusion.diffusion.solver.Solver`.
        generator: source of the noise: one for the batch, one per row (see :func:`row_generators`), or one draw for
            all rows (:class:`SharedGenerator`); torch's default one if None. Unused by deterministic steps.
        callback: called after each step, e.g. to plot trajectories.

    Returns:
        The last state, shape of ``start``. ``start`` itself is not changed.
    """
    if not isinstance(steps, Sequence):
        return steps.solve(denoise, start, generator, callback)
    x = start
    for step in steps:
        out = denoise(x, full_time(step.t, x))
        x = step.p * x + step.q * out
        if step.r:
            x = x + step.r * randn(x, generator)
        if callback is not None:
            callback(t=step.t, out=out, x=x)
    return x
