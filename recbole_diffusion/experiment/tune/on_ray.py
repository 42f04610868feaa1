"""Trials side by side on Ray Tune, with its schedulers and its searches. Works with ray 2.6.3 and with 2.49 and newer.

What differs between these is in :func:`_report` and :func:`_run_config`. Trials are kept by our own board and not by
``Tuner.restore``, which needs the driver's last snapshot; after a crash the searches and schedulers are told again what
is kept.
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
from typing import Any

from recbole_diffusion.experiment.jobs.executor import KILLED, one_line
from recbole_diffusion.experiment.tune import search as tune_search
from recbole_diffusion.experiment.tune.search import Search
from recbole_diffusion.experiment.tune.trials import Median, TrialLog, TuningContext, curve_of, run_trial

#: What a rung of ASHA keeps: the best third.
REDUCTION = 3
_VARIABLES = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no result files of Ray's own
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the tuning as it ends everything else
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that failed has no score
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # a worker that is not needed any more was ended
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
}


def search(board: TrialLog, plan: Search) -> None:
    """Run the trials on the Ray that is connected, and keep them on the board.

    Raises:
        ValueError: the search's library is not there; one line.
    """
    tune = importlib.import_module("ray.tune")
    folder = Path(board.study.folder) / "ray"
    shutil.rmtree(folder, ignore_errors=True)  # of a driver that was killed
    with _quiet(), contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        trainable = tune.with_parameters(_trainable, study=board.study)
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1, "gpu": board.study.gpus}),
            tune_config=tune.TuneConfig(
                search_alg=tune_search.suggestions(tune, board, plan),
                scheduler=_scheduler(board, plan),
                num_samples=len(plan.todo) + plan.more,
                max_concurrent_trials=plan.at_once or None,
                reuse_actors=plan.reuse,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=_run_config(tune, folder, _keeper(tune, board)),
        )
        tuner.fit()


def _trainable(config: dict[str, Any], study: TuningContext) -> None:
    """In a worker: one trial. It reports each validation, and at its end what becomes of it."""
    sys.argv = sys.argv[:1]  # RecBole's own Config reads it
    if not study.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    tell = _Tell(_report(), config["bigger"])
    try:
        record = run_trial(study, config["trial"], json.loads(config["chosen"]), tell)
    except Exception as error:
        if tell.stopped:  # Tune has ended the trial, and what went wrong on the way out is nobody's concern
            raise SystemExit(0) from error
        tell.report({"epoch": -1, "failure": one_line(error), "done": True})
    else:
        tell.report({**tell.last, "record": json.dumps(record, default=str), "done": True})


class _Tell:
    """Tells Tune a validation score, and the best so far."""

    def __init__(self, report: Any, bigger: bool) -> None:
        self.report, self.pick = report, max if bigger else min
        self.last: dict[str, Any] = {}
        self.stopped = False

    def __call__(self, epochs: int, score: float) -> None:
        self.last = {"epoch": epochs, "score": score, "best": self.pick(score, self.last.get("best", score))}
        try:
            self.report(dict(self.last))
        except BaseException:  # SystemExit, with which Tune ends a trial
            self.stopped = True
            raise


def _report() -> Any:
    """The function that tells Tune a dict."""
    tune: Any = importlib.import_module("ray.tune")
    if "metrics" in inspect.signature(tune.report).parameters:
        return tune.report
    return importlib.import_module("ray.air.session").report


def _run_config(tune: Any, folder: Path, callback: Any) -> Any:
    kind = getattr(tune, "RunConfig", None) or importlib.import_module("ray.air").RunConfig
    return kind(name="trials", storage_path=str(folder), callbacks=[callback], verbose=0)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Tune's environment, and no words of its own: the board says what happens."""
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


def _keeper(tune: Any, board: TrialLog) -> Any:
    """Tune's callback that tells the board."""

    class Keeper(tune.Callback):
        def on_trial_start(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            board.start(trial.config["trial"], json.loads(trial.config["chosen"]))

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **_: Any) -> None:
            if "record" not in result and "failure" not in result:
                board.report(trial.config["trial"], result["epoch"], result["score"])

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            number, last = trial.config["trial"], trial.last_result
            if "record" in last:
                board.finish(number, json.loads(last["record"]))
            elif "failure" in last:
                board.fail(number, last["failure"])
            else:
                board.stop(number)

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
            board.fail(trial.config["trial"], _reason(trial))

    return Keeper()


def _reason(trial: Any) -> str:
    """Why a worker came to no end of its own: the last line of what Ray wrote down."""
    try:
        text = Path(trial.error_file).read_text(encoding="utf-8")
    except (OSError, TypeError):
        return KILLED
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    dead = any(word in text for word in ("died", "ActorUnavailable", "WorkerCrashed", "OutOfMemory"))
    return KILLED if dead or not lines else lines[-1][:400]


def _scheduler(board: TrialLog, plan: Search) -> Any:
    schedulers = importlib.import_module("ray.tune.schedulers")
    if plan.scheduler == "none" or plan.grace >= plan.epochs:
        return schedulers.FIFOScheduler()
    if plan.scheduler == "median":
        return _median(schedulers, board, plan)
    asha = schedulers.AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="best",
        mode="max" if board.bigger else "min",
        max_t=plan.epochs - 1,  # no rung at the last epoch, where nothing is saved
        grace_period=plan.grace,
        reduction_factor=REDUCTION,
        stop_last_trials=False,  # or no trial of full length could say how it ended
    )
    for number, record in board.records.items():
        kept, best = SimpleNamespace(trial_id=f"kept-{number}"), None
        asha.on_trial_add(None, kept)
        for epochs, score in curve_of(record):
            best = score if best is None else (max if board.bigger else min)(score, best)
            asha.on_trial_result(None, kept, {"epoch": epochs, "best": best})
        asha.on_trial_remove(None, kept)
    return asha


def _median(schedulers: Any, board: TrialLog, plan: Search) -> Any:
    """The serial executor's rule. Ray's own pauses trials that it cannot judge yet, and a paused one begins anew."""
    rule = Median(board.bigger, plan.grace, plan.epochs)
    rule.curves.update({number: curve_of(record) for number, record in board.records.items()})
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
