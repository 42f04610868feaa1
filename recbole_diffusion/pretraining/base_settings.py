"""The settings of a base model from a file, read before the run prints, writes or trains anything.

``base_checkpoint`` determines ``base_model`` and ``base_config``. The run's config.yaml has to hold these values: with
the default ``base_model`` it would contradict the file, and the run could not be repeated.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from torch import Tensor

from recbole_diffusion.data import numbering
from recbole_diffusion.pretraining import pretrained_files
from recbole_diffusion.pretraining.base_config import take_settings
from recbole_diffusion.support import trusted_files
from recbole_diffusion.training import checkpoint

#: Settings that may hold the path of another model's checkpoint.
BASE_KEYS = ("base_checkpoint", "pretrain")


def settle(config: Any, trust: bool = False) -> None:
    """Write the settings in ``base_checkpoint`` into ``base_model`` and ``base_config``.

    A file that cannot be read is skipped. Building the model raises the error for it.

    Args:
        config: of the run.
        trust: unpickle any object in the file.

    Raises:
        ValueError: the two keys were given with other values.
    """
    name = config["base_checkpoint"] if "base_checkpoint" in config.keys else None
    if not isinstance(name, str) or not Path(name).is_file():
        return
    file = Path(name)
    width, settings = _width_or_settings(file, trust)
    if settings is not None:
        take_settings(config, pretrained_files.config_of(config, settings))
    elif width is not None:
        config["base_config"] = {"embedding_size": width, **(config["base_config"] or {})}


def _width_or_settings(file: Path, trust: bool) -> tuple[Optional[int], Optional[dict[str, Any]]]:
    """The width of the tables in the file, or the settings of the run that saved it; the other one is None."""
    try:
        if file.suffix == ".npz":
            return _width(pretrained_files.arrays(file)), None
        state: Any = checkpoint.read(file, trust=trust or trusted_files.trusts_all())
        official_names = pretrained_files.OFFICIAL if isinstance(state, dict) else {}
        tables = {kind: state.get(name) for kind, name in official_names.items()}
        if tables and all(isinstance(table, Tensor) for table in tables.values()):
            return _width(tables), None
        return None, pretrained_files.settings_of(state, f"base_checkpoint={str(file)!r}")
    except ValueError:  # raised again, with a way out, when the tables are read
        return None, None


def _width(tables: Any) -> Optional[int]:
    """The common width of the tables of users and items; None where one is missing or they differ."""
    widths = {tables[kind].shape[1] for kind in ("user", "item") if kind in tables and tables[kind].ndim == 2}
    return widths.pop() if len(widths) == 1 and {"user", "item"} <= {*tables} else None


def use_base(config: Any, trust: bool) -> None:
    """Number the run's users and items as in the base model's checkpoint; see :func:`numbering.use_vocabulary`.

    Settings without a checkpoint, and files that cannot be read, are skipped.

    Args:
        config: of the run.
        trust: unpickle any object in the file.
    """
    for key in BASE_KEYS:
        file = config[key] if key in config.keys else None
        if not isinstance(file, str) or Path(file).suffix in {".npy", ".npz"} or not Path(file).is_file():
            continue
        try:
            state = checkpoint.read(file, trust or trusted_files.trusts_all())
        except ValueError:  # raised again when the file is needed
            continue
        if isinstance(state, dict) and "state_dict" in state:  # a bare table has its own names
            numbering.use_vocabulary(config, state, f"{key}={file!r}")
