"""How torch computes during a run: deterministic kernels, the precision of float32 matrix products."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch

#: cuBLAS sums in a fixed order with this workspace only; it reads the variable when CUDA starts.
_CUBLAS = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextlib.contextmanager
def settings(config: Any) -> Iterator[None]:
    """What the keys ``deterministic`` and ``matmul_precision`` ask for; torch's own settings afterwards."""
    with deterministic(bool(config["deterministic"])), matmul_precision(config["matmul_precision"]):
        yield


@contextlib.contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Have torch take deterministic kernels, so that two runs on one GPU are equal bit for bit.

    An operator that has none raises a RuntimeError that names it. On the CPU our models are deterministic anyway.
    """
    if not enabled:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault(*_CUBLAS)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextlib.contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """Set the precision of float32 matrix products: ``highest``, ``high`` (TF32 on a GPU) or ``medium`` (bfloat16).

    Only GPUs, and CPUs with bfloat16 units, make a difference.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
