"""Find, without a GPU, where a computation would make the host wait for one.

A kernel is launched and the host goes on; it waits where it needs a value (``.item()``, ``bool(x)``, ``.cpu()``) or a
shape that depends on values (``nonzero``, a boolean index, ``unique``). Each wait in a training step costs what the GPU
could have done meanwhile. On a GPU ``torch.cuda.set_sync_debug_mode`` finds the same, and copies from the host as well.
"""

from __future__ import annotations

import collections
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Callable, NamedTuple, Optional
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

#: Operators whose result's shape depends on values, or that are a copy of a value to the host.
_OPERATORS = {
    "_local_scalar_dense",
    "nonzero",
    "equal",
    "_unique",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "masked_select",
    "bincount",
    "histc",
}
#: Methods that copy to the host. On the CPU they call no operator.
_METHODS = ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__")
_HERE = str(Path(__file__).resolve())
_TORCH = str(Path(torch.__file__).resolve().parent)


class Place(NamedTuple):
    """Where the host would wait."""

    file: str
    line: int
    function: str
    operation: str

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line} {self.function} ({self.operation})"


class Synchronisations(TorchDispatchMode):
    """A context in which all waits are recorded, and operators counted.

    Attributes:
        places: of each wait, in order.
        operators: how often each of torch's operators was called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.places: list[Place] = []
        self.operators: collections.Counter[str] = collections.Counter()
        self._inside = False
        self._patches = contextlib.ExitStack()

    def __enter__(self) -> Synchronisations:
        for name in _METHODS:
            self._patches.enter_context(mock.patch.object(Tensor, name, self._watched(name, getattr(Tensor, name))))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._patches.close()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        name = operator.overloadpacket.__name__
        self.operators[name] += 1
        if not self._inside and _waits(name, args, kwargs or {}):
            self.places.append(_place(name))
        return operator(*args, **(kwargs or {}))

    def _watched(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def watched(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            if self._inside:  # a method that calls another one, or an operator
                return method(tensor, *args, **kwargs)
            self.places.append(_place(name))
            self._inside = True
            try:
                return method(tensor, *args, **kwargs)
            finally:
                self._inside = False

        return watched


def _waits(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    if name in _OPERATORS:
        return True
    if name == "repeat_interleave":  # its length is the sum of the repeats, unless it is given
        return kwargs.get("output_size") is None
    if name in {"index", "index_put", "index_put_", "_index_put_impl_"}:
        masks = [index for index in args[1] if index is not None and index.dtype in (torch.bool, torch.uint8)]
        filled = name != "index" and args[2].numel() == 1 and len(masks) == len(args[1]) == 1  # as masked_fill
        return bool(masks) and not filled
    return False


def _place(operation: str) -> Place:
    """The innermost frame that is neither torch's nor this file's."""
    for frame in _outwards(sys._getframe(1)):
        file = frame.f_code.co_filename
        if file != _HERE and not file.startswith(_TORCH) and not file.startswith("<"):
            return Place(file, frame.f_lineno, frame.f_code.co_name, operation)
    return Place("unknown", 0, "", operation)


def _outwards(frame: Optional[FrameType]) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
