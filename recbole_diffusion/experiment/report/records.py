"""A comparison as rows of numbers and as one json document: what programs read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from recbole_diffusion.experiment.report import accounts
from recbole_diffusion.experiment.report.analysis import Analysis
from recbole_diffusion.experiment.report.results import Comparison, Result

Row = dict[str, Any]
NAMES = ("results.csv", "per_seed.csv", "significance.csv", "cost.csv", "trials.csv", "failures.csv")
_OF_RUN = ("key", "host", "started")
_OF_COST = (
    "parameters",
    "epochs",
    "best_epoch",
    "train_s_per_epoch",
    "valid_s_per_epoch",
    "pretrain_s",
    "total_s",
    "wall_s",
    "test_users_per_s",
    "denoiser_calls_per_user",
    "peak_memory_mib",
    "peak_gpu_memory_mib",
)


def csv_files(analyses: Sequence[Analysis]) -> dict[str, list[Row]]:
    """Rows by the name of their file; a file without rows is not written."""
    pairs = [(found, result) for found in analyses for result in found.results]
    contents: tuple[list[Row], ...] = (
        [_result(found, result) for found, result in pairs],
        [row for found, result in pairs for row in _per_seed(found, result)],
        [row for found in analyses for row in found.pairs],
        [_cost(found, result) for found, result in pairs if result.runs],
        [row for _, result in pairs for row in _trials(result)],
        [row for _, result in pairs for row in _failures(result)],
    )
    return dict(zip(NAMES, contents))


def to_csv(rows: Sequence[Row]) -> bytes:
    """The rows with all columns that any of them has; nothing for None, 0 and 1 for truth values."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: int(value) if isinstance(value, bool) else value for key, value in row.items()})
    return text.getvalue().encode()


def document(comparison: Comparison, analyses: Sequence[Analysis]) -> Row:
    """All of it: the plan's head, and by data set the results, the pairs and the notes."""
    head = {key: value for key, value in comparison.plan.items() if key != "models"}
    return {
        **head,
        "results": {
            found.dataset: {
                "main_metric": found.main,
                "reference": found.reference,
                "paired_users": found.users,
                "models": [_full(found, result) for result in found.results],
                "pairs": found.pairs,
                "notes": found.notes,
                "accounts": accounts.accounts_of_models(found.results),
            }
            for found in analyses
        },
    }


def _head(found: Analysis, result: Result) -> Row:
    return {"dataset": found.dataset, "model": result.label}


def _result(found: Analysis, result: Result) -> Row:
    row = {
        **_head(found, result),
        "class": result.model,
        "diffusion": result.diffusion,
        "seeds": len(result.runs),
        "seeds_planned": len(result.runs) + len(result.missing),
        "trials": len(result.trials),
    }
    for metric in [*found.accuracy, *found.beyond]:
        row[metric], row[f"{metric}_sd"] = result.mean(metric), result.sd(metric)
        if metric in found.accuracy:
            row[f"{metric}_low"], row[f"{metric}_high"] = found.intervals.get((result.label, metric), (None, None))
    return {**row, **_means_of_cost(result)}


def _cost(found: Analysis, result: Result) -> Row:
    return {
        **_head(found, result),
        "seeds": len(result.runs),
        found.main: result.mean(found.main),
        **_means_of_cost(result),
    }


def _means_of_cost(result: Result) -> Row:
    costs = {name: result.cost(name) for name in _OF_COST}
    return {**costs, "tuning_s": result.tuning_s}


def _per_seed(found: Analysis, result: Result) -> list[Row]:
    return [
        {
            **_head(found, result),
            "seed": run["seed"],
            **{metric: run["test"].get(metric) for metric in [*found.accuracy, *found.beyond]},
            "valid_metric": run.get("valid_metric"),
            "valid_score": run.get("valid_score"),
            **{name: run["timing"].get(name) for name in _OF_COST},
            **{name: run.get(name) for name in _OF_RUN},
        }
        for run in result.runs
    ]


def _trials(result: Result) -> list[Row]:
    """With the settings that differ between the trials of the model."""
    settings = [trial.get("settings") or {} for trial in result.trials]
    names = list(dict.fromkeys(name for each in settings for name in each))
    searched = [name for name in names if len({json.dumps(each.get(name), default=str) for each in settings}) > 1]
    return [
        {
            "dataset": result.dataset,
            "model": result.label,
            "trial": trial.get("trial"),
            "status": trial.get("status"),
            "valid_metric": trial.get("valid_metric"),
            "valid_score": trial.get("valid_score"),
            "epochs": (trial.get("timing") or {}).get("epochs"),
            "total_s": (trial.get("timing") or {}).get("total_s"),
            "settings": json.dumps({name: each.get(name) for name in searched}, default=str),
            "error": trial.get("error"),
            "key": trial.get("key"),
        }
        for trial, each in zip(result.trials, settings)
    ]


def _failures(result: Result) -> list[Row]:
    failed = [record for record in [*result.failed, *result.trials] if record.get("status") == "failed"]
    names = ("seed", "trial", "error", *_OF_RUN)
    return [
        {"dataset": result.dataset, "model": result.label, **{name: record.get(name) for name in names}}
        for record in failed
    ]


def _full(found: Analysis, result: Result) -> Row:
    metrics = [*found.accuracy, *found.beyond]
    return {
        "label": result.label,
        "model": result.model,
        "diffusion": result.diffusion,
        "settings": result.settings,
        "best": result.best,
        "seeds": [run["seed"] for run in result.runs],
        "missing": [{"seed": seed, "reason": reason} for seed, reason in result.missing],
        "trials": len(result.trials),
        "warnings": result.warnings,
        "valid_score": result.valid_score,
        "metrics": {
            metric: {
                "mean": result.mean(metric),
                "sd": result.sd(metric),
                "interval": found.intervals.get((result.label, metric)),
                "by_seed": result.by_seed(metric),
            }
            for metric in metrics
        },
        "cost": _means_of_cost(result),
    }
