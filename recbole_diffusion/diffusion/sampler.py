r"""Affine reverse steps, and the loop that applies them.

Every sampler of a Gaussian process (ancestral with and without noise, strided DDIM with eta) and every Euler step of a
linear flow is an affine map of the network's output, :math:`x_s = p\,x_t + q\,f(x_t, t) + r z`: one loop serves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional, Protocol, Union

from torch import Tensor

from recbole_diffusion.diffusion.noise import Generators, randn
from recbole_diffusion.diffusion.process import Time, full_time

#: ``denoise(x, t)`` with x (B, ...) and t (B,) gives the network's output, shape of x.
Denoiser = Callable[[Tensor, Tensor], Tensor]


class Step(NamedTuple):
    r"""One reverse step as an affine map of the network's output: :math:`x_{s} = p\,x_t + q\,\mathrm{out} + r z`.

    ``t``: the time that the network sees. ``p``, ``q``, ``r``: floats; ``r`` is 0 in deterministic steps.
    """

    t: Time
    p: float
    q: float
    r: float

    @classmethod
    def take_output(cls, t: Time) -> Step:
        """The step that replaces the state by the network's output, :math:`x_s = f(x_t, t)`."""
        return cls(t, 0.0, 1.0, 0.0)


class StepCallback(Protocol):
    """Called after each step with its t, the network's output and the new x; what it returns is ignored."""

    def __call__(self, t: Time, out: Tensor, x: Tensor) -> None: ...


class _Solves(Protocol):
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
    steps: Union[Sequence[Step], _Solves],
    generator: Generators = None,
    callback: Optional[StepCallback] = None,
) -> Tensor:
    """Run the reverse process: apply affine steps one after another, or let a solver do it.

    Args:
        denoise: the network.
        start: (B, ...), the state at the first step's t.
        steps: from the noisiest to t = 0; or a :class:`~recbole_diffusion.diffusion.solver.Solver`.
        generator: where the noise comes from: one for the batch, one per row (see :func:`row_generators`), or one
            draw for all (:class:`Shared`); torch's default one if None. Unused by deterministic steps.
        callback: sees each step, e.g. to plot trajectories.

    Returns:
        The last state, shape of ``start``, which is not changed.
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
