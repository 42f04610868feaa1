r"""Smoothing of signals over a graph as a forward process, and its deterministic reverse process.

GiffCF, Zhu et al., SIGIR 2024 (arXiv 2311.08744), section 3. Steps are counted from 0 as everywhere in this package:
step t is t + 1 in the paper, and its 0, the data, has no step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, Optional

import torch
from torch import Tensor, nn

from recbole_diffusion.diffusion.noise import Generators
from recbole_diffusion.diffusion.process import Normal, PathSample, broadcast_per_row, full_time, row_mse
from recbole_diffusion.diffusion.sampler import Denoiser, StepCallback


class GraphSmoothing(nn.Module):
    r"""Linear blend of a signal and its smoothed version.

    :math:`F_l(y) = y + \alpha \tfrac{l}{T} (S y - y)` at the level l = t + 1, and
    :math:`x_t = F_{t+1}(x_0) + \sigma_t \epsilon` with :math:`\sigma_t = \mathrm{scale} \cdot
    \mathrm{decay}^{T-1-t}`. The network predicts :math:`x_0`.

    Args:
        smooth: S, maps (B, d) to (B, d); linear.
        steps: T.
        alpha: strength of the smoothing at the last step; above 1 beyond the smoothed signal.
        noise_scale: scale of the noise; 0: no noise, and none is drawn.
        noise_decay: factor of the standard deviation per step towards the data.
        time_scale: see :class:`~recbole_diffusion.diffusion.process.Process`.
    """

    def __init__(
        self,
        smooth: Callable[[Tensor], Tensor],
        steps: int,
        alpha: float = 1.0,
        noise_scale: float = 0.0,
        noise_decay: float = 1.0,
        time_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.smooth, self.steps, self.alpha, self.time_scale = smooth, steps, alpha, time_scale
        self.noise_scale, self.noise_decay = noise_scale, noise_decay

    def source(self, like: Tensor, normal: Normal) -> Tensor:
        """Draw the noise, shape of ``like`` (B, d); zeros without a draw if ``noise_scale`` is 0."""
        return normal(like) if self.noise_scale else like.new_zeros(()).expand_as(like)

    def sample(self, x0: Tensor, t: Tensor, source: Tensor) -> PathSample:
        """Smooth ``x0`` (B, d) to the steps ``t`` (B,), and add noise."""
        return self.sample_smoothed(x0, self.smooth(x0), t, source)

    def sample_smoothed(self, x0: Tensor, smoothed: Tensor, t: Tensor, source: Tensor) -> PathSample:
        r"""Compute :meth:`sample` from a smoothed signal :math:`S x_0` (B, d) that the caller has."""
        weight = broadcast_per_row((t + 1) * (self.alpha / self.steps), x0)
        x_t = torch.lerp(x0, smoothed, weight)
        if self.noise_scale:
            sigma = self.noise_scale * self.noise_decay ** (self.steps - 1 - t).to(x0.dtype)
            x_t = x_t + broadcast_per_row(sigma, x0) * source
        return PathSample(x_t, x0, x0)

    def x0_from_output(self, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        r"""Return ``out``, which is :math:`\hat x_0` already."""
        return out

    def loss(self, out: Tensor, x0_hat: Tensor, sample: PathSample, t: Tensor) -> Tensor:
        """Squared error, summed over the d entries; float64, (B,)."""
        return row_mse(out, sample.target).double() * out.shape[1]

    def time_after(self, count: int) -> int:
        """Step reached after ``count`` forward steps; steps are counted from 0."""
        return count - 1


class GraphSolver:
    r"""Deterministic reverse process of :class:`GraphSmoothing` (GiffCF, section 3.3).

    From level l to k < l, with prediction :math:`\hat x`:
    :math:`z_k = F_k(\hat x) + \mathrm{decay}^{l-k} (z_l - F_l(\hat x))`. The two blends of :math:`\hat x` are one,
    :math:`(1-c)\,\hat x + \tfrac\alpha T (k - c\,l)(S \hat x - \hat x)` with :math:`c = \mathrm{decay}^{l-k}`, so that
    a step smooths once, and not at all where k = c l.

    Args:
        process: the process; S, T and alpha are taken from it.
        levels: levels from the start to 0, falling, e.g. [3, 2, 1, 0].
        noise_decay: share of the residual that one level keeps; 0: none.
    """

    stochastic = False

    def __init__(self, process: GraphSmoothing, levels: Sequence[int], noise_decay: float) -> None:
        self.process, self.levels, self.noise_decay = process, list(levels), noise_decay

    @property
    def nfe(self) -> int:
        """Number of function evaluations: network calls per sample."""
        return len(self.levels) - 1

    def start(self, x0: Tensor, smoothed: Tensor) -> Tensor:
        r"""Smooth the data to the first level, without noise. x0, smoothed :math:`S x_0`: (B, d)."""
        return torch.lerp(x0, smoothed, self.process.alpha * self.levels[0] / self.process.steps)

    def solve(
        self,
        denoise: Denoiser,
        start: Tensor,
        generator: Generators = None,
        callback: Optional[StepCallback] = None,
    ) -> Tensor:
        """Solve the reverse process from ``start`` (B, d). Arguments: see :func:`sample`; ``generator`` is unused."""
        z = start
        for level, following in zip(self.levels[:-1], self.levels[1:]):
            out = denoise(z, full_time(level - 1, z))
            z = self._step(z, out.to(z.dtype), level, following)
            if callback is not None:
                callback(t=level - 1, out=out, x=z)
        return z

    def _step(self, z: Tensor, out: Tensor, level: int, following: int) -> Tensor:
        """Apply one reverse step to z (B, d) with the prediction ``out`` (B, d)."""
        carried = self.noise_decay ** (level - following)
        weight = self.process.alpha / self.process.steps * (following - carried * level)
        blend = (1 - carried - weight) * out
        if weight:
            blend = blend + weight * self.process.smooth(out)
        return blend + carried * z if carried else blend
