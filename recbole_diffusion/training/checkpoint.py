"""Checkpoint files of tensors and plain values, which ``torch.load(..., weights_only=True)`` reads.

RecBole pickles its whole Config into each file, and loading a pickle can run any code. Our files hold the effective
settings as plain values. A file with other objects is read only if the user trusts it, or if this run has written it.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from recbole_diffusion.settings.failed_settings import is_memory_error
from recbole_diffusion.support import trusted_files
from recbole_diffusion.support.atomic_write import atomic_write

FORMAT = "recbole-diffusion/1"


class UntrustedFile(ValueError):
    """The file could run code when loaded, and the user has not trusted it."""


def write(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint atomically: after a crash ``path`` is the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda file: torch.save({"format": FORMAT, **checkpoint}, file))
    trusted_files.trust_file(str(path))


def read(path: Any, trust: bool = False, map_location: Any = None) -> Any:
    """Load a checkpoint of ours or RecBole's.

    Args:
        path: the file.
        trust: unpickle any object in it. A file that was written here is trusted anyway.
        map_location: as in ``torch.load``; None: the CPU.

    Returns:
        The content, usually a dict.

    Raises:
        UntrustedFile: it holds other objects than tensors and plain values, and is not trusted.
        ValueError: the file does not exist, is not a checkpoint, or has another format.
    """
    if isinstance(path, (str, os.PathLike)) and not os.path.isfile(path):
        raise ValueError(f"checkpoint {str(path)!r} does not exist")
    trusted = trust or trusted_files.is_trusted(path)
    if not trusted and not trusted_files.torch_can_check():
        raise UntrustedFile(_UNTRUSTED.format(str(path), "cannot be checked by this torch (< 1.13)"))
    options: dict[str, Any] = {"weights_only": not trusted} if trusted_files.torch_can_check() else {}
    _check_archive(path)
    try:
        state = torch.load(path, map_location=map_location if map_location is not None else "cpu", **options)
    except pickle.UnpicklingError as error:
        if trusted or not _holds_objects(path):
            raise ValueError(f"checkpoint {str(path)!r} cannot be read: it is no checkpoint, or damaged") from error
        raise UntrustedFile(_UNTRUSTED.format(str(path), "holds pickled objects")) from error
    except Exception as error:  # the unpickler raises anything on a file of another kind
        if is_memory_error(error):
            raise
        raise ValueError(f"checkpoint {str(path)!r} cannot be read: it is no checkpoint, or damaged") from error
    version = state.get("format", FORMAT) if isinstance(state, dict) else FORMAT
    if version != FORMAT:
        raise ValueError(f"checkpoint {str(path)!r} has format {version!r}; this version reads {FORMAT!r}")
    return state


def _check_archive(path: Any) -> None:
    """Compare the checksums of a checkpoint's members, which torch does not, and refuse compressed ones.

    torch stores members uncompressed; a compressed one may be a thousand times as large in memory.

    Raises:
        ValueError: the file is damaged, or was not written by torch.
    """
    if not isinstance(path, (str, os.PathLike)) or not zipfile.is_zipfile(path):
        return  # the format before torch 1.6, or no checkpoint
    damaged = f"checkpoint {str(path)!r} cannot be read: it is no checkpoint, or damaged"
    try:
        with zipfile.ZipFile(path) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise ValueError(f"{damaged} (its parts are compressed)")
            part = archive.testzip()
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # zipfile raises many types on damaged files
        raise ValueError(damaged) from error
    if part is not None:
        raise ValueError(f"{damaged} (the checksum of {part})")


def load_weights(model: Any, state: dict[str, Any], misfit: str) -> None:
    """Load a checkpoint's ``state_dict`` and RecBole's ``other_parameter`` into ``model``.

    Args:
        model: of the same class and settings.
        state: content of the checkpoint.
        misfit: begin of the error message.

    Raises:
        ValueError: other shapes or names; one line that starts with ``misfit``.
    """
    other_parameters = state.get("other_parameter")
    for name, value in (other_parameters or {}).items():
        shape = getattr(getattr(model, name, None), "shape", None)
        if shape is not None and getattr(value, "shape", shape) != shape:
            raise ValueError(f"{misfit}: {name} has shape {tuple(value.shape)}, the model needs {tuple(shape)}")
    try:
        model.load_state_dict(state["state_dict"])
    except RuntimeError as error:
        raise ValueError(f"{misfit}: {str(error).splitlines()[-1].strip()}") from error
    model.load_other_parameter(other_parameters)


_UNTRUSTED = (
    "checkpoint {!r} {} and could run code when loaded; if you trust where it comes from, "
    "load it with trust=True (--trust-checkpoint)"
)


def _holds_objects(path: Any) -> bool:
    """Whether torch wrote the file; only then the refusal to unpickle is due to objects and not to damage."""
    return not isinstance(path, (str, os.PathLike)) or zipfile.is_zipfile(path)
