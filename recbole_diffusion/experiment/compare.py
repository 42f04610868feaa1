"""Any models side by side on one split: every cell run once, kept at once, and what was asked kept beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from recbole_diffusion.config import Config, parse_setting
from recbole_diffusion.experiment import plan
from recbole_diffusion.experiment.cell import absolute
from recbole_diffusion.experiment.executor import one_line
from recbole_diffusion.experiment.plan import Entry
from recbole_diffusion.experiment.store import Store, alone
from recbole_diffusion.experiment.work import Column, Resources, Work, metric_names

__all__ = ["Resources", "compare", "resume"]


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
    own = {label: absolute(_parsed(each)) for label, each in (own or {}).items()}
    asked = {"models": models, "datasets": list(datasets), "seeds": list(seeds), "settings": settings}
    asked.update(own=own, tune=tune, resources=vars(where), metric=metric, reference=reference)
    if len(set(seeds)) < max(len(seeds), 1):
        raise ValueError(f"seeds={list(seeds)!r} is not allowed; allowed: one or more, each once")
    if len(set(datasets)) < max(len(datasets), 1):
        raise ValueError(f"dataset={','.join(datasets)!r} is not allowed; allowed: one or more, each once")
    if tune < 0:
        raise ValueError(f"tune={tune} is not allowed; allowed: a number of trials, or 0")
    chosen = plan.entries(models, own)
    protocol = plan.protocol(chosen, settings)
    _check_report(chosen, protocol.settings, metric, reference)
    store = Store(folder)
    with alone(store.folder, "comparison"):
        common = {
            **protocol.settings,
            "state": "ERROR",
            "prepared_data": str(store.folder / "data"),
            "checkpoint_dir": str(store.folder / "saved"),
        }
        columns, notes = _columns(chosen, datasets, common)
        work = Work(store, columns, list(seeds), common, tune, where, command, [*protocol.notes, *notes], asked)
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
    measured = metric_names(settings)
    if metric is not None and metric.lower() not in measured:
        raise ValueError(f"metric={metric!r} is not measured; allowed: {' | '.join(measured)}")


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


def _columns(
    chosen: Sequence[Entry], datasets: Sequence[str], common: Mapping[str, Any]
) -> tuple[list[Column], list[str]]:
    """Every model on every data set, its configuration checked; and what the configurations warn of.

    A value that one model refuses is that model's failure. A data set that is not there, or that is not split alike for
    all, is everybody's.
    """
    columns, notes = [], []
    for dataset in datasets:
        configs: dict[str, Config] = {}
        here = [Column(entry, dataset) for entry in chosen]
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
