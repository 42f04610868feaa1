"""Build or train models on the checkerboard with the quick settings of their cards."""

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
    """An untrained model with its settings, data set and the loaders of the three splits."""

    config: Any
    model: Any
    dataset: Any
    loaders: tuple[Any, Any, Any]


def contract_of(model: str) -> Contract:
    """Return the section ``contract`` of a model's card; an empty contract if the model has no card."""
    spec = registry.find_spec(model)
    return spec.card.contract if spec is not None and spec.card is not None else Contract()


def quick(model: str) -> dict[str, Any]:
    """Return settings with which the model learns the checkerboard in seconds."""
    return dict(contract_of(model).quick)


def noisy(model: str) -> list[dict[str, Any]]:
    """Return additional settings, e.g. with noise at inference, under which scores must not depend on the batch."""
    return [dict(settings) for settings in contract_of(model).noisy]


def ablations(model: str) -> dict[str, dict[str, Any]]:
    """Return the settings of the trainings without a part of the model, by label; empty if its card names none."""
    spec = registry.find_spec(model)
    return dict(spec.card.ablation) if spec is not None and spec.card is not None else {}


def split(model: str) -> dict[str, Any]:
    """Return RecBole's ``eval_args.split`` for the model's task: leave-one-out if sequential, else 8:1:1."""
    spec = registry.find_spec(model)
    sequential = spec is not None and spec.task == "sequential"
    return {"LS": "valid_and_test"} if sequential else {"RS": [8, 1, 1]}


def build(model: Union[str, type], settings: dict[str, Any]) -> Built:
    """Build an untrained model on the data set ``board``.

    Args:
        model: a name or a class.
        settings: configuration keys, including ``data_path``.
    """
    config = quick_start.configure(model, "board", config_dict=settings)
    init_seed(config["seed"], True)
    dataset, loaders = quick_start.prepare(config)
    return Built(config, quick_start.build_model(config, loaders), dataset, loaders)


def trainer_of(config: Any, model: Any) -> Any:
    """Make the trainer that :func:`recbole_diffusion.run` would choose for the model."""
    name = config["model"]
    return trainer_class(registry.get_trainer(config["MODEL_TYPE"], config.requested_model, name))(config, model)


def train(built: Built) -> Any:
    """Train a built model without writing files. The model then has its best weights.

    Returns:
        The trainer.
    """
    trainer = trainer_of(built.config, built.model)
    trainer.fit(*built.loaders[:2], saved=False, verbose=False)
    return trainer


def users_of(loaders: Any, count: int = 8) -> Interaction:
    """Return a batch to score: users 1 to ``count``, or the first ``count`` test rows for a sequential model."""
    test_dataset = loaders[2]._dataset
    if loaders[2].is_sequential:
        return test_dataset.inter_feat[:count]
    return Interaction({test_dataset.uid_field: torch.arange(1, count + 1)})


def taken(interaction: Interaction, rows: Tensor) -> Interaction:
    """Select rows of a batch, in the order of ``rows``."""
    return Interaction({field: interaction[field][rows] for field in interaction.columns})
