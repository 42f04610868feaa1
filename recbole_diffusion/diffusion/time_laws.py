r"""Laws of continuous times in (0, 1), as functions of a uniform number, and the sampler that draws from them.

Each law is a falling function t = f(u) of a uniform u. The density of t is then :math:`1 / |f'(u)|`.
"""

from __future__ import annotations

import math
from typing import Callable, NamedTuple, Optional

import torch
from torch import Tensor, nn

from recbole_diffusion.diffusion.timestep import Timesteps


class TimeLaw(NamedTuple):
    """A law of times: t = ``time(u)`` in (0, 1) and its density ``density(u)`` at that t; u and the results (B,)."""

    time: Callable[[Tensor], Tensor]
    density: Callable[[Tensor], Tensor]


def uniform() -> TimeLaw:
    """The uniform law."""
    return TimeLaw(lambda u: 1 - u, torch.ones_like)


def mode(scale: float) -> TimeLaw:
    r"""Mode sampling with heavy tails (Esser et al. 2024, eq. 20), whose density has its mode at 1/2 for scale > 0.

    :math:`f(u) = 1 - u - s\,(\cos^2(\tfrac\pi2 u) - 1 + u)`. The law of 1 - t is the same.

    Args:
        scale: s, in [-1, 2 / (pi - 2)); 0: uniform.
    """
    return TimeLaw(
        lambda u: 1 - u - scale * ((math.pi / 2 * u).cos().square() - 1 + u),
        lambda u: 1 / (1 + scale - scale * math.pi / 2 * (math.pi * u).sin()),
    )


def cosmap() -> TimeLaw:
    r"""The law of a cosine schedule's ratio of signal and noise (Esser et al. 2024, eq. 21).

    :math:`f(u) = 1 - 1 / (\tan(\tfrac\pi2 u) + 1)` with u replaced by 1 - u, which leaves the law as it is.
    """
    return TimeLaw(
        lambda u: 1 / ((math.pi / 2 * u).tan() + 1),
        lambda u: 2 / math.pi * (1 + (math.pi * u).sin()),
    )


def logit_normal(mean: float, std: float) -> TimeLaw:
    """The law of the logistic function of a normal draw (Esser et al. 2024, eq. 19).

    Args:
        mean, std: of the normal draw.
    """

    def logit(u: Tensor) -> Tensor:
        return mean + std * torch.special.ndtri(1 - u)

    def density(u: Tensor) -> Tensor:
        z, t = torch.special.ndtri(1 - u), logit(u).sigmoid()
        normal = (-0.5 * z.square()).exp() / (std * math.sqrt(2 * math.pi))
        return normal / (t * (1 - t))

    return TimeLaw(lambda u: logit(u).sigmoid(), density)


class LawTimes(nn.Module):
    """Sampler of times in (0, end] by a law; it does not depend on the losses.

    Args:
        law: of times in (0, 1).
        end: the largest time.
    """

    def __init__(self, law: TimeLaw, end: float = 1.0) -> None:
        super().__init__()
        self.law, self.end = law, end
        self.register_buffer("_like", torch.zeros(0), persistent=False)  # knows the device

    _like: Tensor

    def sample(self, n: int, generator: Optional[torch.Generator] = None) -> Timesteps:
        """Draw ``n`` times with ``generator`` (torch's default one if None)."""
        u = torch.rand(n, dtype=torch.float64, device=self._like.device, generator=generator)
        u = u.clamp(min=2.0**-53)  # a uniform number of 0 has no quantile
        return Timesteps(self.law.time(u) * self.end, self.law.density(u))

    def update(self, t: Tensor, loss: Tensor) -> None:
        """Do nothing: the law does not depend on the losses."""
