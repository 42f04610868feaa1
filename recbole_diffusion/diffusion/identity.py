"""The process that changes nothing: the network sees what it shall predict."""

from __future__ import annotations

from torch import Tensor, nn

from recbole_diffusion.diffusion.process import Normal, PathSample, row_mse
from recbole_diffusion.diffusion.sampler import Step


class IdentityProcess(nn.Module):
    """No noise: :math:`x_t = x_0` at every step, the network's output is the estimate of :math:`x_0`.

    Its reverse process calls the network on its own output.

    Args:
        steps: T; the network still sees t in 0..T-1.
        time_scale: see :class:`~recbole_diffusion.diffusion.process.Process`.
    """

    def __init__(self, steps: int, time_scale: float = 1.0) -> None:
        super().__init__()
        self.steps, self.time_scale = steps, time_scale

    def source(self, like: Tensor, normal: Normal) -> Tensor:
        """Draw noise that is not used: a run without noise has the other random numbers of a run with noise."""
        return normal(like)

    def sample(self, x0: Tensor, t: Tensor, source: Tensor) -> PathSample:
        return PathSample(x0, x0, x0)

    def x0_from_output(self, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return out

    def loss(self, out: Tensor, x0_hat: Tensor, sample: PathSample, t: Tensor) -> Tensor:
        """Mean squared error, all steps alike."""
        return row_mse(out, sample.target).double()

    def time_after(self, count: int) -> int:
        return count - 1

    def iterated(self, count: int) -> list[Step]:
        """The network applied ``count`` times, with t = count-1 .. 0."""
        return [Step.take_output(t) for t in reversed(range(count))]
