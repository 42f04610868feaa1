"""The results in a comparison's folder by model: finished and missing runs, and user metrics averaged over seeds."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np

from recbole_diffusion.evaluation.split_data import SplitData
from recbole_diffusion.experiment.jobs.store import UserMetrics
from recbole_diffusion.experiment.report.selection import Selection

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


def common_users(user_metrics: Sequence[UserMetrics]) -> np.ndarray:
    """Return the names of the users that all of them have, sorted, shape (n_common,)."""
    return functools.reduce(np.intersect1d, [np.asarray(of_run.users, dtype=str) for of_run in user_metrics])


def values_of(user_metrics: UserMetrics, metric: str, users: np.ndarray) -> np.ndarray:
    """Return a metric of the given users, in their order, shape (len(users),); it must have all of them."""
    names = np.asarray(user_metrics.users, dtype=str)
    order = np.argsort(names, kind="stable")
    return np.asarray(user_metrics.metrics[metric])[order[np.searchsorted(names, users, sorter=order)]]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
