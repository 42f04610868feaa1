"""Which keys there are: those of yaml files, those that sources read without a default, and presets."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Collection, Iterable
from typing import Any

from recbole_diffusion import registry
from recbole_diffusion.settings import schema
from recbole_diffusion.support import yaml_files

_KEY_READ = re.compile(r"config\[\s*[\"']([\w-]+)[\"']\s*\]")


def notes_of_unknown(given: Iterable[str], known: Collection[str], model: str, model_class: type) -> list[str]:
    """A line for each key that nothing reads, with the known one that is most like it.

    Args:
        given: the user's keys.
        known: those of the yaml files.
        model: its name.
        model_class: an own model reads keys that no yaml file has.
    """
    if all(key in known for key in given):
        return []
    every = {*known, *more_keys(), *read_by(model_class)}
    lines = []
    for key in given:
        if key not in every:
            near = schema.nearest(key, every)
            hint = f"; did you mean {near}?" if near else ""
            lines.append(f"key {key!r} is unknown to {model} and RecBole and has no effect{hint}")
    return lines


@functools.lru_cache(maxsize=256)
def read_by(model_class: type) -> frozenset[str]:
    """Keys in the source of the model's module."""
    try:
        source = inspect.getsource(inspect.getmodule(model_class) or model_class)
    except (OSError, TypeError):
        return frozenset()
    return frozenset(_KEY_READ.findall(source))


@functools.lru_cache(maxsize=1)
def more_keys() -> frozenset[str]:
    """Keys that RecBole's sources read without a default in any yaml file, and those of its other models."""
    folder = registry.recbole_folder()
    keys = {"model", "dataset"}
    for file in folder.rglob("*.py"):
        keys.update(_KEY_READ.findall(file.read_text(encoding="utf-8")))
    for file in (folder / "properties" / "quick_start_config").glob("*.yaml"):
        keys.update(yaml_files.load_yaml(file))
    from recbole.utils import dataset_arguments, evaluation_arguments, general_arguments, training_arguments

    keys.update(general_arguments, training_arguments, evaluation_arguments, dataset_arguments)
    return frozenset(keys)


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
