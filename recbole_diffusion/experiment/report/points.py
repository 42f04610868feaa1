"""The points of a comparison's plots, as rows: the plots draw them, and csv files beside the plots hold them."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, Optional

import numpy as np

from recbole_diffusion.experiment.report.analysis import Analysis, ranked
from recbole_diffusion.experiment.report.results import ModelResult, higher_is_better

Row = dict[str, Any]
#: File formats of the plots.
FORMATS = ("png", "svg", "pdf")
#: The seed of rows that are means over seeds.
MEAN = "mean"


def accuracy(analysis: Analysis) -> list[Row]:
    """Return mean and interval of each model and of its difference from the reference; the best model first."""
    rows = []
    for result in ranked(analysis.results, analysis.main):
        low, high = analysis.intervals.get((result.label, analysis.main), (None, None))
        comparison = analysis.against_reference(result.label, analysis.main) or {}
        rows.append(
            {
                **_model_columns(result),
                "metric": analysis.main,
                "mean": result.mean(analysis.main),
                "low": low,
                "high": high,
                "by_seed": " ".join(map(repr, result.by_seed(analysis.main).values())),
                "reference": analysis.reference,
                "difference": comparison.get("difference"),
                "difference_low": comparison.get("low"),
                "difference_high": comparison.get("high"),
                "differs": analysis.differs(result.label, analysis.main),
            }
        )
    return rows


def accuracy_cost(analysis: Analysis) -> list[Row]:
    """Return accuracy, seconds of a run, and users per second at test."""
    return [
        {
            **_model_columns(result),
            "metric": analysis.main,
            "mean": result.mean(analysis.main),
            "seconds": result.cost("total_s"),
            "test_users_per_s": result.cost("test_users_per_s"),
            "energy_wh": result.cost("energy_wh"),
        }
        for result in ranked(analysis.results, analysis.main)
    ]


def accuracy_coverage(analysis: Analysis) -> list[Row]:
    """Return accuracy and item coverage; no rows if coverage was not measured."""
    cut_off = analysis.main.partition("@")[2]
    measured = [metric for metric in analysis.beyond if metric.startswith("itemcoverage")]
    coverage = f"itemcoverage@{cut_off}" if f"itemcoverage@{cut_off}" in measured else next(iter(measured), "")
    return [
        {
            **_model_columns(result),
            "metric": analysis.main,
            "mean": result.mean(analysis.main),
            "coverage_metric": coverage,
            "coverage": result.mean(coverage),
        }
        for result in ranked(analysis.results, analysis.main)
        if result.mean(coverage) is not None
    ]


def learning_curves(analysis: Analysis) -> list[Row]:
    """Return validation scores by epoch: one row per seed, and mean, minimum and maximum over seeds.

    The latter are of epochs that all seeds have reached. ``chosen`` marks the epoch whose weights were tested.
    ``seconds`` are those of training so far, including the training of a base model.
    """
    rows: list[Row] = []
    for result in analysis.results:
        curves = [curve for run in result.runs for curve in [_curve(run)] if curve]
        common = set.intersection(*({row["epoch"] for row in curve} for curve in curves)) if curves else set()
        for curve in curves:
            rows += [{**_model_columns(result), **row, "low": None, "high": None} for row in curve]
        for epoch in sorted(common):
            epoch_rows = [row for curve in curves for row in curve if row["epoch"] == epoch]
            scores = [row["score"] for row in epoch_rows]
            rows.append(
                {
                    **_model_columns(result),
                    "metric": epoch_rows[0]["metric"],
                    "seed": MEAN,
                    "epoch": epoch,
                    "seconds": float(np.mean([row["seconds"] for row in epoch_rows])),
                    "score": float(np.mean(scores)),
                    "low": min(scores),
                    "high": max(scores),
                }
            )
    return rows


def _curve(run: Row) -> list[Row]:
    """The validation scores of a run by epoch."""
    epochs = run.get("epochs") or []
    start = run["timing"].get("pretrain_s") or 0.0
    seconds = list(accumulate((row.get("train_s") or 0.0 for row in epochs), initial=start))[1:]
    return [
        {
            "metric": str(run.get("valid_metric", "")).lower(),
            "seed": run["seed"],
            "epoch": row["epoch"],
            "seconds": seconds_so_far,
            "score": row["score"],
            "chosen": row["epoch"] == run["timing"].get("best_epoch"),
        }
        for row, seconds_so_far in zip(epochs, seconds)
        if row.get("score") is not None
    ]


def tuning(analysis: Analysis) -> list[Row]:
    """Return the score of each trial and the best so far."""
    rows: list[Row] = []
    for result in analysis.results:
        best: Optional[float] = None
        for number, trial in enumerate(result.trials, 1):
            score, metric = trial.get("valid_score"), str(trial.get("valid_metric") or "").lower()
            if score is not None:
                better = max if trial.get("valid_score_bigger", higher_is_better(metric) is not False) else min
                best = score if best is None else better(best, score)
            rows.append(
                {
                    **_model_columns(result),
                    "metric": metric,
                    "trial": number,
                    "status": trial.get("status"),
                    "score": score,
                    "best_so_far": best,
                }
            )
    return rows


def _model_columns(result: ModelResult) -> Row:
    return {"model": result.label, "diffusion": result.diffusion}


#: The points of each plot, by the start of the names of its files.
PLOTS = {
    "accuracy": accuracy,
    "accuracy_cost": accuracy_cost,
    "accuracy_coverage": accuracy_coverage,
    "learning_curves": learning_curves,
    "tuning": tuning,
}
