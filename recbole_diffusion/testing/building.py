"""Models that are built or trained on the checkerboard with the quick settings of their cards."""

from __future__ import annotations

from typing import Any, NamedTuple, Union

import torch
from recbole.data.interaction import Interaction
from recbole.utils import init_seed
from torch import Tensor

from recbole_diffusion import quick_start, registry
from recbole_diffusion.cards.card import Contract
from recbole_diffusion.training.trainer import trainer_class


class Built(NamedTuple):
    """An untrained model with its settings and data."""

    config: Any
    model: Any
    dataset: Any
    loaders: tuple[Any, Any, Any]


def contract(model: str) -> Contract:
    """The part ``contract`` of a model's card; an empty one without a card."""
    spec = registry.find_spec(model)
    return spec.card.contract if spec is not None and spec.card is not None else Contract()


def quick(model: str) -> dict[str, Any]:
    """Settings with which the model learns the checkerboard in seconds."""
    return dict(contract(model).quick)


def noisy(model: str) -> list[dict[str, Any]]:
    """Settings on top of them under which scores must not depend on the batch either."""
    return [dict(settings) for settings in contract(model).noisy]


def split(model: str) -> dict[str, Any]:
    """RecBole's ``eval_args.split`` for the model's task."""
    spec = registry.find_spec(model)
    sequential = spec is not None and spec.task == "sequential"
    return {"LS": "valid_and_test"} if sequential else {"RS": [8, 1, 1]}


def build(model: Union[str, type], settings: dict[str, Any]) -> Built:
    """A model on the data set ``board``, untrained."""
    config = quick_start.configure(model, "board", config_dict=settings)
    init_seed(config["seed"], True)
    dataset, loaders = quick_start.prepare(config)
    return Built(config, quick_start.build_model(config, loaders), dataset, loaders)


def trainer_of(config: Any, model: Any) -> Any:
    """The trainer that ``run`` would choose."""
    name = config["model"]
    return trainer_class(registry.get_trainer(config["MODEL_TYPE"], config.requested_model, name))(config, model)


def train(built: Built) -> Any:
    """Train a model that was built, without files; the trainer. The model then has its best weights."""
    trainer = trainer_of(built.config, built.model)
    trainer.fit(*built.loaders[:2], saved=False, verbose=False)
    return trainer


def users_of(loaders: Any, count: int = 8) -> Interaction:
    """A batch to score: users 1 to ``count``, or for a sequential model the first rows of the test split."""
    part = loaders[2]._dataset
    if loaders[2].is_sequential:
        return part.inter_feat[:count]
    return Interaction({part.uid_field: torch.arange(1, count + 1)})


def taken(interaction: Interaction, rows: Tensor) -> Interaction:
    """Some rows of a batch, in the order of ``rows``."""
    return Interaction({field: interaction[field][rows] for field in interaction.columns})
