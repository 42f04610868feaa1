"""Evaluate a loaded model on its validation and test split, with the metrics of each user."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

from recbole_diffusion.evaluation.per_user import UserMetrics
from recbole_diffusion.serving.trained import Trained
from recbole_diffusion.training import fit


class Measured(NamedTuple):
    """The metrics of one split.

    Attributes:
        result: value of each metric.
        per_user: values per user; None where they are not known.
    """

    result: dict[str, float]
    per_user: Optional[UserMetrics]


def measure(trained: Trained) -> dict[str, Measured]:
    """Evaluate on the validation and the test split; empty splits are left out.

    Returns:
        By split, ``valid`` and ``test``.
    """
    trainer = fit.make_trainer(trained.config, trained.model)
    trainer._train_data = trained.train_data  # metrics such as coverage count its rows
    measured: dict[str, Measured] = {}
    for split, loader in (("valid", trained.valid_data), ("test", trained.test_data)):
        result: Any = trainer.evaluate(loader, load_best_model=False, show_progress=trained.config["show_progress"])
        if result is not None:
            measured[split] = Measured(result, trainer.per_user)
    return measured
