"""Standard normal noise: from one generator, from one generator per row, or one draw shared by all rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Union

import torch
from torch import Tensor


class Shared(NamedTuple):
    """One draw for all rows. The noise of a row depends neither on the batch nor on the row's place in it."""

    generator: torch.Generator


#: Where noise comes from: torch's default generator (None), one for the batch, one per row, or one draw for all rows.
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
