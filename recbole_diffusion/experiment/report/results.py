"""The results in a comparison's folder by model: finished and missing runs, and user metrics averaged over seeds."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from recbole_diffusion import registry
from recbole_diffusion.evaluation.per_user import may_be_nan
from recbole_diffusion.experiment.jobs.store import Store, UserMetrics

#: Beyond-accuracy metrics, of all recommended lists together: whether a higher value is better, None if neither is.
BEYOND: dict[str, Optional[bool]] = {
    "itemcoverage": True,
    "shannonentropy": True,
    "tailpercentage": True,
    "novelty": True,
    "averagepopularity": None,
    "giniindex": None,
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
    """

    plan: dict[str, Any]
    results: dict[str, list[ModelResult]]

    @property
    def main_metric(self) -> str:
        """The metric that models are ranked by, in lower case."""
        return str(self.plan["main_metric"]).lower()

    def metrics(self, dataset: str) -> list[str]:
        """Return the metrics of the finished runs, in lower case and the plan's order; without runs the plan's."""
        planned = [str(metric).lower() for metric in [*self.plan.get("metrics", ()), self.main_metric]]
        measured = [metric for result in self.results[dataset] for run in result.runs for metric in run["test"]]
        return [metric for metric in dict.fromkeys([*planned, *measured]) if not measured or metric in measured]


def read(folder: Union[str, Path]) -> ComparisonResults:
    """Read a comparison, finished or not.

    Raises:
        ValueError: the folder holds no comparison; a run's user metrics are damaged.
    """
    folder = Path(folder)
    if not (folder / "comparison.json").is_file():  # a clearer message than the store's
        raise ValueError(f"{str(folder)!r} is not the folder of a comparison: it has no comparison.json")
    store = Store(folder)
    plan = store.plan()
    names = list(plan.get("datasets") or {})
    names += [name for entry in plan["models"] for name in entry.get("runs") or {} if name not in names]
    results = {
        name: [_result(store, plan, entry, name) for entry in plan["models"]] for name in list(dict.fromkeys(names))
    }
    return ComparisonResults(plan, results)


def _result(store: Store, plan: dict[str, Any], entry: dict[str, Any], dataset: str) -> ModelResult:
    keys = (entry.get("runs") or {}).get(dataset) or []
    runs: list[dict[str, Any]] = []
    missing: list[tuple[int, str]] = []
    failed: list[dict[str, Any]] = []
    users: dict[str, Optional[UserMetrics]] = {}
    for index, seed in enumerate(plan["seeds"]):
        key = keys[index] if index < len(keys) else None
        record = store.record(key) if key else None
        if key is not None and record is not None and record.get("trial") is None:
            record["test"] = record.get("test") or {}  # None where the test split is empty
            runs.append(record)
            users[key] = store.users(key)
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
        entry.get("settings") or {}, _mean_over_seeds(label, users),
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
