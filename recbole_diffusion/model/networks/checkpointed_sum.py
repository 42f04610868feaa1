"""Gradient checkpointing with accumulation: a loss summed over parts, with the memory of one part.

Parts are e.g. diffusion steps or blocks of rows. Each part's graph is differentiated in the forward pass and freed.
The gradients are accumulated. The sum is one node of autograd, so that any trainer's ``loss.backward()`` works. Hooks
on parameters are also called with the gradients of each part. Second derivatives are not supported.
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
    """Sum ``loss(part, *shared)`` over the parts.

    Args:
        loss: computes a scalar from a part (a step, a slice of rows) and the shared tensors.
        parts: first arguments of ``loss``.
        shared: tensors with graphs, e.g. the output of an encoder. Their graphs are differentiated once, in the
            backward pass.
        parameters: leaf tensors that ``loss`` uses without receiving them as arguments.

    Returns:
        A scalar.
    """
    if not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in (*shared, *parameters)):
        return torch.stack([loss(part, *shared) for part in parts]).sum()
    result: Tensor = _CheckpointedSum.apply(loss, parts, len(shared), *shared, *parameters)
    return result


class _CheckpointedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Callable[..., Tensor], parts: Iterable[Any], n_shared: int, *tensors: Tensor) -> Tensor:
        shared = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in tensors[:n_shared]]
        inputs = [*shared, *tensors[n_shared:]]
        indices = [index for index, tensor in enumerate(inputs) if tensor.requires_grad]
        leaves = [inputs[index] for index in indices]
        gradients: list[Optional[Tensor]] = [None] * len(tensors)
        total = tensors[0].new_zeros(())
        for part in parts:
            with torch.enable_grad():
                value = loss(part, *shared)
            total += value.detach()
            for index, gradient in zip(indices, torch.autograd.grad(value, leaves, allow_unused=True)):
                if gradient is not None:
                    accumulated = gradients[index]
                    gradients[index] = gradient.clone() if accumulated is None else accumulated.add_(gradient)
        ctx.gradients = gradients
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, output_gradient: Tensor) -> Any:
        scaled = (gradient if gradient is None else gradient * output_gradient for gradient in ctx.gradients)
        return (None, None, None, *scaled)
