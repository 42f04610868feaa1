"""A model's entry in the registry: class, inputs, paper and code. Imports no torch."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Optional, Union

from recbole_diffusion.cards import card as cards
from recbole_diffusion.cards.card import Card, Code, Paper
from recbole_diffusion.support import yaml_files

__all__ = ["ModelSpec", "Paper"]


@dataclass(frozen=True)
class ModelSpec:
    """One model. :meth:`from_card` reads it from a yaml file.

    Attributes:
        name: name for ``--model``, and of its yaml file.
        path: ``package.module:Class``.
        task: ``general`` or ``sequential``.
        loader: ``user`` for one training row per user; None for RecBole's choice by input type.
        trainer: ``package.module:Class``, a subclass of RecBole's Trainer; None for RecBole's choice by name.
        dataset: ``package.module:Class``, a subclass of RecBole's Dataset; None for RecBole's choice.
        diffusion: whether it is a diffusion model; reports show it.
        properties: yaml file with the defaults of its keys; None for ``properties/model/<name>.yaml``.
        paper: the paper.
        code: the official code with the compared commit.
        tags: short words for the table of models, for display only.
        needs: inputs beside interactions: ``time``, ``base_model``, ``item_embeddings``.
        card: the card that it was read from; None without one.

    Args:
        needs_time: former name of ``needs=("time",)``.
        abilities: former name of ``tags``.
    """

    name: str
    path: str
    task: str = "general"
    loader: Optional[str] = None
    trainer: Optional[str] = None
    dataset: Optional[str] = None
    needs_time: InitVar[Optional[bool]] = None
    diffusion: bool = False
    properties: Optional[str] = None
    paper: Optional[Paper] = None
    code: Union[Code, str, None] = None
    abilities: InitVar[Optional[tuple[str, ...]]] = None
    tags: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    card: Optional[Card] = field(default=None, repr=False)

    def __post_init__(self, needs_time: Optional[bool], abilities: Optional[tuple[str, ...]]) -> None:
        if needs_time is not None:
            without_time = tuple(need for need in self.needs if need != "time")
            object.__setattr__(self, "needs", (*without_time, "time") if needs_time else without_time)
        if abilities is not None:
            object.__setattr__(self, "tags", tuple(abilities))

    @classmethod
    def from_card(cls, file: Union[str, Path]) -> ModelSpec:
        """Read the model of a card.

        Args:
            file: the card. The path in its field ``properties`` is relative to this file.

        Raises:
            ValueError: see :func:`recbole_diffusion.cards.card.read`; or the file of ``properties`` does not exist.
        """
        file = Path(file)
        card = cards.read(file)
        properties = None if card.properties is None else file.absolute().parent / card.properties
        if properties is not None and not properties.is_file():
            raise ValueError(f"card {str(file)!r}: properties={card.properties!r} is no file beside it")
        return cls(
            name=card.name,
            path=card.path,
            task=card.task,
            loader=card.loader,
            trainer=card.trainer,
            dataset=card.dataset,
            diffusion=card.diffusion,
            properties=None if properties is None else str(properties),
            paper=card.paper,
            code=card.code,
            tags=card.tags,
            needs=card.needs,
            card=card,
        )

    @property
    def defaults(self) -> Path:
        """The yaml file with the defaults of the model's keys."""
        return Path(self.properties) if self.properties else yaml_files.properties() / "model" / f"{self.name}.yaml"
