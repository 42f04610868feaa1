"""RecBole's mixed precision: ``enable_amp`` (torch's autocast in training) and ``enable_scaler`` (of gradients)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

#: In torch's messages about operators that half precision lacks, or that want both sides in one precision.
_OF_HALF_PRECISION = re.compile(r"half|float16|dtype|scalar type", re.IGNORECASE)


def scales(config: Any) -> bool:
    """Whether gradients are scaled: where ``enable_scaler`` asks for it and the device is a GPU.

    Raises:
        ValueError: ``clip_grad_norm`` beside it. RecBole would clip gradients that are still scaled, by 65536 at first.
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
    """Warnings of settings without an effect."""
    if config["device"].type != "cpu":
        return []
    found = ["enable_scaler has no effect on the CPU"] if config["enable_scaler"] else []
    if config["enable_amp"] and config["model"] == "NCL":  # its training loop asks for torch.cuda.amp
        found.append("enable_amp has no effect on the CPU for NCL")
    return found


@contextlib.contextmanager
def explained(config: Any) -> Iterator[None]:
    """One line for what a model's training raises because of ``enable_amp``.

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
