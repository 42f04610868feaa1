r"""Flow matching on straight paths from data to noise, :math:`x_t = (1-t)\,x_0 + t\,z` for t in [0, 1].

Convention: t = 0 is the data and t = 1 the source, as in Esser et al. 2024. So t grows with the noise, as in a
Gaussian diffusion. The velocity is :math:`u_t = dx_t/dt = z - x_0`. Lipman et al. 2023, Liu et al. 2023 and
facebookresearch/flow_matching let t run from noise to data, which changes the sign of the velocity.
"""

from __future__ import annotations

from torch import Tensor, nn

from recbole_diffusion.diffusion.process import Normal, PathSample, broadcast_per_row, row_mse
from recbole_diffusion.diffusion.sampler import Step

PREDICTIONS = ("x0", "v")


class LinearFlow(nn.Module):
    r"""Flow matching on straight paths (Lipman et al. 2023; Liu et al. 2023).

    Args:
        steps: n, the number of intervals of the grid on which the reverse process is solved.
        prediction_type: the network's output: ``x0``, or ``v``, the velocity :math:`z - x_0`.
        t_max: the largest time, in (0, 1]. Training draws times up to it; the reverse process starts at it.
        source_std: standard deviation s of the source :math:`z \sim \mathcal N(0, s^2 I)`.
        time_scale: see :class:`~recbole_diffusion.diffusion.process.Process`. The sinusoidal embedding is designed
            for integer steps; t in [0, 1] alone would hardly change it.

    Raises:
        ValueError: ``prediction_type`` is neither ``x0`` nor ``v``.
    """

    def __init__(
        self,
        steps: int,
        prediction_type: str = "v",
        t_max: float = 1.0,
        source_std: float = 1.0,
        time_scale: float = 1000.0,
    ) -> None:
        super().__init__()
        if prediction_type not in PREDICTIONS:
            raise ValueError(
                f"prediction_type={prediction_type!r} is not allowed with process='flow'; "
                f"allowed: {' | '.join(PREDICTIONS)}"
            )
        self.steps, self.prediction_type, self.t_max = steps, prediction_type, t_max
        self.source_std, self.time_scale = source_std, time_scale

    def source(self, like: Tensor, normal: Normal) -> Tensor:
        """Draw :math:`z`, shape of ``like`` (B, ...)."""
        return self.source_std * normal(like)

    def sample(self, x0: Tensor, t: Tensor, source: Tensor) -> PathSample:
        """Interpolate to :math:`x_t`. x0, source: (B, ...); t: (B,), floats."""
        time = broadcast_per_row(t, x0)
        x_t = (1 - time) * x0 + time * source
        return PathSample(x_t, x0 if self.prediction_type == "x0" else source - x0, x0)

    def x0_from_output(self, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        r"""Estimate the clean data from the output: :math:`\hat x_0 = x_t - t\,u`; shape of ``x_t``."""
        return out if self.prediction_type == "x0" else x_t - broadcast_per_row(t, x_t) * out

    def velocity(self, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        r"""Velocity :math:`u = (x_t - \hat x_0) / t`; undefined at t = 0 if the network predicts x0."""
        return out if self.prediction_type == "v" else (x_t - out) / broadcast_per_row(t, x_t)

    def loss(self, out: Tensor, x0_hat: Tensor, sample: PathSample, t: Tensor) -> Tensor:
        """Mean squared error of the network's output, with equal weight at all times; float64, (B,)."""
        return row_mse(out, sample.target).double()

    def time_after(self, count: int) -> float:
        """Time after ``count`` of the n grid intervals, ``t_max * count / n``."""
        return self.t_max * count / self.steps

    def grid(self, count: int, whole: bool = False) -> list[float]:
        """Times of the last ``count`` of the n grid intervals, falling to 0; count + 1 values.

        Args:
            count: number of intervals.
            whole: divide the whole path from ``t_max`` to 0 into ``count`` intervals instead.
        """
        if whole:
            return [self.t_max * remaining / count for remaining in range(count, 0, -1)] + [0.0]
        return [self.time_after(remaining) for remaining in range(count, 0, -1)] + [0.0]

    def euler_steps(self, count: int, whole: bool = False) -> list[Step]:
        r"""Euler's method on the intervals of :meth:`grid`, as affine steps.

        From t to s: :math:`x_s = x_t + (s-t)\,u`. If the network predicts x0, the same step is
        :math:`x_s = \tfrac s t x_t + (1-\tfrac s t)\,\hat x_0`.
        """
        grid = self.grid(count, whole)
        if self.prediction_type == "v":
            return [Step(t, 1.0, s - t, 0.0) for t, s in zip(grid[:-1], grid[1:])]
        return [Step(t, s / t, 1 - s / t, 0.0) for t, s in zip(grid[:-1], grid[1:])]
