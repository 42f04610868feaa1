"""Checkpoint files: plain tensors and values, so that ``torch.load(..., weights_only=True)`` reads them.

RecBole pickles its whole Config into each file; loading one runs whatever code the pickle names. Ours hold the
effective settings as plain values. A file that needs more is read only when the user says so, or when this
process has just written it.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from packaging.version import Version

from recbole_diffusion.support import trusted_files
from recbole_diffusion.support.atomic_write import atomic_write

FORMAT = "recbole-diffusion/1"


class UntrustedFile(ValueError):
    """The file would run code when loaded and nobody has said that it may."""


def write(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint; after a crash the old file is there, or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda file: torch.save({"format": FORMAT, **checkpoint}, file))
    trusted_files.trust_file(str(path))


def read(path: Any, trust: bool = False, map_location: Any = None) -> Any:
    """Load a checkpoint of ours or RecBole's.

    Args:
        path: the file.
        trust: unpickle whatever it holds. A file that this process wrote is trusted anyway.
        map_location: as in ``torch.load``; the CPU if None.

    Raises:
        UntrustedFile: it holds more than tensors and plain values and is not trusted.
        ValueError: no such file, or not a checkpoint.
    """
    if isinstance(path, (str, os.PathLike)) and not os.path.isfile(path):
        raise ValueError(f"checkpoint {str(path)!r} does not exist")
    trusted = trust or trusted_files.is_trusted(path)
    if not trusted and not _has_weights_only():
        raise UntrustedFile(_UNTRUSTED.format(str(path), "cannot be checked by this torch (< 1.13)"))
    options: dict[str, Any] = {"weights_only": not trusted} if _has_weights_only() else {}
    try:
        return torch.load(path, map_location=map_location if map_location is not None else "cpu", **options)
    except pickle.UnpicklingError as error:
        if trusted or not _holds_objects(path):
            raise ValueError(f"checkpoint {str(path)!r} cannot be read: it is no checkpoint, or damaged") from error
        raise UntrustedFile(_UNTRUSTED.format(str(path), "holds pickled objects")) from error
    except Exception as error:  # whatever the unpickler makes of a file that is something else
        raise ValueError(f"checkpoint {str(path)!r} cannot be read: it is no checkpoint, or damaged") from error


def load_weights(model: Any, state: dict[str, Any], misfit: str) -> None:
    """Put a checkpoint's weights, and what RecBole keeps beside them, into ``model``.

    Raises:
        ValueError: other shapes or names; one line that starts with ``misfit``.
    """
    others = state.get("other_parameter")
    for name, value in (others or {}).items():
        own = getattr(getattr(model, name, None), "shape", None)
        if own is not None and getattr(value, "shape", own) != own:
            raise ValueError(f"{misfit}: {name} is {tuple(value.shape)}, and would be {tuple(own)}")
    try:
        model.load_state_dict(state["state_dict"])
    except RuntimeError as error:
        raise ValueError(f"{misfit}: {str(error).splitlines()[-1].strip()}") from error
    model.load_other_parameter(others)


_UNTRUSTED = (
    "checkpoint {!r} {} and could run code when loaded; if you trust where it comes from, "
    "load it with trust=True (--trust-checkpoint)"
)


def _holds_objects(path: Any) -> bool:
    """Whether the file is one that torch wrote, so that only the weights-only rule can have refused it."""
    return not isinstance(path, (str, os.PathLike)) or zipfile.is_zipfile(path)


def _has_weights_only() -> bool:
    return Version(torch.__version__).release >= (1, 13)
