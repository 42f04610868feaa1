"""Consistency of settings: conflicts that RecBole notices only after an epoch, or never.

Each function reads the effective settings. It raises a ValueError of one line, or returns warnings about settings that
have no effect or mislead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from recbole.utils import EvaluatorType, ModelType

from recbole_diffusion.settings import learning, schema
from recbole_diffusion.settings.recbole_config import metric_types, metrics_dict
from recbole_diffusion.support.number_text import exact

Settings = dict[str, Any]
_SUFFIXES = ("inter", "user", "item", "kg", "link", "net")


def check_old_form(user_settings: Settings) -> None:
    """Reject ``train_neg_sample_args`` in the form of RecBole 1.0, for which RecBole 1.2 draws one uniform negative.

    Raises:
        ValueError: the setting has that form.
    """
    arguments = user_settings.get("train_neg_sample_args")
    if isinstance(arguments, dict) and len(arguments) == 1 and {*arguments} <= {"uniform", "popularity"}:
        ((distribution, count),) = arguments.items()
        raise ValueError(
            f"train_neg_sample_args={arguments!r} is not allowed; allowed: "
            f"{{distribution: {distribution}, sample_num: {count}}}"
        )


def check_loss(settings: Settings, model_class: type) -> None:
    """Check the ``loss_type`` of a model with several losses, and that CE is not combined with negatives.

    Raises:
        ValueError: RecBole would fail on these settings after loading the data.
    """
    loss, arguments = settings.get("loss_type"), settings.get("train_neg_sample_args")
    if "loss_type" not in settings or hasattr(model_class, "input_type"):
        return
    if loss not in ("CE", "BPR"):
        raise ValueError(f"loss_type={loss!r} is not allowed; allowed: CE | BPR")
    if loss == "CE" and settings["MODEL_TYPE"] == ModelType.SEQUENTIAL and arguments is not None:
        raise ValueError(
            f"train_neg_sample_args={arguments!r} is not allowed with loss_type: CE, which covers every item; "
            "allowed: null, or loss_type: BPR"
        )


def check_metrics(settings: Settings) -> None:
    """Check that the metrics are known, and all of rankings or all of values.

    Raises:
        ValueError: a metric is unknown, or the two kinds are mixed.
    """
    metrics = [settings["metrics"]] if isinstance(settings["metrics"], str) else settings["metrics"]
    for metric in metrics:
        if metric.lower() not in metric_types:
            hint = "; k is topk's" if "@" in metric else ""
            raise ValueError(f"metrics={metric!r} is not allowed; allowed: {' | '.join(sorted(metric_types))}{hint}")
    if len({metric_types[metric.lower()] for metric in metrics}) > 1:
        raise ValueError(f"metrics={metrics!r} mixes metrics of rankings and of values; allowed: one kind")


def check_evaluation(settings: Settings) -> None:
    """Check that split, order, mode and metrics fit together. Called before RecBole fills in its defaults.

    Raises:
        ValueError: two of them conflict.
    """
    arguments = settings["eval_args"]
    if not isinstance(arguments, dict):
        raise ValueError(f"eval_args={arguments!r} is not allowed; allowed: a mapping, e.g. {{mode: full}}")
    if "TS" in (arguments.get("split") or {}) and arguments.get("order", "RO") != "TO":
        raise ValueError(
            "eval_args.order='RO' with split TS puts rows before the boundary into test; allowed: order: TO"
        )
    mode = arguments.get("mode", "full")
    _check_modes(settings, list(mode.values()) if isinstance(mode, dict) else [mode])
    if isinstance(mode, dict) and mode.get("valid") == "labeled" and mode.get("test", "labeled") != "labeled":
        raise ValueError(
            f"eval_args.mode={mode!r} is not allowed: RecBole would draw items for the labeled split too; allowed: "
            "labeled for both, or for test alone"
        )


def _check_modes(settings: Settings, modes: Iterable[str]) -> None:
    """Check that mode ``labeled`` is used with metrics of values, and ``full`` with metrics of rankings."""
    metrics = [settings["metrics"]] if isinstance(settings["metrics"], str) else settings["metrics"]
    need_labels = metric_types[metrics[0].lower()] == EvaluatorType.VALUE
    value_metrics = [metrics_dict[key].__name__ for key, kind in metric_types.items() if kind == EvaluatorType.VALUE]
    for mode in modes:
        if mode == "labeled" and not need_labels:
            raise ValueError(
                f"eval_args.mode='labeled' does not go with metrics={metrics!r}, which need rankings; allowed: "
                f"mode full, uniN or popN; or metrics of labels, {', '.join(sorted(value_metrics))}, and one of them "
                "as valid_metric"
            )
        if mode == "full" and need_labels:
            raise ValueError(
                f"eval_args.mode='full' does not go with metrics={metrics!r}, which compare scores with labels; "
                "allowed: mode labeled with a label column or threshold, or uniN, popN"
            )


def check_valid_metric(settings: Settings) -> None:
    """Check that ``valid_metric``, which chooses the best epoch, is among the measured metrics.

    Raises:
        ValueError: it is not.
    """
    at_k = [metric for metric in settings["metrics"] if metric.lower() != "gauc"]  # GAUC has no cutoff
    possible = [f"{metric}@{k}" for metric in at_k for k in settings["topk"]]
    possible += [metric for metric in settings["metrics"] if metric not in at_k]
    if settings["eval_type"] == EvaluatorType.VALUE:
        possible = list(settings["metrics"])
    if settings["valid_metric"].lower() not in {name.lower() for name in possible}:
        near = schema.nearest(settings["valid_metric"], possible)
        raise ValueError(
            f"valid_metric={settings['valid_metric']!r} is not measured; allowed: {', '.join(possible)}, "
            f"by metrics={settings['metrics']!r} and topk={settings['topk']!r}"
            + (f" (did you mean {near}?)" if near else "; or add it to metrics and topk")
        )


def check_order(settings: Settings) -> None:
    """Check that a sequential model does not train on rows that are later than its targets.

    Raises:
        ValueError: it would, with order RO.
    """
    if settings["MODEL_TYPE"] == ModelType.SEQUENTIAL and settings["eval_args"]["order"] == "RO":
        raise ValueError("eval_args.order='RO' would let a sequential model train on later rows; allowed: order: TO")


def check_negatives(settings: Settings, model: str, model_class: type) -> list[str]:
    """Check ``train_neg_sample_args`` against the model.

    Returns:
        Warnings about parts of it that have no effect.

    Raises:
        ValueError: the model's loss needs negatives that would not be drawn.
    """
    arguments = settings.get("train_neg_sample_args")
    drawn = learning.samples_negatives(settings)
    if learning.required_input(model_class, settings) == "negatives" and not drawn:
        raise ValueError(
            f"train_neg_sample_args=None is not allowed with {model}, which learns from negative items; allowed: "
            "{distribution: uniform, sample_num: 1}"
        )
    if not drawn or not isinstance(arguments, dict):
        return []
    dynamic, candidates = arguments.get("dynamic", False), arguments.get("candidate_num", 0)
    if dynamic and candidates < 1:
        raise ValueError(
            f"train_neg_sample_args.candidate_num={candidates} is not allowed with dynamic: True; allowed: int >= 1"
        )
    if learning.ignores_negatives(model_class, settings):
        usual = (arguments["distribution"], arguments.get("sample_num", 1), dynamic) == ("uniform", 1, False)
        return [] if usual else [f"train_neg_sample_args has no effect on {model}, which draws no negative items"]
    lines = []
    if candidates and not dynamic:
        lines.append("train_neg_sample_args.candidate_num has no effect without dynamic: True")
    if arguments["distribution"] == "uniform" and arguments.get("alpha", 1.0) != 1.0:
        lines.append("train_neg_sample_args.alpha has no effect with distribution: uniform; it is popularity's")
    return lines


def check_columns(settings: Settings) -> None:
    """Check that the settings about columns fit together.

    Raises:
        ValueError: one names a file that is not read, or two exclude each other.
    """
    _check_suffixes(settings)
    both = {*(settings.get("load_col") or {})} & {*(settings.get("unload_col") or {})}
    if both:
        raise ValueError(
            f"unload_col.{min(both)} is not allowed beside load_col.{min(both)}; give load_col: null to load all "
            "columns but those"
        )
    if settings.get("normalize_field") and settings.get("normalize_all"):
        raise ValueError(
            f"normalize_field={settings['normalize_field']!r} is not allowed beside normalize_all: True, which this "
            "data set or a file sets; add normalize_all: False"
        )
    for column, how in (settings.get("discretization") or {}).items():
        if column not in (settings.get("numerical_features") or []):
            raise ValueError(f"discretization.{column} is not allowed; add {column!r} to numerical_features")
        if how["method"] == "ED" and "bucket" not in how:
            raise ValueError(f"discretization.{column}={how!r} has no bucket; allowed: {{method: ED, bucket: 10}}")


def _check_suffixes(settings: Settings) -> None:
    """Check that the file suffixes in ``load_col``, ``unload_col`` and ``unused_col`` are read."""
    additional = settings.get("additional_feat_suffix") or []
    suffixes = [*_SUFFIXES, *([additional] if isinstance(additional, str) else additional)]
    for key in ("load_col", "unload_col", "unused_col"):
        for suffix in settings.get(key) or {}:
            if suffix not in suffixes:
                near = schema.nearest(suffix, suffixes)
                hint = f"did you mean {near}? " if near else ""
                raise ValueError(
                    f"{key}.{suffix} has no effect: no file .{suffix} is read; {hint}allowed: {', '.join(suffixes)}, "
                    "or those of additional_feat_suffix"
                )


def notes_of_modes(user_settings: Settings, settings: Settings) -> list[str]:
    """Warn if ``eval_args.mode`` names only one of valid and test, since RecBole then uses it for both.

    Args:
        user_settings: the user's settings.
        settings: the effective settings.
    """
    mode = (user_settings.get("eval_args") or {}).get("mode")
    if not isinstance(mode, dict) or len(mode) != 1:
        return []
    (split,) = mode
    other_split = "test" if split == "valid" else "valid"
    other_mode = settings["eval_args"]["mode"][other_split]
    return [f"eval_args.mode names {split} only: {other_mode} holds for {other_split} too"]


def notes(settings: Settings, model_class: type) -> list[str]:
    """Warnings about settings that mislead or have no effect."""
    lines = []
    if settings["epochs"] == 0 and settings["MODEL_TYPE"] not in (ModelType.TRADITIONAL, ModelType.DECISIONTREE):
        lines.append("epochs=0: nothing is trained, results are those of an untrained model")
    kind, modes = settings["MODEL_TYPE"], settings["eval_args"]["mode"].values()
    reads_labels = learning.required_input(model_class, settings) == "labels" or kind == ModelType.CONTEXT
    if settings["threshold"] and not reads_labels:
        column, least = next(iter(settings["threshold"].items()))
        lines.append(
            "threshold only makes a label column, every row stays a positive; to drop low ratings use "
            f"val_interval: {{{column}: '[{exact(least)},inf)'}}"
        )
    sampled = any(mode.startswith(("uni", "pop")) for mode in modes)
    if sampled and settings["mask_history"] and kind == ModelType.SEQUENTIAL:
        lines.append("mask_history has no effect in sampled evaluation, whose negatives may be a user's past")
    if sampled:
        lines.append("sampled evaluation can rank models differently from full ranking (mode: full)")
    return lines
