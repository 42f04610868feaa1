"""Checks of what AUC, LogLoss, MAE and RMSE are taken of: one score and one label a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

#: Metrics whose labels are 0 and 1.
OF_TWO_CLASSES = {"auc": "AUC", "logloss": "LogLoss"}


def check_labels(struct: Any, metrics: Sequence[str], field: str) -> None:
    """Whether the labels suit the metrics. RecBole's AUC takes any label but 1 for negative, and is nan for one class.

    Args:
        struct: what the collector has of an evaluation.
        metrics: names, in lower case.
        field: the label's column.

    Raises:
        ValueError: other labels than 0 and 1 for AUC or LogLoss, one class only for AUC.
    """
    names = [name for metric, name in OF_TWO_CLASSES.items() if metric in metrics]
    labels = np.unique(struct.get("data.label").numpy())
    others = labels[(labels != 0) & (labels != 1)]
    if names and len(others):
        need = "needs" if len(names) == 1 else "need"
        raise ValueError(
            f"{' and '.join(names)} {need} labels of 0 and 1, but {field!r} holds {float(others[0]):g}; "
            f"set LABEL_FIELD: label and threshold, e.g. threshold: {{{field}: 4}}, or take MAE or RMSE"
        )
    if "auc" in metrics and len(labels) < 2:
        raise ValueError(
            f"AUC needs rows of both classes, but all labels evaluated are {float(labels[0]):g}; "
            "set another threshold, or leave AUC out of metrics"
        )


def clipped(struct: Any, metrics: Sequence[str], model: str) -> list[str]:
    """A note where LogLoss takes scores that are no probabilities, which it clips to [1e-15, 1 - 1e-15]."""
    scores = struct.get("rec.score").numpy()
    if "logloss" not in metrics or ((scores >= 0).all() and (scores <= 1).all()):
        return []
    return [f"LogLoss is of clipped scores: those of {model} are no probabilities, they reach beyond 0 and 1"]
