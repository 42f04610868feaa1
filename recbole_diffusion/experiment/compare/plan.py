"""What a comparison will run: one protocol for all models, one split, checked by its hash."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from recbole.utils import ModelType

from recbole_diffusion import quick_start, registry
from recbole_diffusion.cards import own_models
from recbole_diffusion.data import pipeline, prepared
from recbole_diffusion.data.account import account_of
from recbole_diffusion.experiment.compare.entries import Entry, entries
from recbole_diffusion.experiment.defaults import DEFAULTS, LEAVE_ONE_OUT, RANDOM
from recbole_diffusion.experiment.jobs.executor import one_line
from recbole_diffusion.experiment.jobs.fingerprint import absolute, data_fingerprint
from recbole_diffusion.settings.config import Config
from recbole_diffusion.training import run_folder

__all__ = [
    "DEFAULTS",
    "LEAVE_ONE_OUT",
    "RANDOM",
    "Entry",
    "Protocol",
    "Split",
    "check",
    "entries",
    "protocol",
    "split_of",
]


class Protocol(NamedTuple):
    """The settings that hold for every model, and what a reader must know about them."""

    settings: dict[str, Any]
    notes: list[str]


def protocol(models: Sequence[Entry], common: Mapping[str, Any]) -> Protocol:
    """One split, one ranking, one choice of the best epoch for all.

    With a sequential model the split is leave-one-out in time, for the others too, and items of a user's past are
    masked for all: RecBole masks them for general models only.

    Raises:
        ValueError: ``seed`` is given, or what cannot hold for all.
    """
    if "seed" in common:
        raise ValueError("seed is not a key of a comparison; allowed: seeds")
    kinds = {getattr(registry.get_model(entry.model), "type", None) for entry in models}
    sequential = ModelType.SEQUENTIAL in kinds
    settings: dict[str, Any] = {**DEFAULTS, "eval_args": LEAVE_ONE_OUT if sequential else RANDOM}
    settings.update({"mask_history": True} if sequential else {})
    notes = []
    given = common.get("eval_args")
    if given is not None and not isinstance(given, dict):
        raise ValueError(f"eval_args={given!r} is not allowed; allowed: a mapping, e.g. {{'mode': 'full'}}")
    settings.update(common)
    if isinstance(given, dict):
        settings["eval_args"] = {**(LEAVE_ONE_OUT if sequential else RANDOM), **given}
    if sequential and kinds != {ModelType.SEQUENTIAL}:
        notes.append(
            "general and sequential models together: all on leave-one-out in time; at test the sequential ones read "
            "the validation item, the general ones were trained without it"
        )
    mode = settings["eval_args"].get("mode", "full")
    sampled = any(
        str(each).startswith(("uni", "pop")) for each in (mode.values() if isinstance(mode, dict) else [mode])
    )
    if sampled:
        notes.append(f"SAMPLED METRICS (mode {mode}): they can rank models differently from full ranking (mode: full)")
    if sequential and not settings["mask_history"] and kinds != {ModelType.SEQUENTIAL}:
        notes.append("mask_history: False: sequential models may recommend what a user had, the general ones may not")
    return Protocol(settings, notes)


class Split(NamedTuple):
    """The data that all models of a comparison share.

    Attributes:
        counts: users, items, rows of the three splits, evaluated_users, split_sha256.
        statement: one line for people.
        failed: of models whose data could not be prepared, the reason by label.
    """

    counts: dict[str, Any]
    statement: str
    failed: dict[str, str]


def check(entry: Entry, dataset: str, settings: Mapping[str, Any], given: Collection[str] = ()) -> Config:
    """The model's configuration.

    Args:
        entry: the model.
        dataset: its name.
        settings: for every model.
        given: keys of these that win over the model's file.

    Raises:
        ValueError: a value that is not allowed, a key of an own model that nothing sets.
    """
    own = {**entry.over(settings, given), "show_progress": False}
    config = quick_start.configure(entry.model, dataset, config_dict=own)
    own_models.check_keys(config)
    return config


def home_of(config: Config) -> str:
    """The absolute ``data_path`` under which a run from anywhere finds the files that this configuration finds here."""
    return str(absolute({"data_path": config.data_root})["data_path"])


def split_of(configs: Mapping[str, Config], dataset: str) -> Split:
    """Prepare the data for every model, once per kind of data, and make sure that they are the same for all.

    Args:
        configs: by label; warnings about the data are added to their notes.
        dataset: its name.

    Raises:
        ValueError: two models would be evaluated on different splits, or the data are not there.
    """
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    notes: dict[tuple[str, Any], list[str]] = {}
    failed: dict[str, str] = {}
    for label, config in configs.items():
        kind = prepared.key(config) if prepared.can_prepare(config) else label
        of_type, before = (kind, config["MODEL_TYPE"]), len(config.notes)
        try:
            if kind not in found:
                counts, of_data = _describe(config)
                found[kind] = label, counts
                notes.update({of_type: config.notes[before:], (kind, None): of_data})
        except Exception as error:  # RecBole's, of any type
            failed[label] = one_line(error)
            continue
        same = notes.get(of_type) or notes[kind, None]
        config.notes += [note for note in same if note not in config.notes]
    if not found:
        raise ValueError(next(iter(failed.values())))
    (first, counts), *others = found.values()
    for label, each in others:
        if each["split_sha256"] != counts["split_sha256"]:
            raise ValueError(
                f"{first} and {label} would not be compared on the same split of {dataset!r}: {_line(counts)} against "
                f"{_line(each)}; leave out users with too few rows by --user_inter_num_interval='[5,inf)', repeated "
                "pairs by --rm_dup_inter=first, and give no model settings of its own for its data"
            )
    how = _how(next(iter(configs.values())))
    statement = f"{dataset}: {_line(counts)}; {how}; split {counts['split_sha256'][:12]}, the same for all"
    return Split({**counts, "files_sha256": data_fingerprint(next(iter(configs.values())))}, statement, failed)


def nothing_to_choose_by(dataset: str, config: Config) -> str:
    """What to say where settings are to be chosen and the validation split is empty."""
    if config["benchmark_filename"] is not None:
        return (
            f"the validation file of {dataset!r} is empty: nothing to choose settings by; benchmark_filename names it"
        )
    return (
        f"the validation split of {dataset!r} is empty: nothing to choose settings by; eval_args.split is "
        f"{config['eval_args']['split']}; allowed: a share above 0 in the middle, such as {{RS: [0.8, 0.1, 0.1]}}, or "
        "{LS: valid_and_test}"
    )


def empty_parts(split: Split, dataset: str) -> list[str]:
    """What a reader must know where a split is empty."""
    notes = []
    if not split.counts["valid"]:
        notes.append(
            f"nothing is validated: that split of {dataset!r} is empty; every model is tested at its last epoch"
        )
    if not split.counts["test"]:
        notes.append(f"nothing was tested: the test split of {dataset!r} is empty; scores are of the validation split")
    return notes


def _how(config: Config) -> str:
    """The split and the ranking in words."""
    args, modes = config["eval_args"], sorted(set(config["eval_args"]["mode"].values()))
    ranking = f"ranked against {' and '.join('all items' if mode == 'full' else mode for mode in modes)}"
    if "labeled" in modes:
        ranking = "rated rows, nothing ranked"
    if config["benchmark_filename"] is not None:
        return f"split by its files, {ranking}"
    ((kind, shares),) = args["split"].items()
    order = "in time" if args["order"] == "TO" else "at random"
    per = "" if args.get("group_by") in (None, "none") or kind == "TS" else " per user"
    if kind == "LS":
        return f"leave-one-out {order} ({shares}), {ranking}"
    return f"split {':'.join(f'{share:g}' for share in shares)} {order}{per}, {ranking}"


def _line(counts: Mapping[str, Any]) -> str:
    rows = " / ".join(f"{counts[phase]}" for phase in ("train", "valid", "test"))
    users = f"{counts['users']} users ({counts['evaluated_users']} tested)"
    return f"{users}, {counts['items']} items, {rows} rows"


def _describe(config: Config) -> tuple[dict[str, Any], list[str]]:
    """Counts and hash of the splits, and what there is to warn of in the data."""
    with run_folder.hide_known_warnings():
        dataset, loaders = quick_start.prepare(config)
    tested = np.unique(pipeline.pairs(loaders[2])[:, 0])
    return {**pipeline.describe(dataset, loaders), "evaluated_users": len(tested)}, list(account_of(dataset).notes)
