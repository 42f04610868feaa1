"""The points of a comparison's plots, as rows: what the plots draw and what is written beside them."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, Optional

import numpy as np

from recbole_diffusion.experiment.report.analysis import Analysis, ranked
from recbole_diffusion.experiment.report.results import Result, higher_is_better

Row = dict[str, Any]
#: The seed of rows that are means over seeds.
MEAN = "mean"


def accuracy(found: Analysis) -> list[Row]:
    """Mean and interval of each model, and of its difference from the reference; the best first."""
    rows = []
    for result in ranked(found.results, found.main):
        low, high = found.intervals.get((result.label, found.main), (None, None))
        other = found.against_reference(result.label, found.main) or {}
        rows.append(
            {
                **_who(result),
                "metric": found.main,
                "mean": result.mean(found.main),
                "low": low,
                "high": high,
                "by_seed": " ".join(map(repr, result.by_seed(found.main).values())),
                "reference": found.reference,
                "difference": other.get("difference"),
                "difference_low": other.get("low"),
                "difference_high": other.get("high"),
                "differs": found.differs(result.label, found.main),
            }
        )
    return rows


def accuracy_cost(found: Analysis) -> list[Row]:
    """Accuracy, seconds of a run, users per second at test."""
    return [
        {
            **_who(result),
            "metric": found.main,
            "mean": result.mean(found.main),
            "seconds": result.cost("total_s"),
            "test_users_per_s": result.cost("test_users_per_s"),
        }
        for result in ranked(found.results, found.main)
    ]


def accuracy_coverage(found: Analysis) -> list[Row]:
    """Accuracy and the share of items that are recommended to anybody; none where coverage was not asked for."""
    cut = found.main.partition("@")[2]
    there = [metric for metric in found.beyond if metric.startswith("itemcoverage")]
    coverage = f"itemcoverage@{cut}" if f"itemcoverage@{cut}" in there else next(iter(there), "")
    return [
        {
            **_who(result),
            "metric": found.main,
            "mean": result.mean(found.main),
            "coverage_metric": coverage,
            "coverage": result.mean(coverage),
        }
        for result in ranked(found.results, found.main)
        if result.mean(coverage) is not None
    ]


def learning_curves(found: Analysis) -> list[Row]:
    """Validation score by epoch: a row per seed, and the mean, least and most of the epochs that all seeds reached.

    ``seconds`` are those of training so far, with what a base costs.
    """
    rows: list[Row] = []
    for result in found.results:
        curves = [curve for run in result.runs for curve in [_curve(run)] if curve]
        common = set.intersection(*({row["epoch"] for row in curve} for curve in curves)) if curves else set()
        for curve in curves:
            rows += [{**_who(result), **row, "low": None, "high": None} for row in curve]
        for epoch in sorted(common):
            at = [row for curve in curves for row in curve if row["epoch"] == epoch]
            scores = [row["score"] for row in at]
            rows.append(
                {
                    **_who(result),
                    "metric": at[0]["metric"],
                    "seed": MEAN,
                    "epoch": epoch,
                    "seconds": float(np.mean([row["seconds"] for row in at])),
                    "score": float(np.mean(scores)),
                    "low": min(scores),
                    "high": max(scores),
                }
            )
    return rows


def _curve(run: Row) -> list[Row]:
    epochs = run.get("epochs") or []
    start = run["timing"].get("pretrain_s") or 0.0
    seconds = list(accumulate((row.get("train_s") or 0.0 for row in epochs), initial=start))[1:]
    return [
        {
            "metric": str(run.get("valid_metric", "")).lower(),
            "seed": run["seed"],
            "epoch": row["epoch"],
            "seconds": spent,
            "score": row["score"],
        }
        for row, spent in zip(epochs, seconds)
        if row.get("score") is not None
    ]


def tuning(found: Analysis) -> list[Row]:
    """The score of each trial, and the best so far."""
    rows: list[Row] = []
    for result in found.results:
        best: Optional[float] = None
        for place, trial in enumerate(result.trials, 1):
            score, metric = trial.get("valid_score"), str(trial.get("valid_metric") or "").lower()
            if score is not None:
                pick = max if trial.get("valid_score_bigger", higher_is_better(metric) is not False) else min
                best = score if best is None else pick(best, score)
            rows.append(
                {
                    **_who(result),
                    "metric": metric,
                    "trial": place,
                    "status": trial.get("status"),
                    "score": score,
                    "best_so_far": best,
                }
            )
    return rows


def _who(result: Result) -> Row:
    return {"model": result.label, "diffusion": result.diffusion}


#: Each plot by the start of its files' names.
PLOTS = {
    "accuracy": accuracy,
    "accuracy_cost": accuracy_cost,
    "accuracy_coverage": accuracy_coverage,
    "learning_curves": learning_curves,
    "tuning": tuning,
}
