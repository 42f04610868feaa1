"""Choose a model's settings on the validation split, then train with the best of them and test once.

::

    FOLDER/tune.json       what was asked, what came of it
    FOLDER/trials.csv      each trial: settings, best validation score, epochs, seconds, status, reason
    FOLDER/best.yaml       the best settings and what was given, for ``recbole-diffusion run --config_files``
    FOLDER/best-full.yaml  every setting of the best trial, to look things up
    FOLDER/trials.png      the scores in their order, and against each key; also as svg
    FOLDER/runs, failed    a record of each trial and of the tested runs, see :mod:`store`
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Optional, Union

from recbole_diffusion import quick_start
from recbole_diffusion.experiment.compare import plan as plans
from recbole_diffusion.experiment.jobs.executor import OnRay, Serial
from recbole_diffusion.experiment.jobs.fingerprint import code_fingerprint, files_fingerprint
from recbole_diffusion.experiment.jobs.run_job import RunJob, failed_record, run_one
from recbole_diffusion.experiment.jobs.store import Store, exclusive_lock
from recbole_diffusion.experiment.report.accounts import describe_account
from recbole_diffusion.experiment.space import search_space
from recbole_diffusion.experiment.space.search_space import Space
from recbole_diffusion.experiment.tune import plot as tune_plot
from recbole_diffusion.experiment.tune import report as tune_report
from recbole_diffusion.experiment.tune import request as requests
from recbole_diffusion.experiment.tune import serial as tune_serial
from recbole_diffusion.experiment.tune.report import NoTrialFinished, TuneResult
from recbole_diffusion.experiment.tune.request import FORMAT, INVENTING, Resources, TuningPlan
from recbole_diffusion.experiment.tune.trials import Median, Record, TrialLog, TuningContext, best_of
from recbole_diffusion.support.atomic_write import atomic_write_text
from recbole_diffusion.support.json_values import nan_to_null
from recbole_diffusion.training import run_folder


def tune(
    model: Optional[str] = None,
    dataset: Optional[str] = None,
    trials: Optional[int] = None,
    space: Union[str, Path, Space, None] = None,
    settings: Optional[dict[str, Any]] = None,
    files: Sequence[Union[str, Path]] = (),
    search: str = "random",
    scheduler: Optional[str] = None,
    workers: Optional[int] = None,
    address: Optional[str] = None,
    gpus_per_trial: float = 0.0,
    threads: int = 1,
    folder: Union[str, Path, None] = None,
    resume: Union[str, Path, None] = None,
    seed: Optional[int] = None,
    seeds: Optional[Sequence[int]] = None,
    grace: Optional[int] = None,
    executor: Optional[str] = None,
    show: bool = True,
) -> TuneResult:
    """Try settings of a model, choose the best by its validation score, train it anew and test it once.

    Args:
        model, dataset: as :func:`recbole_diffusion.run` takes them.
        trials: the budget; None: 20, of a grid all of it.
        space: what to choose from: a file, or a :class:`Space`; None: ``properties/hyper/<model>.yaml``.
        settings: of every trial. They win over the files and are not tuned. Without them trials are chosen by
            NDCG@10 at six decimals, as in a comparison.
        files: yaml files of settings, the later ones win. Keys of the space in them are tuned all the same.
        search: ``random`` (the model's defaults first, then draws), ``grid``, ``optuna`` or ``hyperopt``.
        scheduler: ``asha`` stops what is not among the best third at its rung, ``median`` what is below the median,
            ``none`` nothing. None: ``asha`` on Ray, else ``median``.
        workers: trials at once on this machine, on Ray; None: one, or as many as a cluster has room for.
        address: of a Ray cluster, ``auto`` or ``host:port``.
        gpus_per_trial: fractions let trials share one. Without Ray a trial sees the GPUs that we see.
        threads: of each trial.
        folder: of the tuning; None: a new one below ``outputs``.
        resume: the folder of a tuning to go on with; of what else is given only ``trials`` and where it runs count.
        seed: of the trials and of the search; None: the setting ``seed``. The split has the same, or ``split_seed``.
        seeds: of the tested runs; None: ``seed`` alone. Nothing is tested where the test split is empty.
        grace: epochs that no trial is stopped before; None: the patience, ``stopping_step * eval_step``.
        executor: ``ray`` or ``serial``; None: Ray where it is there.
        show: progress on stderr.

    Raises:
        ValueError: an argument, a space, a setting or a folder that is not right, or no validation split; one line.
        NoTrialFinished: every trial failed.
        KeyboardInterrupt: what had ended is kept; ``resume`` goes on.
    """
    there = (executor, workers, address, threads, gpus_per_trial)
    if resume is None:
        place = requests.where(*there, search, scheduler)
        chosen = scheduler or ("asha" if place.executor == "ray" else "median")
        request = requests.new(model, dataset, trials, space, settings, files, search, chosen, seed, seeds, grace)
        home = Path(folder).absolute() if folder else requests.new_folder(request.model, request.dataset)
        if (home / "tune.json").exists():
            more = shlex.join([f"--resume={home}"])
            raise ValueError(f"folder={str(home)!r} holds a tuning already; go on with it by {more}")
    else:
        home = Path(resume).absolute()
        request = requests.kept(home, trials)
        place = requests.where(*there, request.search, request.scheduler)
    request.notes += [place.note] if place.note and place.note not in request.notes else []
    with exclusive_lock(home, "tuning"):
        return _Tuning(request, Store(home), place, show).run()


class _Tuning:
    """A tuning at work."""

    def __init__(self, request: TuningPlan, store: Store, where: Resources, show: bool) -> None:
        self.request, self.store, self.where = request, store, where
        self.space = search_space.parse(request.space, request.source)
        self.config = quick_start.configure(request.model, request.dataset, config_dict=request.settings)
        self.metric = str(self.config["valid_metric"]).lower()
        common = {
            **request.settings,
            "state": "ERROR",
            "prepared_data": str(store.folder / "data"),
            "checkpoint_dir": str(store.folder / "saved"),
        }
        described = quick_start.configure(request.model, request.dataset, config_dict=common)
        self.split = plans.prepare_split({request.model: described}, request.dataset)
        request.notes += [note for note in described.notes if note not in request.notes]  # of the data
        counts = self.split.counts
        if not counts["valid"]:
            raise ValueError(plans.empty_validation_message(request.dataset, described))
        self._note(*described.notes, *plans.empty_split_notes(self.split, request.dataset))
        basis = {"code": code_fingerprint(request.model, common), "files": files_fingerprint(common)}
        basis.update(split=counts["split_sha256"], data=counts["files_sha256"])
        basis = {name: mark for name, mark in basis.items() if mark}
        self.study = TuningContext(
            request.model, request.dataset, common, request.seed, basis, str(store.folder), where.threads, where.gpus
        )
        bigger, at_once = bool(self.config["valid_metric_bigger"]), where.workers or 1
        self.board = TrialLog(self.study, store, request.trials, self.metric, bigger, show, at_once)

    def _note(self, *notes: str) -> None:
        """Add notes, each once."""
        self.request.notes += [note for note in notes if note not in self.request.notes]

    def run(self) -> TuneResult:
        """The trials, then the tested runs."""
        self._write({})
        self._read_kept()
        say, request = self.board.say, self.request
        say(self.split.statement.replace(", the same for all", ""))
        for line in describe_account(self.split.counts.get("account") or {}):
            say(line)
        for note in request.notes:
            say(f"note: {note}")
        if self.board.records:
            say(f"{len(self.board.records)} of {request.trials} trials are there already")
        try:
            with ExitStack() as stack:
                ray = self._session(stack) if self.where.executor == "ray" else None
                with self.board:
                    self._search(ray)
                best = best_of(self.board.records.values(), self.board.bigger)
                if best is None:
                    raise NoTrialFinished(self._all_failed())
                tested = self._test(ray, best)
        except KeyboardInterrupt:
            say(
                f"interrupted; {len(self.board.records)} of {request.trials} trials are kept; go on by "
                f"recbole-diffusion tune --resume={shlex.quote(str(self.store.folder))}"
            )
            raise
        return self._conclude(best, tested)

    def _session(self, stack: ExitStack) -> Any:
        from recbole_diffusion.experiment.cluster.session import session

        gpus = None if self.where.gpus else 0
        return stack.enter_context(session(self.where.workers, self.where.address, self.where.threads, gpus))

    def _read_kept(self) -> None:
        """Trials of an earlier call, of the same code and data; those that failed are tried again."""
        stale = 0
        for file in sorted((self.store.folder / "runs").glob("*.json")):
            record = self.store.record(file.stem)
            if record is None or record.get("trial") is None or "chosen" not in record:
                continue
            if record["key"] == self.study.run_spec(record["chosen"], record["trial"]).key:
                self.board.records[record["trial"]] = record
            else:
                stale += 1
        if stale:
            self.request.notes.append(f"{stale} kept trials are of other code or data and are run again")

    def _search(self, ray: Any) -> None:
        """Run the trials that are missing. One that Ray loses sight of is run again, in a process of its own."""
        request, board = self.request, self.board
        epochs = max([self.config["epochs"], *self._values("epochs")])
        if ray is None:
            rule = Median(board.bigger, request.grace, epochs) if request.scheduler == "median" else None
            tune_serial.search(board, self._missing()[0], rule)
            return
        from recbole_diffusion.experiment.tune import on_ray
        from recbole_diffusion.experiment.tune import search as tune_search

        for reuse in (True, False):
            todo, more = self._missing()
            if not todo and not more:
                return
            algorithm, at_once = request.search if self._invents() else None, self.where.workers or 0
            asked = (self.space, request.scheduler, request.grace, epochs, at_once, request.seed, reuse)
            on_ray.search(board, tune_search.Search(todo, more, algorithm, *asked))

    def _missing(self) -> tuple[list[tuple[int, dict[str, Any]]], int]:
        """The trials that have neither ended nor failed, and how many are still to be invented."""
        ended = {*self.board.records, *self.board.failures}
        todo = [(n, each) for n, each in enumerate(self.request.configurations) if n not in ended]
        return todo, max(self.request.trials - len(ended) - len(todo), 0) if self._invents() else 0

    def _invents(self) -> bool:
        return self.request.search in INVENTING

    def _values(self, key: str) -> list[Any]:
        each = self.space.dimensions.get(key)
        return [] if each is None else list(each.probes)

    def _all_failed(self) -> str:
        first = self.board.failures[min(self.board.failures)] if self.board.failures else {"error": "none was run"}
        return f"all {len(self.board.failures)} trials failed; the first: {first['error']}"

    def _test(self, ray: Any, best: Record) -> dict[int, Record]:
        """Train the best settings from scratch with each seed: the only look at the test split, if it has rows."""
        if not self.split.counts["test"]:
            self.board.say(
                f"best: trial {best['trial']}; {plans.empty_split_notes(self.split, self.request.dataset)[-1]}"
            )
            return {}
        seeds = ", ".join(map(str, self.request.seeds))
        self.board.say(f"best: trial {best['trial']}; trained anew and tested with seed {seeds}")
        specs = [self.study.run_spec(best["chosen"], seed=seed) for seed in self.request.seeds]
        missing = {spec.key: spec for spec in specs if self.store.record(spec.key) is None}
        where = self.where
        pool = Serial(where.threads) if ray is None else OnRay(ray, where.threads, gpus=where.gpus, fresh=False)
        jobs = [(key, RunJob(spec, self.study.folder)) for key, spec in missing.items()]
        reasons = []
        for done in pool.map(run_one, jobs):
            if done.error is None:
                self.store.finish(done.key, done.value.record, done.value.users)
            else:
                reasons.append(done.error)
                self.store.fail(done.key, failed_record(missing[done.key], done.error))
        if reasons:
            raise NoTrialFinished(f"the best trial could not be trained anew: {reasons[0]}; --resume tries again")
        found = {spec.seed: self.store.record(spec.key) for spec in specs}
        return {seed: record for seed, record in found.items() if record is not None}

    def _conclude(self, best: Record, tested: dict[int, Record]) -> TuneResult:
        """Write the files and give the result."""
        folder, request = self.store.folder, self.request
        again = tested.get(request.seed)
        if best["status"] == "finished" and again is not None and again["valid_score"] != best["valid_score"]:
            request.notes.append(
                f"trained anew with the same seed the best trial has {self.metric} {again['valid_score']:.6f} in place "
                f"of {best['valid_score']:.6f}: training does not repeat here"
            )
        for record in tested.values():
            self._note(*record["warnings"])
        file = tune_report.write_best(folder, request, best, self.metric, self.study.threads)
        result = TuneResult(
            best["chosen"],
            best["trial"],
            self.metric,
            best["valid_score"],
            {seed: record["test"] for seed, record in tested.items()},
            dict(sorted(self.board.records.items())),
            dict(sorted(self.board.failures.items())),
            folder,
            file,
            request.notes,
        )
        tune_report.write_trials(result, list(self.space.dimensions))
        request.notes += tune_plot.plot(result, self.space, self.board.bigger)
        self._write({"best": {key: best[key] for key in ("trial", "chosen", "valid_score")}, "test": result.test})
        for name in ("data", "work"):
            shutil.rmtree(folder / name, ignore_errors=True)  # prepared data can be gigabytes; made again where needed
        return result

    def _write(self, outcome: dict[str, Any]) -> None:
        content = {
            "format": FORMAT,
            "folder": str(self.store.folder),
            "request": vars(self.request),
            "metric": self.metric,
            "split": self.split.counts,
            "executor": self.where.executor,
            "workers": self.where.workers,
            "threads": self.where.threads,
            "environment": run_folder.environment(),
            **outcome,
        }
        text = json.dumps(nan_to_null(content), indent=1, default=str) + "\n"
        atomic_write_text(self.store.folder / "tune.json", text)
