"""Explicit Runge-Kutta methods on a fixed grid, for processes whose reverse is an ordinary differential equation."""

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
    step: Callable[[_Field, Tensor, float, float], Tensor]
    calls: int


#: By name: one step, and its evaluations of the derivative. Orders 1, 2 and 2 (Hairer et al. 1993, section II.1).
METHODS = {"euler": _Method(_euler, 1), "midpoint": _Method(_midpoint, 2), "heun": _Method(_heun, 2)}


class OdeSolver:
    """An explicit Runge-Kutta method on a fixed grid, for :math:`dx/dt = velocity(f(x, t), x, t)`.

    Adaptive step sizes are left out on purpose: the error norm is over the batch, so that a user's scores would depend
    on who else is in it.

    Args:
        grid: times from the start's to the last one, n + 1 of them.
        method: one of :data:`METHODS`.
        velocity: the derivative that the network's output stands for.
        euler_last: take the last step by Euler, where the velocity has no value at the last time (Karras et al. 2022,
            alg. 1).

    Raises:
        ValueError: another method.
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
        return sum(method.calls for method in self.methods)

    def solve(
        self,
        denoise: Denoiser,
        start: Tensor,
        generator: Generators = None,
        callback: Optional[StepCallback] = None,
    ) -> Tensor:
        """The state at the last time. The callback is given the network's output at the start of each step."""
        outputs: list[Tensor] = []

        def field(x: Tensor, t: float) -> Tensor:
            times = full_time(t, x)
            outputs.append(denoise(x, times))
            return self.velocity(outputs[-1], x, times)

        x = start
        for method, now, then in zip(self.methods, self.grid[:-1], self.grid[1:]):
            outputs.clear()
            x = method.step(field, x, now, then - now)
            if callback is not None:
                callback(t=now, out=outputs[0], x=x)
        return x
