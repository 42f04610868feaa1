"""Standard normal noise from one generator, from one generator per row, or from one draw shared by all rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional, Union

import torch
from torch import Tensor


class SharedGenerator(NamedTuple):
    """Generator of one draw that all rows share.

    The noise of a row then depends neither on the other rows of its batch nor on its position among them.
    """

    generator: torch.Generator


#: Source of noise: torch's default generator (None), one for the batch, one per row, or one draw for all rows.
Generators = Union[None, torch.Generator, Sequence[torch.Generator], SharedGenerator]


def row_generators(rows: Sequence[int], seed: int) -> list[torch.Generator]:
    """Make one generator per row, so that a row's noise does not depend on its batch.

    They are of the CPU, so that a model draws the same noise on every device: torch's generators of a GPU give other
    numbers for the same seed.

    Args:
        rows: a number that identifies each row, e.g. the user id.
        seed: combined with the row's number into the row's seed.
    """
    row_seeds = [(seed * 0x9E3779B1 + row) % 2**32 for row in rows]
    return [torch.Generator().manual_seed(row_seed) for row_seed in row_seeds]


def randn(like: Tensor, generator: Generators = None) -> Tensor:
    """Draw standard normal noise with the shape, dtype and device of ``like`` (B, ...).

    Args:
        like: a tensor of the wanted shape.
        generator: a sequence holds one generator per row. A generator of another device draws there, and the noise is
            copied. The noise of a :class:`SharedGenerator` is one row, expanded: do not write into it.
    """
    if isinstance(generator, SharedGenerator):
        return randn(like[:1], generator.generator).expand_as(like)
    if generator is None or isinstance(generator, torch.Generator):
        return draw(like.shape, like, generator)
    rows = [
        torch.randn(like.shape[1:], dtype=like.dtype, device=row_generator.device, generator=row_generator)
        for row_generator in generator
    ]
    return torch.stack(rows).to(like.device)


def draw(shape: Sequence[int], like: Tensor, generator: Optional[torch.Generator]) -> Tensor:
    """Draw standard normal noise of a shape, with the dtype and device of ``like``, on the generator's device."""
    device = like.device if generator is None else generator.device
    return torch.randn(tuple(shape), dtype=like.dtype, device=device, generator=generator).to(like.device)
