"""Analysis of one data set: intervals of the means, and significance tests of every pair of models."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Optional

import numpy as np

from recbole_diffusion.experiment.report import significance
from recbole_diffusion.experiment.report.results import (
    ComparisonResults,
    ModelResult,
    beyond_accuracy,
    common_users,
    higher_is_better,
    values_of,
)

LIMIT = 0.05
#: Families of tests in which p-values are corrected, each within one data set and metric.
AGAINST_REFERENCE, ALL_PAIRS = "against the reference", "all pairs"
_TESTS = ("p_t", "p_wilcoxon", "p_seeds")
#: Values of each user or of each resample, by (label, metric).
Arrays = dict[tuple[str, str], np.ndarray]


@dataclass
class Analysis:
    """The analysis of one data set.

    Attributes:
        dataset: the data set's name.
        results: of each model.
        main: the metric that models are ranked by.
        accuracy: metrics that are averaged over users.
        beyond: beyond-accuracy metrics, of all recommended lists together.
        notes: for the reader.
        reference: the label of the model that the others are compared with; None if no run has finished.
        users: the number of users over which the models are paired.
        intervals: 95 % bootstrap intervals over users, by (label, metric).
        pairs: one row per metric, family and pair, see :func:`_pair`.
    """

    dataset: str
    results: list[ModelResult]
    main: str
    accuracy: list[str]
    beyond: list[str]
    notes: list[str]
    reference: Optional[str] = None
    users: int = 0
    intervals: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    pairs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def file_name(self) -> str:
        """The data set's name with the characters that a file name may have."""
        return re.sub(r"[^\w.-]+", "_", self.dataset)

    def against_reference(self, label: str, metric: str) -> Optional[dict[str, Any]]:
        """Return the row that compares a model with the reference; None if there is no such row."""
        key = (AGAINST_REFERENCE, metric, label)
        return next((row for row in self.pairs if (row["family"], row["metric"], row["first"]) == key), None)

    def differs(self, label: str, metric: str) -> bool:
        """Return whether the model differs from the reference (Wilcoxon over users, Holm-corrected, p < .05)."""
        row = self.against_reference(label, metric)
        return row is not None and row["p_wilcoxon_holm"] is not None and row["p_wilcoxon_holm"] < LIMIT


def ranked(results: list[ModelResult], metric: str) -> list[ModelResult]:
    """Return the models that have the metric, the best first."""
    sign = 1 if higher_is_better(metric) is False else -1
    scored = [(sign * mean, result) for result in results for mean in [result.mean(metric)] if mean is not None]
    return [result for _, result in sorted(scored, key=lambda pair: pair[0])]


def analyse(
    comparison: ComparisonResults,
    dataset: str,
    reference: Optional[str] = None,
    resamples: int = significance.RESAMPLES,
) -> Analysis:
    """Compare the models of one data set.

    Args:
        comparison: the results of all data sets.
        dataset: the data set's name.
        reference: a label; None: the best model at the main metric. The best model also replaces a reference without
            finished runs.
        resamples: of the bootstrap; 0: no intervals.

    Raises:
        ValueError: an unknown metric or model.
    """
    results, metrics = comparison.results[dataset], comparison.metrics(dataset)
    main = comparison.main_metric
    _check("metric", main, [name for name in metrics if higher_is_better(name) is not None])
    if reference is not None:
        _check("reference", reference, [result.label for result in results])
    accuracy = [name for name in metrics if not beyond_accuracy(name)]
    beyond = [name for name in metrics if beyond_accuracy(name)]
    analysis = Analysis(dataset, results, main, accuracy, beyond, _notes(comparison, dataset))
    order = ranked(results, main)
    if order:
        finished = [result.label for result in order]
        analysis.reference = reference if reference in finished else finished[0]
        if reference not in (None, analysis.reference):
            analysis.notes.append(f"{reference} has no finished run: models are compared with {analysis.reference}")
        _compare(analysis, resamples)
    return analysis


def _check(key: str, value: str, allowed: list[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{key}={value!r} is not allowed; allowed: {' | '.join(allowed)}")


def _compare(analysis: Analysis, resamples: int) -> None:
    """Set users, intervals and pairs."""
    values = _user_values(analysis)
    bootstrap_means: Arrays = {}
    if resamples and values and analysis.users > 1:
        means = significance.bootstrap_means(np.stack(list(values.values())), resamples)
        bootstrap_means = dict(zip(values, means))
    analysis.intervals = {key: significance.interval(row) for key, row in bootstrap_means.items()}
    finished = [result for result in analysis.results if result.runs]
    reference = next(result for result in finished if result.label == analysis.reference)
    others = [result for result in finished if result is not reference]
    for metric in analysis.accuracy:
        for family, pairs in (
            (AGAINST_REFERENCE, [(other, reference) for other in others]),
            (ALL_PAIRS, list(combinations(finished, 2))),
        ):
            analysis.pairs += _family(analysis, metric, family, pairs, values, bootstrap_means)


def _user_values(analysis: Analysis) -> Arrays:
    """The metrics of the users that all models have."""
    user_metrics = [(result.label, result.users) for result in analysis.results if result.users is not None]
    if not user_metrics:
        return {}
    users = common_users([of_model for _, of_model in user_metrics])
    analysis.users = len(users)
    largest = max(len(of_model.users) for _, of_model in user_metrics)
    if len(users) < largest:
        analysis.notes.append(
            f"not all models were tested on the same users: tests and intervals are over the {len(users)} of {largest} "
            "that all have"
        )
    if not len(users):
        return {}
    return {
        (label, metric): values_of(of_model, metric, users)
        for label, of_model in user_metrics
        for metric in analysis.accuracy
        if metric in of_model.metrics
    }


def _family(
    analysis: Analysis,
    metric: str,
    family: str,
    pairs: list[tuple[ModelResult, ModelResult]],
    values: Arrays,
    bootstrap_means: Arrays,
) -> list[dict[str, Any]]:
    """The rows of a family of pairs, with p-values corrected within the family."""
    rows = [
        {
            "dataset": analysis.dataset,
            "metric": metric,
            "family": family,
            **_pair(first, second, metric, values, bootstrap_means),
        }
        for first, second in pairs
    ]
    for test in _TESTS:
        tested = [row for row in rows if row[test] is not None]
        raw = [row[test] for row in tested]
        for row in rows:
            row[f"{test}_holm"] = row[f"{test}_bh"] = None
        for row, holm, bh in zip(tested, significance.holm(raw), significance.benjamini_hochberg(raw)):
            row[f"{test}_holm"], row[f"{test}_bh"] = float(holm), float(bh)
    return rows


def _pair(
    first: ModelResult, second: ModelResult, metric: str, values: Arrays, bootstrap_means: Arrays
) -> dict[str, Any]:
    """Compare two models over users, if both have them, and over the means of common seeds.

    Differences are first - second.
    """
    keys = (first.label, metric), (second.label, metric)
    row: dict[str, Any] = {"first": first.label, "second": second.label, "users": None, "low": None, "high": None}
    row.update(dict.fromkeys(significance.Paired._fields))
    if all(key in values for key in keys):
        n_users = int((~np.isnan(values[keys[0]] - values[keys[1]])).sum())
        if n_users:
            row.update(users=n_users, **significance.paired(*(values[key] for key in keys))._asdict())
    if all(key in bootstrap_means for key in keys):
        row["low"], row["high"] = significance.interval(bootstrap_means[keys[0]] - bootstrap_means[keys[1]])
    means = first.mean(metric), second.mean(metric)
    if row["difference"] is None and means[0] is not None and means[1] is not None:
        row["difference"] = means[0] - means[1]
    first_means, second_means = first.by_seed(metric), second.by_seed(metric)
    seeds = sorted(set(first_means) & set(second_means))
    t, p = significance.over_seeds([first_means[seed] for seed in seeds], [second_means[seed] for seed in seeds])
    row.update(seeds=len(seeds), t_seeds=t, p_seeds=p)
    return row


def _notes(comparison: ComparisonResults, dataset: str) -> list[str]:
    """Notes on missing runs and trials, and on runs with another split."""
    split = (comparison.plan.get("datasets") or {}).get(dataset, {}).get("split_sha256")
    results = comparison.results[dataset]
    notes = []
    for result in results:
        if result.missing:
            total = len(result.runs) + len(result.missing)
            notes.append(f"{result.label}: {len(result.runs)} of {total} runs finished ({_reasons(result.missing)})")
        splits = {run.get("data", {}).get("split_sha256", split) for run in result.runs}
        if split and splits - {split}:
            notes.append(f"{result.label} was run on another split than the comparison's: its numbers do not compare")
    finished = [result for result in results if result.runs]
    if finished and not any(result.tested for result in finished):
        chosen = next(run["valid_metric"] for result in finished for run in result.runs)
        scores = [f"{result.label} {result.valid_score:.4f}" for result in finished if result.valid_score is not None]
        notes.append(f"no test scores; {chosen} on the validation split: {', '.join(scores) or 'none'}")
    return notes + _trial_notes(results)


def _trial_notes(results: list[ModelResult]) -> list[str]:
    notes = []
    failed = [(result, sum(trial["status"] == "failed" for trial in result.trials)) for result in results]
    counts = [f"{result.label} {count} of {len(result.trials)}" for result, count in failed if count]
    if counts:
        notes.append(f"trials that failed: {', '.join(counts)}")
    trials = [(result.label, trial) for result in results for trial in result.trials]
    notes += [f"{label}: trial {trial['error']}" for label, trial in trials if trial["status"] == "damaged"]
    incomplete = [result for result in results if len(result.trials) < result.trials_planned]
    if incomplete:
        counts = [f"{result.label} {len(result.trials)} of {result.trials_planned}" for result in incomplete]
        notes.append(f"trials run so far: {', '.join(counts)}")
    return notes


def _reasons(missing: list[tuple[int, str]]) -> str:
    """``seeds 2, 3: not run yet; seed 4: out of memory``."""
    seeds_of: dict[str, list[str]] = {}
    for seed, reason in missing:
        seeds_of.setdefault(reason, []).append(str(seed))
    return "; ".join(f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}: {reason}" for reason, seeds in seeds_of.items())
