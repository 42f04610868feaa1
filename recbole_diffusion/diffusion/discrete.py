r"""Discrete flow matching on binary data, and the solver that follows its most probable jumps.

Gat et al. 2024 (arXiv 2407.15595); on users' rows: FlowCF, Liu et al. 2025 (arXiv 2502.07303). Convention: t = 0 is
the grid point next to the data and t = T-1 the prior, as the steps of a Gaussian diffusion. The papers let time run
from the prior (0) to the data (1): step t is their time :math:`\tau_t = (T-1-t)/T`.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor, nn

from recbole_diffusion.diffusion.noise import Generators
from recbole_diffusion.diffusion.process import Normal, PathSample, full_time, row_mse
from recbole_diffusion.diffusion.sampler import Denoiser, StepCallback


class DiscreteFlow(nn.Module):
    r"""Mixture path between data and independent Bernoulli draws.

    At step t each coordinate of :math:`x_t` is that of the data with probability :math:`\tau_t`, else a draw of
    :math:`\mathrm{Bernoulli}(f_j)`. The network predicts the data.

    Args:
        steps: T, the number of grid intervals.
        probabilities: f, (d,), the prior's probability of a one in each coordinate.
        time_scale: see :class:`~recbole_diffusion.diffusion.process.Process`.
    """

    probabilities: Tensor
    shares: Tensor

    def __init__(self, steps: int, probabilities: Tensor, time_scale: float = 1.0) -> None:
        super().__init__()
        self.steps, self.time_scale = steps, time_scale
        shares = torch.arange(steps - 1, -1, -1, dtype=torch.float64) / steps
        self.register_buffer("probabilities", probabilities, persistent=False)
        self.register_buffer("shares", shares, persistent=False)

    def source(self, like: Tensor, normal: Normal) -> Tensor:
        r"""Draw uniform numbers, shape of ``like`` (B, d), as :math:`\Phi(z)` of normal ones."""
        return torch.special.ndtr(normal(like))

    def sample(self, x0: Tensor, t: Tensor, source: Tensor) -> PathSample:
        r"""Draw :math:`x_t` from the uniform numbers u of ``source``. x0, source: (B, d); t: (B,), int64.

        One number decides both draws: a coordinate is the data's if :math:`u < \tau`. Otherwise :math:`(u - \tau) /
        (1 - \tau)` is uniform too, and the coordinate is one if that is below f.
        """
        share = self.shares[t].to(source.dtype)[:, None]
        ones = source < share + (1 - share) * self.probabilities.to(source.dtype)
        return PathSample(torch.where(source < share, x0, ones.to(x0.dtype)), x0, x0)

    def x0_from_output(self, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return ``out``, which estimates the data already."""
        return out

    def loss(self, out: Tensor, x0_hat: Tensor, sample: PathSample, t: Tensor) -> Tensor:
        """Mean squared error with equal weight at all steps; float64, (B,)."""
        return row_mse(out, sample.target).double()

    def time_after(self, count: int) -> int:
        """Step reached after ``count`` forward steps; steps are counted from 0."""
        return count - 1


class JumpSolver:
    r"""Euler steps of a discrete flow, each rounded to the more probable state.

    At step t, with prediction :math:`\hat x`, a coordinate is one afterwards with probability
    :math:`p = x + (\hat x - x) / (t + 1)`. It becomes one if p > 1/2, else zero. Coordinates that are not zero in the
    start keep their values (FlowCF: observed interactions). The last network output is the result, and is not rounded.

    A zero thus becomes one only where the prediction exceeds (t + 1) / 2, and an added one stays where it exceeds
    1 - (t + 1) / 2.

    Args:
        count: S, the number of steps, t = S-1 .. 0; at least 1.
    """

    stochastic = False

    def __init__(self, count: int) -> None:
        self.count = count

    @property
    def nfe(self) -> int:
        """Number of function evaluations: network calls per sample."""
        return self.count

    def solve(
        self,
        denoise: Denoiser,
        start: Tensor,
        generator: Generators = None,
        callback: Optional[StepCallback] = None,
    ) -> Tensor:
        """Solve the reverse process from ``start`` (B, d). Arguments: see :func:`sample`; ``generator`` is unused."""
        x, observed = start, start != 0
        for t in reversed(range(self.count)):
            out = denoise(x, full_time(t, x))
            x = jump(x, out, t, start, observed) if t else out
            if callback is not None:
                callback(t=t, out=out, x=x)
        return x


def jump(x: Tensor, out: Tensor, t: int, start: Tensor, observed: Tensor) -> Tensor:
    """Apply one rounded Euler step from t to t - 1. All tensors: (B, d); ``observed``: bool, where ``start`` stays."""
    probability = x + (out - x) / (t + 1)
    return torch.where(observed, start, (probability > 0.5).to(start.dtype))
