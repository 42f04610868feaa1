r"""The reverse chain: apply a list of :class:`~recbole_diffusion.diffusion.gaussian.Step` to a start.

Every sampler here (ancestral with and without noise, strided DDIM with eta) is a list of affine steps
:math:`x_s = p\,x_t + q\,f(x_t, t) + r z`, so that one loop serves them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional, Protocol, Union

import torch
from torch import Tensor

from recbole_diffusion.diffusion.gaussian import Step

Denoiser = Callable[[Tensor, Tensor], Tensor]


class Shared(NamedTuple):
    """One draw for every row. Each row's noise has the right law, and depends neither on the batch nor on its place."""

    generator: torch.Generator


Generators = Union[None, torch.Generator, Sequence[torch.Generator], Shared]


def row_generators(rows: Sequence[int], seed: int, device: torch.device) -> list[torch.Generator]:
    """One generator per row, seeded by ``seed`` and the row's own number (e.g. its user id).

    With them a row's noise does not depend on the batch in which it is drawn.
    """
    seeds = [(seed * 0x9E3779B1 + row) % 2**32 for row in rows]
    return [torch.Generator(device).manual_seed(one) for one in seeds]


def randn(like: Tensor, generator: Generators = None) -> Tensor:
    """Standard normal noise, shape, dtype and device of ``like``; a sequence holds one generator per row.

    Noise of :class:`Shared` is one row, expanded: do not write into it.
    """
    if isinstance(generator, Shared):
        return randn(like[:1], generator.generator).expand_as(like)
    if generator is None or isinstance(generator, torch.Generator):
        return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=generator)
    rows = [torch.randn(like.shape[1:], dtype=like.dtype, device=like.device, generator=g) for g in generator]
    return torch.stack(rows)


class StepCallback(Protocol):
    """Called after each step with its t, the network's output and the new x; what it returns is ignored."""

    def __call__(self, t: int, out: Tensor, x: Tensor) -> None: ...


def sample(
    denoise: Denoiser,
    start: Tensor,
    steps: Sequence[Step],
    generator: Generators = None,
    callback: Optional[StepCallback] = None,
) -> Tensor:
    """Walk the reverse chain.

    Args:
        denoise: ``denoise(x, t)`` with x (B, ...) and t (B,) int64 gives the network's output, shape of x.
        start: (B, ...), the state at the first step's t.
        steps: from the noisiest to t = 0.
        generator: where the noise comes from: one for the batch, one per row (see :func:`row_generators`), or one
            draw for all (:class:`Shared`); torch's default one if None. Unused by deterministic steps.
        callback: sees each step, e.g. to plot trajectories.

    Returns:
        The last state, shape of ``start``, which is not changed.
    """
    x = start
    for step in steps:
        t = torch.full((len(x),), step.t, dtype=torch.int64, device=x.device)
        out = denoise(x, t)
        x = step.p * x + step.q * out
        if step.r:
            x = x + step.r * randn(x, generator)
        if callback is not None:
            callback(t=step.t, out=out, x=x)
    return x
