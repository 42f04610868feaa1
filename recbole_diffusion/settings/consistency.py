"""Settings that do not go together: what RecBole notices only after an epoch, or never.

Each function reads the effective settings and raises a ValueError of one line, or returns the lines of what has no
effect or misleads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from recbole.utils import EvaluatorType, ModelType

from recbole_diffusion.settings import learning, schema
from recbole_diffusion.settings.recbole_config import metric_types, metrics_dict

Settings = dict[str, Any]
_SUFFIXES = ("inter", "user", "item", "kg", "link", "net")


def check_old_form(given: Settings) -> None:
    """Whether negatives are written as RecBole 1.0 had them; RecBole 1.2 then draws one uniform negative.

    Raises:
        ValueError: they are.
    """
    arguments = given.get("train_neg_sample_args")
    if isinstance(arguments, dict) and len(arguments) == 1 and {*arguments} <= {"uniform", "popularity"}:
        ((distribution, count),) = arguments.items()
        raise ValueError(
            f"train_neg_sample_args={arguments!r} is not allowed; allowed: "
            f"{{distribution: {distribution}, sample_num: {count}}}"
        )


def check_loss(settings: Settings, model_class: type) -> None:
    """Whether a model that has several losses is given one of them, and negatives only with the one that reads them.

    Raises:
        ValueError: RecBole would draw batches of no kind, or stop after loading.
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
    """Whether the metrics are known and of one kind.

    Raises:
        ValueError: they are not.
    """
    metrics = [settings["metrics"]] if isinstance(settings["metrics"], str) else settings["metrics"]
    for metric in metrics:
        if metric.lower() not in metric_types:
            hint = "; k is topk's" if "@" in metric else ""
            raise ValueError(f"metrics={metric!r} is not allowed; allowed: {' | '.join(sorted(metric_types))}{hint}")
    if len({metric_types[metric.lower()] for metric in metrics}) > 1:
        raise ValueError(f"metrics={metrics!r} mixes metrics of rankings and of values; allowed: one kind")


def check_evaluation(settings: Settings) -> None:
    """Whether split, order, mode and metrics go together. RecBole's defaults need not be filled in yet.

    Raises:
        ValueError: they do not.
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
    metrics = [settings["metrics"]] if isinstance(settings["metrics"], str) else settings["metrics"]
    of_values = metric_types[metrics[0].lower()] == EvaluatorType.VALUE
    values = [metrics_dict[key].__name__ for key, kind in metric_types.items() if kind == EvaluatorType.VALUE]
    for mode in modes:
        if mode == "labeled" and not of_values:
            raise ValueError(
                f"eval_args.mode='labeled' does not go with metrics={metrics!r}, which need rankings; allowed: "
                f"mode full, uniN or popN; or metrics of labels, {', '.join(sorted(values))}, and one of them as "
                "valid_metric"
            )
        if mode == "full" and of_values:
            raise ValueError(
                f"eval_args.mode='full' does not go with metrics={metrics!r}, which compare scores with labels; "
                "allowed: mode labeled with a label column or threshold, or uniN, popN"
            )


def check_valid_metric(settings: Settings) -> None:
    """Whether the metric that chooses the epoch is measured.

    Raises:
        ValueError: it is not.
    """
    cut = [metric for metric in settings["metrics"] if metric.lower() != "gauc"]  # of the whole ranking
    possible = [f"{metric}@{k}" for metric in cut for k in settings["topk"]]
    possible += [metric for metric in settings["metrics"] if metric not in cut]
    if settings["eval_type"] == EvaluatorType.VALUE:
        possible = list(settings["metrics"])
    if settings["valid_metric"].lower() not in {name.lower() for name in possible}:
        near = schema.nearest(settings["valid_metric"], possible)
        raise ValueError(
            f"valid_metric={settings['valid_metric']!r} is not measured; allowed: {', '.join(possible)}"
            + (f" (did you mean {near}?)" if near else "; or add it to metrics and topk")
        )


def check_order(settings: Settings) -> None:
    """Whether a sequential model trains on the past only.

    Raises:
        ValueError: it would not.
    """
    if settings["MODEL_TYPE"] == ModelType.SEQUENTIAL and settings["eval_args"]["order"] == "RO":
        raise ValueError("eval_args.order='RO' would let a sequential model train on later rows; allowed: order: TO")


def check_negatives(settings: Settings, model: str, model_class: type) -> list[str]:
    """What is wrong with ``train_neg_sample_args`` for this model.

    Raises:
        ValueError: the model's loss reads negatives or labels that it would not get.
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
    """Whether the settings of columns go together.

    Raises:
        ValueError: one names a file that is not read, or two exclude each other.
    """
    more = settings.get("additional_feat_suffix") or []
    suffixes = [*_SUFFIXES, *([more] if isinstance(more, str) else more)]
    for key in ("load_col", "unload_col", "unused_col"):
        for suffix in settings.get(key) or {}:
            if suffix not in suffixes:
                near = schema.nearest(suffix, suffixes)
                hint = f"did you mean {near}? " if near else ""
                raise ValueError(
                    f"{key}.{suffix} has no effect: no file .{suffix} is read; {hint}allowed: {', '.join(suffixes)}, "
                    "or those of additional_feat_suffix"
                )
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


def notes_of_modes(given: Settings, settings: Settings) -> list[str]:
    """The mode of a split that the user did not name, which RecBole takes from the other one."""
    mode = (given.get("eval_args") or {}).get("mode")
    if not isinstance(mode, dict) or len(mode) != 1:
        return []
    (named,) = mode
    other = "test" if named == "valid" else "valid"
    return [f"eval_args.mode names {named} only: {settings['eval_args']['mode'][other]} holds for {other} too"]


def notes(settings: Settings, model_class: type) -> list[str]:
    """What misleads or has no effect."""
    lines = []
    if settings["epochs"] == 0 and settings["MODEL_TYPE"] not in (ModelType.TRADITIONAL, ModelType.DECISIONTREE):
        lines.append("epochs=0: nothing is trained, results are those of an untrained model")
    kind, modes = settings["MODEL_TYPE"], settings["eval_args"]["mode"].values()
    if settings["threshold"] and learning.required_input(model_class, settings) != "labels" and kind != ModelType.CONTEXT:
        lines.append(
            "threshold only makes a label column, every row stays a positive; to drop low ratings use "
            "val_interval: {rating: '[4,inf)'}"
        )
    sampled = any(mode.startswith(("uni", "pop")) for mode in modes)
    if sampled and settings["mask_history"] and kind == ModelType.SEQUENTIAL:
        lines.append("mask_history has no effect in sampled evaluation, whose negatives may be a user's past")
    if sampled:
        lines.append("sampled evaluation can rank models differently from full ranking (mode: full)")
    return lines
