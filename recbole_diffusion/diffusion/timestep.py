r"""Laws of the times in training: uniform, or by the second moment of the recent losses; steps, or points of time.

All state of a law is in buffers, so that it is in the checkpoint.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional, Protocol

import torch
from torch import Tensor, nn


class Timesteps(NamedTuple):
    """``t``: (B,), int64 steps in 0..T-1, or float64 points of time. ``ratio``: float64 (B,), the density of t over
    the uniform one, of steps :math:`T p_t`; a loss divided by it is unbiased."""

    t: Tensor
    ratio: Tensor


class Times(Protocol):
    """A law of the times; a module.

    A law that learns has an attribute ``gather`` too: a function that gives the values (n,) of this rank's rows for the
    rows of all ranks, in the order of one process. The identity by default; training in several processes replaces it,
    so that all ranks learn from the losses of all rows.
    """

    def sample(self, n: int, generator: Optional[torch.Generator] = None) -> Timesteps:
        """Draw n times with ``generator``, torch's default one if None."""
        ...

    def update(self, t: Tensor, loss: Tensor) -> None:
        """Learn from the losses (B,) at the times t (B,)."""
        ...


def _own_rows(values: Tensor) -> Tensor:
    return values


class UniformTimesteps(nn.Module):
    """Each step with probability 1/T."""

    _device: Tensor

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("_device", torch.empty(0, dtype=torch.float64), persistent=False)

    def sample(self, n: int, generator: Optional[torch.Generator] = None) -> Timesteps:
        """``n`` steps, drawn with ``generator`` (torch's default one if None)."""
        where = self._device.device
        t = torch.randint(0, self.steps, (n,), device=where, generator=generator)
        return Timesteps(t, torch.ones(n, dtype=torch.float64, device=where))

    def update(self, t: Tensor, loss: Tensor) -> None:
        """Do nothing: a uniform law learns nothing."""


class LossSecondMomentTimesteps(UniformTimesteps):
    r"""Importance sampling of steps, Nichol and Dhariwal 2021, eq. 18, as DiffRec uses it.

    Uniform until every step has ``history`` losses, then
    :math:`p_t = (1-u)\, m_t / \sum_s m_s + u / T` with :math:`m_t = \sqrt{\mathrm{mean}_k L_{t,k}^2}` over
    the last ``history`` losses of step t and u = ``uniform_prob``.

    Buffers:
        losses: (T, history) float64, the last losses of each step, oldest first.
        count: (T,) int64, how many of them are there.
    """

    losses: Tensor
    count: Tensor
    gather: Callable[[Tensor], Tensor]

    def __init__(self, steps: int, history: int = 10, uniform_prob: float = 0.001) -> None:
        super().__init__(steps)
        self.history, self.uniform_prob, self.gather = history, uniform_prob, _own_rows
        self.register_buffer("losses", torch.zeros(steps, history, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(steps, dtype=torch.int64))

    def probabilities(self) -> Tensor:
        """:math:`p_t`, float64, shape (T,), summing to 1."""
        uniform = torch.full_like(self.losses[:, 0], 1 / self.steps)
        moment = self.losses.square().mean(dim=1).sqrt()
        total = moment.sum()
        if bool((self.count < self.history).any()) or not bool(total > 0):
            return uniform
        return (1 - self.uniform_prob) * moment / total + self.uniform_prob * uniform

    def sample(self, n: int, generator: Optional[torch.Generator] = None) -> Timesteps:
        if bool((self.count < self.history).any()):
            return super().sample(n, generator)
        p = self.probabilities()
        t = torch.multinomial(p, n, replacement=True, generator=generator)
        return Timesteps(t, p[t] * self.steps)

    def update(self, t: Tensor, loss: Tensor) -> None:
        """Append ``loss`` (B,) of steps ``t`` (B,) in batch order; each step keeps its last ``history`` losses.

        The same as appending one after another, for all steps at once: a sample's place in the merged list
        of its step is the step's old count plus the number of earlier samples of that step.
        """
        t, loss = self.gather(t), self.gather(loss.detach()).to(self.losses.dtype)
        t, order = torch.sort(t, stable=True)
        loss = loss[order]
        arrived = torch.bincount(t, minlength=self.steps)
        first = arrived.cumsum(0) - arrived
        place = self.count[t] + torch.arange(len(t), device=t.device) - first[t]
        dropped = (self.count + arrived - self.history).clamp(min=0)
        column = torch.arange(self.history, device=t.device)
        shifted = (column + dropped[:, None]).clamp(max=self.history - 1)
        losses = self.losses.gather(1, shifted)
        kept = place >= dropped[t]
        losses[t[kept], (place - dropped[t])[kept]] = loss[kept]
        self.losses.copy_(losses)
        self.count.copy_((self.count + arrived).clamp(max=self.history))


class ContinuousTimes(nn.Module):
    r"""Points of time in (0, end], stratified: a law draws one of n equal intervals, the point in it is uniform.

    The density ratio is the interval's, so that a loss divided by it is unbiased whatever the law.

    Args:
        law: draws intervals as steps 0..n-1.
        steps: n.
        end: the largest time.
    """

    def __init__(self, law: Times, steps: int, end: float = 1.0) -> None:
        super().__init__()
        self.law, self.steps, self.end = law, steps, end

    def sample(self, n: int, generator: Optional[torch.Generator] = None) -> Timesteps:
        interval, ratio = self.law.sample(n, generator)
        place = torch.rand(n, dtype=torch.float64, device=interval.device, generator=generator)
        return Timesteps((interval + 1 - place) * (self.end / self.steps), ratio)

    def update(self, t: Tensor, loss: Tensor) -> None:
        interval = (t * (self.steps / self.end)).ceil().long() - 1
        self.law.update(interval.clamp(0, self.steps - 1), loss)


def make_sampler(name: str, steps: int, history: int = 10, uniform_prob: float = 0.001) -> UniformTimesteps:
    """``uniform`` or ``importance``.

    Raises:
        ValueError: another name.
    """
    if name == "uniform":
        return UniformTimesteps(steps)
    if name == "importance":
        return LossSecondMomentTimesteps(steps, history, uniform_prob)
    raise ValueError(f"timestep_sampling {name!r} is not one of uniform, importance")
