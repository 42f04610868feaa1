"""Reading a comparison's folder: finished and missing runs of each model, and what their kept lists add."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from recbole_diffusion import registry
from recbole_diffusion.evaluation.metric_names import paper_name
from recbole_diffusion.evaluation.per_user import may_be_nan
from recbole_diffusion.evaluation.split_data import SplitData
from recbole_diffusion.experiment.jobs.store import DamagedRecord, Store, UserMetrics
from recbole_diffusion.experiment.report import from_lists
from recbole_diffusion.experiment.report.results import ComparisonResults, ModelResult, common_users, values_of
from recbole_diffusion.experiment.report.selection import Selection, select


def read(
    folder: Union[str, Path],
    metric: Optional[str] = None,
    topk: Optional[Sequence[int]] = None,
    columns: Optional[Sequence[str]] = None,
) -> ComparisonResults:
    """Read a comparison, finished or not. Metrics that were not measured are computed from the kept lists.

    Args:
        folder: of the comparison.
        metric, topk, columns: the metrics of the report, see
            :func:`recbole_diffusion.experiment.report.selection.select`.

    Raises:
        ValueError: the folder holds no comparison; a run's user metrics or lists are damaged; a metric was not measured
            and cannot be computed.
    """
    folder = Path(folder)
    if not (folder / "comparison.json").is_file():  # a clearer message than the store's
        raise ValueError(f"{str(folder)!r} is not the folder of a comparison: it has no comparison.json")
    store = Store(folder)
    plan = store.plan()
    selection = select(plan, metric, topk, columns)
    names = list(plan.get("datasets") or {})
    names += [name for entry in plan["models"] for name in entry.get("runs") or {} if name not in names]
    reader = _RunReader(store, selection)
    results = {
        name: [_result(reader, plan, entry, name) for entry in plan["models"]] for name in list(dict.fromkeys(names))
    }
    for name, of_dataset in results.items():
        _check_required(selection, name, of_dataset)
    return ComparisonResults(plan, results, selection, reader.splits)


def _check_required(selection: Selection, dataset: str, results: Sequence[ModelResult]) -> None:
    """Raise a ValueError if no tested run has a requested metric, nor lists to compute it from."""
    tested = [run for result in results for run in result.runs if run["test"]]
    for metric in selection.required if tested else ():
        if not any(metric in run["test"] for run in tested):
            measured = list(dict.fromkeys(paper_name(name) for run in tested for name in run["test"]))
            raise ValueError(
                f"{paper_name(metric)} was not measured on {dataset!r}, and the runs have kept no lists to compute it "
                f"from; measured: {' | '.join(measured)}"
            )


class _RunReader:
    """Read the finished runs of a store, with the metrics that a report needs.

    Attributes:
        splits: the data of each data set's split by name.
    """

    def __init__(self, store: Store, selection: Selection) -> None:
        self.store, self.selection = store, selection
        self.splits: dict[str, SplitData] = {}

    def read(self, key: str, dataset: str) -> tuple[Optional[dict[str, Any]], Optional[UserMetrics]]:
        """Return the record of a finished run and its metrics per user; None, None if it has not finished."""
        record = self.store.record(key)
        if record is None or record.get("trial") is not None:
            return None, None
        users = self.store.users(key)
        record["test"] = record.get("test") or {}  # None where the test split is empty
        lists = self.store.lists(key) if record["test"] else None
        missing = [metric for metric in self.selection.required if metric not in record["test"]]
        if lists is not None:
            self.splits.setdefault(dataset, lists.split)
            if missing:
                users = from_lists.complete(lists, record, users, missing)
            cut_off = self.selection.main.partition("@")[2]
            record["groups"] = from_lists.groups(lists, cut_off, record.get("settings") or {}) if cut_off else {}
        return record, users


def _result(reader: _RunReader, plan: dict[str, Any], entry: dict[str, Any], dataset: str) -> ModelResult:
    store = reader.store
    keys = (entry.get("runs") or {}).get(dataset) or []
    runs: list[dict[str, Any]] = []
    missing: list[tuple[int, str]] = []
    failed: list[dict[str, Any]] = []
    users: dict[str, Optional[UserMetrics]] = {}
    for index, seed in enumerate(plan["seeds"]):
        key = keys[index] if index < len(keys) else None
        try:
            record, of_run = reader.read(key, dataset) if key else (None, None)
            failure = store.failure(key) if key and record is None else None
        except DamagedRecord as error:
            missing.append((seed, str(error)))
            continue
        if key is not None and record is not None:
            runs.append(record)
            users[key] = of_run
        else:
            failed += [failure] if failure else []
            missing.append((seed, str(failure.get("error") or "failed") if failure else "not run yet"))
    trial_keys = (entry.get("trials") or {}).get(dataset) or []
    trials = [record for key in trial_keys for record in [_trial(store, key)] if record]
    for record in [*runs, *trials]:
        record.setdefault("valid_metric", plan["main_metric"])
    best = (entry.get("best") or {}).get(dataset)
    label, model = entry["label"], entry["model"]
    return ModelResult(
        label, model, dataset, _is_diffusion(entry), runs, missing, failed, trials, len(trial_keys), best,
        entry.get("settings") or {}, _mean_over_seeds(label, users), list(users.values()),
    )  # fmt: skip


def _trial(store: Store, key: str) -> Optional[dict[str, Any]]:
    """The record of a trial; of one whose file is damaged, its message; None before it has run."""
    try:
        return store.record(key) or store.failure(key)
    except DamagedRecord as error:
        return {"status": "damaged", "error": str(error)}


def _is_diffusion(entry: dict[str, Any]) -> bool:
    """Whether the plan, or else the registry, says that it is a diffusion model."""
    if entry.get("diffusion") is not None:
        return bool(entry["diffusion"])
    try:
        return registry.is_diffusion(entry["model"])
    except (ValueError, ImportError):  # a model of a package that is not installed here
        return False


def _mean_over_seeds(label: str, by_key: dict[str, Optional[UserMetrics]]) -> Optional[UserMetrics]:
    """The mean over runs, of the users and metrics that all runs have; None if a run has none.

    Args:
        label: of the model, for messages.
        by_key: the user metrics of each run, by its key.
    """
    for key, user_metrics in by_key.items():
        if user_metrics is None or not user_metrics.metrics:
            return None
        _check_users(label, key, user_metrics)
    runs = [user_metrics for user_metrics in by_key.values() if user_metrics is not None]
    if not runs:
        return None
    users = common_users(runs)
    metrics = [metric for metric in runs[0].metrics if all(metric in of_run.metrics for of_run in runs)]
    return UserMetrics(
        users, {metric: np.mean([values_of(of_run, metric, users) for of_run in runs], axis=0) for metric in metrics}
    )


def _check_users(label: str, key: str, user_metrics: UserMetrics) -> None:
    """Raise a ValueError for repeated users, and for values that are not finite where every user has one."""
    way_out = f"delete runs/{key}.* and run it again"
    if len(np.unique(user_metrics.users)) != len(user_metrics.users):
        raise ValueError(f"{label}: a user is listed twice in runs/{key}.npz; {way_out}")
    for metric, values in user_metrics.metrics.items():
        has_value = ~np.isnan(values) if may_be_nan(metric) else np.ones(len(values), dtype=bool)
        if not np.isfinite(values[has_value]).all():
            raise ValueError(f"{label}: {metric} of a user is not finite in runs/{key}.npz; {way_out}")
