"""The process without noise: the network sees its own target."""

from __future__ import annotations

from torch import Tensor, nn

from recbole_diffusion.diffusion.process import Normal, PathSample, row_mse
from recbole_diffusion.diffusion.sampler import Step


class IdentityProcess(nn.Module):
    r"""No noise: :math:`x_t = x_0` at every step, and the network's output is :math:`\hat x_0`.

    The reverse process calls the network on its own output.

    Args:
        steps: T; the network is still given t in 0..T-1.
        time_scale: see :class:`~recbole_diffusion.diffusion.process.Process`.
    """

    def __init__(self, steps: int, time_scale: float = 1.0) -> None:
        super().__init__()
        self.steps, self.time_scale = steps, time_scale

    def source(self, like: Tensor, normal: Normal) -> Tensor:
        """Draw noise and ignore it.

        The draw keeps the random stream in step: a run without noise then has the same batches, dropout masks and
        steps as a run with noise.
        """
        return normal(like)

    def sample(self, x0: Tensor, t: Tensor, source: Tensor) -> PathSample:
        """Return ``x0`` itself as network input and target."""
        return PathSample(x0, x0, x0)

    def x0_from_output(self, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        r"""Return ``out``, which is :math:`\hat x_0` already."""
        return out

    def loss(self, out: Tensor, x0_hat: Tensor, sample: PathSample, t: Tensor) -> Tensor:
        """Mean squared error with equal weight at all steps; float64, (B,)."""
        return row_mse(out, sample.target).double()

    def time_after(self, count: int) -> int:
        """Step reached after ``count`` forward steps; steps are counted from 0."""
        return count - 1

    def iterated_steps(self, count: int) -> list[Step]:
        """Reverse steps that apply the network ``count`` times, with t = count-1 .. 0."""
        return [Step.take_output(t) for t in reversed(range(count))]
