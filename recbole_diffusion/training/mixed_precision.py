"""RecBole's mixed precision: ``enable_amp`` (autocast in training) and ``enable_scaler`` (gradient scaling)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

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


def notes(config: Any) -> list[str]:
    """Warnings about settings of mixed precision that have no effect on this device."""
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
