"""The data of index.html: rows of models and runs, metrics, costs and views, as plain values for json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from recbole_diffusion.evaluation.metric_names import paper_name
from recbole_diffusion.experiment.jobs.run_spec import RunSpec
from recbole_diffusion.experiment.report.analysis import Analysis
from recbole_diffusion.experiment.report.results import (
    ComparisonResults,
    ModelResult,
    beyond_accuracy,
    higher_is_better,
)
from recbole_diffusion.experiment.report.tables import sorted_results

Row = dict[str, Any]
#: Cost columns: entry of ``timing``, name, and how numbers are written.
COSTS = {
    "total_s": ("s in all", "cost"),
    "train_s_per_epoch": ("s per epoch", "cost"),
    "epochs": ("epochs", "cost"),
    "tuning_s": ("s of tuning", "cost"),
    "test_users_per_s": ("test users/s", "cost"),
    "denoiser_calls_per_user": ("network calls per user", "cost"),
    "parameters": ("parameters", "whole"),
    "peak_memory_mib": ("peak MiB", "whole"),
    "peak_gpu_memory_mib": ("peak GPU MiB", "whole"),
    "energy_wh": ("Wh", "cost"),
    "co2_g": ("g CO2", "cost"),
}
#: Cost columns beside metrics.
_BESIDE = ("total_s", "parameters", "peak_memory_mib")


def page_data(comparison: ComparisonResults, analyses: Sequence[Analysis]) -> Row:
    """Return the data of the page. It holds no path of this machine."""
    metrics = list(dict.fromkeys(name for analysis in analyses for name in [*analysis.accuracy, *analysis.beyond]))
    main = analyses[0].main if analyses else comparison.main_metric
    rows = [_model(analysis, result) for analysis in analyses for result in sorted_results(analysis)]
    costs = [key for key in COSTS if any(row["costs"].get(key) is not None for row in rows)]
    return {
        "datasets": [analysis.dataset for analysis in analyses],
        "references": sorted({analysis.reference for analysis in analyses if analysis.reference is not None}),
        "main": main,
        "valid_metric": paper_name(str(comparison.plan["main_metric"]).lower()),
        "partial": any(row["n"] < row["planned"] for row in rows),
        "metrics": {name: {"name": paper_name(name), "better": _direction(name)} for name in metrics},
        "costs": {key: {"name": COSTS[key][0], "kind": COSTS[key][1]} for key in costs},
        "views": _views(metrics, main, costs),
        "rows": rows,
    }


def _direction(metric: str) -> int:
    """1 where higher is better, -1 where lower is, 0 where neither is."""
    return {True: 1, False: -1, None: 0}[higher_is_better(metric)]


def _views(metrics: Sequence[str], main: str, costs: Sequence[str]) -> list[Row]:
    """The sets of columns: metrics by kind and cut-off, the cost, and each metric in detail; the main cut-off first."""
    beside = [key for key in _BESIDE if key in costs]
    main_cut_off = main.partition("@")[2]
    cut_offs = dict.fromkeys([main_cut_off, *(name.partition("@")[2] for name in metrics)])
    views: list[Row] = []
    for title, is_beyond in (("Accuracy", False), ("Beyond accuracy", True)):
        for k in cut_offs:
            names = [name for name in metrics if name.partition("@")[2] == k and beyond_accuracy(name) == is_beyond]
            if names:
                name = f"{title} @{k}" if k else title
                views.append({"key": name.lower().replace(" ", "-"), "name": name, "metrics": names, "costs": beside})
    views.append({"key": "cost", "name": "Cost", "metrics": [main], "costs": list(costs)})
    detailed = [name for name in metrics if not beyond_accuracy(name)]
    views += [
        {"key": name, "name": f"{paper_name(name)} in detail", "metrics": [name], "costs": beside[:1], "detail": True}
        for name in detailed
    ]
    return [{"detail": False, **view} for view in views]


def _model(analysis: Analysis, result: ModelResult) -> Row:
    metrics = {name: _metric(analysis, result, name) for name in [*analysis.accuracy, *analysis.beyond]}
    costs = {key: result.tuning_s if key == "tuning_s" else result.cost(key) for key in COSTS}
    costs["train_s_per_epoch"] = costs["train_s_per_epoch"] or None  # 0 for a model that is not trained
    return {
        "dataset": analysis.dataset,
        "model": result.label,
        "diffusion": result.diffusion,
        "reference": analysis.reference,
        "n": len(result.runs),
        "planned": len(result.runs) + len(result.missing),
        "metrics": {name: values for name, values in metrics.items() if values is not None},
        "costs": costs,
        "settings": _shown(result.settings),
        "best": _shown(result.best or {}),
        "all_settings": _shown(result.runs[0].get("settings") or {}) if result.runs else {},
        "missing": [{"seed": seed, "reason": reason} for seed, reason in result.missing],
        "warnings": result.warnings,
        "runs": [_run(run, metrics) for run in result.runs],
    }


def _metric(analysis: Analysis, result: ModelResult, metric: str) -> Optional[Row]:
    """A metric of a model with its interval and its comparison with the reference; None if it has none."""
    mean = result.mean(metric)
    if mean is None:
        return None
    low, high = analysis.intervals.get((result.label, metric), (None, None))
    row = analysis.against_reference(result.label, metric) or {}
    return {
        "mean": mean,
        "sd": result.sd(metric) if result.varies(metric) else None,
        "low": low,
        "high": high,
        "difference": row.get("difference"),
        "p": row.get("p_wilcoxon_holm"),
        "effect": row.get("d_z"),
        **{name: row.get(name) for name in ("wins", "ties", "losses")},
        "differs": analysis.differs(result.label, metric),
    }


def _run(run: Row, metrics: Mapping[str, Any]) -> Row:
    timing = run["timing"]
    return {
        "seed": run["seed"],
        "key": run.get("key"),
        "started": run.get("started"),
        "best_epoch": timing.get("best_epoch"),
        "valid_score": run.get("valid_score"),
        "metrics": {name: run["test"][name] for name in metrics if name in run["test"]},
        "costs": {key: timing.get(key) for key in COSTS},
    }


def _shown(settings: Mapping[str, Any]) -> Row:
    """Settings without those that change no number, such as folders of this machine."""
    return {key: value for key, value in settings.items() if key not in RunSpec.NO_EFFECT}
