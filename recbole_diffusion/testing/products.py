"""The matrix products of a computation, recorded by shape and replayed bare: a floor for its time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

#: Operators, and the places of their two factors among the arguments.
FACTORS = {"mm": (0, 1), "addmm": (1, 2), "bmm": (0, 1), "baddbmm": (1, 2), "mv": (0, 1), "addmv": (1, 2)}


class Product(NamedTuple):
    """One product: shape, strides and type of its factors. Strides decide whether a factor is read transposed."""

    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    strides: tuple[tuple[int, ...], tuple[int, ...]]
    dtype: torch.dtype


class Products(TorchDispatchMode):
    """A context that records the matrix products within it.

    Attributes:
        seen: every product, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Product] = []

    def __torch_dispatch__(self, operator: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        places = FACTORS.get(operator.overloadpacket.__name__)
        if places is not None:
            first, second = (args[place] for place in places)
            shapes, strides = (tuple(first.shape), tuple(second.shape)), (first.stride(), second.stride())
            self.seen.append(Product(shapes, strides, first.dtype))
        return operator(*args, **(kwargs or {}))

    @property
    def flops(self) -> int:
        """Multiplications and additions, 2 m n k of each product."""
        total = 0
        for product in self.seen:
            first, second = product.shapes
            count = 2 * second[-1] if len(second) > 1 else 2
            for size in first:
                count *= size
            total += count
        return total

    def replay(self, device: torch.device) -> Callable[[], None]:
        """A function that computes all of them again, on random factors that are made here."""
        made: dict[Product, tuple[Tensor, Tensor]] = {}
        for product in self.seen:
            if product not in made:
                first, second = (
                    torch.empty_strided(shape, strides, dtype=product.dtype, device=device).normal_()
                    for shape, strides in zip(product.shapes, product.strides)
                )
                made[product] = (first, second)
        factors = [made[product] for product in self.seen]

        def products() -> None:
            for first, second in factors:
                torch.matmul(first, second)

        return products
