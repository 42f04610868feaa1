r"""Timestep samplers for training: uniform, or importance sampling by the second moment of recent losses.

They draw integer steps or continuous times. All state of a sampler is in buffers, so that it is in the checkpoint.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Timesteps(NamedTuple):
    """Drawn times and their density ratios.

    ``t``: (B,), int64 steps in 0..T-1, or float64 points of time. ``ratio``: float64 (B,), the density of t divided
    by the uniform density (for steps :math:`T p_t`). The mean of losses divided by it is an unbiased estimate of the
    mean loss over uniform times.
    """

    t: Tensor
    ratio: Tensor


class Times(Protocol):
    """Timestep sampler; implementations are modules.

    An adaptive sampler also has an attribute ``gather``: a function that all-gathers the values (n,) of this rank's
    rows over all ranks, in the row order of a single process. It is the identity by default. Distributed training
    replaces it, so that every rank learns from the losses of all rows.

    A sampler may have a method ``is_settled()``: True once it draws without asking the device for values, so that a
    training step can be captured as a CUDA graph.
    """

    def sample(self, n: int, generator: Optional[torch.Generator] = None) -> Timesteps:
        """Draw n times with ``generator``, torch's default one if None."""
        ...

    def update(self, t: Tensor, loss: Tensor) -> None:
        """Update the sampler with the losses (B,) at the times t (B,)."""
        ...


def is_settled(times: Times) -> bool:
    """Whether a sampler never again asks the device for values: its ``is_settled``; False for one without."""
    ask = getattr(times, "is_settled", None)
    return ask is not None and bool(ask())


def _identity(values: Tensor) -> Tensor:
    return values


class UniformTimesteps(nn.Module):
    """Sampler that draws each step with probability 1/T."""

    _steps: Tensor

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("_steps", torch.arange(steps), persistent=False)

    def sample(self, n: int, generator: Optional[torch.Generator] = None) -> Timesteps:
        """Draw ``n`` steps with ``generator`` (torch's default one if None)."""
        device = self._steps.device
        t = torch.randint(0, self.steps, (n,), device=device, generator=generator)
        return Timesteps(t, torch.ones(n, dtype=torch.float64, device=device))

    def update(self, t: Tensor, loss: Tensor) -> None:
        """Do nothing: the uniform distribution does not depend on the losses."""

    def is_settled(self) -> bool:
        """Whether no draw asks the device for values; see :class:`Times`."""
        return True


class LossSecondMomentTimesteps(UniformTimesteps):
    r"""Importance sampling of steps, Nichol and Dhariwal 2021, eq. 18, as DiffRec uses it.

    Uniform until every step has ``history`` losses, then
    :math:`p_t = (1-u)\, m_t / \sum_s m_s + u / T` with :math:`m_t = \sqrt{\mathrm{mean}_k L_{t,k}^2}` over
    the last ``history`` losses of step t and u = ``uniform_prob``.

    Buffers:
        losses: (T, history) float64, the last losses of each step, oldest first.
        count: (T,) int64, the number of losses stored for each step.
    """

    losses: Tensor
    count: Tensor
    gather: Callable[[Tensor], Tensor]

    def __init__(self, steps: int, history: int = 10, uniform_prob: float = 0.001) -> None:
        super().__init__(steps)
        self.history, self.uniform_prob, self.gather = history, uniform_prob, _identity
        self.register_buffer("losses", torch.zeros(steps, history, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(steps, dtype=torch.int64))
        self._full = False

    def is_full(self) -> bool:
        """Whether every step has ``history`` losses. Once it has, the device is not asked again."""
        if not self._full:
            self._full = not bool((self.count < self.history).any())
        return self._full

    def is_settled(self) -> bool:
        """Whether every step has ``history`` losses."""
        return self.is_full()

    def assume_full(self) -> None:
        """Do not ask the device; for tensors without values."""
        self._full = True

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._full = False

    def probabilities(self) -> Tensor:
        """Current :math:`p_t`, float64, shape (T,), summing to 1."""
        uniform = torch.full_like(self.losses[:, 0], 1 / self.steps)
        moment = self.losses.square().mean(dim=1).sqrt()
        total = moment.sum()
        if not self.is_full():
            return uniform
        return torch.where(total > 0, (1 - self.uniform_prob) * moment / total + self.uniform_prob * uniform, uniform)

    def sample(self, n: int, generator: Optional[torch.Generator] = None) -> Timesteps:
        """Draw ``n`` steps with ``generator`` (torch's default one if None)."""
        if not self.is_full():
            return super().sample(n, generator)
        p = self.probabilities()
        t = torch.multinomial(p, n, replacement=True, generator=generator)
        return Timesteps(t, p[t] * self.steps)

    def update(self, t: Tensor, loss: Tensor) -> None:
        """Append ``loss`` (B,) of steps ``t`` (B,) in batch order; each step keeps its last ``history`` losses.

        Equals appending one loss after another, but handles all steps at once. A loss's index in the merged list of
        its step is the step's old count plus the number of earlier losses of that step in the batch.
        """
        t, loss = self.gather(t), self.gather(loss.detach()).to(self.losses.dtype)
        t, order = torch.sort(t, stable=True)
        loss = loss[order]
        first_row, end_row = (torch.searchsorted(t, self._steps, right=right) for right in (False, True))
        new_count = end_row - first_row
        index = self.count[t] + torch.arange(len(t), device=t.device) - first_row[t]
        n_dropped = (self.count + new_count - self.history).clamp(min=0)
        column = torch.arange(self.history, device=t.device)
        shifted = (column + n_dropped[:, None]).clamp(max=self.history - 1)
        losses = F.pad(self.losses.gather(1, shifted), (0, 1))  # the last column takes those that do not remain
        column = torch.where(index >= n_dropped[t], index - n_dropped[t], self.history)
        losses[t, column] = loss
        self.losses.copy_(losses[:, :-1])
        self.count.copy_((self.count + new_count).clamp(max=self.history))


class ContinuousTimes(nn.Module):
    r"""Sampler of continuous times in (0, end].

    A sampler of steps draws one of n equal intervals; the point in the interval is uniform. The density ratio is the
    interval's, so that a loss divided by it is unbiased for every distribution of the intervals.

    Args:
        law: the sampler of intervals, numbered 0..n-1.
        steps: n, the number of intervals.
        end: the largest time.
    """

    def __init__(self, law: Times, steps: int, end: float = 1.0) -> None:
        super().__init__()
        self.law, self.steps, self.end = law, steps, end

    def sample(self, n: int, generator: Optional[torch.Generator] = None) -> Timesteps:
        """Draw ``n`` times with ``generator`` (torch's default one if None)."""
        interval, ratio = self.law.sample(n, generator)
        fraction = torch.rand(n, dtype=torch.float64, device=interval.device, generator=generator)
        return Timesteps((interval + 1 - fraction) * (self.end / self.steps), ratio)

    def update(self, t: Tensor, loss: Tensor) -> None:
        """Update the sampler of intervals with the losses (B,) at the times t (B,)."""
        interval = (t * (self.steps / self.end)).ceil().long() - 1
        self.law.update(interval.clamp(0, self.steps - 1), loss)

    def is_settled(self) -> bool:
        """Whether the sampler of intervals has settled."""
        return is_settled(self.law)


def make_sampler(name: str, steps: int, history: int = 10, uniform_prob: float = 0.001) -> UniformTimesteps:
    """Make the timestep sampler ``uniform`` or ``importance``.

    Args:
        name: ``uniform`` or ``importance``.
        steps: T.
        history, uniform_prob: see :class:`LossSecondMomentTimesteps`.

    Raises:
        ValueError: ``name`` is neither of the two.
    """
    if name == "uniform":
        return UniformTimesteps(steps)
    if name == "importance":
        return LossSecondMomentTimesteps(steps, history, uniform_prob)
    raise ValueError(f"timestep_sampling {name!r} is not one of uniform, importance")
