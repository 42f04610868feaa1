"""The trials of a tuning: what one is, what is kept of it, what is shown of them all.

A trial is a run that sees the validation split only. Its record is kept when it ends, in the form that a comparison
keeps its runs in, with ``chosen`` (its values of the space's keys) and ``curve`` ([epochs, score] of each validation).
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
    """What all trials of a tuning share.

    Attributes:
        model, dataset: what :func:`recbole_diffusion.run` takes.
        settings: of every trial; paths are absolute.
        seed: of the trials.
        basis: see :class:`RunSpec`.
        folder: of the tuning; absolute.
        threads: of each trial.
        gpus: of each trial on Ray; 0: it sees none.
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
        """A trial by its number, or without one a run that is tested."""
        settings = {**self.settings, **chosen}
        seed = self.seed if seed is None else seed
        return RunSpec(self.model, self.model, self.dataset, seed, settings, trial, dict(self.basis))


def run_trial(study: TuningContext, number: int, chosen: dict[str, Any], report: Callable[[int, float], Any]) -> Record:
    """Train with these settings and give the trial's record. The test split is not scored.

    Args:
        study: what the trials share.
        number: of the trial, from 1.
        chosen: its settings.
        report: called as ``report(epochs done, validation score)``; what it raises ends the trial.

    Raises:
        ValueError: scores that are not finite, no validation; and whatever the run raises.
    """
    from recbole_diffusion import quick_start

    spec, started = study.run_spec(chosen, number), datetime.now(timezone.utc)
    with limit_threads(study.threads), run_job.working_directory(Path(study.folder), spec.key):
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


def better(score: float, than: float, bigger: bool) -> bool:
    """Whether a score is a gain."""
    return score > than if bigger else score < than


def best_of(records: Iterable[Record], bigger: bool) -> Optional[Record]:
    """The record with the best validation score, the first of equals; None where none has one."""
    best: Optional[Record] = None
    for record in sorted(records, key=lambda record: record["trial"]):
        if record.get("valid_score") is None or not math.isfinite(record["valid_score"]):
            continue
        if best is None or better(record["valid_score"], best["valid_score"], bigger):
            best = record
    return best


def curve_of(record: Record) -> Curve:
    """The validations of a trial that is kept."""
    return [(int(epochs), float(score)) for epochs, score in record["curve"]]


class Median:
    """The median rule (Golovin et al., Google Vizier, KDD 2017), on what is seen so far.

    A trial stops at an epoch where its best score is worse than the median of the other trials' mean scores up to that
    epoch; means begin at ``grace``, and ``least`` trials must have come so far. None stops at its ``last`` epoch.
    """

    def __init__(self, bigger: bool, grace: int, last: int, least: int = 3) -> None:
        self.bigger, self.grace, self.last, self.least = bigger, grace, last, least
        self.curves: dict[int, Curve] = {}

    def stops(self, number: int, curve: Curve) -> bool:
        """Whether the trial with this curve stops at its end."""
        self.curves[number] = curve
        epoch = curve[-1][0]
        others = [each for other, each in self.curves.items() if other != number and each[-1][0] >= epoch]
        within = [[score for at, score in each if self.grace <= at <= epoch] for each in others]
        means = [fmean(scores) for scores in within if scores]
        if not self.grace <= epoch < self.last or len(means) < self.least:
            return False
        scores = [score for _, score in curve]
        return better(median(means), max(scores) if self.bigger else min(scores), self.bigger)


@dataclass
class TrialLog:
    """Keeps the trials of a study as they end, and says so.

    Attributes:
        study, store: what they share, and where they are kept.
        total: how many there will be.
        metric, bigger: what they are judged by.
        show: lines and a bar on stderr.
        workers: how many run at once, for the time left.
        records: of the trials that ended, by number; the failed ones are in ``failures``.
    """

    study: TuningContext
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
        quiet = not (self.show and sys.stderr.isatty())
        done = len(self.records) + len(self.failures)
        self._bar = tqdm(total=self.total, initial=done, disable=quiet, ncols=100, unit=" trials", desc="Tune")
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.close()

    def start(self, number: int, chosen: dict[str, Any]) -> None:
        """A trial begins."""
        self._started[number] = perf_counter(), datetime.now(timezone.utc), chosen
        self._curves[number] = []

    def report(self, number: int, epochs: int, score: float) -> Curve:
        """A trial was validated; its curve so far."""
        self._curves[number].append((epochs, score))
        return self._curves[number]

    def finish(self, number: int, record: Record) -> None:
        """A trial came to its end."""
        self._keep(number, record, f"after {record['timing']['epochs']} epochs")

    def stop(self, number: int) -> None:
        """A scheduler ended a trial; what it had reached counts."""
        seconds, started, chosen = self._started[number]
        curve = self._curves[number]
        scores = [score for _, score in curve]
        timing = {"epochs": curve[-1][0], "total_s": perf_counter() - seconds}
        record = run_job.failed_record(self.study.run_spec(chosen, number), "")
        del record["error"]
        record.update(status="stopped", valid_score=max(scores) if self.bigger else min(scores), timing=timing)
        record.update(started=started.isoformat(timespec="seconds"), valid=None, test=None)
        self._keep(number, record, f"stopped after {curve[-1][0]} epochs")

    def _keep(self, number: int, record: Record, how: str) -> None:
        record.update(chosen=self._started[number][2], curve=[list(point) for point in self._curves[number]])
        record["valid_metric"] = self.metric
        try:
            self.store.finish(record["key"], record)
        except OSError as error:  # the disk is full
            self.fail(number, f"its record could not be written: {one_line(error)}")
            return
        self.records[number] = record
        best = best_of(self.records.values(), self.bigger)
        score = f"{record['valid_score']:.4f} {how}"
        self._ended(number, f"{self.metric} {score}", f"best {best['valid_score']:.4f}, trial {best['trial']}")  # type: ignore[index]

    def fail(self, number: int, reason: str) -> None:
        """A trial failed."""
        chosen = self._started[number][2]
        record = {**run_job.failed_record(self.study.run_spec(chosen, number), reason), "chosen": chosen}
        self.failures[number] = record
        with contextlib.suppress(OSError):
            self.store.fail(record["key"], record)
        self._ended(number, f"failed: {reason}", "")

    def _ended(self, number: int, what: str, best: str) -> None:
        self._seconds.append(perf_counter() - self._started[number][0])
        left = self.total - len(self.records) - len(self.failures)
        seconds = fmean(self._seconds) * math.ceil(left / self.workers)
        remarks = [f"{self._seconds[-1]:.1f} s", *([best] if best else []), *([_about(seconds)] if left else [])]
        self.say(f"[{self.total - left}/{self.total}] trial {number}: {what} ({'; '.join(remarks)})")
        self._bar.update()

    def say(self, line: str) -> None:
        """A line for the user."""
        if self.show:
            tqdm.write(line, file=sys.stderr)


def _about(seconds: float) -> str:
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"about {seconds / size:.1f} {unit} left"
    return f"about {seconds:.0f} s left"
