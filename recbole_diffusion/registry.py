"""Which models there are and what each needs: one :class:`ModelSpec` per model.

Ours win inside our runner; ``recbole:Name`` names RecBole's; anything else falls through to RecBole's models.
Other packages add models through the entry-point group ``recbole_diffusion.models``, people's scripts through
:func:`register_model`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import warnings
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Optional, Union

from recbole_diffusion import own_models, schema

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


@dataclass(frozen=True)
class Paper:
    """What to cite: title, venue with year, link."""

    title: str
    venue: str
    url: str


@dataclass(frozen=True)
class ModelSpec:
    """One model.

    Attributes:
        name: what ``--model`` takes; also the name of its yaml file.
        path: ``package.module:Class``.
        task: ``general`` or ``sequential``.
        loader: ``user`` for one training row per user; None for RecBole's choice by input type.
        trainer: ``package.module:Class``, a subclass of RecBole's Trainer; None for RecBole's choice by name.
        dataset: ``package.module:Class``, a subclass of RecBole's Dataset; None for RecBole's choice.
        needs_time: whether the model reads the times of the interactions.
        properties: a yaml file with the defaults; None for ``properties/model/<name>.yaml``.
        paper: what to cite.
        code: the reference code with the commit that it was compared with.
        abilities: short words for the model table.
    """

    name: str
    path: str
    task: str = "general"
    loader: Optional[str] = None
    trainer: Optional[str] = None
    dataset: Optional[str] = None
    needs_time: bool = False
    properties: Optional[str] = None
    paper: Optional[Paper] = None
    code: Optional[str] = None
    abilities: tuple[str, ...] = field(default=())

    @property
    def defaults(self) -> Path:
        """The yaml file with the model's keys."""
        return Path(self.properties) if self.properties else schema.properties() / "model" / f"{self.name}.yaml"


_DIFFREC_PAPER = Paper("Diffusion Recommender Model", "SIGIR 2023", "https://doi.org/10.1145/3539618.3591663")
_DIFFREC_CODE = "https://github.com/YiyanXu/DiffRec @ d35a6c6"
_ROWS = ("new users", "full ranking", "fewer steps at inference")
_EMBEDDINGS = ("on top of any recommender with embeddings", "full ranking", "fewer steps at inference")
_SEQUENCES = ("new users", "full ranking", "order in time")
_OURS = (
    ModelSpec(
        name="DiffRec",
        path="recbole_diffusion.model.general_recommender.diffrec:DiffRec",
        loader="user",
        paper=_DIFFREC_PAPER,
        code=_DIFFREC_CODE,
        abilities=_ROWS,
    ),
    ModelSpec(
        name="LDiffRec",
        path="recbole_diffusion.model.general_recommender.ldiffrec:LDiffRec",
        loader="user",
        paper=_DIFFREC_PAPER,
        code=_DIFFREC_CODE,
        abilities=(*_ROWS, "many items", "pretrains item embeddings for its clusters"),
    ),
    ModelSpec(
        name="TDiffRec",
        path="recbole_diffusion.model.general_recommender.tdiffrec:TDiffRec",
        loader="user",
        needs_time=True,
        paper=_DIFFREC_PAPER,
        code=_DIFFREC_CODE,
        abilities=(*_ROWS, "order in time"),
    ),
    ModelSpec(
        name="LTDiffRec",
        path="recbole_diffusion.model.general_recommender.ltdiffrec:LTDiffRec",
        loader="user",
        needs_time=True,
        paper=_DIFFREC_PAPER,
        code=_DIFFREC_CODE,
        abilities=(*_ROWS, "many items", "pretrains item embeddings for its clusters", "order in time"),
    ),
    ModelSpec(
        name="DDRM",
        path="recbole_diffusion.model.general_recommender.ddrm:DDRM",
        paper=Paper("Denoising Diffusion Recommender Model", "SIGIR 2024", "https://doi.org/10.1145/3626772.3657825"),
        code="https://github.com/Polaris-JZ/DDRM @ ad4034c",
        abilities=_EMBEDDINGS,
    ),
    ModelSpec(
        name="HGCF",
        path="recbole_diffusion.model.general_recommender.hgcf:HGCF",
        paper=Paper(
            "HGCF: Hyperbolic Graph Convolution Networks for Collaborative Filtering",
            "WWW 2021",
            "https://doi.org/10.1145/3442381.3450101",
        ),
        code="https://github.com/yuanmeng-cpu/HDRM @ 782a194",
        abilities=("full ranking", "no diffusion: the base of HDRM", "hyperbolic"),
    ),
    ModelSpec(
        name="HDRM",
        path="recbole_diffusion.model.general_recommender.hdrm:HDRM",
        paper=Paper("Hyperbolic Diffusion Recommender Model", "WWW 2025", "https://arxiv.org/abs/2504.01541"),
        code="https://github.com/yuanmeng-cpu/HDRM @ 9f90145",
        abilities=(*_EMBEDDINGS, "hyperbolic"),
    ),
    ModelSpec(
        name="DiffuRec",
        path="recbole_diffusion.model.sequential_recommender.diffurec:DiffuRec",
        task="sequential",
        paper=Paper(
            "DiffuRec: A Diffusion Model for Sequential Recommendation", "TOIS 2023", "https://doi.org/10.1145/3631116"
        ),
        code="https://github.com/WHUIR/DiffuRec @ f6f70c9",
        abilities=(*_SEQUENCES, "fewer steps at inference"),
    ),
    ModelSpec(
        name="CDDRec",
        path="recbole_diffusion.model.sequential_recommender.cddrec:CDDRec",
        task="sequential",
        dataset="recbole_diffusion.sequences:UserSequenceDataset",
        paper=Paper(
            "Conditional Denoising Diffusion for Sequential Recommendation",
            "PAKDD 2024",
            "https://arxiv.org/abs/2304.11433",
        ),
        code="https://github.com/YuWang-1024/CDDRec @ edfe0ff",
        abilities=(*_SEQUENCES, "one training row per user"),
    ),
)
_registered: dict[str, ModelSpec] = {}


def register_model(spec: ModelSpec) -> ModelSpec:
    """Add a model for this process, or replace one."""
    _registered[spec.name] = spec
    return spec


def unregister_model(name: str) -> None:
    """Take back :func:`register_model`."""
    _registered.pop(name, None)


def _from_entry_points() -> dict[str, ModelSpec]:
    """Each entry point names a ModelSpec, or a function or list that gives several; a broken one is skipped."""
    found: dict[str, ModelSpec] = {}
    groups: Any = metadata.entry_points()
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
    return {**_from_entry_points(), **{spec.name: spec for spec in _OURS}, **_registered}


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
    """RecBole's module, with autograd's anomaly mode as it was.

    RecBole's SINE turns it on when it is imported, and it comes with every sequential model: whatever trains later in
    the process takes 1.6 to 2 times as long.
    """
    import torch

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
