r"""Noise schedules: the variances :math:`\beta_t` of the forward steps :math:`t = 0 \dots T-1`.

A schedule is a pure function that returns ``betas``, float64, shape ``(T,)``, each in (0, 1].
Notation: :math:`\alpha_t = 1 - \beta_t`, :math:`\bar\alpha_t = \prod_{s \le t} \alpha_s`. The step is
counted from 0, so that ``t`` here is ``t + 1`` in the papers.

Sources: ``linear``: Ho et al. 2020; ``cosine``: Nichol and Dhariwal 2021, eq. 17; ``sqrt`` and the
truncated ones: Li et al. 2022 (Diffusion-LM) as used by DiffuRec (TOIS 2023); ``linear-var``: DiffRec
(SIGIR 2023), eq. 4; ``binomial``: Sohl-Dickstein et al. 2015, section 2.4.1; ``exp``: the variance-preserving SDE of
Song et al. 2021, discretised as in DreamRec (NeurIPS 2023); ``clip_cos``: DreamRec.
"""

from __future__ import annotations

import math
from typing import Callable

import torch
from torch import Tensor

MAX_BETA = 0.999


def linear(steps: int, start: float, end: float) -> Tensor:
    r""":math:`\beta_t` rises linearly from ``start`` to ``end``."""
    return torch.linspace(start, end, steps, dtype=torch.float64)


def linear_var(steps: int, start: float, end: float) -> Tensor:
    r"""The noise variance :math:`1 - \bar\alpha_t` rises linearly from ``start`` to ``end``."""
    alpha_bar = 1 - torch.linspace(start, end, steps, dtype=torch.float64)
    previous = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    betas = 1 - alpha_bar / previous
    betas[0] = start  # equal in exact arithmetic; keeps tiny values free of cancellation
    return torch.cat([betas[:1], betas[1:].clamp(max=MAX_BETA)])


def from_alpha_bar(steps: int, alpha_bar: Callable[[float], float]) -> Tensor:
    r"""Discretise a function on [0, 1]: :math:`\beta_t = \min(1 - \bar\alpha((t+1)/T) / \bar\alpha(t/T),\ 0.999)`."""
    betas = [1 - alpha_bar((t + 1) / steps) / alpha_bar(t / steps) for t in range(steps)]
    return torch.tensor(betas, dtype=torch.float64).clamp(max=MAX_BETA)


def cosine(steps: int) -> Tensor:
    r""":math:`\bar\alpha(u) = \cos^2\!\big(\tfrac{u + 0.008}{1.008} \tfrac{\pi}{2}\big)`."""
    return from_alpha_bar(steps, lambda u: math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2)


def clip_cos(steps: int) -> Tensor:
    r""":func:`cosine` with each :math:`\beta_t` clipped to :math:`[10^{-4}, 0.9999]`, as in the code of DreamRec."""
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    alpha_bar = torch.cos((u + 0.008) / 1.008 * math.pi / 2).square()
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(1e-4, 0.9999)


def exp(steps: int) -> Tensor:
    r""":math:`\beta_t = 1 - \exp(-0.1/T - 4.95\, u_t / T^2)`, :math:`u_t` evenly spaced from 1 to 2 T + 1.

    The variance-preserving SDE whose rate rises from 0.1 to 10. The last :math:`\bar\alpha` is 0.0063 for any T.
    """
    u = torch.linspace(1, 2 * steps + 1, steps, dtype=torch.float64)
    return 1 - torch.exp(-0.1 / steps - 4.95 * u / steps**2)


def binomial(steps: int) -> Tensor:
    r""":math:`\beta_t = 1 / (T - t + 1)`: from :math:`1/(T+1)` to :math:`1/2`."""
    return 1 / (steps + 1 - torch.arange(steps, dtype=torch.float64))


def _from_alpha_bar_shifted(steps: int, alpha_bar: Callable[[float], float]) -> Tensor:
    r"""Diffusion-LM's shift by one step: :math:`\beta_0 = 1 - \bar\alpha(0)`, then the first ``T - 1`` ratios."""
    betas = [1 - alpha_bar(0.0)]
    betas += [1 - alpha_bar((t + 1) / steps) / alpha_bar(t / steps) for t in range(steps - 1)]
    return torch.tensor(betas, dtype=torch.float64).clamp(max=MAX_BETA)


def sqrt(steps: int) -> Tensor:
    r""":math:`\bar\alpha(u) = 1 - \sqrt{u + 0.0001}`."""
    return from_alpha_bar(steps, lambda u: 1 - math.sqrt(u + 1e-4))


def trunc_cos(steps: int) -> Tensor:
    r""":math:`\bar\alpha(u) = \cos^2\!\big(\tfrac{u + 0.1}{1.1} \tfrac{\pi}{2}\big)`, shifted by one step."""
    return _from_alpha_bar_shifted(steps, lambda u: math.cos((u + 0.1) / 1.1 * math.pi / 2) ** 2)


def trunc_lin(steps: int) -> Tensor:
    r"""Linear from :math:`10^{-4} s + 0.01` to :math:`0.02 s + 0.01` with :math:`s = 1000 / T`.

    For ``T <= 20`` the end would exceed 1; it then is :math:`0.001 s + 0.01`, a much weaker corruption. DiffuRec's
    code does the same. Its published setting, ``T = 32``, is not affected.
    """
    scale = 1000 / steps
    start, end = 1e-4 * scale + 0.01, 0.02 * scale + 0.01
    return linear(steps, start, 0.001 * scale + 0.01 if end > 1 else end)


def pw_lin(steps: int) -> Tensor:
    r"""Piecewise linear: ten steps from :math:`10^{-4}s + 0.01` to :math:`10^{-4}s`, the rest up to :math:`0.02 s`."""
    if steps <= 10:
        raise ValueError(f"noise_schedule 'pw_lin' needs steps > 10, got steps={steps}")
    scale = 1000 / steps
    head = torch.linspace(1e-4 * scale + 0.01, 1e-4 * scale, 10, dtype=torch.float64)
    tail = torch.linspace(1e-4 * scale, 0.02 * scale, steps - 10, dtype=torch.float64)
    return torch.cat([head, tail])


#: ``schedule(steps, start, end)`` returns the variances, (steps,); a schedule without bounds ignores the last two.
Schedule = Callable[[int, float, float], Tensor]


def _without_bounds(schedule: Callable[[int], Tensor]) -> Schedule:
    return lambda steps, start, end: schedule(steps)


_SCHEDULES: dict[str, Schedule] = {
    "linear": linear,
    "linear-var": linear_var,
    "cosine": _without_bounds(cosine),
    "clip_cos": _without_bounds(clip_cos),
    "exp": _without_bounds(exp),
    "binomial": _without_bounds(binomial),
    "sqrt": _without_bounds(sqrt),
    "trunc_cos": _without_bounds(trunc_cos),
    "trunc_lin": _without_bounds(trunc_lin),
    "pw_lin": _without_bounds(pw_lin),
}
#: Names of all schedules, registered ones included: the values allowed for the key ``noise_schedule``.
NAMES = _SCHEDULES.keys()


def register(name: str) -> Callable[[Schedule], Schedule]:
    """Decorate a function ``(steps, start, end) -> betas`` to make it the schedule ``name``.

    ``start`` and ``end`` are ``noise_scale * noise_min`` and ``noise_scale * noise_max``. The same function may be
    registered again, e.g. when its module is reloaded.

    Raises:
        ValueError: another function is registered under the name.
    """

    def add(schedule: Schedule) -> Schedule:
        registered = _SCHEDULES.get(name)
        if registered is not None and _qualified_name(registered) != _qualified_name(schedule):
            raise ValueError(
                f"noise_schedule {name!r} is {'.'.join(_qualified_name(registered))} already; choose another name"
            )
        _SCHEDULES[name] = schedule
        return schedule

    return add


def unregister(name: str) -> None:
    """Remove a schedule added by :func:`register`."""
    _SCHEDULES.pop(name, None)


def _qualified_name(schedule: Schedule) -> tuple[str, str]:
    return schedule.__module__, schedule.__qualname__


def make_betas(
    name: str,
    steps: int,
    *,
    noise_scale: float = 1.0,
    noise_min: float = 1e-4,
    noise_max: float = 0.02,
    beta_fixed: bool = False,
) -> Tensor:
    r"""Compute the variances of the schedule ``name`` and check that they are in (0, 1].

    Args:
        name: one of :data:`NAMES`.
        steps: number of steps T, at least 1.
        noise_scale, noise_min, noise_max: ``linear``, ``linear-var`` and registered schedules run from
            ``noise_scale * noise_min`` to ``noise_scale * noise_max``; the others ignore the three values.
        beta_fixed: set :math:`\beta_0 = 10^{-5}` afterwards, as the official DiffRec does. For small
            ``noise_scale`` this value is larger than the sum of all the others.

    Returns:
        float64, shape ``(T,)``.

    Raises:
        ValueError: an unknown name, a wrong number of variances, or a variance outside (0, 1].
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if name not in _SCHEDULES:
        raise ValueError(f"noise_schedule {name!r} is not one of {', '.join(NAMES)}")
    betas = _SCHEDULES[name](steps, noise_scale * noise_min, noise_scale * noise_max).to(torch.float64)
    if betas.shape != (steps,):
        raise ValueError(f"noise_schedule {name!r} gives {tuple(betas.shape)} variances; needed: ({steps},)")
    if beta_fixed:
        betas[0] = 1e-5
    if not bool(((betas > 0) & (betas <= 1)).all()):
        hint = " (linear-var needs noise_min < noise_max)" if name == "linear-var" else ""
        raise ValueError(
            f"noise_schedule {name!r} with steps={steps}, noise_scale={noise_scale}, noise_min={noise_min}, "
            f"noise_max={noise_max} gives a variance outside (0, 1]{hint}"
        )
    return betas
