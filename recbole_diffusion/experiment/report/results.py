"""What a comparison's folder holds, model by model: the finished runs, the missing ones, users averaged over seeds."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from recbole_diffusion import registry
from recbole_diffusion.experiment.jobs.store import Store, UserMetrics

#: Metrics of the lists as a whole, by the start of their name: whether higher is better, None where neither is.
BEYOND: dict[str, Optional[bool]] = {
    "itemcoverage": True,
    "shannonentropy": True,
    "tailpercentage": True,
    "novelty": True,
    "averagepopularity": None,
    "giniindex": None,
}
#: RecBole's metrics of which less is better.
_ERRORS = frozenset({"rmse", "mae", "logloss"})


def beyond_accuracy(metric: str) -> bool:
    """Whether the metric is of the lists as a whole."""
    return metric.partition("@")[0] in BEYOND


def higher_is_better(metric: str) -> Optional[bool]:
    """None for metrics of which neither more nor less is better."""
    name = metric.partition("@")[0]
    return BEYOND.get(name, name not in _ERRORS)


@dataclass(frozen=True)
class Result:
    """One model on one data set.

    Attributes:
        label: its name in tables.
        model: what ``run`` takes.
        diffusion: whether it is a diffusion model.
        runs: records of the finished runs, in the order of their seeds.
        missing: (seed, reason) of the others.
        failed: records of those that failed.
        trials: records of the tuning's trials, finished or failed, in their order.
        trials_planned: how many there shall be; 0 without tuning.
        best: the settings that tuning chose, None without.
        settings: those given for this model.
        users: test metrics per user, averaged over the finished runs; None where a run has none.
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
        """The test metric of each finished run that has it."""
        return {run["seed"]: float(run["test"][metric]) for run in self.runs if _is_number(run["test"].get(metric))}

    def mean(self, metric: str) -> Optional[float]:
        """The test metric's mean over the finished runs."""
        values = self.by_seed(metric).values()
        return float(np.mean(list(values))) if values else None

    def sd(self, metric: str) -> Optional[float]:
        """Its sample standard deviation over seeds; None with one."""
        values = self.by_seed(metric).values()
        return float(np.std(list(values), ddof=1)) if len(values) > 1 else None

    def cost(self, name: str) -> Optional[float]:
        """An entry of ``timing``: of a peak the largest, else the mean over finished runs; None where none has it."""
        values = [run["timing"].get(name) for run in self.runs if _is_number(run["timing"].get(name))]
        if not values:
            return None
        return float(max(values) if name.startswith("peak") else np.mean(values))

    @property
    def valid_score(self) -> Optional[float]:
        """The mean over finished runs of the validation score that chose their epochs; None without validation."""
        values = [run["valid_score"] for run in self.runs if _is_number(run.get("valid_score"))]
        return float(np.mean(values)) if values else None

    @property
    def tested(self) -> bool:
        """Whether a finished run has test metrics."""
        return any(run["test"] for run in self.runs)

    @property
    def warnings(self) -> list[str]:
        """What the finished runs have warned of, each once."""
        return list(dict.fromkeys(note for run in self.runs for note in run.get("warnings") or ()))

    @property
    def account(self) -> dict[str, Any]:
        """Rows read and dropped, see :mod:`recbole_diffusion.data.account`; empty where no run has finished."""
        accounts = [(run.get("data") or {}).get("account") for run in self.runs]
        return next((each for each in accounts if each), {})

    @property
    def tuning_s(self) -> Optional[float]:
        """Seconds of all finished trials; None without tuning."""
        values = [trial["timing"]["total_s"] for trial in self.trials if trial.get("timing")]
        return float(sum(values)) if values else None


@dataclass(frozen=True)
class Comparison:
    """All of a folder: ``plan`` is comparison.json, ``results`` are those of each data set, in the plan's order."""

    plan: dict[str, Any]
    results: dict[str, list[Result]]

    @property
    def main_metric(self) -> str:
        return str(self.plan["main_metric"]).lower()

    def metrics(self, dataset: str) -> list[str]:
        """In lower case and the plan's order: those that finished runs have; the plan's where none has finished."""
        asked = [str(metric).lower() for metric in [*self.plan.get("metrics", ()), self.main_metric]]
        there = [metric for result in self.results[dataset] for run in result.runs for metric in run["test"]]
        return [metric for metric in dict.fromkeys([*asked, *there]) if not there or metric in there]


def read(folder: Union[str, Path]) -> Comparison:
    """Read a comparison, finished or not.

    Raises:
        ValueError: the folder holds none; a run's users or values are not right.
    """
    folder = Path(folder)
    if not (folder / "comparison.json").is_file():  # Store would make the folder
        raise ValueError(f"{str(folder)!r} is not the folder of a comparison: it has no comparison.json")
    store = Store(folder)
    plan = store.plan()
    names = list(plan.get("datasets") or {})
    names += [name for entry in plan["models"] for name in entry.get("runs") or {} if name not in names]
    results = {
        name: [_result(store, plan, entry, name) for entry in plan["models"]] for name in list(dict.fromkeys(names))
    }
    return Comparison(plan, results)


def _result(store: Store, plan: dict[str, Any], entry: dict[str, Any], dataset: str) -> Result:
    keys = (entry.get("runs") or {}).get(dataset) or []
    runs: list[dict[str, Any]] = []
    missing: list[tuple[int, str]] = []
    failed: list[dict[str, Any]] = []
    users: dict[str, Optional[UserMetrics]] = {}
    for place, seed in enumerate(plan["seeds"]):
        key = keys[place] if place < len(keys) else None
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
    return Result(
        label, model, dataset, _is_diffusion(entry), runs, missing, failed, trials, len(trial_keys), best,
        entry.get("settings") or {}, _mean_over_seeds(label, users),
    )  # fmt: skip


def _is_diffusion(entry: dict[str, Any]) -> bool:
    """What the comparison has written down; for a plan without it, what the registry says of the model."""
    kept = entry.get("diffusion")
    if kept is not None:
        return bool(kept)
    try:
        return registry.is_diffusion(entry["model"])
    except (ValueError, ImportError):  # a model of a package that is not installed here
        return False


def common_users(parts: Sequence[UserMetrics]) -> np.ndarray:
    """Names of the users that all parts have, sorted, shape (n_common,)."""
    return functools.reduce(np.intersect1d, [np.asarray(part.users, dtype=str) for part in parts])


def values_of(part: UserMetrics, metric: str, users: np.ndarray) -> np.ndarray:
    """The metric of these users, in their order, shape (len(users),); all must be there."""
    names = np.asarray(part.users, dtype=str)
    order = np.argsort(names, kind="stable")
    return np.asarray(part.metrics[metric])[order[np.searchsorted(names, users, sorter=order)]]


def _mean_over_seeds(label: str, parts: dict[str, Optional[UserMetrics]]) -> Optional[UserMetrics]:
    """The mean over runs, of the users and metrics that all of them have. ``parts``: by the run's key."""
    for key, part in parts.items():
        if part is None or not part.metrics:
            return None
        _check_users(label, key, part)
    whole = [part for part in parts.values() if part is not None]
    if not whole:
        return None
    users = common_users(whole)
    metrics = [metric for metric in whole[0].metrics if all(metric in part.metrics for part in whole)]
    return UserMetrics(
        users, {metric: np.mean([values_of(part, metric, users) for part in whole], axis=0) for metric in metrics}
    )


def _check_users(label: str, key: str, part: UserMetrics) -> None:
    way_out = f"delete runs/{key}.* and run it again"
    if len(np.unique(part.users)) != len(part.users):
        raise ValueError(f"{label}: a user is there twice in runs/{key}.npz; {way_out}")
    for metric, values in part.metrics.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{label}: {metric} of a user is not finite in runs/{key}.npz; {way_out}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
