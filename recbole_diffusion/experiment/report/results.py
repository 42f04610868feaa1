"""The results in a comparison's folder by model: finished and missing runs, and user metrics averaged over seeds."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from recbole_diffusion import registry
from recbole_diffusion.evaluation.metric_names import paper_name
from recbole_diffusion.evaluation.per_user import may_be_nan
from recbole_diffusion.evaluation.split_data import SplitData
from recbole_diffusion.experiment.jobs.store import Store, UserMetrics
from recbole_diffusion.experiment.report import from_lists
from recbole_diffusion.experiment.report.selection import Selection, select

#: Beyond-accuracy metrics, of all recommended lists together: whether a higher value is better, None if neither is.
BEYOND: dict[str, Optional[bool]] = {
    "itemcoverage": True,
    "shannonentropy": True,
    "tailpercentage": True,
    "novelty": True,
    "averagepopularity": None,
    "giniindex": None,
    "ild": True,
    "calibration": False,
    "serendipity": True,
}
#: Metrics of which a lower value is better.
_ERRORS = frozenset({"rmse", "mae", "logloss", "calibration"})


def beyond_accuracy(metric: str) -> bool:
    """Return whether the metric is of all recommended lists together and not a mean over users."""
    return metric.partition("@")[0] in BEYOND


def higher_is_better(metric: str) -> Optional[bool]:
    """Return whether a higher value is better; None for metrics of which neither is."""
    name = metric.partition("@")[0]
    return BEYOND.get(name, name not in _ERRORS)


@dataclass(frozen=True)
class ModelResult:
    """The results of one model on one data set.

    Attributes:
        label: the model's name in tables.
        model: the model, as ``run`` takes it.
        dataset: the data set's name.
        diffusion: whether it is a diffusion model.
        runs: records of the finished runs, in the order of their seeds.
        missing: (seed, reason) of the other runs.
        failed: records of the failed runs.
        trials: records of the tuning trials, finished or failed, in their order.
        trials_planned: the number of planned trials; 0 without tuning.
        best: the settings that tuning chose; None without tuning.
        settings: passed for this model alone.
        users: test metrics per user, averaged over the finished runs; None if a run has none.
        users_of_runs: test metrics per user of each finished run, in their order.
    """

    label: str
    model: str
    dataset: str
    diffusion: bool
    runs: list[dict[str, Any]]
    missing: list[tuple[int, str]]
    failed: list[dict[str, Any]]
    trials: list[dict[str, Any]]
    trials_planned: int
    best: Optional[dict[str, Any]]
    settings: dict[str, Any]
    users: Optional[UserMetrics]
    users_of_runs: list[Optional[UserMetrics]] = field(default_factory=list)

    def by_seed(self, metric: str) -> dict[int, float]:
        """Return the test metric of each finished run that has it, by seed."""
        return {run["seed"]: float(run["test"][metric]) for run in self.runs if _is_number(run["test"].get(metric))}

    def mean(self, metric: str) -> Optional[float]:
        """Return the mean of a test metric over the finished runs; None if no run has it."""
        values = self.by_seed(metric).values()
        return float(np.mean(list(values))) if values else None

    def sd(self, metric: str) -> Optional[float]:
        """Return the sample standard deviation of a test metric over seeds; None with fewer than two."""
        values = self.by_seed(metric).values()
        return float(np.std(list(values), ddof=1)) if len(values) > 1 else None

    def varies(self, metric: str) -> bool:
        """Return whether seeds differ in a test metric; those of deterministic models such as EASE do not."""
        return len({*self.by_seed(metric).values()}) > 1

    def group_mean(self, metric: str) -> Optional[float]:
        """Return the mean over the finished runs of the recall of a group; None if no run has it."""
        values = [run["groups"][metric] for run in self.runs if metric in run.get("groups", {})]
        return float(np.mean(values)) if values else None

    def cost(self, name: str) -> Optional[float]:
        """Return an entry of ``timing`` over finished runs: the maximum of a peak, else the mean; None if missing."""
        values = [run["timing"].get(name) for run in self.runs if _is_number(run["timing"].get(name))]
        if not values:
            return None
        return float(max(values) if name.startswith("peak") else np.mean(values))

    @property
    def valid_score(self) -> Optional[float]:
        """The mean over finished runs of the best validation score; None without validation."""
        values = [run["valid_score"] for run in self.runs if _is_number(run.get("valid_score"))]
        return float(np.mean(values)) if values else None

    @property
    def tested(self) -> bool:
        """Whether a finished run has test metrics."""
        return any(run["test"] for run in self.runs)

    @property
    def warnings(self) -> list[str]:
        """The warnings of the finished runs, each once."""
        return list(dict.fromkeys(note for run in self.runs for note in run.get("warnings") or ()))

    @property
    def account(self) -> dict[str, Any]:
        """Rows read and dropped, see :mod:`recbole_diffusion.data.account`; empty without finished runs."""
        accounts = [(run.get("data") or {}).get("account") for run in self.runs]
        return next((account for account in accounts if account), {})

    @property
    def tuning_s(self) -> Optional[float]:
        """Seconds of all finished trials; None without tuning."""
        values = [trial["timing"]["total_s"] for trial in self.trials if trial.get("timing")]
        return float(sum(values)) if values else None


@dataclass(frozen=True)
class ComparisonResults:
    """The results of a comparison.

    Attributes:
        plan: the content of comparison.json.
        results: of each data set by name, in the plan's order of models.
        selection: the metrics of the report; None: those of the plan.
        splits: the data of each data set's split by name, where runs have kept their lists.
    """

    plan: dict[str, Any]
    results: dict[str, list[ModelResult]]
    selection: Optional[Selection] = None
    splits: dict[str, SplitData] = field(default_factory=dict)

    @property
    def main_metric(self) -> str:
        """The metric that models are ranked by, in lower case."""
        return str(self.plan["main_metric"]).lower() if self.selection is None else self.selection.main

    def metrics(self, dataset: str) -> list[str]:
        """Return the metrics of the tables, in lower case.

        They are the selected ones, else those of the finished runs in the plan's order; without runs the plan's.
        """
        planned = [str(metric).lower() for metric in [*self.plan.get("metrics", ()), self.main_metric]]
        measured = [metric for result in self.results[dataset] for run in result.runs for metric in run["test"]]
        shown = [*planned, *measured]
        if self.selection is not None and self.selection.columns is not None:
            shown = self.selection.required
        return [metric for metric in dict.fromkeys(shown) if not measured or metric in measured]


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
        record, of_run = reader.read(key, dataset) if key else (None, None)
        if key is not None and record is not None:
            runs.append(record)
            users[key] = of_run
        else:
            failure = store.failure(key) if key else None
            failed += [failure] if failure else []
            missing.append((seed, str(failure.get("error") or "failed") if failure else "not run yet"))
    trial_keys = (entry.get("trials") or {}).get(dataset) or []
    trials = [record for key in trial_keys for record in [store.record(key) or store.failure(key)] if record]
    for record in [*runs, *trials]:
        record.setdefault("valid_metric", plan["main_metric"])
    best = (entry.get("best") or {}).get(dataset)
    label, model = entry["label"], entry["model"]
    return ModelResult(
        label, model, dataset, _is_diffusion(entry), runs, missing, failed, trials, len(trial_keys), best,
        entry.get("settings") or {}, _mean_over_seeds(label, users), list(users.values()),
    )  # fmt: skip


def _is_diffusion(entry: dict[str, Any]) -> bool:
    """Whether the plan, or else the registry, says that it is a diffusion model."""
    if entry.get("diffusion") is not None:
        return bool(entry["diffusion"])
    try:
        return registry.is_diffusion(entry["model"])
    except (ValueError, ImportError):  # a model of a package that is not installed here
        return False


def common_users(user_metrics: Sequence[UserMetrics]) -> np.ndarray:
    """Return the names of the users that all of them have, sorted, shape (n_common,)."""
    return functools.reduce(np.intersect1d, [np.asarray(of_run.users, dtype=str) for of_run in user_metrics])


def values_of(user_metrics: UserMetrics, metric: str, users: np.ndarray) -> np.ndarray:
    """Return a metric of the given users, in their order, shape (len(users),); it must have all of them."""
    names = np.asarray(user_metrics.users, dtype=str)
    order = np.argsort(names, kind="stable")
    return np.asarray(user_metrics.metrics[metric])[order[np.searchsorted(names, users, sorter=order)]]


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


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
