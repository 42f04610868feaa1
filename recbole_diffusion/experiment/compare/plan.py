"""The plan of a comparison: one protocol for all models and one split, whose hash is checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from recbole.utils import ModelType

from recbole_diffusion import quick_start, registry
from recbole_diffusion.cards import own_models
from recbole_diffusion.data import fit_on, pipeline, prepared
from recbole_diffusion.data.account import account_of
from recbole_diffusion.experiment.compare.model_entries import ModelEntry
from recbole_diffusion.experiment.defaults import DEFAULTS, LEAVE_ONE_OUT, RANDOM
from recbole_diffusion.experiment.jobs.executor import one_line
from recbole_diffusion.experiment.jobs.fingerprint import absolute, data_fingerprint
from recbole_diffusion.settings.config import Config
from recbole_diffusion.training import run_folder

#: Metrics that have no cut-off.
_WITHOUT_CUT_OFF = frozenset({"gauc", "auc", "logloss", "mae", "rmse"})


class Protocol(NamedTuple):
    """The settings that are the same for every model, and notes for the reader."""

    settings: dict[str, Any]
    notes: list[str]


def make_protocol(entries: Sequence[ModelEntry], common: Mapping[str, Any]) -> Protocol:
    """Choose the split, the ranking and the metric that picks the best epoch, for all models.

    If a model is sequential, the split is leave-one-out in time for all models, and seen items are masked for all:
    RecBole masks them for general models only.

    Args:
        entries: the models.
        common: settings that were passed for all models; they win over the defaults.

    Raises:
        ValueError: ``seed`` is set, or ``eval_args`` is not a mapping.
    """
    if "seed" in common:
        raise ValueError("seed is not a key of a comparison; allowed: seeds")
    eval_args = common.get("eval_args")
    if eval_args is not None and not isinstance(eval_args, dict):
        raise ValueError(f"eval_args={eval_args!r} is not allowed; allowed: a mapping, e.g. {{'mode': 'full'}}")
    kinds = {getattr(registry.get_model(entry.model), "type", None) for entry in entries}
    sequential = ModelType.SEQUENTIAL in kinds
    settings: dict[str, Any] = {**DEFAULTS, **({"mask_history": True} if sequential else {}), **common}
    settings["eval_args"] = {**(LEAVE_ONE_OUT if sequential else RANDOM), **(eval_args or {})}
    return Protocol(settings, _protocol_notes(settings, sequential, kinds != {ModelType.SEQUENTIAL}))


def _protocol_notes(settings: Mapping[str, Any], sequential: bool, general: bool) -> list[str]:
    """Notes on the protocol; ``sequential`` and ``general``: whether models of these kinds are compared."""
    notes = []
    if sequential and general:
        notes.append(
            "general and sequential models together: all on leave-one-out in time; at test the sequential ones read "
            "the validation item, the general ones were trained without it"
        )
    mode = settings["eval_args"].get("mode", "full")
    modes = mode.values() if isinstance(mode, dict) else [mode]
    if any(str(phase_mode).startswith(("uni", "pop")) for phase_mode in modes):
        notes.append(f"SAMPLED METRICS (mode {mode}): they can rank models differently from full ranking (mode: full)")
    if sequential and general and not settings["mask_history"]:
        notes.append("mask_history: False: sequential models may recommend what a user had, the general ones may not")
    return notes


def metric_names(settings: Mapping[str, Any]) -> list[str]:
    """Return the names of the measured metrics as in results, e.g. ``ndcg@10``; some have no cut-off."""
    metrics, cut_offs = settings["metrics"], settings["topk"]
    cut_offs = [cut_offs] if isinstance(cut_offs, int) else cut_offs
    names: list[str] = []
    for metric in [metrics] if isinstance(metrics, str) else metrics:
        name = metric.lower()
        names += [name] if name in _WITHOUT_CUT_OFF else [f"{name}@{k}" for k in cut_offs]
    return list(dict.fromkeys(names))


class Split(NamedTuple):
    """The split that all models of a comparison share.

    Attributes:
        counts: users, items, rows of the three splits, evaluated_users, split_sha256, files_sha256.
        statement: the split in one line.
        failed: the reason by label, for models whose data could not be prepared.
    """

    counts: dict[str, Any]
    statement: str
    failed: dict[str, str]


def configure_model(
    entry: ModelEntry, dataset: str, common: Mapping[str, Any], passed_keys: Collection[str] = ()
) -> Config:
    """Return the model's configuration on a data set.

    Args:
        entry: the model.
        dataset: the data set's name.
        common: settings for every model.
        passed_keys: keys of ``common`` that win over the model's file.

    Raises:
        ValueError: a value that is not allowed, a key of the user's own model that nothing sets.
    """
    settings = {**entry.merged_settings(common, passed_keys), "show_progress": False}
    config = quick_start.configure(entry.model, dataset, config_dict=settings)
    fit_on.check_measured(config, "a comparison")
    own_models.check_keys(config)
    return config


def absolute_data_path(config: Config) -> str:
    """Return the ``data_path`` under which a run from any directory finds the files of this configuration."""
    return str(absolute({"data_path": config.data_root})["data_path"])


def prepare_split(configs: Mapping[str, Config], dataset: str) -> Split:
    """Prepare the data for every model, once per kind of data, and check that all have the same split.

    Args:
        configs: by label; warnings about the data are added to their notes.
        dataset: the data set's name.

    Raises:
        ValueError: two models would be evaluated on different splits, or no model's data can be prepared.
    """
    prepared_kinds: dict[str, tuple[str, dict[str, Any]]] = {}  # (label, counts) of the first model of each kind
    notes: dict[tuple[str, Any], list[str]] = {}
    failed: dict[str, str] = {}
    for label, config in configs.items():
        kind = prepared.key(config) if prepared.can_prepare(config) else label
        kind_and_type, n_notes = (kind, config["MODEL_TYPE"]), len(config.notes)
        try:
            if kind not in prepared_kinds:
                counts, data_notes = _describe(config)
                prepared_kinds[kind] = label, counts
                notes.update({kind_and_type: config.notes[n_notes:], (kind, None): data_notes})
        except Exception as error:  # RecBole's, of any type
            failed[label] = one_line(error)
            continue
        kind_notes = notes.get(kind_and_type) or notes[kind, None]
        config.notes += [note for note in kind_notes if note not in config.notes]
    if not prepared_kinds:
        raise ValueError(next(iter(failed.values())))
    counts = _common_counts(list(prepared_kinds.values()), dataset)
    any_config = next(iter(configs.values()))
    digest = counts["split_sha256"][:12]
    statement = f"{dataset}: {_size(counts)}; {_split_and_ranking(any_config)}; split {digest}, the same for all"
    protocol = _split_and_ranking(any_config)
    return Split({**counts, "protocol": protocol, "files_sha256": data_fingerprint(any_config)}, statement, failed)


def _common_counts(labelled_counts: Sequence[tuple[str, dict[str, Any]]], dataset: str) -> dict[str, Any]:
    """Return the counts of the first model; raise a ValueError if another one has another split."""
    (first, counts), *others = labelled_counts
    for label, other_counts in others:
        if other_counts["split_sha256"] != counts["split_sha256"]:
            raise ValueError(
                f"{first} and {label} would not be compared on the same split of {dataset!r}: {_size(counts)} against "
                f"{_size(other_counts)}; leave out users with too few rows by --user_inter_num_interval='[5,inf)', "
                "repeated pairs by --rm_dup_inter=first, and give no model settings of its own for its data"
            )
    return counts


def empty_validation_message(dataset: str, config: Config) -> str:
    """Return the error message for a tuning whose validation split is empty."""
    if config["benchmark_filename"] is not None:
        return (
            f"the validation file of {dataset!r} is empty: nothing to choose settings by; benchmark_filename names it"
        )
    return (
        f"the validation split of {dataset!r} is empty: nothing to choose settings by; eval_args.split is "
        f"{config['eval_args']['split']}; allowed: a share above 0 in the middle, such as {{RS: [0.8, 0.1, 0.1]}}, or "
        "{LS: valid_and_test}"
    )


def empty_split_notes(split: Split, dataset: str) -> list[str]:
    """Return notes on an empty validation or test split."""
    notes = []
    if not split.counts["valid"]:
        notes.append(
            f"nothing is validated: that split of {dataset!r} is empty; every model is tested at its last epoch"
        )
    if not split.counts["test"]:
        notes.append(f"nothing was tested: the test split of {dataset!r} is empty; scores are of the validation split")
    return notes


def _split_and_ranking(config: Config) -> str:
    """The split and the ranking in words."""
    args, modes = config["eval_args"], sorted(set(config["eval_args"]["mode"].values()))
    ranking = f"ranked against {' and '.join('all items' if mode == 'full' else mode for mode in modes)}"
    if "labeled" in modes:
        ranking = "rated rows, nothing ranked"
    if config["benchmark_filename"] is not None:
        return f"split by its files, {ranking}"
    ((kind, shares),) = args["split"].items()
    order = "in time" if args["order"] == "TO" else "at random"
    per_user = "" if args.get("group_by") in (None, "none") or kind == "TS" else " per user"
    if kind == "LS":
        return f"leave-one-out {order} ({shares}), {ranking}"
    return f"split {':'.join(f'{share:g}' for share in shares)} {order}{per_user}, {ranking}"


def _size(counts: Mapping[str, Any]) -> str:
    """Users, items and rows in words."""
    rows = " / ".join(f"{counts[phase]}" for phase in ("train", "valid", "test"))
    users = f"{counts['users']} users ({counts['evaluated_users']} tested)"
    return f"{users}, {counts['items']} items, {rows} rows"


def _describe(config: Config) -> tuple[dict[str, Any], list[str]]:
    """Counts and hash of the splits, and warnings about the data."""
    with run_folder.hide_known_warnings():
        dataset, loaders = quick_start.prepare(config)
    tested_users = np.unique(pipeline.pairs(loaders[2])[:, 0])
    counts = {**pipeline.describe(dataset, loaders), "evaluated_users": len(tested_users)}
    return counts, list(account_of(dataset).notes)
