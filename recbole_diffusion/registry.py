"""The registry of models: one :class:`ModelSpec` per model, read from its card.

A name means our model if it is ours, else RecBole's. ``recbole:Name`` always means RecBole's. Other packages add models
through the entry-point group ``recbole_diffusion.models``; scripts do so by :func:`register_model`.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import sys
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any, Optional, Union

from recbole_diffusion.cards import own_models
from recbole_diffusion.cards.model_spec import ModelSpec, Paper
from recbole_diffusion.support import yaml_files
from recbole_diffusion.support.deferred_import import lazy_package

__all__ = [
    "ModelSpec",
    "Paper",
    "find_spec",
    "get_model",
    "get_trainer",
    "is_diffusion",
    "is_yardstick",
    "ours",
    "register_model",
    "specs",
    "yardsticks",
]

ENTRY_POINTS = "recbole_diffusion.models"
RECBOLE_PREFIX = "recbole:"
_FAMILIES = (
    "general_recommender",
    "sequential_recommender",
    "context_aware_recommender",
    "knowledge_aware_recommender",
    "exlib_recommender",
)
#: RecBole's models that train on one row per user. RecBole's own table is a local variable of ``get_dataloader``.
USER_WISE_IN_RECBOLE = frozenset(
    {"MultiDAE", "MultiVAE", "MacridVAE", "CDAE", "ENMF", "RaCT", "RecVAE", "DiffRec", "LDiffRec"}
)
#: RecBole's models that are diffusion models.
DIFFUSION_IN_RECBOLE = frozenset({"DiffRec", "LDiffRec"})
#: RecBole's models without training by which others are measured; ours say so in their cards.
YARDSTICKS_IN_RECBOLE = ("Pop", "ItemKNN", "EASE")
_registered: dict[str, ModelSpec] = {}


@functools.cache
def ours() -> tuple[ModelSpec, ...]:
    """Return the models of this package, one for each card in ``properties/card``, sorted by name."""
    return tuple(ModelSpec.from_card(file) for file in sorted((yaml_files.properties() / "card").glob("*.yaml")))


def register_model(spec: ModelSpec) -> ModelSpec:
    """Add a model to the registry of this process, or replace the one of the same name.

    Returns:
        The argument.
    """
    _registered[spec.name] = spec
    return spec


def unregister_model(name: str) -> None:
    """Undo :func:`register_model`."""
    _registered.pop(name, None)


def _from_entry_points() -> dict[str, ModelSpec]:
    """Return the specs of other packages. Their metadata are read once for each state of ``sys.path``."""
    return _read_entry_points(metadata.entry_points, tuple(sys.path))


@functools.lru_cache(maxsize=1)
def _read_entry_points(entry_points: Any, path: tuple[str, ...]) -> dict[str, ModelSpec]:
    """Load the entry points: each is a ModelSpec, an iterable of them, or a function that returns either.

    An entry point that fails is skipped with a warning.
    """
    by_name: dict[str, ModelSpec] = {}
    groups: Any = entry_points()
    points = groups.select(group=ENTRY_POINTS) if hasattr(groups, "select") else groups.get(ENTRY_POINTS, ())
    for point in points:
        try:
            value = point.load()
            value = value() if callable(value) else value
            for spec in [value] if isinstance(value, ModelSpec) else list(value):
                if not isinstance(spec, ModelSpec):
                    raise TypeError(f"expected ModelSpec, got {type(spec).__name__}")
                by_name[spec.name] = spec
        except Exception as error:  # an error in another package must not disable this one
            warnings.warn(f"models of entry point {point.name!r} skipped: {error!r}", stacklevel=2)
    return by_name


def specs() -> dict[str, ModelSpec]:
    """Return all models but RecBole's own, by name. Another package's model cannot replace one of ours."""
    return {**_from_entry_points(), **{spec.name: spec for spec in ours()}, **_registered}


def find_spec(model: Union[str, type]) -> Optional[ModelSpec]:
    """Return the spec of a model by its name, class or ``package.module:Class``; None for RecBole's own models."""
    if isinstance(model, str) and ":" not in model:
        return specs().get(model)
    path = model if isinstance(model, str) else f"{model.__module__}:{model.__qualname__}"
    return next((spec for spec in specs().values() if spec.path == path), None)


def load_object(path: str) -> Any:
    """Import the object ``package.module:Name``."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def get_model(model: Union[str, type]) -> type:
    """Return the class of a model.

    Args:
        model: a name of ours or RecBole's, ``recbole:Name``, ``package.module:Class``, or a class.

    Raises:
        ValueError: no such model; the message lists the most similar names.
    """
    if not isinstance(model, str):
        return model
    spec = find_spec(model)
    if spec is not None:
        return load_object(spec.path)
    if ":" in model and not model.startswith(RECBOLE_PREFIX):
        return own_models.load(model)
    return _recbole_model(model[len(RECBOLE_PREFIX) :] if model.startswith(RECBOLE_PREFIX) else model)


def recbole_folder() -> Path:
    """Return the folder of the installed RecBole, without importing it.

    Raises:
        ModuleNotFoundError: RecBole is not installed.
    """
    spec = importlib.util.find_spec("recbole")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("recbole is not installed: pip install --no-deps recbole==1.2.1", name="recbole")
    return Path(spec.submodule_search_locations[0])


def recbole_model_names() -> list[str]:
    """Return the names of RecBole's own models, sorted: those with a yaml file of defaults."""
    return sorted(file.stem for file in (recbole_folder() / "properties" / "model").glob("*.yaml"))


def _recbole_model(name: str) -> type:
    for family in _FAMILIES:
        if (recbole_folder() / "model" / family / f"{name.lower()}.py").is_file():
            module = _import_alone(f"recbole.model.{family}.{name.lower()}")
            model_class = getattr(module, name, None)
            if model_class is not None:
                return model_class
    by_lower_name = {known.lower(): known for known in [*specs(), *recbole_model_names()]}
    similar = [by_lower_name[lower] for lower in difflib.get_close_matches(name.lower(), by_lower_name, n=3)]
    hint = f"did you mean {' or '.join(similar)}?" if similar else "`recbole-diffusion models --all` lists them"
    raise ValueError(f"model {name!r} is neither ours nor one of RecBole's; {hint}")


def _import_alone(module: str) -> Any:
    """Import a module of RecBole without the other models of its family, and restore autograd's anomaly mode.

    The family's ``__init__`` imports all of its models, and scikit-learn for two of them, which takes one to two
    seconds. The module of RecBole's SINE turns the anomaly mode on, under which later trainings of the process take 1.6
    to 2 times as long.
    """
    import torch

    lazy_package(module.rpartition(".")[0])
    anomaly_mode = torch.is_anomaly_enabled()
    try:
        return importlib.import_module(module)
    finally:
        torch.autograd.set_detect_anomaly(anomaly_mode)


def get_trainer(model_type: Any, model: Union[str, type], name: str) -> type:
    """Return the trainer class of a model: the one of its spec, else RecBole's choice.

    Args:
        model_type: RecBole's ``MODEL_TYPE``.
        model: as :func:`get_model` takes it.
        name: the class's name, by which RecBole looks for ``<name>Trainer``.
    """
    spec = find_spec(model)
    if spec is not None and spec.trainer is not None:
        return load_object(spec.trainer)
    from recbole.utils import get_trainer as recbole_get_trainer

    return recbole_get_trainer(model_type, name)


def is_user_wise(model_class: type) -> bool:
    """Return whether a model trains on one row per user, rather than one per interaction."""
    spec = find_spec(model_class)
    if spec is not None:
        return spec.loader == "user"
    if model_class.__module__.startswith("recbole."):
        return model_class.__name__ in USER_WISE_IN_RECBOLE
    from recbole.utils import InputType

    return getattr(model_class, "input_type", None) is InputType.LISTWISE


def is_diffusion(model: Union[str, type]) -> bool:
    """Return whether a model is a diffusion model.

    The spec says so; of RecBole's models :data:`DIFFUSION_IN_RECBOLE` are. A class without a spec says so by its
    attribute ``diffusion_model``; without the attribute its nearest base class decides.

    Args:
        model: as :func:`get_model` takes it.

    Raises:
        ValueError: no such model.
    """
    spec = find_spec(model)
    if spec is not None:
        return spec.diffusion
    by_path = {spec.path: spec.diffusion for spec in specs().values()}
    for base_class in get_model(model).__mro__:
        if isinstance(vars(base_class).get("diffusion_model"), bool):
            return bool(vars(base_class)["diffusion_model"])
        path = f"{base_class.__module__}:{base_class.__qualname__}"
        if path in by_path:
            return by_path[path]
        if base_class.__module__.startswith("recbole."):
            return base_class.__name__ in DIFFUSION_IN_RECBOLE
    return False


def yardsticks(task: str) -> tuple[ModelSpec, ...]:
    """Return our models without training for a task, ``general`` or ``sequential``, by which others are measured."""
    return tuple(spec for spec in ours() if spec.task == task and spec.card is not None and spec.card.yardstick)


def is_yardstick(model: str) -> bool:
    """Return whether a model, by its name or ``recbole:Name``, is one without training by which others are measured."""
    spec = find_spec(model)
    if spec is not None:
        return spec.card is not None and spec.card.yardstick
    name = model[len(RECBOLE_PREFIX) :] if model.startswith(RECBOLE_PREFIX) else model
    return name in YARDSTICKS_IN_RECBOLE
