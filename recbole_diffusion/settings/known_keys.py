"""Which keys there are: those of yaml files, those that sources read without a default, and presets."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Optional

from recbole_diffusion import registry
from recbole_diffusion.settings import elsewhere, schema
from recbole_diffusion.support import yaml_files

#: RecBole's base classes of all kinds of models, in one file.
_ABSTRACT = "recbole.model.abstract_recommender"
_KEY_READ = re.compile(r"config\[\s*[\"']([\w-]+)[\"']\s*\]")


def notes_without_effect(given: Iterable[str], known: Collection[str], model: str, model_class: type) -> list[str]:
    """A line for each key that nothing reads: with the known one that is most like it, or other models' keys.

    Args:
        given: the user's keys.
        known: those of the yaml files.
        model: its name.
        model_class: an own model reads keys that no yaml file has.
    """
    if all(key in known for key in given):
        return []
    every = {*known, *more_keys(), *read_by(model_class)}
    others = _keys_of_other_models(model_class)
    near_ones = every - {*elsewhere.ELSEWHERE}
    lines = []
    for key in given:
        if key not in every:
            near = schema.nearest(key, near_ones)
            hint = f"; did you mean {near}?" if near else ""
            lines.append(f"key {key!r} is unknown to {model} and RecBole and has no effect{hint}")
        elif key in others and key not in known:
            lines.append(f"key {key!r} is other models' and has no effect on {model}")
    return lines


def _keys_of_other_models(model_class: type) -> set[str]:
    """Keys that RecBole's sources read in its models only, and none of this one's; none for a user's own model."""
    if not model_class.__module__.startswith(("recbole.", "recbole_diffusion.")):
        return set()
    own = {key for kind in model_class.__mro__ for key in read_by(kind, kind.__module__ == _ABSTRACT)}
    return {*more_keys(of_models=True)} - {*more_keys(of_models=False)} - own


@functools.lru_cache(maxsize=256)
def read_by(model_class: type, alone: bool = False) -> frozenset[str]:
    """Keys in the source of the model's module, or of the class ``alone``."""
    module = None if alone else inspect.getmodule(model_class)
    try:
        source = inspect.getsource(module or model_class)
    except (OSError, TypeError):
        return frozenset()
    return frozenset(_KEY_READ.findall(source))


@functools.lru_cache(maxsize=3)
def more_keys(of_models: Optional[bool] = None) -> frozenset[str]:
    """Keys that RecBole's sources read without a default in any yaml file.

    Args:
        of_models: True: those that the files of its models read; False: all others; None: both.
    """
    if of_models is None:
        return more_keys(True) | more_keys(False)
    folder = registry.recbole_folder()
    files = [file for file in folder.rglob("*.py") if _is_of_models(file) is of_models]
    keys = {key for file in files for key in _KEY_READ.findall(file.read_text(encoding="utf-8"))}
    if of_models:
        return frozenset(keys)
    keys |= {"model", "dataset"}
    for file in (folder / "properties" / "quick_start_config").glob("*.yaml"):
        keys.update(yaml_files.load_yaml(file))
    from recbole.utils import dataset_arguments, evaluation_arguments, general_arguments, training_arguments

    keys.update(general_arguments, training_arguments, evaluation_arguments, dataset_arguments)
    return frozenset(keys)


def _is_of_models(file: Path) -> bool:
    return file.parent.name.endswith("_recommender") or file.name == "abstract_recommender.py"


def preset(name: Any, model: str) -> dict[str, Any]:
    """The settings of ``properties/<preset>/<model>.yaml``.

    Raises:
        ValueError: there is none.
    """
    file = yaml_files.properties() / "quick" / f"{model}.yaml"
    if name != "quick" or not file.is_file():
        there = sorted(each.stem for each in file.parent.glob("*.yaml"))
        raise ValueError(f"preset={name!r} of {model} is not there; allowed: quick, for {', '.join(there)}")
    return yaml_files.load_yaml(file)
