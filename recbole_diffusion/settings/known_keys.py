"""The known keys: those of yaml files, those that source code reads without a default, and presets."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Optional

from recbole_diffusion import registry
from recbole_diffusion.settings import non_settings, schema
from recbole_diffusion.support import yaml_files

#: The module with RecBole's base classes of all kinds of models.
_ABSTRACT = "recbole.model.abstract_recommender"
_KEY_READ = re.compile(r"config\[\s*[\"']([\w-]+)[\"']\s*\]")


def notes_without_effect(user_keys: Iterable[str], known: Collection[str], model: str, model_class: type) -> list[str]:
    """Describe the user's keys that nothing reads, with the most similar known key.

    Args:
        user_keys: the keys that the user has set.
        known: the keys of the yaml files.
        model: the model's name.
        model_class: the model's class, whose source may read keys that no yaml file has.

    Returns:
        One line for each such key.
    """
    if all(key in known for key in user_keys):
        return []
    all_keys = {*known, *keys_in_recbole(), *keys_read_by(model_class)}
    keys_of_others = _keys_of_other_models(model_class)
    candidates = all_keys - {*non_settings.DECIDED_BY}
    lines = []
    for key in user_keys:
        if key not in all_keys:
            near = schema.nearest(key, candidates)
            hint = f"; did you mean {near}?" if near else ""
            lines.append(f"key {key!r} is unknown to {model} and RecBole and has no effect{hint}")
        elif key in keys_of_others and key not in known:
            lines.append(f"key {key!r} is other models' and has no effect on {model}")
    return lines


def _keys_of_other_models(model_class: type) -> set[str]:
    """The keys that only other models of RecBole read. Empty for a user's own model, which may read any key."""
    if not model_class.__module__.startswith(("recbole.", "recbole_diffusion.")):
        return set()
    own_keys = {key for base in model_class.__mro__ for key in keys_read_by(base, base.__module__ == _ABSTRACT)}
    return {*keys_in_recbole(of_models=True)} - {*keys_in_recbole(of_models=False)} - own_keys


@functools.lru_cache(maxsize=256)
def keys_read_by(model_class: type, class_only: bool = False) -> frozenset[str]:
    """The keys that occur as ``config["key"]`` in the source of a model.

    Args:
        model_class: the model.
        class_only: search the source of the class only, instead of its whole module.
    """
    module = None if class_only else inspect.getmodule(model_class)
    try:
        source = inspect.getsource(module or model_class)
    except (OSError, TypeError):
        return frozenset()
    return frozenset(_KEY_READ.findall(source))


@functools.lru_cache(maxsize=3)
def keys_in_recbole(of_models: Optional[bool] = None) -> frozenset[str]:
    """The keys that RecBole's source code reads, many of which have no default in a yaml file.

    Args:
        of_models: True for the source of its models, False for all other source, None for both.
    """
    if of_models is None:
        return keys_in_recbole(True) | keys_in_recbole(False)
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


def preset_settings(name: Any, model: str) -> dict[str, Any]:
    """Read the settings of ``properties/<preset>/<model>.yaml``.

    Raises:
        ValueError: the file does not exist.
    """
    file = yaml_files.properties() / "quick" / f"{model}.yaml"
    if name != "quick" or not file.is_file():
        models = sorted(path.stem for path in file.parent.glob("*.yaml"))
        raise ValueError(f"preset={name!r} of {model} is not there; allowed: quick, for {', '.join(models)}")
    return yaml_files.load_yaml(file)
