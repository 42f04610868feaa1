"""Options of ``compare`` and ``tune`` that are misspelt, or another command's: they would be taken for settings."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from recbole_diffusion import registry
from recbole_diffusion.support import yaml_files

_WHERE = ("workers", "address", "threads", "gpus", "folder", "resume", "config_files", "dataset", "seeds", "debug")
OPTIONS: dict[str, tuple[str, ...]] = {
    "compare": (*_WHERE, "models", "tune", "cpus", "metric", "reference"),
    "tune": (*_WHERE, "model", "trials", "space", "search", "scheduler", "grace", "executor", "seed"),
}
#: What a command calls another command's option.
_INSTEAD = {("compare", "trials"): "tune", ("compare", "model"): "models", ("tune", "models"): "model"}
#: Settings of RecBole's that are more likely a slip: loader processes, where runs at once were meant.
_SLIPS = frozenset({"worker"})


def check_words(command: str, settings: Mapping[str, Any], models: Sequence[str]) -> None:
    """Refuse a setting that looks like an option of the command and is none of the models' keys.

    Args:
        command: ``compare`` or ``tune``.
        settings: those for all models.
        models: their names; one that is not known has no keys.

    Raises:
        ValueError: one line that names the option.
    """
    suspects = {key: _meant(command, key) for key in settings}
    suspects = {key: meant for key, meant in suspects.items() if meant is not None}
    known = _known(models) - _SLIPS if suspects else frozenset()
    for key, meant in suspects.items():
        if key not in known:
            hint = f"; did you mean --{meant}?" if meant else ""
            as_setting = f" (RecBole's own key {key} goes into a --config_files file)" if key in _SLIPS else ""
            raise ValueError(f"--{key} is not an option of {command}{hint}{as_setting}")


def _meant(command: str, key: str) -> Optional[str]:
    """The option that a word is like; an empty text for another command's option; None for neither."""
    every = {option for options in OPTIONS.values() for option in options}
    for options in (OPTIONS[command], every):
        near = difflib.get_close_matches(key.replace("-", "_").lower(), options, n=1, cutoff=0.8)
        if near:
            return near[0] if near[0] in OPTIONS[command] else _INSTEAD.get((command, near[0]), "")
    return None


def _known(models: Iterable[str]) -> frozenset[str]:
    """Keys of RecBole's, of ours, and of these models."""
    from recbole.utils import dataset_arguments, evaluation_arguments, general_arguments, training_arguments

    known = {*general_arguments, *training_arguments, *evaluation_arguments, *dataset_arguments}
    files = [yaml_files.properties() / "overall.yaml"]
    for model in models:
        name = model.partition(":")[0] if not model.startswith(registry.RECBOLE_PREFIX) else model.partition(":")[2]
        spec = registry.find_spec(model if ":" in model else name)
        theirs = registry.recbole_folder() / "properties" / "model" / f"{name}.yaml"
        files += [spec.defaults if spec else theirs]
    return frozenset(known.union(*(yaml_files.load_yaml(file) for file in files if file.is_file())))
