"""One tuning from its plan to its result: the trials, the tested runs of the best one, the files."""

from __future__ import annotations

import shlex
import shutil
from contextlib import ExitStack
from typing import Any

from recbole_diffusion import quick_start
from recbole_diffusion.experiment.compare import plan as plans
from recbole_diffusion.experiment.jobs.executor import OnRay, Serial
from recbole_diffusion.experiment.jobs.fingerprint import code_fingerprint, files_fingerprint
from recbole_diffusion.experiment.jobs.resources import Resources
from recbole_diffusion.experiment.jobs.run_job import RunJob, failed_record, run_one
from recbole_diffusion.experiment.jobs.store import Store
from recbole_diffusion.experiment.report.accounts import describe_account
from recbole_diffusion.experiment.space import search_space
from recbole_diffusion.experiment.tune import plot as tune_plot
from recbole_diffusion.experiment.tune import report as tune_report
from recbole_diffusion.experiment.tune import serial as tune_serial
from recbole_diffusion.experiment.tune.report import NoTrialFinished, TuneResult
from recbole_diffusion.experiment.tune.trials import MedianStoppingRule, Record, TrialLog, TuningContext, best_record
from recbole_diffusion.experiment.tune.tuning_plan import FORMAT, TuningPlan
from recbole_diffusion.support import json_files
from recbole_diffusion.training import run_folder


class Tuning:
    """A tuning in progress.

    Args:
        plan: the plan; notes are added to it.
        store: folder of the tuning.
        resources: where the trials run.
        show: print progress to stderr.

    Raises:
        ValueError: a setting or a data set that is not right, or an empty validation split.
    """

    def __init__(self, plan: TuningPlan, store: Store, resources: Resources, show: bool) -> None:
        self.plan, self.store, self.resources = plan, store, resources
        self.space = search_space.parse(plan.space, plan.source)
        self.config = quick_start.configure(plan.model, plan.dataset, config_dict=plan.settings)
        self.metric = str(self.config["valid_metric"]).lower()
        common = {
            **plan.settings,
            "state": "ERROR",
            "prepared_data": str(store.folder / "data"),
            "checkpoint_dir": str(store.folder / "saved"),
        }
        self.split = self._describe_split(common)
        self.context = TuningContext(
            plan.model,
            plan.dataset,
            common,
            plan.seed,
            self._basis(common),
            str(store.folder),
            resources.threads,
            resources.gpus,
        )
        bigger = bool(self.config["valid_metric_bigger"])
        self.trial_log = TrialLog(self.context, store, plan.trials, self.metric, bigger, show, resources.workers or 1)

    def _describe_split(self, common: dict[str, Any]) -> plans.Split:
        """Prepare the data once, and add what they warn of to the notes.

        Raises:
            ValueError: the validation split is empty.
        """
        plan = self.plan
        described = quick_start.configure(plan.model, plan.dataset, config_dict=common)
        split = plans.prepare_split({plan.model: described}, plan.dataset)
        if not split.counts["valid"]:
            raise ValueError(plans.empty_validation_message(plan.dataset, described))
        plan.add_notes(*described.notes, *plans.empty_split_notes(split, plan.dataset))
        return split

    def _basis(self, common: dict[str, Any]) -> dict[str, str]:
        """The fingerprints of code, files and data, without empty ones."""
        counts = self.split.counts
        basis = {"code": code_fingerprint(self.plan.model, common), "files": files_fingerprint(common)}
        basis.update(split=counts["split_sha256"], data=counts["files_sha256"])
        return {name: fingerprint for name, fingerprint in basis.items() if fingerprint}

    def run(self) -> TuneResult:
        """Run the trials, then train the best configuration anew, test it, and write the files.

        Raises:
            NoTrialFinished: every trial failed, or the best configuration could not be trained anew.
            KeyboardInterrupt: finished trials are stored.
        """
        self._write({})
        self._read_finished_trials()
        self._print_head()
        try:
            with ExitStack() as stack:
                ray = self._session(stack) if self.resources.on_ray else None
                with self.trial_log:
                    self._search(ray)
                best = best_record(self.trial_log.records.values(), self.trial_log.bigger)
                if best is None:
                    raise NoTrialFinished(self._first_failure())
                tested = self._test(ray, best)
        except KeyboardInterrupt:
            self.trial_log.print_line(
                f"interrupted; {len(self.trial_log.records)} of {self.plan.trials} trials are kept; go on by "
                f"recbole-diffusion tune --resume={shlex.quote(str(self.store.folder))}"
            )
            raise
        return self._conclude(best, tested)

    def _session(self, stack: ExitStack) -> Any:
        """Connect to Ray for the time of the stack, and return the module."""
        from recbole_diffusion.experiment.cluster.session import session

        resources, gpus = self.resources, None if self.resources.gpus else 0
        return stack.enter_context(session(resources.workers, resources.address, resources.threads, gpus))

    def _read_finished_trials(self) -> None:
        """Read the trials of an earlier call, if code and data are the same. Failed trials are run again."""
        self.store.set_damaged_aside(self.plan.notes.append)
        stale = 0
        for file in sorted((self.store.folder / "runs").glob("*.json")):
            record = self.store.record(file.stem)
            if record is None or record.get("trial") is None or "chosen" not in record:
                continue
            if record["key"] == self.context.run_spec(record["chosen"], record["trial"]).key:
                self.trial_log.records[record["trial"]] = record
            else:
                stale += 1
        if stale:
            self.plan.notes.append(f"{stale} kept trials are of other code or data and are run again")

    def _print_head(self) -> None:
        """Print the split, the rows that filters removed, and the notes."""
        lines = [self.split.statement.replace(", the same for all", "")]
        lines += describe_account(self.split.counts.get("account") or {})
        lines += [f"note: {note}" for note in self.plan.notes]
        if self.trial_log.records:
            lines.append(f"{len(self.trial_log.records)} of {self.plan.trials} trials are there already")
        for line in lines:
            self.trial_log.print_line(line)

    def _search(self, ray: Any) -> None:
        """Run the missing trials.

        Ray may lose track of a trial. Such a trial is run again in the second pass, each in a new process.
        """
        plan, trial_log = self.plan, self.trial_log
        dimension = self.space.dimensions.get("epochs")
        epochs = max([self.config["epochs"], *(dimension.probes if dimension is not None else ())])
        if ray is None:
            uses_median = plan.scheduler == "median"
            rule = MedianStoppingRule(trial_log.bigger, plan.grace, epochs) if uses_median else None
            tune_serial.search(trial_log, self._missing()[0], rule)
            return
        from recbole_diffusion.experiment.tune import on_ray
        from recbole_diffusion.experiment.tune.search import RemainingSearch

        for reuse in (True, False):
            known, suggested = self._missing()
            if not known and not suggested:
                return
            remaining = RemainingSearch(
                known,
                suggested,
                algorithm=plan.search if plan.is_adaptive else None,
                space=self.space,
                scheduler=plan.scheduler,
                grace=plan.grace,
                epochs=epochs,
                at_once=self.resources.workers or 0,
                seed=plan.seed,
                reuse=reuse,
            )
            on_ray.search(trial_log, remaining)

    def _missing(self) -> tuple[list[tuple[int, dict[str, Any]]], int]:
        """The known trials that have neither finished nor failed, and the number of those still to be suggested."""
        ended = {*self.trial_log.records, *self.trial_log.failures}
        known = [(number, chosen) for number, chosen in enumerate(self.plan.configurations) if number not in ended]
        return known, max(self.plan.trials - len(ended) - len(known), 0) if self.plan.is_adaptive else 0

    def _first_failure(self) -> str:
        failures = self.trial_log.failures
        first = failures[min(failures)] if failures else {"error": "none was run"}
        return f"all {len(failures)} trials failed; the first: {first['error']}"

    def _test(self, ray: Any, best: Record) -> dict[int, Record]:
        """Train the best configuration from scratch with each seed, and test it.

        Nothing else scores the test split. Without test rows nothing is trained.

        Returns:
            The records by seed.

        Raises:
            NoTrialFinished: a training failed.
        """
        if not self.split.counts["test"]:
            reason = plans.empty_split_notes(self.split, self.plan.dataset)[-1]
            self.trial_log.print_line(f"best: trial {best['trial']}; {reason}")
            return {}
        seeds = ", ".join(map(str, self.plan.seeds))
        self.trial_log.print_line(f"best: trial {best['trial']}; trained anew and tested with seed {seeds}")
        specs = [self.context.run_spec(best["chosen"], seed=seed) for seed in self.plan.seeds]
        missing = {spec.key: spec for spec in specs if self.store.record(spec.key) is None}
        resources = self.resources
        pool = (
            Serial(resources.threads)
            if ray is None
            else OnRay(ray, resources.threads, gpus=resources.gpus, fresh=False)
        )
        jobs = [(key, RunJob(spec, self.context.folder)) for key, spec in missing.items()]
        reasons = []
        for done in pool.map(run_one, jobs):
            if done.error is None:
                self.store.finish(done.key, done.value.record, done.value.users)
            else:
                reasons.append(done.error)
                self.store.fail(done.key, failed_record(missing[done.key], done.error))
        if reasons:
            raise NoTrialFinished(f"the best trial could not be trained anew: {reasons[0]}; --resume tries again")
        records = {spec.seed: self.store.record(spec.key) for spec in specs}
        return {seed: record for seed, record in records.items() if record is not None}

    def _conclude(self, best: Record, tested: dict[int, Record]) -> TuneResult:
        """Write the files and return the result."""
        folder, plan = self.store.folder, self.plan
        retrained = tested.get(plan.seed)
        if best["status"] == "finished" and retrained and retrained["valid_score"] != best["valid_score"]:
            plan.notes.append(
                f"trained anew with the same seed the best trial has {self.metric} {retrained['valid_score']:.6f} "
                f"instead of {best['valid_score']:.6f}: training does not repeat here"
            )
        for record in tested.values():
            plan.add_notes(*record["warnings"])
        file = tune_report.write_best(folder, plan, best, self.metric, self.context.threads)
        result = TuneResult(
            best=best["chosen"],
            trial=best["trial"],
            metric=self.metric,
            valid_score=best["valid_score"],
            test={seed: record["test"] for seed, record in tested.items()},
            records=dict(sorted(self.trial_log.records.items())),
            failures=dict(sorted(self.trial_log.failures.items())),
            folder=folder,
            file=file,
            notes=plan.notes,
        )
        tune_report.write_trials(result, list(self.space.dimensions))
        plan.notes += tune_plot.plot(result, self.space, self.trial_log.bigger)
        self._write({"best": {key: best[key] for key in ("trial", "chosen", "valid_score")}, "test": result.test})
        for name in ("data", "work"):
            shutil.rmtree(folder / name, ignore_errors=True)  # prepared data can be gigabytes; they can be made again
        return result

    def _write(self, outcome: dict[str, Any]) -> None:
        """Write ``tune.json``."""
        on_ray = self.resources.on_ray
        content = {
            "format": FORMAT,
            "folder": str(self.store.folder),
            "request": vars(self.plan),
            "metric": self.metric,
            "split": self.split.counts,
            "executor": "ray" if on_ray else "serial",
            "workers": self.resources.workers if on_ray else 1,
            "threads": self.resources.threads,
            "environment": run_folder.environment(),
            **outcome,
        }
        json_files.write(self.store.folder / "tune.json", content)
