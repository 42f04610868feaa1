"""Explicit Runge-Kutta methods on a fixed grid, for reverse processes that are ordinary differential equations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional

from torch import Tensor

from recbole_diffusion.diffusion.noise import Generators
from recbole_diffusion.diffusion.process import full_time
from recbole_diffusion.diffusion.sampler import Denoiser, StepCallback

#: ``velocity(out, x, t)``: dx/dt (B, ...) from the network's output, x (B, ...) and t (B,).
Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]
_Field = Callable[[Tensor, float], Tensor]


def _euler(field: _Field, x: Tensor, t: float, h: float) -> Tensor:
    return x + h * field(x, t)


def _midpoint(field: _Field, x: Tensor, t: float, h: float) -> Tensor:
    return x + h * field(x + h / 2 * field(x, t), t + h / 2)


def _heun(field: _Field, x: Tensor, t: float, h: float) -> Tensor:
    first = field(x, t)
    return x + h / 2 * (first + field(x + h * first, t + h))


class _Method(NamedTuple):
    """``step(field, x, t, h)`` advances x from t to t + h with ``calls`` evaluations of the field."""

    step: Callable[[_Field, Tensor, float, float], Tensor]
    calls: int


#: Methods by name, of orders 1, 2 and 2 (Hairer et al. 1993, section II.1).
METHODS = {"euler": _Method(_euler, 1), "midpoint": _Method(_midpoint, 2), "heun": _Method(_heun, 2)}


class OdeSolver:
    r"""An explicit Runge-Kutta method on a fixed grid, for :math:`dx/dt = u(f(x, t), x, t)` with network f.

    Adaptive step sizes are left out on purpose: their error norm is taken over the batch, so a user's scores would
    depend on the other users in it.

    Args:
        grid: n + 1 times, from the start's to the last one.
        method: one of :data:`METHODS`.
        velocity: u, computes the derivative from the network's output.
        euler_last: take the last step by Euler's method, for a velocity that is undefined at the last time (Karras
            et al. 2022, alg. 1).

    Raises:
        ValueError: ``method`` is not one of :data:`METHODS`.
    """

    stochastic = False

    def __init__(self, grid: Sequence[float], method: str, velocity: Velocity, euler_last: bool = False) -> None:
        if method not in METHODS:
            raise ValueError(f"solver={method!r} is not allowed; allowed: {' | '.join(METHODS)}")
        self.grid, self.velocity = [float(t) for t in grid], velocity
        count = len(self.grid) - 1
        self.methods = [METHODS[method]] * count
        if euler_last and count:
            self.methods[-1] = METHODS["euler"]

    @property
    def nfe(self) -> int:
        """Number of function evaluations: network calls per sample."""
        return sum(method.calls for method in self.methods)

    def solve(
        self,
        denoise: Denoiser,
        start: Tensor,
        generator: Generators = None,
        callback: Optional[StepCallback] = None,
    ) -> Tensor:
        """Integrate from ``start`` to the last time of the grid. Arguments: see :func:`sample`.

        The callback gets the network's output at the beginning of each step.
        """
        outputs: list[Tensor] = []

        def field(x: Tensor, t: float) -> Tensor:
            times = full_time(t, x)
            outputs.append(denoise(x, times))
            return self.velocity(outputs[-1], x, times)

        x = start
        for method, t, next_t in zip(self.methods, self.grid[:-1], self.grid[1:]):
            outputs.clear()
            x = method.step(field, x, t, next_t - t)
            if callback is not None:
                callback(t=t, out=outputs[0], x=x)
        return x
