"""What a model's entry in the registry holds: its class, what it needs, what to cite. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from recbole_diffusion.support import yaml_files


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
        diffusion: whether it is a diffusion model; reports ask this. False unless the spec says so.
        properties: a yaml file with the defaults; None for ``properties/model/<name>.yaml``.
        paper: what to cite.
        code: the reference code with the commit that it was compared with.
        abilities: short words for the model table; display only, no code reads them.
    """

    name: str
    path: str
    task: str = "general"
    loader: Optional[str] = None
    trainer: Optional[str] = None
    dataset: Optional[str] = None
    needs_time: bool = False
    diffusion: bool = False
    properties: Optional[str] = None
    paper: Optional[Paper] = None
    code: Optional[str] = None
    abilities: tuple[str, ...] = field(default=())

    @property
    def defaults(self) -> Path:
        """The yaml file with the model's keys."""
        return Path(self.properties) if self.properties else yaml_files.properties() / "model" / f"{self.name}.yaml"
