"""The settings of a base that comes from a file: read before anything is printed, written or trained.

``base_checkpoint`` decides what ``base_model`` and ``base_config`` are. A run's own config.yaml has to say so too: with
the default ``base_model`` in it, it would contradict the file and could not be run again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from torch import Tensor

from recbole_diffusion.data import numbering
from recbole_diffusion.pretraining import bases, pretrained_files
from recbole_diffusion.support import trusted_files
from recbole_diffusion.training import checkpoint

#: Settings that may name a checkpoint of another model.
BASE_KEYS = ("base_checkpoint", "pretrain")


def settle(config: Any, trust: bool = False) -> None:
    """Put what ``base_checkpoint`` holds into ``base_model`` and ``base_config``.

    A file that cannot be read is left to the building of the model, which says what is wrong with it.

    Args:
        config: of the run.
        trust: unpickle what the file holds.

    Raises:
        ValueError: the two keys were given, and say something else.
    """
    name = config["base_checkpoint"] if "base_checkpoint" in config.keys else None
    if not isinstance(name, str) or not Path(name).is_file():
        return
    file = Path(name)
    width, settings = _content(file, trust)
    if settings is not None:
        bases.take_settings(config, pretrained_files.config_of(config, settings))
    elif width is not None:
        config["base_config"] = {"embedding_size": width, **(config["base_config"] or {})}


def _content(file: Path, trust: bool) -> tuple[Optional[int], Optional[dict[str, Any]]]:
    """The width of the tables in the file, or the settings of the run that saved it."""
    try:
        if file.suffix == ".npz":
            return _width(pretrained_files.arrays(file)), None
        state = checkpoint.read(file, trust=trust or trusted_files.trusts_all())
        tables = {kind: state.get(name) for kind, name in pretrained_files.OFFICIAL.items()} if _is_dict(state) else {}
        if tables and all(isinstance(table, Tensor) for table in tables.values()):
            return _width(tables), None
        return None, pretrained_files.settings_of(state, f"base_checkpoint={str(file)!r}")
    except ValueError:  # raised again, with its way out, where the tables are taken
        return None, None


def _is_dict(state: Any) -> bool:
    return isinstance(state, dict)


def _width(tables: Any) -> Optional[int]:
    widths = {tables[kind].shape[1] for kind in ("user", "item") if kind in tables and tables[kind].ndim == 2}
    return widths.pop() if len(widths) == 1 and {"user", "item"} <= {*tables} else None


def use_base(config: Any, trust: bool) -> None:
    """:func:`use` for the checkpoint of a base model that the settings name, where they name one that can be read."""
    for key in BASE_KEYS:
        file = config[key] if key in config.keys else None
        if not isinstance(file, str) or Path(file).suffix in {".npy", ".npz"} or not Path(file).is_file():
            continue
        try:
            state = checkpoint.read(file, trust or trusted_files.trusts_all())
        except ValueError:  # said where the file is needed
            continue
        if isinstance(state, dict) and "state_dict" in state:  # a bare table has names of its own
            numbering.use_vocabulary(config, state, f"{key}={file!r}")
