"""Any models side by side on one split: every cell run once, kept at once, and what was asked kept beside it."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

from filelock import FileLock, Timeout

from recbole_diffusion import runs
from recbole_diffusion.config import Config, parse_setting
from recbole_diffusion.experiment import plan, search_space
from recbole_diffusion.experiment.cell import Job, absolute, code_mark, failure, files_mark, model_mark, run_cell
from recbole_diffusion.experiment.dimensions import identity
from recbole_diffusion.experiment.executor import executor, one_line
from recbole_diffusion.experiment.plan import Entry
from recbole_diffusion.experiment.progress import Progress
from recbole_diffusion.experiment.store import Cell, Store, leftovers


@dataclass(frozen=True)
class Resources:
    """Where cells run; see :func:`recbole_diffusion.experiment.executor.executor`."""

    workers: Optional[int] = None
    address: Optional[str] = None
    threads: int = 1
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        """Before any data are prepared.

        Raises:
            ValueError: a number that is not allowed.
        """
        for name, least in (("workers", 1), ("threads", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ValueError(f"{name}={value!r} is not allowed; allowed: a whole number from {least}")


@dataclass
class _Column:
    """One model on one data set: its cells as they become known."""

    entry: Entry
    dataset: str
    split: Optional[plan.Split] = None
    trials: list[Cell] = field(default_factory=list)
    finals: list[Cell] = field(default_factory=list)
    best: Optional[dict[str, Any]] = None
    error: Optional[str] = None


def compare(
    models: Sequence[str],
    datasets: Sequence[str],
    seeds: Sequence[int],
    folder: Union[str, Path],
    settings: Optional[Mapping[str, Any]] = None,
    own: Optional[Mapping[str, Mapping[str, Any]]] = None,
    tune: int = 0,
    resources: Optional[Resources] = None,
    command: str = "",
    metric: Optional[str] = None,
    reference: Optional[str] = None,
) -> Store:
    """Run what is not there yet of every model, data set and seed, and keep it in ``folder``.

    Args:
        models: as :func:`plan.entries` takes them.
        datasets: their names.
        seeds: of the trainings; the split is the same for all of them.
        folder: made where it is not there. Cells in it that the same settings, data and code made are not run again.
        settings: for every model; they win over the defaults of :mod:`plan`.
        own: for single models, by label.
        tune: trials per model and data set, chosen between on the validation split: the model's defaults first, then
            draws from its search space.
        resources: where cells run; by default one after the other in this process.
        command: what was typed, for the record.
        metric: the report's main one; None: that which chooses the epochs.
        reference: the label of the model that the others are tested against in the report; None: the best.

    Returns:
        The folder's store. Cells that failed are in it with their reasons.

    Raises:
        ValueError: a model, setting or data set that is not right for all of them, another comparison at work in the
            folder; one line.
    """
    where = resources or Resources()
    models = [_absolute_file(word) for word in models]
    settings = absolute({"data_path": "dataset", **_parsed(settings or {})})  # a worker stands elsewhere
    asked = {"models": models, "datasets": list(datasets), "seeds": list(seeds), "settings": settings}
    asked.update(own={label: dict(each) for label, each in (own or {}).items()}, tune=tune, resources=vars(where))
    asked.update(metric=metric, reference=reference)
    if len(set(seeds)) < max(len(seeds), 1):
        raise ValueError(f"seeds={list(seeds)!r} is not allowed; allowed: one or more, each once")
    if len(set(datasets)) < max(len(datasets), 1):
        raise ValueError(f"dataset={','.join(datasets)!r} is not allowed; allowed: one or more, each once")
    if tune < 0:
        raise ValueError(f"tune={tune} is not allowed; allowed: a number of trials, or 0")
    chosen = plan.entries(models, {label: _parsed(each) for label, each in (own or {}).items()})
    protocol = plan.protocol(chosen, settings)
    _check_report(chosen, protocol.settings, metric, reference)
    store = Store(folder)
    with _alone(store.folder):
        common = {
            **protocol.settings,
            "state": "ERROR",
            "prepared_data": str(store.folder / "data"),
            "checkpoint_dir": str(store.folder / "saved"),
        }
        columns, notes = _columns(chosen, datasets, common)
        work = _Asked(store, columns, list(seeds), common, tune, where, command, [*protocol.notes, *notes], asked)
        work.run()
    return store


def _check_report(
    chosen: Sequence[Entry], settings: Mapping[str, Any], metric: Optional[str], reference: Optional[str]
) -> None:
    """What the report will be asked for, before hours of training.

    Raises:
        ValueError: no such model, or a metric that is not measured.
    """
    labels = [entry.label for entry in chosen]
    if reference is not None and reference not in labels:
        raise ValueError(f"reference={reference!r} is not allowed; allowed: {' | '.join(labels)}")
    measured = _metric_names(settings)
    if metric is not None and metric.lower() not in measured:
        raise ValueError(f"metric={metric!r} is not measured; allowed: {' | '.join(measured)}")


def _metric_names(settings: Mapping[str, Any]) -> list[str]:
    """Every metric at each cut-off, or by itself where it has none, as in results."""
    metrics, cuts = settings["metrics"], settings["topk"]
    found: list[str] = []
    for metric in [metrics] if isinstance(metrics, str) else metrics:
        alone = metric.lower() in {"gauc", "auc", "logloss", "mae", "rmse"}
        found += (
            [metric.lower()]
            if alone
            else [f"{metric.lower()}@{k}" for k in ([cuts] if isinstance(cuts, int) else cuts)]
        )
    return list(dict.fromkeys(found))


def resume(folder: Union[str, Path], resources: Optional[Mapping[str, Any]] = None) -> Store:
    """Go on with a comparison: what failed or was not reached is run, what is finished is not.

    Args:
        folder: of the comparison.
        resources: what of :class:`Resources` is to be other than it was.

    Raises:
        ValueError: the folder holds none; see :func:`compare`.
    """
    plan_there = Store(folder, new=False).plan()
    asked = plan_there["asked"]
    where = Resources(**{**asked.pop("resources"), **(resources or {})})
    return compare(**asked, folder=folder, resources=where, command=plan_there["command"])


def _absolute_file(word: str) -> str:
    """``NAME@FILE.yaml`` with the file's whole path, so that it is found again from elsewhere."""
    name, at, variant = word.strip().partition("@")
    if Path(variant).suffix not in {".yaml", ".yml"}:
        return word.strip()
    return f"{name}{at}{os.path.abspath(os.path.expanduser(variant))}"


def _parsed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Values as they are meant: the command line has strings only."""
    return {key: parse_setting(key, value) for key, value in settings.items()}


class _alone(FileLock):
    """Nobody else works in the folder, and nothing of a driver that was killed is left there."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(str(folder / ".lock"), timeout=0)
        self.folder = folder

    def __enter__(self) -> Any:
        try:
            self.acquire()
        except Timeout:
            raise ValueError(
                f"another comparison is at work in {str(self.folder)!r}; wait for it or take another"
            ) from None
        shutil.rmtree(self.folder / "work", ignore_errors=True)
        for file in leftovers(self.folder):
            file.unlink(missing_ok=True)
        return self


def _columns(
    chosen: Sequence[Entry], datasets: Sequence[str], common: Mapping[str, Any]
) -> tuple[list[_Column], list[str]]:
    """Every model on every data set, its configuration checked; and what the configurations warn of.

    A value that one model refuses is that model's failure. A data set that is not there, or that is not split alike for
    all, is everybody's.
    """
    columns, notes = [], []
    for dataset in datasets:
        configs: dict[str, Config] = {}
        here = [_Column(entry, dataset) for entry in chosen]
        for column in here:
            try:
                configs[column.entry.label] = plan.check(column.entry, dataset, common)
            except ValueError as error:
                column.error = one_line(error)
        if configs:
            split = plan.split_of(configs, dataset)
            for column in here:
                column.split, column.error = split, column.error or split.failed.get(column.entry.label)
        notes += [f"{label}: {note}" for label, config in configs.items() for note in config.notes]
        columns += here
    if all(column.error for column in columns):
        raise ValueError(str(columns[0].error))
    return columns, list(dict.fromkeys(notes))


class _Asked:
    """A comparison at work."""

    def __init__(
        self,
        store: Store,
        columns: list[_Column],
        seeds: list[int],
        common: Mapping[str, Any],
        tune: int,
        where: Resources,
        command: str,
        notes: list[str],
        asked: dict[str, Any],
    ) -> None:
        self.asked = asked
        self.store, self.columns, self.seeds, self.common = store, columns, seeds, dict(common)
        self.tune, self.where, self.command, self.notes = tune, where, command, notes

    def run(self) -> None:
        """Trials first, then the tested runs of what they chose."""
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
            for line in dict.fromkeys(column.split.statement for column in working if column.split):
                progress.say(line)
            for note in dict.fromkeys(self.notes):
                progress.say(f"note: {note}")
            with executor(**vars(self.where)) as pool:
                self._work([cell for column in working for cell in column.trials], pool, progress)
                for column in working:
                    if column.trials:
                        self._choose(column)
                self._write_plan()
                cells = [column.finals for column in working if column.error is None]
                in_turn = [each[place] for place in range(len(self.seeds)) for each in cells if place < len(each)]
                self._work(in_turn, pool, progress)
        if all(self.store.cell(cell.key) for column in working for cell in column.finals):
            shutil.rmtree(self.store.folder / "data", ignore_errors=True)  # can be gigabytes, made again where needed
        self._write_plan()  # once more: what the cells were run on is known now

    def _size(self, working: Sequence[_Column]) -> list[tuple[str, int]]:
        """How many cells each model will have."""
        sizes: dict[str, int] = {}
        for column in working:
            sizes[column.entry.label] = sizes.get(column.entry.label, 0) + len(column.trials) + len(self.seeds)
        return list(sizes.items())

    def _cell(self, column: _Column, chosen: Mapping[str, Any], seed: int, trial: Optional[int]) -> Cell:
        settings = {**self.common, **column.entry.settings, **chosen}
        basis = {"code": code_mark(), "model": model_mark(column.entry.model), "files": files_mark(settings)}
        if column.split is not None:
            basis.update(split=column.split.counts["split_sha256"], data=column.split.counts["files_sha256"])
        basis = {name: mark for name, mark in basis.items() if mark}
        entry = column.entry
        return Cell(entry.label, entry.model, column.dataset, seed, settings, trial, basis)

    def _trials(self, column: _Column) -> list[Cell]:
        """The model's defaults, then draws from its space. None for a model that has nothing to tune."""
        label = column.entry.label
        try:
            space = search_space.load(column.entry.model)
        except ValueError as error:
            self.notes.append(f"{label} is not tuned: {one_line(error)}")
            return []
        space = space.fix([*column.entry.settings, *self.common])
        if not space.dimensions:
            self.notes.append(f"{label} is not tuned: every key of its space is given")
            return []
        try:
            given = {**self.common, **column.entry.settings}
            space.check(column.entry.model, column.dataset, given)
            configured = plan.check(column.entry, column.dataset, self.common)
        except ValueError as error:
            self.notes.append(f"{label} is not tuned: {one_line(error)}")
            return []
        defaults = {key: configured[key] for key in space.dimensions}
        others = (draw for draw in space.sample(self.tune, seed=0) if identity(draw) != identity(defaults))
        draws = [{}, *itertools.islice(others, self.tune - 1)]
        if len(draws) < self.tune:
            self.notes.append(f"{label}: {len(draws)} trials are its defaults and all of its space")
        return [self._cell(column, draw, self.seeds[0], number) for number, draw in enumerate(draws)]

    def _finals(self, column: _Column, chosen: Mapping[str, Any]) -> list[Cell]:
        return [self._cell(column, chosen, seed, None) for seed in self.seeds]

    def _choose(self, column: _Column) -> None:
        """The trial that is best on the validation split; its settings are run with every seed and tested."""
        done = [(cell, self.store.cell(cell.key)) for cell in column.trials]
        there = [(cell, record) for cell, record in done if record is not None and record["valid_score"] is not None]
        if not there:
            reasons = [self.store.failure(cell.key) for cell in column.trials]
            column.error = f"every trial failed; the first: {(reasons[0] or {}).get('error', 'unknown')}"
            column.finals = []
            self._refuse(column)
            return
        sign = 1 if there[0][1]["valid_score_bigger"] else -1
        best, _ = max(there, key=lambda each: sign * each[1]["valid_score"])  # the first of equals
        given = {**self.common, **column.entry.settings}
        column.best = {key: value for key, value in best.settings.items() if key not in given or given[key] != value}
        column.finals = self._finals(column, column.best)

    def _refuse(self, column: _Column) -> None:
        """A model that cannot be run: its cells fail with the reason."""
        for seed in self.seeds:
            cell = self._cell(column, {}, seed, None)
            self.store.fail(cell.key, failure(cell, str(column.error)))
            column.finals.append(cell)

    def _work(self, cells: Sequence[Cell], pool: Any, progress: Progress) -> None:
        """Run those that are not there; keep each as soon as it is done."""
        todo: dict[str, Cell] = {}
        for cell in cells:
            record = self.store.cell(cell.key)
            if record is None:
                todo[cell.key] = cell
            else:
                progress.found(cell, record)
        jobs = [(key, Job(cell, str(self.store.folder))) for key, cell in todo.items()]
        progress.start(list(todo.values()))
        for done in pool.map(run_cell, jobs, tick=lambda: progress.tick(pool.running())):
            cell = todo[done.key]
            error = done.error
            if error is None:
                done.value.record["where"] = self._where()
                try:
                    self.store.finish(cell.key, done.value.record, done.value.users)
                except OSError as failed:  # the disk is full
                    error = f"its result could not be written: {one_line(failed)}"
            if error is None:
                progress.done(cell, done.value.record)
                continue
            progress.failed(cell, error)
            try:
                self.store.fail(cell.key, failure(cell, error))
            except OSError as failed:
                progress.say(f"its reason could not be written: {one_line(failed)}")

    def _write_plan(self) -> None:
        models: dict[str, dict[str, Any]] = {}
        for column in self.columns:
            entry = column.entry
            model = models.setdefault(
                entry.label, {"label": entry.label, "model": entry.model, "settings": entry.settings, "cells": {}}
            )
            model["cells"][column.dataset] = [cell.key for cell in column.finals]
            if column.trials:
                model.setdefault("trials", {})[column.dataset] = [cell.key for cell in column.trials]
            if column.best is not None:
                model.setdefault("best", {})[column.dataset] = column.best
        splits = {column.dataset: column.split for column in self.columns if column.split is not None}
        self.store.write_plan(
            {
                "models": list(models.values()),
                "datasets": {name: {**each.counts, "statement": each.statement} for name, each in splits.items()},
                "seeds": self.seeds,
                "metrics": _metric_names(self.common),
                "main_metric": self.common["valid_metric"].lower(),
                "mode": self.common["eval_args"].get("mode", "full"),
                "settings": {key: value for key, value in self.common.items() if key not in Cell.NO_EFFECT},
                "tune": self.tune,
                "search": "the defaults, then random" if self.tune else None,
                "notes": [*dict.fromkeys(self.notes), *self._mixed()],
                "environment": runs.environment(),
                "command": self.command,
                "asked": self.asked,
                "threads": self.where.threads,
                "workers": self.where.workers,
                "executor": self._where()["executor"],
                "driver": {"pid": os.getpid()},
            }
        )

    def _where(self) -> dict[str, Any]:
        """What a cell's cost depends on beside its settings."""
        ray = self.where.workers is not None or self.where.address is not None
        return {"executor": "ray" if ray else "serial", **vars(self.where)}

    def _mixed(self) -> list[str]:
        """A note where cells of different calls were not run alike."""
        records = [self.store.cell(cell.key) for column in self.columns for cell in column.finals]
        found = {tuple(each.get("where", {}).items()) for each in records if each is not None}
        if len(found) < 2:
            return []
        ways = "; ".join(", ".join(f"{name} {value}" for name, value in way) for way in sorted(found, key=str))
        return [f"costs do not compare: the runs were not made alike ({ways})"]
