"""Checks of the labels and scores that AUC, LogLoss, MAE and RMSE are computed from: one of each per row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

#: Metrics that need labels of 0 and 1.
BINARY_METRICS = {"auc": "AUC", "logloss": "LogLoss"}


def check_labels(struct: Any, metrics: Sequence[str], field: str) -> None:
    """Check that the labels suit the metrics.

    RecBole's AUC counts any label but 1 as negative, and is nan for one class.

    Args:
        struct: data of RecBole's collector after an evaluation.
        metrics: names, in lower case.
        field: the label's column.

    Raises:
        ValueError: other labels than 0 and 1 for AUC or LogLoss; only one class for AUC.
    """
    names = [name for metric, name in BINARY_METRICS.items() if metric in metrics]
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


def clipping_warnings(struct: Any, metrics: Sequence[str], model: str) -> list[str]:
    """A warning where scores outside [0, 1] are clipped to [1e-15, 1 - 1e-15] by LogLoss; else an empty list.

    Args:
        struct: data of RecBole's collector after an evaluation.
        metrics: names, in lower case.
        model: name for the warning.
    """
    scores = struct.get("rec.score").numpy()
    if "logloss" not in metrics or ((scores >= 0).all() and (scores <= 1).all()):
        return []
    return [f"LogLoss is of clipped scores: those of {model} are no probabilities, they reach beyond 0 and 1"]
