"""The evaluation of a loaded model on any part of its split, as a run evaluates it, without training."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Optional

import torch

from recbole_diffusion.data.loaders import get_dataloader
from recbole_diffusion.evaluation.list_evaluation import RankedLists
from recbole_diffusion.evaluation.per_user import UserMetrics
from recbole_diffusion.serving.trained import Trained
from recbole_diffusion.support.temporary_folder import temporary_folder
from recbole_diffusion.training import fit, run_folder, run_log
from recbole_diffusion.training.trainer import Training


class Evaluated(NamedTuple):
    """The evaluation of a model.

    Attributes:
        metrics: each metric's value; empty for an empty part.
        users: the values of each user, by id; None where a metric is not a mean over users.
        lists: the recommended lists, with ids; None if none were kept.
        users_per_s: users ranked per second; nan if that was not measured.
    """

    metrics: dict[str, float]
    users: Optional[UserMetrics] = None
    lists: Optional[RankedLists] = None
    users_per_s: float = math.nan


def evaluate(trained: Trained, phase: str, list_length: int = 0) -> Evaluated:
    """Compute the metrics of a loaded model as a run does.

    Args:
        trained: model and data; ``metrics`` and ``topk`` are settings.
        phase: ``train``, ``valid`` or ``test``.
        list_length: length of the recommended lists that are kept; 0: none.

    Raises:
        ValueError: the model has a trainer of its own that does not evaluate this way.
    """
    config, loader = trained.config, _loader(trained, phase)
    if not loader:
        return Evaluated({})
    with temporary_folder() as folder, run_folder.hide_known_warnings(), run_log.plain_bars():
        config["checkpoint_dir"] = str(folder)  # RecBole's trainers create it
        with run_log.tensorboard_in(folder):
            trainer = fit.make_trainer(config, trained.model)
            if not isinstance(trainer, Training):
                raise ValueError(
                    f"{config['model']} has RecBole's trainer of decision trees, which evaluates after a training only"
                )
            trainer._train_data, trainer.list_length = trained.train_data, list_length
            result = trainer.evaluate(loader, load_best_model=False, show_progress=config["show_progress"])
    speed = trainer.evaluation["users"] / max(trainer.evaluation["seconds"], 1e-9)
    return Evaluated(dict(result or {}), trainer.per_user, trainer.lists, speed)


def _loader(trained: Trained, phase: str) -> Any:
    """The evaluation loader of a part; for the training part one that ranks its items among all items."""
    if phase == "valid":
        return trained.valid_data
    if phase == "test":
        return trained.test_data
    part = trained.train_data._dataset
    part = part.copy(part.inter_feat[torch.arange(len(part.inter_feat))])  # the loader sorts the rows in place
    other = next(loader._sampler for loader in (trained.test_data, trained.valid_data) if loader)
    sampler = type(other)("train", part, other.distribution).set_phase("train")  # knows no item of the later parts
    return get_dataloader(trained.config, "test")(trained.config, part, sampler, shuffle=False)
