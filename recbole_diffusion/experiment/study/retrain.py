"""What carries a result in training: a model trained again without one of its parts, at one budget for all.

The parts are the settings that the model's card names (``ablation``). The trainings are a comparison in the folder
``train`` of the study, so that finished runs are never repeated and ``report`` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from recbole_diffusion import registry
from recbole_diffusion.experiment import compare, report
from recbole_diffusion.experiment.jobs.run_spec import RunSpec
from recbole_diffusion.experiment.jobs.store import Store
from recbole_diffusion.experiment.report.analysis import Analysis, analyse
from recbole_diffusion.experiment.report.files import ReportOptions
from recbole_diffusion.experiment.report.reading import read
from recbole_diffusion.experiment.report.results import ModelResult
from recbole_diffusion.experiment.study.checkpoint_study import CheckpointStudy, overlap
from recbole_diffusion.experiment.study.results import OVERLAP_AT, Row

FULL = "retrained"
#: Settings of a checkpoint that a training of a comparison does not take over.
_NOT_TAKEN = RunSpec.NO_EFFECT - {"data_path", "pretrain_dir"} | {
    "model",
    "dataset",
    "seed",
    "preset",
    "use_gpu",
    "gpu_id",
}
#: Settings that bound a training.
_BUDGET = ("epochs", "eval_step", "stopping_step")


class Retrained(NamedTuple):
    """The trainings of an ablation.

    Attributes:
        rows: of the variants; the first is the model as it is.
        notes: for the reader: the budget, the settings of each variant, those left out.
        failed: number of runs that failed.
    """

    rows: list[Row]
    notes: list[str]
    failed: int


def variants(config: Any) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the settings of each variant by label, the model as it is first, and a line for each that is left out.

    Raises:
        ValueError: the model's card names none.
    """
    spec = registry.find_spec(config.model_name())
    ablation = spec.card.ablation if spec is not None and spec.card is not None else {}
    if not ablation:
        raise ValueError(f"{config.model_name()} cannot be ablated in training: its card has no 'ablation'")
    different = {label: keys for label, keys in ablation.items() if any(config[key] != keys[key] for key in keys)}
    left_out = [f"{label}: the checkpoint's own settings" for label in ablation if label not in different]
    return {FULL: {}, **different}, left_out


def check(study: CheckpointStudy, split: str) -> None:
    """Check what needs no training.

    Raises:
        ValueError: see :func:`variants`; another part than the test, which trainings are measured on.
    """
    variants(study.config)
    if split != "test":
        raise ValueError(f"split={split!r} is not allowed with train: trainings are measured on the test split")


def retrain(
    study: CheckpointStudy,
    seeds: Sequence[int],
    budget: Mapping[str, Any],
    resources: Optional[compare.Resources] = None,
    command: str = "",
) -> Retrained:
    """Train the model and its variants again, with the settings and on the split of the checkpoint.

    Args:
        study: of the checkpoint.
        seeds: of the trainings.
        budget: settings for all of them, such as ``epochs``.
        resources: of the trainings; None: one after the other.
        command: the command line, for the record.

    Raises:
        ValueError: no variants; a seed that is not allowed; data that are not the checkpoint's. One line.
    """
    config = study.config
    settings_by_label, left_out = variants(config)
    folder = study.store.folder / "train"
    plain = {key: value for key, value in config.plain().items() if key not in _NOT_TAKEN}
    plain["split_seed"] = config["seed"] if config["split_seed"] is None else config["split_seed"]
    store = compare.compare_variants(
        config.model_name(), settings_by_label, config["dataset"], seeds, folder, plain, budget, resources, command
    )
    _check_split(study, store, config["dataset"])
    rows, failed = _rows(study, store, config["dataset"])
    notes = [f"Left out: {line}." for line in left_out]
    return Retrained(
        rows, [_budget_note({**plain, **budget}, seeds), *_variant_notes(settings_by_label), *notes], failed
    )


def _check_split(study: CheckpointStudy, store: Store, dataset: str) -> None:
    """Raise a ValueError if the trainings had another split than the checkpoint."""
    trained = store.plan()["datasets"][dataset]["split_sha256"]
    own = study.studied.split.counts["split_sha256"]
    if trained != own:
        raise ValueError(f"the trainings have the split {trained[:12]}, the checkpoint {own[:12]}: other data")


def _rows(study: CheckpointStudy, store: Store, dataset: str) -> tuple[list[Row], int]:
    """A row per variant that has finished runs, and the number of runs that failed."""
    comparison = read(store.folder, study.main_metric)
    results = comparison.results[dataset]
    reference = results[0].label
    report.write(store.folder, ReportOptions(metric=study.main_metric, reference=reference), comparison)
    analysis = analyse(comparison, dataset, reference)
    keys = {entry["label"]: entry["runs"][dataset] for entry in store.plan()["models"]}
    rows = [_row(analysis, result, store, keys[result.label], keys[reference]) for result in results if result.runs]
    return rows, sum(len(result.missing) for result in results)


def _row(analysis: Analysis, result: ModelResult, store: Store, keys: list[str], reference_keys: list[str]) -> Row:
    metric = analysis.main
    low, high = analysis.intervals.get((result.label, metric), (None, None))
    test = analysis.against_reference(result.label, metric) or {}
    timings = [run["timing"] for run in result.runs]
    variant = result.label.partition("@")[2]
    return Row(
        variant if variant == FULL else f"{FULL} {_preposition(variant)}",
        result.mean(metric),
        low,
        high,
        test.get("difference"),
        test.get("low"),
        test.get("high"),
        test.get("p_wilcoxon_holm"),
        _overlap(store, keys, reference_keys),
        timings[0]["denoiser_calls_per_user"],
        float(np.mean([timing["test_users_per_s"] for timing in timings])),
        {name: value for name in result.runs[0]["test"] for value in [result.mean(name)] if value is not None},
        FULL,
        len(result.runs),
        result.sd(metric),
    )


def _preposition(label: str) -> str:
    return label if label.startswith(("without", "with ")) else f"with {label}"


def _overlap(store: Store, keys: Sequence[str], reference_keys: Sequence[str]) -> float:
    """The mean over seeds of the overlap of the first items with those of the reference at the same seed."""
    pairs = [(store.lists(key), store.lists(reference)) for key, reference in zip(keys, reference_keys)]
    shares = [overlap(own.lists.items, other.lists.items, OVERLAP_AT) for own, other in pairs if own and other]
    return float(np.mean(shares)) if shares else float("nan")


def _budget_note(settings: Mapping[str, Any], seeds: Sequence[int]) -> str:
    budget = ", ".join(f"{key} {settings[key]}" for key in _BUDGET if key in settings)
    return (
        f"Retrained: {len(seeds)} seed(s) ({', '.join(map(str, seeds))}), {budget}, the same for all of them; "
        f"differences, p and overlap are from '{FULL}', which has the checkpoint's settings."
    )


def _variant_notes(settings_by_label: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line that says what each variant sets."""
    texts = [f"{label}: {_settings(keys)}" for label, keys in settings_by_label.items() if keys]
    return [f"Settings: {'; '.join(texts)}."]


def _settings(keys: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in keys.items())
