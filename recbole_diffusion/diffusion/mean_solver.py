r"""Euler's method on a straight path with the start kept in the velocity: the mean of the network's predictions.

On the path from the source z to the data :math:`x_0`, the velocity towards the data is :math:`x_0 - z`. If the network
predicts :math:`\hat x_0`, there are two estimates of it at a state x: :math:`\hat x_0 - z` with the start z of the
reverse process, or :math:`(\hat x_0 - x) / (1 - s)` with the share s of the path that is done. Euler's method with the
second is a list of affine steps (:meth:`LinearFlow.euler_steps`) and ends at the last prediction. With the first,

.. math:: x_{k+1} = x_k + \frac 1 n (\hat x_0^{(k)} - z), \qquad x_0 = z \quad\Rightarrow\quad
    x_k = \Big(1 - \frac k n\Big) z + \frac 1 n \sum_{j < k} \hat x_0^{(j)},

so that the result :math:`x_n` is the mean of the n predictions, in which z cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor

from recbole_diffusion.diffusion.noise import Generators
from recbole_diffusion.diffusion.sampler import Denoiser, StepCallback


class MeanSolver:
    """Euler's method with the velocity from the start, in closed form, for a network that predicts the clean data.

    Args:
        times: the time of each of the n steps, from the noisiest.
    """

    stochastic = False

    def __init__(self, times: Sequence[float]) -> None:
        self.times = [float(t) for t in times]

    @property
    def nfe(self) -> int:
        """Number of function evaluations: network calls per sample."""
        return len(self.times)

    def solve(
        self,
        denoise: Denoiser,
        start: Tensor,
        generator: Generators = None,
        callback: Optional[StepCallback] = None,
    ) -> Tensor:
        """Compute the mean of the predictions along the path. Arguments: see :func:`sample`.

        The network gets its times in float64: models scale them by some 1000 before they embed them.
        """
        x, total, count = start, torch.zeros_like(start), len(self.times)
        for done, t in enumerate(self.times, 1):
            out = denoise(x, torch.full((len(x),), t, dtype=torch.float64, device=x.device))
            total = total + out
            x = (1 - done / count) * start + total / count
            if callback is not None:
                callback(t=t, out=out, x=x)
        return x
