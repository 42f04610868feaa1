"""The content of comparison.json: models and their runs, data sets, settings, notes and environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recbole_diffusion import registry
from recbole_diffusion.experiment.compare.models_on_datasets import ModelOnDataset, Note
from recbole_diffusion.experiment.compare.plan import metric_names
from recbole_diffusion.experiment.compare.run_planner import RunPlanner
from recbole_diffusion.experiment.jobs.resources import Resources
from recbole_diffusion.experiment.jobs.run_spec import RunSpec
from recbole_diffusion.experiment.jobs.store import Store


def models(pairs: Sequence[ModelOnDataset], planner: RunPlanner) -> list[dict[str, Any]]:
    """Return each model with the keys of its runs and trials by data set."""
    by_label: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        entry, settings = pair.entry, planner.settings(pair)
        head = {
            "label": entry.label,
            "model": entry.model,
            "diffusion": registry.is_diffusion(entry.model),
            "settings": {key: settings[key] for key in entry.settings},
            "runs": {},
        }
        model = by_label.setdefault(entry.label, head)
        model["runs"][pair.dataset] = [spec.key for spec in pair.final_specs]
        if pair.trial_specs:
            model.setdefault("trials", {})[pair.dataset] = [spec.key for spec in pair.trial_specs]
        if pair.best is not None:
            model.setdefault("best", {})[pair.dataset] = pair.best
    return list(by_label.values())


def datasets(pairs: Sequence[ModelOnDataset]) -> dict[str, dict[str, Any]]:
    """Return counts, split hash and path of each data set."""
    return {
        pair.dataset: {**pair.split.counts, "statement": pair.split.statement, "data_path": pair.data_path}
        for pair in pairs
        if pair.split is not None
    }


def shared_settings(common: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings for all models: those that change numbers, metrics and ranking."""
    return {
        "metrics": metric_names(common),
        "main_metric": common["valid_metric"].lower(),
        "mode": common["eval_args"].get("mode", "full"),
        "settings": {key: value for key, value in common.items() if key not in RunSpec.NO_EFFECT},
    }


def execution(resources: Resources) -> dict[str, Any]:
    """Return executor and resources: what the cost of a run depends on beside its settings."""
    on_ray = resources.workers is not None or resources.address is not None
    return {"executor": "ray" if on_ray else "serial", **vars(resources)}


def run_warnings(pairs: Sequence[ModelOnDataset], store: Store) -> list[Note]:
    """Return the warnings of the tested runs."""
    several = len({pair.dataset for pair in pairs}) > 1
    return [
        Note(pair.entry.label, (f"{pair.dataset}: " if several else "") + text)
        for pair in pairs
        for record in _final_records([pair], store)
        for text in record["warnings"]
    ]


def unequal_execution(pairs: Sequence[ModelOnDataset], store: Store) -> list[str]:
    """Return a note if runs of different calls had different executors or resources."""
    executions = {tuple(record.get("where", {}).items()) for record in _final_records(pairs, store)}
    if len(executions) < 2:
        return []
    ways = "; ".join(", ".join(f"{name} {value}" for name, value in way) for way in sorted(executions, key=str))
    return [f"costs do not compare: the runs were not made alike ({ways})"]


def _final_records(pairs: Sequence[ModelOnDataset], store: Store) -> list[dict[str, Any]]:
    records = [store.record(spec.key) for pair in pairs for spec in pair.final_specs]
    return [record for record in records if record is not None]
