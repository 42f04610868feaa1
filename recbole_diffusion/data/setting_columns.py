"""Columns that ``val_interval``, ``threshold`` and ``LABEL_FIELD`` name: checked, added to ``load_col``, normalised.

Only the headers of the files are read. Nothing is done while the files do not exist (before a download).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from recbole.utils import ModelType

from recbole_diffusion.data import columns, item_categories
from recbole_diffusion.settings import forms, intervals, learning

Headers = dict[str, dict[str, str]]


def resolve_columns(config: Any) -> None:
    """Check the columns that the settings name against the files, and add them to ``load_col``.

    Raises:
        ValueError: no file has the column, its type does not fit the setting, or labels are needed and missing.
    """
    headers = _headers(config)
    if "inter" in headers:
        for column, value in (config["val_interval"] or {}).items():
            _resolve_filter(config, headers, column, value)
        _resolve_threshold(config, headers["inter"])
    _resolve_label(config, headers.get("inter"))
    _check_categories(config, headers)


def _headers(config: Any) -> Headers:
    """The types by column name, by suffix of the file; without files whose header cannot be read."""
    folder, name = Path(config["data_path"]), config["dataset"]
    files = {"inter": columns.interaction_files(config)[0]}
    files.update({suffix: folder / f"{name}.{suffix}" for suffix in ("user", "item")})
    headers = {suffix: columns.header(config, file) for suffix, file in files.items()}
    return {suffix: fields for suffix, fields in headers.items() if fields and all(fields.values())}


def _resolve_filter(config: Any, headers: Headers, column: str, value: Any) -> None:
    """Check and normalise the interval of one column of ``val_interval``, and load the column."""
    suffix = next((suffix for suffix, fields in headers.items() if column in fields), None)
    if suffix is None:
        raise ValueError(f"val_interval names the column {column!r}, but {config['dataset']!r} has {_listed(headers)}")
    kind = headers[suffix][column]
    config["val_interval"] = {**config["val_interval"], column: _normalise(column, kind, value)}
    if not _loads(config, suffix, column):
        _load(config, suffix, column, "val_interval")
        becomes_label = suffix == "inter" and column in (config["threshold"] or {})  # RecBole removes the column itself
        if not becomes_label and (suffix != "inter" or config["MODEL_TYPE"] != ModelType.SEQUENTIAL):
            _exclude_from_model(config, suffix, column)


def _normalise(column: str, kind: str, value: Any) -> Any:
    """Convert a value of ``val_interval`` to the form that RecBole's filter reads for a column of this type.

    Raises:
        ValueError: the value does not fit the type.
    """
    if kind == "token":
        if isinstance(value, str):
            raise ValueError(
                f"val_interval.{column}={value!r} is not allowed: {column}:token holds names; allowed: a list of those "
                f"to keep, e.g. {{{column}: ['a', 'b']}}"
            )
        return [item if isinstance(item, str) else str(item) for item in value]
    if kind != "float":
        raise ValueError(f"val_interval.{column} is not allowed: {column}:{kind} holds several values in each row")
    try:
        return intervals.normalise(value)
    except ValueError:
        numbers = [item for item in value if forms.is_number(item)]
        points = ";".join(f"[{number},{number}]" for number in numbers)
        hint = f"; those values alone: '{points}'" if len(numbers) == len(value) else ""
        raise ValueError(
            f"val_interval.{column}={value!r} is not allowed: {column}:float holds numbers; allowed: "
            f"{intervals.EXAMPLE}{hint}"
        ) from None


def _resolve_threshold(config: Any, fields: dict[str, str]) -> None:
    """Check that the columns of ``threshold`` are numbers, and load them."""
    for column in config["threshold"] or {}:
        if fields.get(column) != "float":
            has = f"{column}:{fields[column]}" if column in fields else ", ".join(fields)
            raise ValueError(f"threshold names {column!r}, which must be a column {column}:float; the file has {has}")
        if not _loads(config, "inter", column):
            _load(config, "inter", column, "threshold")


def _resolve_label(config: Any, fields: Optional[dict[str, str]]) -> None:
    """Load the label column if training or evaluation reads labels, unless RecBole derives them by ``threshold``.

    Raises:
        ValueError: the file has no such column.
    """
    label, settings = config["LABEL_FIELD"], config.final_config_dict
    reason, alternative = None, ""
    if learning.required_input(config.model_class, settings) == "labels" and not learning.samples_negatives(settings):
        reason = f"{config['model']} learns from labels (train_neg_sample_args: null)"
        alternative = ", or train_neg_sample_args: {distribution: uniform, sample_num: 1}"
    elif "labeled" in config["eval_args"]["mode"].values():
        reason = "eval_args.mode labeled compares scores with labels"
    if reason is None or config["threshold"]:
        return
    is_in_file = fields is not None and label in fields
    if not is_in_file and (fields is not None or not _loads(config, "inter", label)):
        has = f"; {config['dataset']}.inter has {', '.join(fields)}" if fields else ""
        raise ValueError(
            f"{reason}, and there is no column {label!r}{has}; set threshold, e.g. {{rating: 4}}, or LABEL_FIELD to "
            f"the name of a column of 0 and 1{alternative}"
        )
    if not _loads(config, "inter", label):
        _load(config, "inter", label, "LABEL_FIELD")


def _check_categories(config: Any, headers: Headers) -> None:
    """Check that the metrics that need categories of the items find them.

    Raises:
        ValueError: they do not.
    """
    metrics = [config["metrics"]] if isinstance(config["metrics"], str) else config["metrics"]
    names = {metric.lower() for metric in metrics}
    if not names & {"ild", "calibration"} or "inter" not in headers:
        return
    by_category = "calibration" in names or config["ild_distance"] == "category"
    if item_categories.find_column(config) is None and by_category:
        reason = "Calibration" if "calibration" in names else "ild_distance: category"
        raise ValueError(
            f"{reason} needs categories of the items, a column of {item_categories.file_of(config).name} such as "
            "genre:token_seq, which item_category_field names; "
            + ("take Calibration out of metrics" if "calibration" in names else "or take ild_distance: cooccurrence")
        )


def _loads(config: Any, suffix: str, column: str) -> bool:
    """Whether ``load_col`` and ``unload_col`` select the column."""
    load, unload = config["load_col"], config["unload_col"] or {}
    names = "*" if load is None else load.get(suffix, [])
    return (names == "*" or column in names) and column not in unload.get(suffix, [])


def _load(config: Any, suffix: str, column: str, key: str) -> None:
    """Add the column that the setting ``key`` names to ``load_col``.

    Raises:
        ValueError: ``unload_col`` excludes it.
    """
    if column in (config["unload_col"] or {}).get(suffix, []):
        raise ValueError(f"{key} names the column {column!r}, which unload_col.{suffix} leaves out; take it out there")
    user, item = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]
    names = config["load_col"].get(suffix) or {"inter": [user, item], "user": [user], "item": [item]}[suffix]
    config["load_col"] = {**config["load_col"], suffix: [*names, column]}


def _exclude_from_model(config: Any, suffix: str, column: str) -> None:
    """Add a column that is loaded for a filter to ``unused_col``, so that models do not use it as a feature."""
    unused = config["unused_col"] or {}
    config["unused_col"] = {**unused, suffix: [*unused.get(suffix, []), column]}


def _listed(headers: Headers) -> str:
    return ", ".join(f"{column} (.{suffix})" for suffix, fields in headers.items() for column in fields)
