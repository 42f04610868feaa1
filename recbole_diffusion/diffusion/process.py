r"""Protocol of a forward process: corruption of clean data, and the meaning of the network's output.

The reverse direction is a :class:`~recbole_diffusion.diffusion.solver.Solver`. The two are separate, as in flow
matching libraries, so that a process need be neither Gaussian nor a chain of integer steps. Implementations:
:mod:`~recbole_diffusion.diffusion.gaussian`, :mod:`~recbole_diffusion.diffusion.flow`,
:mod:`~recbole_diffusion.diffusion.discrete`, :mod:`~recbole_diffusion.diffusion.graph` and
:mod:`~recbole_diffusion.diffusion.identity`. The timestep sampler of training is a third part
(:mod:`~recbole_diffusion.diffusion.timestep`): its state is in checkpoints, while a process has none.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Protocol, Union

import torch
from torch import Tensor
from torch.nn import functional as F

#: A time: a step (int, counted from 0) of a discrete process, or a point (float) of a continuous one.
Time = Union[int, float]
#: ``normal(like)`` draws standard normal noise of the shape, dtype and device of ``like``.
Normal = Callable[[Tensor], Tensor]


class PathSample(NamedTuple):
    """A point on the path from data to source, (B, ...) each.

    ``x_t``: the network's input. ``target``: its training target. ``x0``: the clean data.
    """

    x_t: Tensor
    target: Tensor
    x0: Tensor


class Process(Protocol):
    """The forward process, and the meaning of the network's output.

    Implementations are modules, so that their tables move to the device of the model.

    Attributes:
        steps: T, the number of forward steps, or of grid intervals of a continuous process.
        time_scale: the time embedding is computed from ``t * time_scale``.
    """

    steps: int
    time_scale: float

    def source(self, like: Tensor, normal: Normal) -> Tensor:
        """Draw the noise end of the path for data of the shape of ``like``, (B, ...).

        All randomness comes from ``normal``, so that the caller chooses the generator.
        """
        ...

    def sample(self, x0: Tensor, t: Tensor, source: Tensor) -> PathSample:
        """Corrupt ``x0`` (B, ...) up to the times ``t`` (B,), given the ``source`` (B, ...)."""
        ...

    def x0_from_output(self, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Estimate the clean data from the network's output; shape of ``x_t``."""
        ...

    def loss(self, out: Tensor, x0_hat: Tensor, sample: PathSample, t: Tensor) -> Tensor:
        """Loss of each row, float64, (B,). ``x0_hat``: :meth:`x0_from_output` of ``out``."""
        ...

    def time_after(self, count: int) -> Time:
        """Time reached after ``count`` >= 1 forward steps."""
        ...


def row_mse(out: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each row. out, target: (B, d); returns (B,)."""
    return F.mse_loss(out, target, reduction="none").mean(dim=1)


def full_time(t: Time, like: Tensor) -> Tensor:
    """Repeat the time ``t`` for every row of ``like``, (B,): int64 for a step, else the dtype of ``like``."""
    return torch.full((len(like),), t, dtype=time_dtype(t, like), device=like.device)


def time_dtype(t: Time, like: Tensor) -> torch.dtype:
    """Dtype of a time: int64 for a step, the dtype of the data for a point of time."""
    return torch.int64 if isinstance(t, int) else like.dtype


def broadcast_per_row(values: Tensor, like: Tensor) -> Tensor:
    """Cast one value per row (B,) to the dtype of ``like`` and reshape to (B, 1, ...) to broadcast against it."""
    return values.to(like.dtype).view(-1, *[1] * (like.dim() - 1))
