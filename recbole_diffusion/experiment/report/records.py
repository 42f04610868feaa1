"""A comparison as csv rows and as one json document, for programs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any, Optional

from recbole_diffusion.experiment.report import accounts
from recbole_diffusion.experiment.report.analysis import Analysis
from recbole_diffusion.experiment.report.results import ComparisonResults, ModelResult
from recbole_diffusion.support.csv_cells import inert

Row = dict[str, Any]
NAMES = ("results.csv", "per_seed.csv", "significance.csv", "cost.csv", "trials.csv", "failures.csv")
_RUN_FIELDS = ("key", "host", "started")
_COST_FIELDS = (
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
    "energy_wh",
    "co2_g",
)


def csv_files(analyses: Sequence[Analysis]) -> dict[str, list[Row]]:
    """Return the rows of each csv file, by name; a file without rows is not written."""
    pairs = [(analysis, result) for analysis in analyses for result in analysis.results]
    contents: tuple[list[Row], ...] = (
        [_result_row(analysis, result) for analysis, result in pairs],
        [row for analysis, result in pairs for row in _seed_rows(analysis, result)],
        [row for analysis in analyses for row in analysis.pairs],
        [_cost_row(analysis, result) for analysis, result in pairs if result.runs],
        [row for _, result in pairs for row in _trial_rows(result)],
        [row for _, result in pairs for row in _failure_rows(result)],
    )
    return dict(zip(NAMES, contents))


def per_user_rows(analysis: Analysis) -> list[Row]:
    """Return the test metrics of each user in each finished run; empty for a user without a value of the metric."""
    metrics = [*analysis.accuracy, *analysis.beyond]
    rows: list[Row] = []
    for result in analysis.results:
        for run, of_run in zip(result.runs, result.users_of_runs):
            columns = {} if of_run is None else {m: of_run.metrics[m].tolist() for m in metrics if m in of_run.metrics}
            for index, user in enumerate(() if of_run is None else of_run.users.tolist()):
                values = {metric: _number(column[index]) for metric, column in columns.items()}
                rows.append({"model": result.label, "seed": run["seed"], "user": user, **values})
    return rows


def _number(value: float) -> Optional[float]:
    return None if math.isnan(value) else value


def to_csv(rows: Sequence[Row]) -> bytes:
    """Return rows as csv with the columns of all of them.

    None is empty, False and True are 0 and 1. Texts that a spreadsheet would run as formulas begin with an apostrophe.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, [inert(column) for column in columns], restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({inert(key): inert(value) for key, value in row.items()})
    return text.getvalue().encode()


def document(comparison: ComparisonResults, analyses: Sequence[Analysis]) -> Row:
    """Return the plan without its models, and by data set the results, the tests of pairs and the notes."""
    head = {key: value for key, value in comparison.plan.items() if key != "models"}
    return {
        **head,
        "results": {
            analysis.dataset: {
                "main_metric": analysis.main,
                "reference": analysis.reference,
                "paired_users": analysis.users,
                "models": [_model_document(analysis, result) for result in analysis.results],
                "pairs": analysis.pairs,
                "notes": analysis.notes,
                "accounts": accounts.accounts_of_models(analysis.results),
            }
            for analysis in analyses
        },
    }


def _dataset_and_model(analysis: Analysis, result: ModelResult) -> Row:
    return {"dataset": analysis.dataset, "model": result.label}


def _result_row(analysis: Analysis, result: ModelResult) -> Row:
    row = {
        **_dataset_and_model(analysis, result),
        "class": result.model,
        "diffusion": result.diffusion,
        "seeds": len(result.runs),
        "seeds_planned": len(result.runs) + len(result.missing),
        "trials": len(result.trials),
    }
    for metric in [*analysis.accuracy, *analysis.beyond]:
        row[metric], row[f"{metric}_sd"] = result.mean(metric), result.sd(metric)
        if metric in analysis.accuracy:
            row[f"{metric}_low"], row[f"{metric}_high"] = analysis.intervals.get((result.label, metric), (None, None))
    return {**row, **_mean_costs(result)}


def _cost_row(analysis: Analysis, result: ModelResult) -> Row:
    return {
        **_dataset_and_model(analysis, result),
        "seeds": len(result.runs),
        analysis.main: result.mean(analysis.main),
        **_mean_costs(result),
    }


def _mean_costs(result: ModelResult) -> Row:
    costs = {name: result.cost(name) for name in _COST_FIELDS}
    return {**costs, "tuning_s": result.tuning_s}


def _seed_rows(analysis: Analysis, result: ModelResult) -> list[Row]:
    return [
        {
            **_dataset_and_model(analysis, result),
            "seed": run["seed"],
            **{metric: run["test"].get(metric) for metric in [*analysis.accuracy, *analysis.beyond]},
            "valid_metric": run.get("valid_metric"),
            "valid_score": run.get("valid_score"),
            **{name: run["timing"].get(name) for name in _COST_FIELDS},
            **{name: run.get(name) for name in _RUN_FIELDS},
        }
        for run in result.runs
    ]


def _trial_rows(result: ModelResult) -> list[Row]:
    """The trials of a model, with the settings that differ between them."""
    all_settings = [trial.get("settings") or {} for trial in result.trials]
    names = list(dict.fromkeys(name for settings in all_settings for name in settings))
    searched = [
        name for name in names if len({json.dumps(settings.get(name), default=str) for settings in all_settings}) > 1
    ]
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
            "settings": json.dumps({name: settings.get(name) for name in searched}, default=str),
            "error": trial.get("error"),
            "key": trial.get("key"),
        }
        for trial, settings in zip(result.trials, all_settings)
    ]


def _failure_rows(result: ModelResult) -> list[Row]:
    failed = [record for record in [*result.failed, *result.trials] if record.get("status") == "failed"]
    names = ("seed", "trial", "error", *_RUN_FIELDS)
    return [
        {"dataset": result.dataset, "model": result.label, **{name: record.get(name) for name in names}}
        for record in failed
    ]


def _model_document(analysis: Analysis, result: ModelResult) -> Row:
    metrics = [*analysis.accuracy, *analysis.beyond]
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
                "interval": analysis.intervals.get((result.label, metric)),
                "by_seed": result.by_seed(metric),
            }
            for metric in metrics
        },
        "cost": _mean_costs(result),
    }
