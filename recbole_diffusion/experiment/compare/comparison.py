"""A comparison at work: runs made, given to an executor, kept when they are done, and what was asked beside them."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Optional

from recbole_diffusion import registry
from recbole_diffusion.experiment.compare import plan
from recbole_diffusion.experiment.compare.models_on_datasets import ModelOnDataset, Ready, joined
from recbole_diffusion.experiment.compare.progress import Progress
from recbole_diffusion.experiment.jobs.executor import executor, one_line
from recbole_diffusion.experiment.jobs.fingerprint import DECIDING, code_fingerprint, files_fingerprint
from recbole_diffusion.experiment.jobs.resources import Resources
from recbole_diffusion.experiment.jobs.run_job import RunJob, failed_record, run_one
from recbole_diffusion.experiment.jobs.run_spec import RunSpec
from recbole_diffusion.experiment.jobs.store import Store
from recbole_diffusion.experiment.report.accounts import words
from recbole_diffusion.experiment.space import search_space
from recbole_diffusion.experiment.space.dimensions import canonical_json
from recbole_diffusion.training import run_folder

_WITHOUT_CUT = frozenset({"gauc", "auc", "logloss", "mae", "rmse"})


def metric_names(settings: Mapping[str, Any]) -> list[str]:
    """Every metric at each cut-off, or by itself where it has none, as in results."""
    metrics, cuts = settings["metrics"], settings["topk"]
    cuts = [cuts] if isinstance(cuts, int) else cuts
    found: list[str] = []
    for metric in [metrics] if isinstance(metrics, str) else metrics:
        name = metric.lower()
        found += [name] if name in _WITHOUT_CUT else [f"{name}@{k}" for k in cuts]
    return list(dict.fromkeys(found))


class Comparison:
    """A comparison at work.

    Args:
        store: its folder.
        ready: the models on their data sets, with notes for the reader.
        seeds: of the tested runs.
        common: settings for all models.
        given: keys of these that win over a model's file, and are not tuned.
        tune: trials of each model; 0 for none.
        where: runs are made.
        command: what was typed.
        asked: what ``--resume`` needs.
    """

    def __init__(
        self,
        store: Store,
        ready: Ready,
        seeds: list[int],
        common: Mapping[str, Any],
        given: Collection[str],
        tune: int,
        where: Resources,
        command: str,
        asked: dict[str, Any],
    ) -> None:
        self.store, self.columns, self.notes = store, ready.columns, ready.notes
        self.seeds, self.common, self.given = seeds, dict(common), given
        self.equal_budget, self.asked = ready.equal_budget, asked
        self.tune, self.where, self.command = tune, where, command
        self._code: dict[str, str] = {}

    def run(self, server: Optional[str] = None) -> None:
        """Trials first, then the tested runs of what they chose.

        Args:
            server: a fork server that has been started for the workers.
        """
        working = [column for column in self.columns if column.error is None]
        for column in working:
            column.trials = self._trials(column) if self.tune else []
            if not column.trials:
                column.finals = self._finals(column, {})
        self._write_plan()
        for column in self.columns:
            if column.error is not None:
                self._refuse(column)
        with Progress(self._size(working), self.common["valid_metric"], self.where) as progress:
            for split in {column.dataset: column.split for column in working if column.split}.values():
                for line in (split.statement, *words(split.counts.get("account") or {})):
                    progress.say(line)
            for note in joined(self.notes):
                progress.say(f"note: {note}")
            with executor(**vars(self.where), server=server) as pool:
                self._work([spec for column in working for spec in column.trials], pool, progress)
                for column in working:
                    if column.trials:
                        self._choose(column)
                self._write_plan()
                specs = [column.finals for column in working if column.error is None]
                in_turn = [each[place] for place in range(len(self.seeds)) for each in specs if place < len(each)]
                self._work(in_turn, pool, progress)
        if all(self.store.record(spec.key) for column in working for spec in column.finals):
            shutil.rmtree(self.store.folder / "data", ignore_errors=True)  # can be gigabytes, made again where needed
        self._write_plan()  # once more: what the runs were run on is known now

    def _size(self, working: Sequence[ModelOnDataset]) -> list[tuple[str, int]]:
        """How many runs each model will have."""
        sizes: dict[str, int] = {}
        for column in working:
            sizes[column.entry.label] = sizes.get(column.entry.label, 0) + len(column.trials) + len(self.seeds)
        return list(sizes.items())

    def _spec(self, column: ModelOnDataset, chosen: Mapping[str, Any], seed: int, trial: Optional[int]) -> RunSpec:
        entry, settings = column.entry, {**self._settings(column), **chosen}
        basis = {"code": self._code_of(entry.model, settings), "files": files_fingerprint(settings)}
        if column.split is not None:
            basis.update(split=column.split.counts["split_sha256"], data=column.split.counts["files_sha256"])
        basis = {name: mark for name, mark in basis.items() if mark}
        return RunSpec(entry.label, entry.model, column.dataset, seed, settings, trial, basis)

    def _settings(self, column: ModelOnDataset) -> dict[str, Any]:
        """Of every run of the model, trials without what they draw."""
        home = {"data_path": column.home} if column.home else {}
        return {**column.entry.over(self.common, self.given), **home}

    def _code_of(self, model: str, settings: Mapping[str, Any]) -> str:
        """The code's fingerprint, made once for all runs of the same code."""
        which = str((model, [settings.get(key) for key in DECIDING]))
        if which not in self._code:
            self._code[which] = code_fingerprint(model, settings)
        return self._code[which]

    def _trials(self, column: ModelOnDataset) -> list[RunSpec]:
        """The model's defaults, then draws from its space. None for a model that has nothing to tune."""
        label = column.entry.label
        try:
            space = search_space.load(column.entry.model).without([*column.entry.settings, *self.given])
            if not space.dimensions:
                raise ValueError("every key of its space is given")
            space.check(column.entry.model, column.dataset, self._settings(column))
            configured = plan.check(column.entry, column.dataset, self.common, self.given)
        except ValueError as error:
            self.notes.append(("", f"{label} is not tuned: {one_line(error)}"))
            return []
        defaults = {key: configured[key] for key in space.dimensions}
        others = (draw for draw in space.sample(self.tune, seed=0) if canonical_json(draw) != canonical_json(defaults))
        draws = [{}, *itertools.islice(others, self.tune - 1)]
        if len(draws) < self.tune:
            self.notes.append((label, f"{len(draws)} trials are its defaults and all of its space"))
        return [self._spec(column, draw, self.seeds[0], number) for number, draw in enumerate(draws)]

    def _finals(self, column: ModelOnDataset, chosen: Mapping[str, Any]) -> list[RunSpec]:
        return [self._spec(column, chosen, seed, None) for seed in self.seeds]

    def _choose(self, column: ModelOnDataset) -> None:
        """The trial that is best on the validation split; its settings are run with every seed and tested."""
        done = [(spec, self.store.record(spec.key)) for spec in column.trials]
        there = [(spec, record) for spec, record in done if record is not None and record["valid_score"] is not None]
        if not there:
            reasons = [self.store.failure(spec.key) for spec in column.trials]
            column.error = f"every trial failed; the first: {(reasons[0] or {}).get('error', 'unknown')}"
            column.finals = []
            self._refuse(column)
            return
        sign = 1 if there[0][1]["valid_score_bigger"] else -1
        best, _ = max(there, key=lambda each: sign * each[1]["valid_score"])  # the first of equals
        before = self._settings(column)
        column.best = {key: value for key, value in best.settings.items() if key not in before or before[key] != value}
        column.finals = self._finals(column, column.best)

    def _refuse(self, column: ModelOnDataset) -> None:
        """A model that cannot be run: its runs fail with the reason."""
        for seed in self.seeds:
            spec = self._spec(column, {}, seed, None)
            self.store.fail(spec.key, failed_record(spec, str(column.error)))
            column.finals.append(spec)

    def _work(self, specs: Sequence[RunSpec], pool: Any, progress: Progress) -> None:
        """Run those that are not there; keep each as soon as it is done."""
        todo: dict[str, RunSpec] = {}
        for spec in specs:
            record = self.store.record(spec.key)
            if record is None:
                todo[spec.key] = spec
            else:
                progress.found(spec, record)
        jobs = [(key, RunJob(spec, str(self.store.folder))) for key, spec in todo.items()]
        progress.start(list(todo.values()))
        for done in pool.map(run_one, jobs, tick=lambda: progress.tick(pool.running())):
            spec = todo[done.key]
            error = done.error
            if error is None:
                done.value.record["where"] = self._where()
                try:
                    self.store.finish(spec.key, done.value.record, done.value.users)
                except OSError as failed:  # the disk is full
                    error = f"its result could not be written: {one_line(failed)}"
            if error is None:
                progress.done(spec, done.value.record)
                continue
            progress.failed(spec, error)
            try:
                self.store.fail(spec.key, failed_record(spec, error))
            except OSError as failed:
                progress.say(f"its reason could not be written: {one_line(failed)}")

    def _write_plan(self) -> None:
        models: dict[str, dict[str, Any]] = {}
        for column in self.columns:
            entry = column.entry
            model = models.setdefault(entry.label, self._head(column))
            model["runs"][column.dataset] = [spec.key for spec in column.finals]
            if column.trials:
                model.setdefault("trials", {})[column.dataset] = [spec.key for spec in column.trials]
            if column.best is not None:
                model.setdefault("best", {})[column.dataset] = column.best
        splits = {column.dataset: column for column in self.columns if column.split is not None}
        self.store.write_plan(
            {
                "models": list(models.values()),
                "datasets": {name: _of_data(column) for name, column in splits.items()},
                "seeds": self.seeds,
                "metrics": metric_names(self.common),
                "main_metric": self.common["valid_metric"].lower(),
                "mode": self.common["eval_args"].get("mode", "full"),
                "settings": {key: value for key, value in self.common.items() if key not in RunSpec.NO_EFFECT},
                "tune": self.tune,
                "search": "the defaults, then random" if self.tune else None,
                "equal_budget": self.equal_budget,
                "notes": [*joined([*self.notes, *self._of_runs()]), *self._mixed()],
                "environment": run_folder.environment(),
                "command": self.command,
                "folder": str(self.store.folder),
                "asked": self.asked,
                "resources": vars(self.where),
                "threads": self.where.threads,
                "workers": self.where.workers,
                "executor": self._where()["executor"],
                "driver": {"pid": os.getpid()},
            }
        )

    def _head(self, column: ModelOnDataset) -> dict[str, Any]:
        entry, used = column.entry, self._settings(column)
        return {
            "label": entry.label,
            "model": entry.model,
            "diffusion": registry.is_diffusion(entry.model),
            "settings": {key: used[key] for key in entry.settings},
            "runs": {},
        }

    def _of_runs(self) -> list[tuple[str, str]]:
        """What the tested runs have warned of, by the model's label."""
        where = {column.dataset: f"{column.dataset}: " for column in self.columns}
        where = where if len(where) > 1 else dict.fromkeys(where, "")
        found = []
        for column in self.columns:
            records = [record for spec in column.finals for record in [self.store.record(spec.key)] if record]
            for record in records:
                found += [(column.entry.label, where[column.dataset] + note) for note in record["warnings"]]
        return found

    def _where(self) -> dict[str, Any]:
        """What a run's cost depends on beside its settings."""
        ray = self.where.workers is not None or self.where.address is not None
        return {"executor": "ray" if ray else "serial", **vars(self.where)}

    def _mixed(self) -> list[str]:
        """A note where runs of different calls were not run alike."""
        records = [self.store.record(spec.key) for column in self.columns for spec in column.finals]
        found = {tuple(each.get("where", {}).items()) for each in records if each is not None}
        if len(found) < 2:
            return []
        ways = "; ".join(", ".join(f"{name} {value}" for name, value in way) for way in sorted(found, key=str))
        return [f"costs do not compare: the runs were not made alike ({ways})"]


def _of_data(column: ModelOnDataset) -> dict[str, Any]:
    """What comparison.json says of a data set."""
    counts = column.split.counts if column.split is not None else {}
    statement = column.split.statement if column.split is not None else ""
    return {**counts, "statement": statement, "data_path": column.home}
