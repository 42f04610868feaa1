"""How torch computes during a run: deterministic kernels, precision of float32 matrix products, compiled networks."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any, Callable

import torch

from recbole_diffusion.model import hooks

#: cuBLAS sums in a fixed order with this workspace only; it reads the variable when CUDA starts.
_CUBLAS = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextlib.contextmanager
def settings(config: Any) -> Iterator[None]:
    """What the keys ``deterministic`` and ``matmul_precision`` ask for; torch's own settings afterwards."""
    precision = config["matmul_precision"] or "highest"  # RecBole's own runner does not know the key
    with deterministic(bool(config["deterministic"])), matmul_precision(precision):
        yield


def applied(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a trainer's method: it runs with the :func:`settings` of the trainer's config."""

    @functools.wraps(method)
    def wrapper(trainer: Any, *args: Any, **kwargs: Any) -> Any:
        with settings(trainer.config):
            return method(trainer, *args, **kwargs)

    return wrapper


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


def compile_networks(config: Any, model: Any) -> list[str]:
    """Compile the model's networks where ``compile`` is set; returns warnings.

    A network is compiled in its first call, and once more for batches of another size, which the last batch of an epoch
    may have.

    Raises:
        ValueError: torch is too old, or finds no compiler.
    """
    if not config["compile"]:
        return []
    networks = hooks.of(model).networks()
    if not networks:
        return [f"compile has no effect on {config['model']}, which names no networks"]
    if not hasattr(torch.nn.Module, "compile"):
        raise ValueError(f"compile=True needs torch 2.2 or newer, not {torch.__version__}; set compile: False")
    _check_compiler(config["device"])
    for network in networks:
        if network._compiled_call_impl is None:
            network.compile()
    return []


@functools.cache
def _check_compiler(device: torch.device) -> None:
    """Compile a small function, which takes seconds.

    Raises:
        ValueError: one line with torch's reason: no C++ compiler, no Python headers, no Triton, too new a Python.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=device))
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        where = "a C++ compiler, e.g. g++" if device.type == "cpu" else "Triton and a C compiler"
        raise ValueError(
            f"compile=True does not work here: {reason}; torch.compile needs {where} and Python's headers, "
            "or set compile: False"
        ) from error
