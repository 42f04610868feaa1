"""The settings of an earlier run, and the number of epochs that its validation chose, for ``run(like=...)``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

from recbole_diffusion.settings.config import settings_of
from recbole_diffusion.support import json_files
from recbole_diffusion.support.yaml_files import load_yaml
from recbole_diffusion.training import checkpoint


class EarlierRun(NamedTuple):
    """An earlier run.

    Attributes:
        name: of the file or folder, for messages.
        settings: plain settings by key.
        epochs: number of epochs after which it was best on the validation split; all its epochs if it did not validate;
            None where that is not known.
    """

    name: str
    settings: dict[str, Any]
    epochs: Optional[int]


def read(path: Union[str, Path], trust: bool = False) -> EarlierRun:
    """Read a run from its checkpoint or its folder.

    Args:
        path: a checkpoint, or a run's folder.
        trust: unpickle any object in the checkpoint.

    Raises:
        ValueError: neither of them.
    """
    path = Path(path)
    if not path.is_dir():
        return _of_checkpoint(path, trust)
    if (path / "checkpoint.pth").is_file():
        return _of_checkpoint(path / "checkpoint.pth", trust)
    files = path / "config.yaml", path / "epochs.json"
    if not all(file.is_file() for file in files):
        raise ValueError(f"like={str(path)!r} is no folder of a finished run: it has no config.yaml and epochs.json")
    try:
        epochs = json.loads(files[1].read_text(encoding="utf-8"))
        if (path / "manifest.json").is_file():
            json_files.check(files[1], json_files.read(path / "manifest.json").get("files"))
        return EarlierRun(f"run {str(path)!r}", load_yaml(files[0]), _chosen(epochs))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"like={str(path)!r} cannot be read: {' '.join(str(error).split())}") from error


def _of_checkpoint(file: Path, trust: bool) -> EarlierRun:
    name, state = f"checkpoint {str(file)!r}", checkpoint.read(file, trust)
    settings = settings_of(state, name)
    epochs = _chosen(state.get("epochs_done") or [])
    if epochs is None and "epoch" in state:  # RecBole's checkpoints are written at the best epoch; it counts from 0
        epochs = int(state["epoch"]) + 1
    return EarlierRun(name, settings, epochs)


def _chosen(epochs: list[dict[str, Any]]) -> Optional[int]:
    """The best epoch of a run, from 1; the last one without validation; None without epochs."""
    best = [int(row["epoch"]) for row in epochs if row.get("best")]
    return best[-1] if best else int(epochs[-1]["epoch"]) if epochs else None
