"""What a comparison will run: models from words, one protocol for all of them, one split, checked by its hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np
from recbole.utils import ModelType

from recbole_diffusion import data, own_models, prepared, quick_start, registry, schema
from recbole_diffusion.config import Config
from recbole_diffusion.experiment.cell import absolute, data_mark
from recbole_diffusion.experiment.dimensions import NOT_TUNED
from recbole_diffusion.experiment.executor import one_line

#: What every comparison measures unless told otherwise.
METRICS = ["Recall", "NDCG", "MRR", "Hit", "Precision"]
BEYOND = ["ItemCoverage", "AveragePopularity", "GiniIndex", "TailPercentage", "Novelty"]
DEFAULTS: dict[str, Any] = {
    "metrics": [*METRICS, *BEYOND],
    "topk": [10, 20],
    "valid_metric": "NDCG@10",
    "metric_decimal_place": 6,  # four digits make ties, which stop a training by chance
    "split_seed": 2020,  # one split for all seeds
}
LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
RANDOM = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full"}
#: Keys of a file of settings that are the comparison's to decide.
_OF_THE_COMPARISON = frozenset({"model", "dataset", "seed", "data_path", "checkpoint_dir", "output_dir", *DEFAULTS})
_OF_THE_COMPARISON |= {"eval_args", "show_progress", "state", "prepared_data", "save_per_user", *NOT_TUNED}


@dataclass(frozen=True)
class Entry:
    """One model of a comparison.

    Attributes:
        label: its name in tables; no two are equal.
        model: what :func:`recbole_diffusion.run` takes.
        settings: its own, on top of the common ones.
    """

    label: str
    model: str
    settings: dict[str, Any] = field(default_factory=dict)


def entries(words: Sequence[str], own: Optional[Mapping[str, Mapping[str, Any]]] = None) -> list[Entry]:
    """The models that words like ``LightGCN``, ``DDRM:BPR``, ``DiffuRec@quick``, ``DiffRec@best.yaml`` name.

    Args:
        words: ``NAME[:BASE][@PRESET or FILE.yaml]``; NAME as for ``run``. BASE is the key ``base_model``.
        own: settings by label.

    Raises:
        ValueError: no such model or file, two equal labels, settings for a label that is not there.
    """
    found = [_entry(word.strip()) for word in words if word.strip()]
    labels = [entry.label for entry in found]
    if not found:
        raise ValueError("models is empty; name some, e.g. --models=LightGCN,EASE,DiffRec")
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(
                f"models: {label!r} is there twice; give one of them settings of its own by @FILE.yaml, and two files "
                "two names"
            )
    for label in own or {}:
        if label not in labels:
            near = schema.nearest(label, labels)
            hint = f"did you mean {near}?" if near else f"there are {', '.join(labels)}"
            raise ValueError(f"settings for {label!r}, which is not among the models; {hint}")
        for key in sorted({*(own or {})[label]} & _OF_THE_COMPARISON):
            raise ValueError(f"{label}.{key} would make {label} another comparison; give {key} to all: --{key}=VALUE")
    together = ({**each.settings, **(own or {}).get(each.label, {})} for each in found)
    return [Entry(each.label, each.model, absolute(settings)) for each, settings in zip(found, together)]


def _entry(word: str) -> Entry:
    name, _, variant = word.partition("@")
    model, _, base = name.partition(":")
    settings: dict[str, Any] = {}
    if model == "recbole" or "." in model or _is_module(model):  # recbole:DiffRec, package.module:Class
        model = name
    elif base:
        settings["base_model"] = base
        registry.get_model(base)
    registry.get_model(model)
    if base and "base_model" in settings and "base_model" not in _keys_of(model):
        raise ValueError(f"models: {word!r} names a base, but {model} takes none; DDRM and HDRM do")
    if not variant:
        return Entry(name, model, settings)
    if Path(variant).suffix in {".yaml", ".yml"}:
        given = schema.load_yaml(Path(variant).expanduser())
        if given.get("model", model) != model:
            raise ValueError(f"models: {variant!r} is a file of {given['model']}, not of {model}")
        own = {key: value for key, value in given.items() if key not in _OF_THE_COMPARISON}
        return Entry(f"{name}@{Path(variant).stem}", model, {**settings, **own})
    return Entry(f"{name}@{variant}", model, {**settings, "preset": variant})


def _is_module(name: str) -> bool:
    known = {*registry.specs(), *registry.recbole_model_names()}
    if name in known or not name.isidentifier():
        return False
    return own_models.is_module(name) or schema.nearest(name, known) is None


def _keys_of(model: str) -> dict[str, Any]:
    spec = registry.find_spec(model)
    return dict(schema.read_keys(spec.defaults)) if spec else {}


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


def check(entry: Entry, dataset: str, settings: Mapping[str, Any]) -> Config:
    """The model's configuration.

    Raises:
        ValueError: a value that is not allowed, a key of an own model that nothing sets.
    """
    together = {**settings, **entry.settings, "show_progress": False}
    config = quick_start.configure(entry.model, dataset, config_dict=together)
    own_models.check_keys(config)
    return config


def split_of(configs: Mapping[str, Config], dataset: str) -> Split:
    """Prepare the data for every model, once per kind of data, and make sure that they are the same for all.

    Args:
        configs: by label.
        dataset: its name.

    Raises:
        ValueError: two models would be evaluated on different splits, or the data are not there.
    """
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    failed: dict[str, str] = {}
    for label, config in configs.items():
        kind = prepared.key(config) if prepared.possible(config) else label
        try:
            if kind not in found:
                found[kind] = label, _describe(config)
        except Exception as error:  # RecBole's, of any type
            failed[label] = one_line(error)
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
    return Split({**counts, "files_sha256": data_mark(next(iter(configs.values())))}, statement, failed)


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


def _describe(config: Config) -> dict[str, Any]:
    with quick_start.runs.quiet():
        dataset, loaders = quick_start.prepare(config)
    tested = np.unique(data.pairs(loaders[2])[:, 0])
    return {**data.describe(dataset, loaders), "evaluated_users": len(tested)}
