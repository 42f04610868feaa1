"""The evaluation of a trained model on any part of its split, without training."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import torch

from recbole_diffusion import quick_start
from recbole_diffusion.data.loaders import get_dataloader
from recbole_diffusion.evaluation.per_user import UserMetrics
from recbole_diffusion.training import fit, run_folder, run_log
from recbole_diffusion.training.trainer import Training


def evaluate(loaded: quick_start.Loaded, phase: str) -> tuple[dict[str, float], Optional[UserMetrics]]:
    """Compute the metrics of a loaded model as a run does.

    Args:
        loaded: model and data; ``metrics`` and ``topk`` are settings.
        phase: ``train``, ``valid`` or ``test``.

    Returns:
        Each metric's value, and the values of each user, by id; None where a metric is not a mean over users.

    Raises:
        ValueError: the model has a trainer of its own that does not evaluate this way.
    """
    loader = _loader(loaded, phase)
    with tempfile.TemporaryDirectory() as folder, run_folder.hide_known_warnings(), run_log.plain_bars():
        loaded.config["checkpoint_dir"] = folder  # RecBole's trainers create it
        with run_log.tensorboard_in(Path(folder)):
            trainer = fit.make_trainer(loaded.config, loaded.model)
            if not isinstance(trainer, Training):
                raise ValueError(
                    f"{loaded.config['model']} has RecBole's trainer of decision trees, which evaluates after a "
                    "training only"
                )
            trainer._train_data = loaded.train_data
            result = trainer.evaluate(loader, load_best_model=False, show_progress=loaded.config["show_progress"])
    return dict(result or {}), trainer.per_user


def _loader(loaded: quick_start.Loaded, phase: str) -> Any:
    """The evaluation loader of a part; for the training part one that ranks its items among all items."""
    if phase == "valid":
        return loaded.valid_data
    if phase == "test":
        return loaded.test_data
    part = loaded.train_data._dataset
    part = part.copy(part.inter_feat[torch.arange(len(part.inter_feat))])  # the loader sorts the rows in place
    other = next(loader._sampler for loader in (loaded.test_data, loaded.valid_data) if loader)
    sampler = type(other)("train", part, other.distribution).set_phase("train")  # knows no item of the later parts
    return get_dataloader(loaded.config, "test")(loaded.config, part, sampler, shuffle=False)


def overrides(
    metrics: Optional[Sequence[str]], topk: Optional[Sequence[int]], stored: dict[str, Any]
) -> dict[str, Any]:
    """The settings that change metrics and cut-offs; ``valid_metric`` must be one of the measured metrics.

    Args:
        metrics, topk: None: those of ``stored``.
        stored: the settings without the change.
    """
    if metrics is None and topk is None:
        return {}
    names = list(metrics or _as_list(stored.get("metrics")) or ["Recall"])
    cut_offs = list(topk or _as_list(stored.get("topk")) or [10])
    first = names[0]
    has_cut_off = first.lower() not in {"gauc", "auc", "mae", "rmse", "logloss"}
    return {
        "metrics": names,
        "topk": cut_offs,
        "valid_metric": f"{first}@{cut_offs[0]}" if has_cut_off else first,
    }


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]
