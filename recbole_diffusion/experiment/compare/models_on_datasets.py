"""Every model of a comparison on every data set: configuration, split and warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional

from recbole.utils import ModelType

from recbole_diffusion.experiment.compare import plan
from recbole_diffusion.experiment.compare.model_entries import ModelEntry
from recbole_diffusion.experiment.jobs.executor import one_line
from recbole_diffusion.experiment.jobs.run_spec import RunSpec
from recbole_diffusion.settings import precedence
from recbole_diffusion.settings.config import Config
from recbole_diffusion.settings.precedence import Source

#: Settings that bound how long a model is trained.
_BUDGET = ("epochs", "stopping_step", "eval_step")


class Note(NamedTuple):
    """A note for the reader; ``label`` is that of the model concerned, or empty."""

    label: str
    text: str


def join_notes(notes: Sequence[Note]) -> list[str]:
    """Return each text once, after the labels of all models that it concerns."""
    labels: dict[str, dict[str, None]] = {}
    for label, text in notes:
        labels.setdefault(text, {})[label] = None
    return [text if "" in names else f"{', '.join(names)}: {text}" for text, names in labels.items()]


@dataclass
class ModelOnDataset:
    """One model on one data set.

    Attributes:
        entry: the model.
        dataset: the data set's name.
        data_path: of the data set, absolute.
        split: of the data set; None if no model could be configured on it.
        trial_specs: the tuning trials.
        final_specs: the tested runs, one for each seed.
        best: the settings that tuning chose; None without tuning.
        error: why the model cannot be run; None if it can.
    """

    entry: ModelEntry
    dataset: str
    data_path: str = ""
    split: Optional[plan.Split] = None
    trial_specs: list[RunSpec] = field(default_factory=list)
    final_specs: list[RunSpec] = field(default_factory=list)
    best: Optional[dict[str, Any]] = None
    error: Optional[str] = None


class PreparedModels(NamedTuple):
    """The models on the data sets, ready to be run.

    Attributes:
        pairs: each model on each data set.
        notes: for the reader.
        equal_budget: whether no model sets its own epochs or patience.
    """

    pairs: list[ModelOnDataset]
    notes: list[Note]
    equal_budget: bool


def prepare_models(
    entries: Sequence[ModelEntry],
    datasets: Sequence[str],
    common: Mapping[str, Any],
    sources: Sequence[Source],
    tuned: bool,
    data_paths: Mapping[str, str],
) -> PreparedModels:
    """Configure every model on every data set.

    A value that one model refuses is the failure of that model alone. A missing data set, or one that is not split
    alike for all models, stops the comparison.

    Args:
        entries: the models.
        datasets: names of data sets.
        common: settings for all models.
        sources: of the settings that were passed, see :meth:`ModelEntry.precedence_notes`.
        tuned: whether trials are compared on the validation split, which must not be empty then.
        data_paths: the ``data_path`` of data sets that an earlier call has found, by name.

    Raises:
        ValueError: nothing can be run; one line.
    """
    pairs: list[ModelOnDataset] = []
    notes = [Note("", text) for text in precedence.notes(sources)]
    notes += [Note(entry.label, text) for entry in entries for text in entry.precedence_notes(sources)]
    passed_keys, equal_budget = {*sources[-1].values}, True
    for dataset in datasets:
        of_dataset, configs = _configure(entries, dataset, common, passed_keys, data_paths.get(dataset))
        if configs:
            notes += _share_split(of_dataset, configs, dataset, tuned)
        prefix = f"{dataset}: " * (len(datasets) > 1)
        notes += [Note(label, prefix + text) for label, config in configs.items() for text in config.notes]
        configured = [(pair, configs[pair.entry.label]) for pair in of_dataset if pair.entry.label in configs]
        notes += [
            Note(pair.entry.label, text)
            for pair, config in configured
            for text in pair.entry.ignored_notes(config, datasets, pair.data_path)
        ]
        unequal = _unequal_budgets([(pair.entry, config) for pair, config in configured])
        notes += [Note("", prefix + text) for text in unequal]
        equal_budget = equal_budget and not unequal
        pairs += of_dataset
    if all(pair.error for pair in pairs):
        raise ValueError(str(pairs[0].error))
    return PreparedModels(pairs, notes, equal_budget)


def _configure(
    entries: Sequence[ModelEntry],
    dataset: str,
    common: Mapping[str, Any],
    passed_keys: set[str],
    data_path: Optional[str],
) -> tuple[list[ModelOnDataset], dict[str, Config]]:
    """The models on a data set, read from where the first model finds it, and the configurations by label."""
    pairs = [ModelOnDataset(entry, dataset) for entry in entries]
    configs: dict[str, Config] = {}
    location = {"data_path": data_path} if data_path else {}
    for pair in pairs:
        try:
            config = plan.configure_model(pair.entry, dataset, {**common, **location}, passed_keys)
            if not location:  # workers have other working directories
                location = {"data_path": plan.absolute_data_path(config)}
                config = plan.configure_model(pair.entry, dataset, {**common, **location}, passed_keys)
            configs[pair.entry.label] = config
        except ValueError as error:
            pair.error = one_line(error)
    for pair in pairs:
        pair.data_path = location.get("data_path", "")
    return pairs, configs


def _share_split(
    pairs: Sequence[ModelOnDataset], configs: Mapping[str, Config], dataset: str, tuned: bool
) -> list[Note]:
    """Prepare the data set's split, give it to its models, and return notes on it.

    Raises:
        ValueError: the models have different splits, or they are tuned and the validation split is empty.
    """
    split = plan.prepare_split(configs, dataset)
    if tuned and not split.counts["valid"]:
        raise ValueError(plan.empty_validation_message(dataset, next(iter(configs.values()))))
    for pair in pairs:
        pair.split, pair.error = split, pair.error or split.failed.get(pair.entry.label)
    return [Note("", text) for text in plan.empty_split_notes(split, dataset)]


def _unequal_budgets(configs: Sequence[tuple[ModelEntry, Config]]) -> list[str]:
    """One line for each setting of the budget that a model sets for itself and that differs between models."""
    lines = []
    trained = [(entry, config) for entry, config in configs if config["MODEL_TYPE"] != ModelType.TRADITIONAL]
    for key in _BUDGET:
        labels: dict[Any, list[str]] = {}
        for entry, config in trained:
            labels.setdefault(config[key], []).append(entry.label)
        if len(labels) > 1 and any(key in entry.settings for entry, _ in trained):
            values = ", ".join(f"{value} for {' and '.join(names)}" for value, names in labels.items())
            lines.append(f"the budgets are not equal: {key}={values}; --{key}=VALUE is for all")
    return lines
