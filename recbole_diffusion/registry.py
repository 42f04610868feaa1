"""Which models there are and what each needs: one :class:`ModelSpec` per model, read from its card.

Ours win inside our runner; ``recbole:Name`` names RecBole's; anything else falls through to RecBole's models.
Other packages add models through the entry-point group ``recbole_diffusion.models``, people's scripts through
:func:`register_model`.
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
    "ours",
    "register_model",
    "specs",
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
#: RecBole's models that train on one row per user (its table is local to ``get_dataloader``).
USER_WISE_IN_RECBOLE = frozenset(
    {"MultiDAE", "MultiVAE", "MacridVAE", "CDAE", "ENMF", "RaCT", "RecVAE", "DiffRec", "LDiffRec"}
)
#: RecBole's models that are diffusion models.
DIFFUSION_IN_RECBOLE = frozenset({"DiffRec", "LDiffRec"})
_registered: dict[str, ModelSpec] = {}


@functools.cache
def ours() -> tuple[ModelSpec, ...]:
    """The models of this package, one for each card in ``properties/card``, by name."""
    return tuple(ModelSpec.from_card(file) for file in sorted((yaml_files.properties() / "card").glob("*.yaml")))


def register_model(spec: ModelSpec) -> ModelSpec:
    """Add a model for this process, or replace one."""
    _registered[spec.name] = spec
    return spec


def unregister_model(name: str) -> None:
    """Take back :func:`register_model`."""
    _registered.pop(name, None)


def _from_entry_points() -> dict[str, ModelSpec]:
    """The specs of other packages; their metadata are read once for each search path."""
    return _read_entry_points(metadata.entry_points, tuple(sys.path))


@functools.lru_cache(maxsize=1)
def _read_entry_points(entry_points: Any, path: tuple[str, ...]) -> dict[str, ModelSpec]:
    """Each entry point names a ModelSpec, or a function or list that gives several; a broken one is skipped."""
    found: dict[str, ModelSpec] = {}
    groups: Any = entry_points()
    points = groups.select(group=ENTRY_POINTS) if hasattr(groups, "select") else groups.get(ENTRY_POINTS, ())
    for point in points:
        try:
            value = point.load()
            value = value() if callable(value) else value
            for spec in [value] if isinstance(value, ModelSpec) else list(value):
                if not isinstance(spec, ModelSpec):
                    raise TypeError(f"expected ModelSpec, got {type(spec).__name__}")
                found[spec.name] = spec
        except Exception as error:  # another package's fault must not take ours down
            warnings.warn(f"models of entry point {point.name!r} skipped: {error!r}", stacklevel=2)
    return found


def specs() -> dict[str, ModelSpec]:
    """Every model that is not RecBole's own, by name; ours cannot be shadowed by another package's."""
    return {**_from_entry_points(), **{spec.name: spec for spec in ours()}, **_registered}


def find_spec(model: Union[str, type]) -> Optional[ModelSpec]:
    """The spec of one of our models, by name or class; None for RecBole's (also for ``recbole:Name``)."""
    if isinstance(model, str) and ":" not in model:
        return specs().get(model)
    path = model if isinstance(model, str) else f"{model.__module__}:{model.__qualname__}"
    return next((spec for spec in specs().values() if spec.path == path), None)


def load_object(path: str) -> Any:
    """The object that ``package.module:Name`` names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def get_model(model: Union[str, type]) -> type:
    """The model's class.

    Args:
        model: a name of ours or RecBole's, ``recbole:Name``, ``package.module:Class``, or a class.

    Raises:
        ValueError: no such model; the message names the nearest ones.
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
    spec = importlib.util.find_spec("recbole")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("recbole is not installed: pip install --no-deps recbole==1.2.1", name="recbole")
    return Path(spec.submodule_search_locations[0])


def recbole_model_names() -> list[str]:
    """Names of RecBole's own models: those with a yaml file of defaults."""
    return sorted(file.stem for file in (recbole_folder() / "properties" / "model").glob("*.yaml"))


def _recbole_model(name: str) -> type:
    for family in _FAMILIES:
        if (recbole_folder() / "model" / family / f"{name.lower()}.py").is_file():
            found = getattr(_imported(f"recbole.model.{family}.{name.lower()}"), name, None)
            if found is not None:
                return found
    known = [*specs(), *recbole_model_names()]
    folded = {each.lower(): each for each in known}
    near = [folded[each] for each in difflib.get_close_matches(name.lower(), folded, n=3)]
    hint = f"did you mean {' or '.join(near)}?" if near else "`recbole-diffusion models --all` lists them"
    raise ValueError(f"model {name!r} is neither ours nor one of RecBole's; {hint}")


def _imported(module: str) -> Any:
    """RecBole's module without the other models of its family, and with autograd's anomaly mode as it was.

    The family's ``__init__`` imports them all, and scikit-learn for two of them: one to two seconds. RecBole's
    SINE turns the anomaly mode on when it is imported: whatever trains later in the process takes 1.6 to 2 times as
    long.
    """
    import torch

    lazy_package(module.rpartition(".")[0])
    before = torch.is_anomaly_enabled()
    try:
        return importlib.import_module(module)
    finally:
        torch.autograd.set_detect_anomaly(before)


def get_trainer(model_type: Any, model: Union[str, type], name: str) -> type:
    """RecBole's trainer class for the model, or the one of its spec."""
    spec = find_spec(model)
    if spec is not None and spec.trainer is not None:
        return load_object(spec.trainer)
    from recbole.utils import get_trainer as recbole_get_trainer

    return recbole_get_trainer(model_type, name)


def is_user_wise(model_class: type) -> bool:
    """Whether the model trains on one row per user."""
    spec = find_spec(model_class)
    if spec is not None:
        return spec.loader == "user"
    if model_class.__module__.startswith("recbole."):
        return model_class.__name__ in USER_WISE_IN_RECBOLE
    from recbole.utils import InputType

    return getattr(model_class, "input_type", None) is InputType.LISTWISE


def is_diffusion(model: Union[str, type]) -> bool:
    """Whether a model is a diffusion model: what its spec says, of RecBole's models whether it is one of those two.

    A class without a spec states it by a class attribute ``diffusion_model``, or is what its nearest base class is.

    Args:
        model: as :func:`get_model` takes it.

    Raises:
        ValueError: no such model.
    """
    spec = find_spec(model)
    if spec is not None:
        return spec.diffusion
    by_path = {spec.path: spec.diffusion for spec in specs().values()}
    for kind in get_model(model).__mro__:
        if isinstance(vars(kind).get("diffusion_model"), bool):
            return bool(vars(kind)["diffusion_model"])
        path = f"{kind.__module__}:{kind.__qualname__}"
        if path in by_path:
            return by_path[path]
        if kind.__module__.startswith("recbole."):
            return kind.__name__ in DIFFUSION_IN_RECBOLE
    return False
