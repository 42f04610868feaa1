"""The trials of a tuning: one trial, the median stopping rule, and the log of all trials.

A trial is a run that is scored on the validation split only. Its record is written when it ends. It has the fields
of a comparison's records, and two more: ``chosen``, its values of the space's keys, and ``curve``, a pair
[epochs, score] for each validation.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from typing import Any, Callable, Optional

from tqdm import tqdm

from recbole_diffusion.experiment.jobs import run_job
from recbole_diffusion.experiment.jobs.executor import limit_threads, one_line
from recbole_diffusion.experiment.jobs.run_spec import RunSpec
from recbole_diffusion.experiment.jobs.store import Store

Record = dict[str, Any]
Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class TuningContext:
    """The common inputs of all trials of a tuning.

    Attributes:
        model, dataset: as :func:`recbole_diffusion.run` takes them.
        settings: settings of every trial; paths are absolute.
        seed: seed of the trials.
        basis: fingerprints of code and data, see :class:`RunSpec`.
        folder: folder of the tuning; absolute.
        threads: threads of each trial.
        gpus: GPUs of each trial on Ray; with 0 it sees none.
    """

    model: str
    dataset: str
    settings: dict[str, Any]
    seed: int
    basis: dict[str, str]
    folder: str
    threads: int = 1
    gpus: float = 0.0

    def run_spec(self, chosen: dict[str, Any], trial: Optional[int] = None, seed: Optional[int] = None) -> RunSpec:
        """Describe a trial by its number, or a tested run where the number is None."""
        settings = {**self.settings, **chosen}
        seed = self.seed if seed is None else seed
        return RunSpec(self.model, self.model, self.dataset, seed, settings, trial, dict(self.basis))


def run_trial(
    context: TuningContext, number: int, chosen: dict[str, Any], report: Callable[[int, float], Any]
) -> Record:
    """Train a configuration and return the trial's record. The test split is not scored.

    Args:
        context: the common inputs of the trials.
        number: number of the trial, from 0.
        chosen: its configuration.
        report: called as ``report(epochs, score)`` after each validation, with the number of epochs done. An exception
            that it raises ends the trial.

    Raises:
        ValueError: the validation score is not finite, or no epoch was validated.
        Exception: any exception of the training or of ``report``.
    """
    from recbole_diffusion import quick_start

    spec, started = context.run_spec(chosen, number), datetime.now(timezone.utc)
    with limit_threads(context.threads), run_job.working_directory(Path(context.folder), spec.key):
        own = {"seed": spec.seed, "show_progress": False, "output_dir": str(Path("outputs").absolute())}
        result = quick_start.run(
            spec.model,
            spec.dataset,
            config_dict={**spec.settings, **own},
            saved=False,
            test=False,
            callback=lambda index, score: report(index + 1, float(score)),
        )
    if not math.isfinite(result["best_valid_score"]):
        raise ValueError("nothing was validated; give eval_args a validation split, and eval_step <= epochs")
    return run_job.finished_record(spec, result, started)


def is_better(score: float, reference: float, bigger: bool) -> bool:
    """Return whether a score is better than a reference.

    Args:
        score, reference: values of the same metric.
        bigger: whether larger values of the metric are better.
    """
    return score > reference if bigger else score < reference


def best_score(scores: Iterable[float], bigger: bool) -> float:
    """Return the largest score, or the smallest where smaller values are better."""
    return max(scores) if bigger else min(scores)


def best_record(records: Iterable[Record], bigger: bool) -> Optional[Record]:
    """Return the record with the best finite validation score, the lowest trial number of equals; None if none has."""
    best: Optional[Record] = None
    for record in sorted(records, key=lambda record: record["trial"]):
        if record.get("valid_score") is None or not math.isfinite(record["valid_score"]):
            continue
        if best is None or is_better(record["valid_score"], best["valid_score"], bigger):
            best = record
    return best


def curve_of(record: Record) -> Curve:
    """Return the pairs (epochs, score) of a finished trial's validations."""
    return [(int(epochs), float(score)) for epochs, score in record["curve"]]


class MedianStoppingRule:
    """The median stopping rule (Golovin et al., Google Vizier, KDD 2017), on the curves so far.

    A trial stops after an epoch if its best score is worse than the median of the other trials' mean scores up to that
    epoch. Only trials that have come as far count.

    Args:
        bigger: whether larger scores are better.
        grace: the first epoch after which a trial may stop; means begin there too.
        last_epoch: the last epoch of a trial, where none stops.
        min_trials: the number of other trials without which none stops.

    Attributes:
        curves: pairs (epochs, score), by trial number.
    """

    def __init__(self, bigger: bool, grace: int, last_epoch: int, min_trials: int = 3) -> None:
        self.bigger, self.grace, self.last_epoch, self.min_trials = bigger, grace, last_epoch, min_trials
        self.curves: dict[int, Curve] = {}

    def stops(self, number: int, curve: Curve) -> bool:
        """Record the curve of a trial, and return whether the trial stops at the end of it."""
        self.curves[number] = curve
        epoch = curve[-1][0]
        others = [other for key, other in self.curves.items() if key != number and other[-1][0] >= epoch]
        windows = [[score for at, score in other if self.grace <= at <= epoch] for other in others]
        means = [fmean(window) for window in windows if window]
        if not self.grace <= epoch < self.last_epoch or len(means) < self.min_trials:
            return False
        return is_better(median(means), best_score([score for _, score in curve], self.bigger), self.bigger)


@dataclass
class TrialLog:
    """The trials of a tuning: stores the record of each as it ends, and prints a line about it.

    A context manager, within which a progress bar is shown on a terminal.

    Attributes:
        context: the common inputs of the trials.
        store: folder of the records.
        total: number of trials.
        metric: the validation metric.
        bigger: whether larger values of the metric are better.
        show: print lines and a progress bar to stderr.
        workers: number of trials at once, for the estimate of the time left.
        records: records of the trials that finished or were stopped, by number.
        failures: records of the trials that failed, by number.
    """

    context: TuningContext
    store: Store
    total: int
    metric: str
    bigger: bool
    show: bool = True
    workers: int = 1
    records: dict[int, Record] = field(default_factory=dict)
    failures: dict[int, Record] = field(default_factory=dict)
    _curves: dict[int, Curve] = field(default_factory=dict)
    _started: dict[int, tuple[float, datetime, dict[str, Any]]] = field(default_factory=dict)
    _seconds: list[float] = field(default_factory=list)
    _bar: Any = None

    def __enter__(self) -> TrialLog:
        hidden = not (self.show and sys.stderr.isatty())
        done = len(self.records) + len(self.failures)
        self._bar = tqdm(total=self.total, initial=done, disable=hidden, ncols=100, unit=" trials", desc="Tune")
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.close()

    def start(self, number: int, chosen: dict[str, Any]) -> None:
        """Note the start of a trial."""
        self._started[number] = perf_counter(), datetime.now(timezone.utc), chosen
        self._curves[number] = []

    def has_started(self, number: int) -> bool:
        """Whether :meth:`start` was called for a trial."""
        return number in self._started

    def report(self, number: int, epochs: int, score: float) -> Curve:
        """Add a validation score, and return the trial's curve so far."""
        self._curves[number].append((epochs, score))
        return self._curves[number]

    def finish(self, number: int, record: Record) -> None:
        """Store the record of a trial that was trained to its end."""
        self._write_record(number, record, f"after {record['timing']['epochs']} epochs")

    def stop(self, number: int) -> None:
        """Store the record of a trial that a scheduler stopped. Its best score so far counts."""
        seconds, started, chosen = self._started[number]
        curve = self._curves[number]
        score = best_score([score for _, score in curve], self.bigger)
        timing = {"epochs": curve[-1][0], "total_s": perf_counter() - seconds}
        record = run_job.failed_record(self.context.run_spec(chosen, number), "")
        del record["error"]
        record.update(status="stopped", valid_score=score, timing=timing)
        record.update(started=started.isoformat(timespec="seconds"), valid=None, test=None)
        self._write_record(number, record, f"stopped after {curve[-1][0]} epochs")

    def _write_record(self, number: int, record: Record, ending: str) -> None:
        record.update(chosen=self._started[number][2], curve=[list(point) for point in self._curves[number]])
        record["valid_metric"] = self.metric
        try:
            self.store.finish(record["key"], record)
        except OSError as error:  # the disk is full
            self.fail(number, f"its record could not be written: {one_line(error)}")
            return
        self.records[number] = record
        best = best_record(self.records.values(), self.bigger)
        best_so_far = "" if best is None else f"best {best['valid_score']:.4f}, trial {best['trial']}"
        self._print_end(number, f"{self.metric} {record['valid_score']:.4f} {ending}", best_so_far)

    def fail(self, number: int, reason: str) -> None:
        """Store the reason for which a trial failed."""
        chosen = self._started[number][2]
        record = {**run_job.failed_record(self.context.run_spec(chosen, number), reason), "chosen": chosen}
        self.failures[number] = record
        with contextlib.suppress(OSError):
            self.store.fail(record["key"], record)
        self._print_end(number, f"failed: {reason}", "")

    def _print_end(self, number: int, outcome: str, best_so_far: str) -> None:
        self._seconds.append(perf_counter() - self._started[number][0])
        left = self.total - len(self.records) - len(self.failures)
        seconds = fmean(self._seconds) * math.ceil(left / self.workers)
        remarks = [f"{self._seconds[-1]:.1f} s", best_so_far, _time_left(seconds) if left else ""]
        details = "; ".join(remark for remark in remarks if remark)
        self.print_line(f"[{self.total - left}/{self.total}] trial {number}: {outcome} ({details})")
        self._bar.update()

    def print_line(self, line: str) -> None:
        """Print a line to stderr, above the progress bar."""
        if self.show:
            tqdm.write(line, file=sys.stderr)


def _time_left(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"about {seconds / size:.1f} {unit} left"
    return f"about {seconds:.0f} s left"
