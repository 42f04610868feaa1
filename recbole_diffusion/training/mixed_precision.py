"""RecBole's mixed precision: ``enable_amp`` (autocast in training) and ``enable_scaler`` (gradient scaling)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import torch

#: Matches torch's messages about operators that half precision lacks, or that need operands of one dtype.
_OF_HALF_PRECISION = re.compile(r"half|float16|dtype|scalar type", re.IGNORECASE)


def scales(config: Any) -> bool:
    """Whether gradients are scaled: ``enable_scaler`` is set and the device is a GPU.

    Raises:
        ValueError: ``clip_grad_norm`` is set too. RecBole would clip the scaled gradients; the first scale is 65536.
    """
    if not config["enable_scaler"] or config["device"].type == "cpu":
        return False
    if config["clip_grad_norm"]:
        raise ValueError(
            "enable_scaler=True is not allowed with clip_grad_norm, which would clip the scaled gradients; "
            "leave one of them out"
        )
    return True


def autocast(trainer: Any) -> Any:
    """The context of a forward pass: autocast to ``amp_dtype`` where ``enable_amp`` is set."""
    name = trainer.config["amp_dtype"]
    dtype = None if name is None else getattr(torch, name)
    return torch.autocast(trainer.device.type, dtype=dtype, enabled=bool(trainer.enable_amp))


def gradient_scaler(trainer: Any) -> Any:
    """A scaler of gradients, which does nothing unless ``enable_scaler`` is set; a new one each epoch, as RecBole's."""
    if hasattr(torch, "amp") and hasattr(torch.amp, "GradScaler"):  # torch 2.3; before, only that of CUDA
        return torch.amp.GradScaler(trainer.device.type, enabled=trainer.enable_scaler)
    return torch.cuda.amp.GradScaler(enabled=trainer.enable_scaler)


def check(config: Any) -> None:
    """Check the dtype of ``enable_amp`` against the device.

    Raises:
        ValueError: float16 on the CPU, where torch's autocast is switched off for it without an error.
    """
    if config["enable_amp"] and config["amp_dtype"] == "float16" and config["device"].type == "cpu":
        raise ValueError("amp_dtype='float16' is not allowed on the CPU, which has bfloat16; set amp_dtype: bfloat16")


def notes(config: Any) -> list[str]:
    """Warnings about settings of mixed precision that have no effect."""
    if config["amp_dtype"] is not None and not config["enable_amp"]:
        return ["amp_dtype has no effect without enable_amp: True"]
    if config["device"].type != "cpu":
        return []
    warnings = ["enable_scaler has no effect on the CPU"] if config["enable_scaler"] else []
    if config["enable_amp"] and config["model"] == "NCL":  # its training loop uses torch.cuda.amp
        warnings.append("enable_amp has no effect on the CPU for NCL")
    return warnings


@contextlib.contextmanager
def explained(config: Any) -> Iterator[None]:
    """Turn an error that ``enable_amp`` causes in training into one line.

    Raises:
        ValueError: an operator of the model does not work in half precision.
    """
    try:
        yield
    except RuntimeError as error:
        if not config["enable_amp"] or not _OF_HALF_PRECISION.search(str(error)):
            raise
        raise ValueError(
            f"enable_amp=True is not possible with model={config['model']!r} on {config['device'].type}: its training "
            f"does not work in mixed precision ({' '.join(str(error).split())[:200]}); set enable_amp: False"
        ) from error
