"""A comparison in progress: plan the runs, give the missing ones to an executor, keep each as soon as it has ended."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Optional

from recbole_diffusion.experiment.compare import comparison_file
from recbole_diffusion.experiment.compare.models_on_datasets import ModelOnDataset, Note, PreparedModels, join_notes
from recbole_diffusion.experiment.compare.progress import Progress
from recbole_diffusion.experiment.compare.run_planner import RunPlanner
from recbole_diffusion.experiment.jobs.executor import Done, executor, one_line
from recbole_diffusion.experiment.jobs.resources import Resources
from recbole_diffusion.experiment.jobs.run_job import RunJob, failed_record, run_one
from recbole_diffusion.experiment.jobs.run_spec import RunSpec
from recbole_diffusion.experiment.jobs.store import Store
from recbole_diffusion.experiment.report.accounts import describe_account
from recbole_diffusion.training import run_folder


class Comparison:
    """A comparison in progress.

    Args:
        store: of the comparison's folder.
        prepared: the models on their data sets, with notes for the reader.
        seeds: of the tested runs.
        common: settings for all models.
        passed_keys: keys of ``common`` that win over a model's file and are not tuned.
        tune: trials of each model; 0: none.
        resources: of the runs.
        command: the command line.
        request: the request as plain values, for ``--resume``.
    """

    def __init__(
        self,
        store: Store,
        prepared: PreparedModels,
        seeds: list[int],
        common: Mapping[str, Any],
        passed_keys: Collection[str],
        tune: int,
        resources: Resources,
        command: str,
        request: dict[str, Any],
    ) -> None:
        self.store, self.pairs, self.notes = store, prepared.pairs, prepared.notes
        self.equal_budget, self.request = prepared.equal_budget, request
        self.seeds, self.common, self.tune = seeds, dict(common), tune
        self.resources, self.command = resources, command
        self.planner = RunPlanner(seeds, self.common, passed_keys)

    def run(self, server: Optional[str] = None) -> None:
        """Run the trials, then the tested runs with the settings that they chose.

        Args:
            server: the address of a fork server for the workers.
        """
        runnable = [pair for pair in self.pairs if pair.error is None]
        for pair in runnable:
            pair.trial_specs = self._trial_specs(pair) if self.tune else []
            if not pair.trial_specs:
                pair.final_specs = self.planner.final_specs(pair, {})
        self._write_plan()
        for pair in self.pairs:
            if pair.error is not None:
                self._fail(pair)
        with Progress(self._run_counts(runnable), self.common["valid_metric"], self.resources.workers) as progress:
            self._print_head(runnable, progress)
            with executor(**vars(self.resources), server=server) as pool:
                self._run_missing([spec for pair in runnable for spec in pair.trial_specs], pool, progress)
                for pair in runnable:
                    if pair.trial_specs:
                        self._choose(pair)
                self._write_plan()
                self._run_missing(self._seed_by_seed(runnable), pool, progress)
        if all(self.store.record(spec.key) for pair in runnable for spec in pair.final_specs):
            shutil.rmtree(self.store.folder / "data", ignore_errors=True)  # may be gigabytes; made again if needed
        self._write_plan()  # again, with the warnings of the runs

    def _trial_specs(self, pair: ModelOnDataset) -> list[RunSpec]:
        """The model's trials; none for a model that cannot be tuned, which is noted."""
        label = pair.entry.label
        try:
            specs = self.planner.trial_specs(pair, self.tune)
        except ValueError as error:
            self.notes.append(Note("", f"{label} is not tuned: {one_line(error)}"))
            return []
        if len(specs) < self.tune:
            self.notes.append(Note(label, f"{len(specs)} trials are its defaults and all of its space"))
        return specs

    def _run_counts(self, pairs: Sequence[ModelOnDataset]) -> list[tuple[str, int]]:
        """The number of runs of each model, by label."""
        counts: dict[str, int] = {}
        for pair in pairs:
            counts[pair.entry.label] = counts.get(pair.entry.label, 0) + len(pair.trial_specs) + len(self.seeds)
        return list(counts.items())

    def _print_head(self, pairs: Sequence[ModelOnDataset], progress: Progress) -> None:
        """Print the split of each data set, the account of its rows, and the notes."""
        for split in {pair.dataset: pair.split for pair in pairs if pair.split}.values():
            for line in (split.statement, *describe_account(split.counts.get("account") or {})):
                progress.print(line)
        for note in join_notes(self.notes):
            progress.print(f"note: {note}")

    def _seed_by_seed(self, pairs: Sequence[ModelOnDataset]) -> list[RunSpec]:
        """The tested runs: those of all models with the first seed, then with the second one, ..."""
        specs = [pair.final_specs for pair in pairs if pair.error is None]
        return [of_pair[index] for index in range(len(self.seeds)) for of_pair in specs if index < len(of_pair)]

    def _choose(self, pair: ModelOnDataset) -> None:
        """Choose the best trial on the validation split, the first of equals, and plan its tested runs."""
        records = [(spec, self.store.record(spec.key)) for spec in pair.trial_specs]
        scored = [(spec, record) for spec, record in records if record and record["valid_score"] is not None]
        if not scored:
            failure = self.store.failure(pair.trial_specs[0].key) or {}
            pair.error = f"every trial failed; the first: {failure.get('error', 'unknown')}"
            pair.final_specs = []
            self._fail(pair)
            return
        sign = 1 if scored[0][1]["valid_score_bigger"] else -1
        best, _ = max(scored, key=lambda trial: sign * trial[1]["valid_score"])
        untuned = self.planner.settings(pair)
        pair.best = {key: value for key, value in best.settings.items() if key not in untuned or untuned[key] != value}
        pair.final_specs = self.planner.final_specs(pair, pair.best)

    def _fail(self, pair: ModelOnDataset) -> None:
        """Keep the tested runs of a model that cannot be run as failed."""
        for spec in self.planner.final_specs(pair, {}):
            self.store.fail(spec.key, failed_record(spec, str(pair.error)))
            pair.final_specs.append(spec)

    def _run_missing(self, specs: Sequence[RunSpec], pool: Any, progress: Progress) -> None:
        """Make the runs that have no record, and keep each as soon as it has ended."""
        missing: dict[str, RunSpec] = {}
        for spec in specs:
            record = self.store.record(spec.key)
            if record is None:
                missing[spec.key] = spec
            else:
                progress.skip(spec, record)
        jobs = [(key, RunJob(spec, str(self.store.folder))) for key, spec in missing.items()]
        progress.start(list(missing.values()))
        for done in pool.map(run_one, jobs, tick=lambda: progress.tick(pool.running())):
            self._keep(missing[done.key], done, progress)

    def _keep(self, spec: RunSpec, done: Done, progress: Progress) -> None:
        """Keep a run that has ended, finished or failed."""
        error = done.error
        if error is None:
            record = done.value.record
            record["where"] = comparison_file.execution(self.resources)
            try:
                self.store.finish(spec.key, record, done.value.users, done.value.lists)
            except OSError as disk_error:  # the disk is full
                error = f"its result could not be written: {one_line(disk_error)}"
            else:
                progress.finish(spec, record)
                return
        progress.fail(spec, error)
        try:
            self.store.fail(spec.key, failed_record(spec, error))
        except OSError as disk_error:
            progress.print(f"its reason could not be written: {one_line(disk_error)}")

    def _write_plan(self) -> None:
        """Write comparison.json."""
        notes = join_notes([*self.notes, *comparison_file.run_warnings(self.pairs, self.store)])
        execution = comparison_file.execution(self.resources)
        self.store.write_plan(
            {
                "models": comparison_file.models(self.pairs, self.planner),
                "datasets": comparison_file.datasets(self.pairs),
                "seeds": self.seeds,
                **comparison_file.shared_settings(self.common),
                "tune": self.tune,
                "search": "the defaults, then random" if self.tune else None,
                "equal_budget": self.equal_budget,
                "notes": [*notes, *comparison_file.unequal_execution(self.pairs, self.store)],
                "environment": run_folder.environment(),
                "command": self.command,
                "folder": str(self.store.folder),
                "asked": self.request,
                "resources": vars(self.resources),
                **{name: execution[name] for name in ("threads", "workers", "executor")},
                "driver": {"pid": os.getpid()},
            }
        )
