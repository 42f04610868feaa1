"""Run the trials in parallel on Ray Tune, with its schedulers and searches; for ray 2.6.3, and for 2.49 and newer.

:func:`_report_function` and :func:`_run_config` hold the differences between these versions. The records are written by
:class:`TrialLog` and not by ``Tuner.restore``, which needs the last snapshot of the driver. When a tuning is resumed,
the searches and schedulers are given the finished trials again.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

from recbole_diffusion.experiment.jobs.calls import KILLED, KILLED_OR_LOST, NODE_DIED, one_line
from recbole_diffusion.experiment.tune import search as tune_search
from recbole_diffusion.experiment.tune.search import RemainingSearch
from recbole_diffusion.experiment.tune.trials import (
    MedianStoppingRule,
    TrialLog,
    TuningContext,
    best_score,
    curve_of,
    run_trial,
)

#: ASHA's reduction factor: at each rung the best third of the trials goes on.
REDUCTION = 3
_VARIABLES = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no result files of Ray's own
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C raises KeyboardInterrupt in the driver
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that failed has no score
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # Ray ends workers that are no longer needed
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
}


def search(trial_log: TrialLog, remaining: RemainingSearch) -> None:
    """Run the remaining trials on the connected Ray, and store their records.

    Raises:
        ValueError: the search's library cannot be imported; one line.
    """
    tune = importlib.import_module("ray.tune")
    folder = Path(trial_log.context.folder) / "ray"
    shutil.rmtree(folder, ignore_errors=True)  # left behind by a driver that was killed
    with _quiet_tune(), contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        trainable = tune.with_parameters(_trainable, context=trial_log.context)
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1, "gpu": trial_log.context.gpus}),
            tune_config=tune.TuneConfig(
                search_alg=tune_search.suggestions(tune, trial_log, remaining),
                scheduler=_scheduler(trial_log, remaining),
                num_samples=len(remaining.todo) + remaining.suggested,
                max_concurrent_trials=remaining.at_once or None,
                reuse_actors=remaining.reuse,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=_run_config(tune, folder, _log_callback(tune, trial_log)),
        )
        tuner.fit()


def _trainable(config: dict[str, Any], context: TuningContext) -> None:
    """Run one trial in a worker. Report each validation, and at the end the record or the failure."""
    sys.argv = sys.argv[:1]  # RecBole's Config reads the arguments of the process
    if not context.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    reporter = _ScoreReporter(_report_function(), config["bigger"])
    try:
        record = run_trial(context, config["trial"], json.loads(config["chosen"]), reporter)
    except Exception as error:
        if reporter.stopped:  # Tune has stopped the trial; an error that follows from that is no failure
            raise SystemExit(0) from error
        reporter.report({"epoch": -1, "failure": one_line(error), "done": True})
    else:
        reporter.report({**reporter.last, "record": json.dumps(record, default=str), "done": True})


class _ScoreReporter:
    """Callback that reports each validation score, and the best score so far, to Ray Tune.

    Args:
        report: Tune's function that takes a dict.
        bigger: whether larger scores are better.

    Attributes:
        last: the last reported dict.
        stopped: whether Tune has stopped the trial.
    """

    def __init__(self, report: Any, bigger: bool) -> None:
        self.report, self.bigger = report, bigger
        self.last: dict[str, Any] = {}
        self.stopped = False

    def __call__(self, epochs: int, score: float) -> None:
        best = best_score((score, self.last.get("best", score)), self.bigger)
        self.last = {"epoch": epochs, "score": score, "best": best}
        try:
            self.report(dict(self.last))
        except BaseException:  # SystemExit, by which Tune ends a trial
            self.stopped = True
            raise


def _report_function() -> Any:
    """Return the function that reports a dict to Tune, of this version of ray."""
    tune: Any = importlib.import_module("ray.tune")
    if "metrics" in inspect.signature(tune.report).parameters:
        return tune.report
    return importlib.import_module("ray.air.session").report


def _run_config(tune: Any, folder: Path, callback: Any) -> Any:
    config_class = getattr(tune, "RunConfig", None) or importlib.import_module("ray.air").RunConfig
    return config_class(name="trials", storage_path=str(folder), callbacks=[callback], verbose=0)


@contextlib.contextmanager
def _quiet_tune() -> Iterator[None]:
    """Set Tune's environment variables and silence its loggers and warnings; the trial log prints the progress."""
    before = dict(os.environ)
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.air", "ray.train", "ray.data")]
    levels = [logger.level for logger in loggers]
    os.environ.update(_VARIABLES)
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
        for name in _VARIABLES:
            os.environ.pop(name, None)
            os.environ.update({name: before[name]} if name in before else {})


def _log_callback(tune: Any, trial_log: TrialLog) -> Any:
    """Make Tune's callback that passes the events of the trials to the trial log."""

    class LogCallback(tune.Callback):
        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            trial_log.start(trial.config["trial"], json.loads(trial.config["chosen"]))

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any) -> None:
            if "record" not in result and "failure" not in result:
                trial_log.report(trial.config["trial"], result["epoch"], result["score"])

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            number, last = trial.config["trial"], trial.last_result
            if "record" in last:
                trial_log.finish(number, json.loads(last["record"]))
            elif "failure" in last:
                trial_log.fail(number, last["failure"])
            else:
                trial_log.stop(number)

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            number = trial.config["trial"]
            if not trial_log.has_started(number):  # its worker or its machine died first
                trial_log.start(number, json.loads(trial.config["chosen"]))
            trial_log.fail(number, _reason(trial))

    return LogCallback()


def _reason(trial: Any) -> str:
    """Return why a worker ended early: the last line of Ray's error file, or what is known of its death.

    Older versions of Ray write that file after this.
    """
    try:
        text = Path(trial.error_file).read_text(encoding="utf-8")
    except (OSError, TypeError):
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    dead = any(word in text for word in ("died", "ActorUnavailable", "WorkerCrashed", "OutOfMemory"))
    return _reason_of_death(trial) if dead or not lines else lines[-1][:400]


def _reason_of_death(trial: Any) -> str:
    """Return whether the machine of a worker has left the cluster, as far as Ray knows: it takes seconds to notice."""
    nodes = importlib.import_module("ray").nodes()
    address = (trial.last_result or {}).get("node_ip")  # of its last report
    if address is not None and address not in {node["NodeManagerAddress"] for node in nodes if node["Alive"]}:
        return NODE_DIED
    return KILLED if len(nodes) < 2 else KILLED_OR_LOST


def _scheduler(trial_log: TrialLog, remaining: RemainingSearch) -> Any:
    schedulers = importlib.import_module("ray.tune.schedulers")
    if remaining.scheduler == "none" or remaining.grace >= remaining.epochs:
        return schedulers.FIFOScheduler()
    if remaining.scheduler == "median":
        return _median(schedulers, trial_log, remaining)
    asha = schedulers.AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="best",
        mode="max" if trial_log.bigger else "min",
        max_t=remaining.epochs - 1,  # no rung at the last epoch, where nothing is saved
        grace_period=remaining.grace,
        reduction_factor=REDUCTION,
        stop_last_trials=False,  # a trial of full length reports its record after its last epoch
    )
    _replay(asha, trial_log)
    return asha


def _replay(asha: Any, trial_log: TrialLog) -> None:
    """Give ASHA the curves of the finished trials, so that its rungs hold them after a resumption."""
    for number, record in trial_log.records.items():
        trial = SimpleNamespace(trial_id=f"kept-{number}")
        asha.on_trial_add(None, trial)
        best: Optional[float] = None
        for epochs, score in curve_of(record):
            best = score if best is None else best_score((score, best), trial_log.bigger)
            asha.on_trial_result(None, trial, {"epoch": epochs, "best": best})
        asha.on_trial_remove(None, trial)


def _median(schedulers: Any, trial_log: TrialLog, remaining: RemainingSearch) -> Any:
    """Make a scheduler of the serial backend's rule.

    Ray's own median rule pauses trials that it cannot judge yet, and a paused trial starts from the beginning.
    """
    rule = MedianStoppingRule(trial_log.bigger, remaining.grace, remaining.epochs)
    rule.curves.update({number: curve_of(record) for number, record in trial_log.records.items()})
    curves: dict[int, list[tuple[int, float]]] = {}

    class MedianScheduler(schedulers.FIFOScheduler):
        def on_trial_result(self, controller: Any, trial: Any, result: Any) -> str:
            number = trial.config["trial"]
            curve = curves.setdefault(number, [])
            curve.append((result["epoch"], result["score"]))
            stop = rule.stops(number, curve)
            return str(schedulers.TrialScheduler.STOP if stop else schedulers.TrialScheduler.CONTINUE)

        def on_trial_complete(self, controller: Any, trial: Any, result: Any) -> None:
            if "failure" in result:
                rule.curves.pop(trial.config["trial"], None)

    return MedianScheduler()
