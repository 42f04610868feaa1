"""A loss that is a sum over parts (diffusion steps, blocks of rows), with the memory of one part.

The graph of each part is walked back as soon as it is there and dropped. Its gradients with respect to what all parts
share are added up, and the whole is one node of autograd: any trainer's ``loss.backward()`` does. Hooks on parameters
see each part's gradients too, and there is no second derivative.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Callable, Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def checkpointed_sum(
    loss: Callable[..., Tensor], parts: Iterable[Any], shared: Sequence[Tensor], parameters: Sequence[Tensor]
) -> Tensor:
    """The sum of ``loss(part, *shared)`` over the parts; scalar.

    Args:
        loss: gives a scalar from a part (a step, a slice of rows) and the shared tensors.
        parts: what ``loss`` is called with.
        shared: tensors with a graph of their own, e.g. what an encoder gives; walked back once, after the last part.
        parameters: leaf tensors that ``loss`` reads by itself.
    """
    if not torch.is_grad_enabled() or not any(each.requires_grad for each in (*shared, *parameters)):
        return torch.stack([loss(part, *shared) for part in parts]).sum()
    result: Tensor = _SumOverParts.apply(loss, parts, len(shared), *shared, *parameters)
    return result


class _SumOverParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Callable[..., Tensor], parts: Iterable[Any], count: int, *tensors: Tensor) -> Tensor:
        shared = [each.detach().requires_grad_(each.requires_grad) for each in tensors[:count]]
        wanted = [(place, each) for place, each in enumerate([*shared, *tensors[count:]]) if each.requires_grad]
        places, leaves = [place for place, _ in wanted], [each for _, each in wanted]
        sums: list[Optional[Tensor]] = [None] * len(tensors)
        total = tensors[0].new_zeros(())
        for part in parts:
            with torch.enable_grad():
                value = loss(part, *shared)
            total += value.detach()
            for place, gradient in zip(places, torch.autograd.grad(value, leaves, allow_unused=True)):
                if gradient is not None:
                    before = sums[place]
                    sums[place] = gradient.clone() if before is None else before.add_(gradient)
        ctx.sums = sums
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return (None, None, None, *(each if each is None else each * gradient for each in ctx.sums))
