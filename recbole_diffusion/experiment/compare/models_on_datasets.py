"""Every model of a comparison on every data set: configured, on one split, and what there is to warn of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional

from recbole.utils import ModelType

from recbole_diffusion.experiment.compare import plan
from recbole_diffusion.experiment.compare.entries import Entry
from recbole_diffusion.experiment.jobs.executor import one_line
from recbole_diffusion.experiment.jobs.run_spec import RunSpec
from recbole_diffusion.settings import precedence
from recbole_diffusion.settings.config import Config
from recbole_diffusion.settings.precedence import Source

#: (label of a model, or nothing; text)
Note = tuple[str, str]
_BUDGET = ("epochs", "stopping_step", "eval_step")


@dataclass
class ModelOnDataset:
    """One model on one data set: its runs as they become known.

    ``home``: the data set's ``data_path``, absolute.
    """

    entry: Entry
    dataset: str
    home: str = ""
    split: Optional[plan.Split] = None
    trials: list[RunSpec] = field(default_factory=list)
    finals: list[RunSpec] = field(default_factory=list)
    best: Optional[dict[str, Any]] = None
    error: Optional[str] = None


class Ready(NamedTuple):
    """Columns that may be run, and notes for the reader.

    Attributes:
        equal_budget: whether no model has epochs or a patience of its own.
    """

    columns: list[ModelOnDataset]
    notes: list[Note]
    equal_budget: bool


def joined(notes: Sequence[Note]) -> list[str]:
    """Notes as lines, each once, with the names of all models that it is about."""
    labels: dict[str, dict[str, None]] = {}
    for label, text in notes:
        labels.setdefault(text, {})[label] = None
    return [text if "" in names else f"{', '.join(names)}: {text}" for text, names in labels.items()]


def columns_of(
    chosen: Sequence[Entry],
    datasets: Sequence[str],
    common: Mapping[str, Any],
    sources: Sequence[Source],
    tuned: bool,
    homes: Mapping[str, str],
) -> Ready:
    """Configure every model on every data set.

    A value that one model refuses is that model's failure. A data set that is not there, or that is not split alike for
    all, is everybody's.

    Args:
        chosen: the models.
        datasets: their names.
        common: settings for all models.
        sources: of those that were given, see :meth:`Entry.notes`.
        tuned: trials are chosen between on the validation split, which must not be empty then.
        homes: the ``data_path`` of data sets that are known.

    Raises:
        ValueError: nothing can be run; one line.
    """
    columns: list[ModelOnDataset] = []
    notes: list[Note] = [("", note) for note in precedence.notes(sources)]
    notes += [(entry.label, note) for entry in chosen for note in entry.notes(sources)]
    given, equal = {*sources[-1].values}, True
    for dataset in datasets:
        here, configs = _configured(chosen, dataset, common, given, homes.get(dataset))
        where = f"{dataset}: " * (len(datasets) > 1)
        if configs:
            split = plan.split_of(configs, dataset)
            _check_parts(split, configs, dataset, tuned)
            notes += [("", note) for note in plan.empty_parts(split, dataset)]
            for column in here:
                column.split, column.error = split, column.error or split.failed.get(column.entry.label)
        notes += [(label, where + note) for label, config in configs.items() for note in config.notes]
        for column in here:
            config = configs.get(column.entry.label)
            left_out = column.entry.notes_of_left_out(config, datasets, column.home) if config is not None else []
            notes += [(column.entry.label, note) for note in left_out]
        unequal = _budgets([(each.entry, configs[each.entry.label]) for each in here if each.entry.label in configs])
        notes += [("", where + note) for note in unequal]
        equal = equal and not unequal
        columns += here
    if all(column.error for column in columns):
        raise ValueError(str(columns[0].error))
    return Ready(columns, notes, equal)


def _configured(
    chosen: Sequence[Entry], dataset: str, common: Mapping[str, Any], given: set[str], home: Optional[str]
) -> tuple[list[ModelOnDataset], dict[str, Config]]:
    """The models on a data set, found where the first of them finds it; their configurations by label."""
    here = [ModelOnDataset(entry, dataset) for entry in chosen]
    configs: dict[str, Config] = {}
    place = {"data_path": home} if home else {}
    for column in here:
        try:
            config = plan.check(column.entry, dataset, {**common, **place}, given)
            if not place:  # workers stand elsewhere
                place = {"data_path": plan.home_of(config)}
                config = plan.check(column.entry, dataset, {**common, **place}, given)
            configs[column.entry.label] = config
        except ValueError as error:
            column.error = one_line(error)
    for column in here:
        column.home = place.get("data_path", "")
    return here, configs


def _check_parts(split: plan.Split, configs: Mapping[str, Config], dataset: str, tuned: bool) -> None:
    """Whether there is something to choose by.

    Raises:
        ValueError: trials are to be chosen between, and the validation split is empty.
    """
    if tuned and not split.counts["valid"]:
        raise ValueError(plan.nothing_to_choose_by(dataset, next(iter(configs.values()))))


def _budgets(configs: Sequence[tuple[Entry, Config]]) -> list[str]:
    """Where a model has epochs or a patience of its own and others have another."""
    found = []
    trained = [(entry, config) for entry, config in configs if config["MODEL_TYPE"] != ModelType.TRADITIONAL]
    for key in _BUDGET:
        labels: dict[Any, list[str]] = {}
        for entry, config in trained:
            labels.setdefault(config[key], []).append(entry.label)
        if len(labels) > 1 and any(key in entry.settings for entry, _ in trained):
            each = ", ".join(f"{value} for {' and '.join(names)}" for value, names in labels.items())
            found.append(f"the budgets are not equal: {key}={each}; --{key}=VALUE is for all")
    return found
