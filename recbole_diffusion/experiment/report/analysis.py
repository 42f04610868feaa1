"""Who is better than whom on one data set: intervals of the means, and tests of every pair of models."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Optional

import numpy as np

from recbole_diffusion.experiment.report import significance
from recbole_diffusion.experiment.report.results import (
    Comparison,
    Result,
    beyond_accuracy,
    common_users,
    higher_is_better,
    values_of,
)

LIMIT = 0.05
#: Families of tests in which p-values are corrected, each within one data set and metric.
AGAINST_REFERENCE, ALL_PAIRS = "against the reference", "all pairs"
_TESTS = ("p_t", "p_wilcoxon", "p_seeds")
#: Arrays over users or over resamples, by (label, metric).
Rows = dict[tuple[str, str], np.ndarray]


@dataclass
class Analysis:
    """What the numbers of one data set say.

    Attributes:
        main: the metric that models are ranked by.
        accuracy, beyond: metrics averaged over users, and those of the lists as a whole.
        notes: what a reader must know.
        reference: the label of the model that the others are compared with; None where no run has finished.
        users: how many users the models are paired over.
        intervals: of (label, metric), 95 % over users.
        pairs: one row per metric, family and pair, see :func:`_pair`.
    """

    dataset: str
    results: list[Result]
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
        """The data set's name as part of a file's."""
        return re.sub(r"[^\w.-]+", "_", self.dataset)

    def against_reference(self, label: str, metric: str) -> Optional[dict[str, Any]]:
        """The row that compares a model with the reference."""
        wanted = (AGAINST_REFERENCE, metric, label)
        return next((row for row in self.pairs if (row["family"], row["metric"], row["first"]) == wanted), None)

    def differs(self, label: str, metric: str) -> bool:
        """Whether the model differs from the reference: Wilcoxon over users, Holm-corrected, p < .05."""
        row = self.against_reference(label, metric)
        return row is not None and row["p_wilcoxon_holm"] is not None and row["p_wilcoxon_holm"] < LIMIT


def ranked(results: list[Result], metric: str) -> list[Result]:
    """The models that have the metric, the best first."""
    sign = 1 if higher_is_better(metric) is False else -1
    found = [(sign * mean, result) for result in results for mean in [result.mean(metric)] if mean is not None]
    return [result for _, result in sorted(found, key=lambda pair: pair[0])]


def analyse(
    comparison: Comparison,
    dataset: str,
    metric: Optional[str] = None,
    reference: Optional[str] = None,
    resamples: int = significance.RESAMPLES,
) -> Analysis:
    """Compare the models of one data set.

    Args:
        metric: the main one; None for the plan's.
        reference: a label; None for the best model at the main metric, which also stands in where the named one has no
            finished run.
        resamples: of the bootstrap; 0 for no intervals.

    Raises:
        ValueError: no such metric or model.
    """
    results, metrics = comparison.results[dataset], comparison.metrics(dataset)
    main = (metric or comparison.main_metric).lower()
    _check("metric", main, [each for each in metrics if higher_is_better(each) is not None])
    if reference is not None:
        _check("reference", reference, [result.label for result in results])
    accuracy = [each for each in metrics if not beyond_accuracy(each)]
    beyond = [each for each in metrics if beyond_accuracy(each)]
    found = Analysis(dataset, results, main, accuracy, beyond, _notes(comparison, dataset))
    order = ranked(results, main)
    if order:
        there = [result.label for result in order]
        found.reference = reference if reference in there else there[0]
        if reference not in (None, found.reference):
            found.notes.append(f"{reference} has no finished run: models are compared with {found.reference}")
        _compare(found, resamples)
    return found


def _check(key: str, value: str, allowed: list[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{key}={value!r} is not allowed; allowed: {' | '.join(allowed)}")


def _compare(found: Analysis, resamples: int) -> None:
    """Fill in users, intervals and pairs."""
    values = _values(found)
    drawn: Rows = {}
    if resamples and values and found.users > 1:
        means = significance.bootstrap_means(np.stack(list(values.values())), resamples)
        drawn = dict(zip(values, means))
    found.intervals = {key: significance.interval(row) for key, row in drawn.items()}
    finished = [result for result in found.results if result.runs]
    reference = next(result for result in finished if result.label == found.reference)
    others = [result for result in finished if result is not reference]
    for metric in found.accuracy:
        for family, pairs in (
            (AGAINST_REFERENCE, [(other, reference) for other in others]),
            (ALL_PAIRS, list(combinations(finished, 2))),
        ):
            found.pairs += _family(found, metric, family, pairs, values, drawn)


def _values(found: Analysis) -> Rows:
    """Metrics over the users that all models have, by (label, metric)."""
    there = [(result.label, result.users) for result in found.results if result.users is not None]
    if not there:
        return {}
    users = common_users([part for _, part in there])
    found.users = len(users)
    largest = max(len(part.users) for _, part in there)
    if len(users) < largest:
        found.notes.append(
            f"not all models were tested on the same users: tests and intervals are over the {len(users)} of {largest} "
            "that all have"
        )
    if not len(users):
        return {}
    return {
        (label, metric): values_of(part, metric, users)
        for label, part in there
        for metric in found.accuracy
        if metric in part.metrics
    }


def _family(
    found: Analysis, metric: str, family: str, pairs: list[tuple[Result, Result]], values: Rows, drawn: Rows
) -> list[dict[str, Any]]:
    rows = [
        {"dataset": found.dataset, "metric": metric, "family": family, **_pair(first, second, metric, values, drawn)}
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


def _pair(first: Result, second: Result, metric: str, values: Rows, drawn: Rows) -> dict[str, Any]:
    """Differences are first - second; over users where both have them, and over the means of common seeds."""
    keys = (first.label, metric), (second.label, metric)
    row: dict[str, Any] = {"first": first.label, "second": second.label, "users": None, "low": None, "high": None}
    row.update(dict.fromkeys(significance.Paired._fields))
    if all(key in values for key in keys):
        row.update(users=len(values[keys[0]]), **significance.paired(*(values[key] for key in keys))._asdict())
    if all(key in drawn for key in keys):
        row["low"], row["high"] = significance.interval(drawn[keys[0]] - drawn[keys[1]])
    means = first.mean(metric), second.mean(metric)
    if row["difference"] is None and means[0] is not None and means[1] is not None:
        row["difference"] = means[0] - means[1]
    ours, theirs = first.by_seed(metric), second.by_seed(metric)
    seeds = sorted(set(ours) & set(theirs))
    t, p = significance.over_seeds([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])
    row.update(seeds=len(seeds), t_seeds=t, p_seeds=p)
    return row


def _notes(comparison: Comparison, dataset: str) -> list[str]:
    """What is missing, and what was run on another split."""
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
        scores = [f"{each.label} {each.valid_score:.4f}" for each in finished if each.valid_score is not None]
        notes.append(f"no test scores; {chosen} on the validation split: {', '.join(scores) or 'none'}")
    failed = [(each.label, sum(trial["status"] == "failed" for trial in each.trials), each.trials) for each in results]
    if any(count for _, count, _ in failed):
        counts = ", ".join(f"{label} {count} of {len(trials)}" for label, count, trials in failed if count)
        notes.append(f"trials that failed: {counts}")
    waiting = [(each.label, len(each.trials), each.trials_planned) for each in results]
    if any(done < planned for _, done, planned in waiting):
        counts = ", ".join(f"{label} {done} of {planned}" for label, done, planned in waiting if done < planned)
        notes.append(f"trials run so far: {counts}")
    return notes


def _reasons(missing: list[tuple[int, str]]) -> str:
    """``seeds 2, 3: not run yet; seed 4: out of memory``."""
    by_reason: dict[str, list[str]] = {}
    for seed, reason in missing:
        by_reason.setdefault(reason, []).append(str(seed))
    return "; ".join(f"seed{'s' * (len(s) > 1)} {', '.join(s)}: {reason}" for reason, s in by_reason.items())
