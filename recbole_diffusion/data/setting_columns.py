"""Columns that settings name: ``val_interval``, ``threshold`` and labels load theirs, in the form that RecBole takes.

Only the first lines of the files are read. Where they are not there yet nothing is done.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from recbole.utils import ModelType

from recbole_diffusion.data import columns
from recbole_diffusion.settings import forms, intervals, learning

Headers = dict[str, dict[str, str]]


def resolve_columns(config: Any) -> None:
    """Check the columns that the settings name against the files, and load those that ``load_col`` leaves out.

    Raises:
        ValueError: no file has the column, its type does not go with the setting, or labels are needed and missing.
    """
    headers = _headers(config)
    if "inter" in headers:
        for column, value in (config["val_interval"] or {}).items():
            _settle_filter(config, headers, column, value)
        _settle_threshold(config, headers["inter"])
    _settle_label(config, headers.get("inter"))


def _headers(config: Any) -> Headers:
    """The columns with their types, by suffix of the file; files whose first line cannot be read are left out."""
    folder, name = Path(config["data_path"]), config["dataset"]
    files = {"inter": columns.interaction_files(config)[0]}
    files.update({suffix: folder / f"{name}.{suffix}" for suffix in ("user", "item")})
    read = {suffix: columns.header(config, file) for suffix, file in files.items()}
    return {suffix: fields for suffix, fields in read.items() if fields and all(fields.values())}


def _settle_filter(config: Any, headers: Headers, column: str, value: Any) -> None:
    """One column of ``val_interval``."""
    suffix = next((suffix for suffix, fields in headers.items() if column in fields), None)
    if suffix is None:
        raise ValueError(f"val_interval names the column {column!r}, but {config['dataset']!r} has {_listed(headers)}")
    kind = headers[suffix][column]
    config["val_interval"] = {**config["val_interval"], column: _form(column, kind, value)}
    if not _loads(config, suffix, column):
        _load(config, suffix, column, "val_interval")
        if suffix != "inter" or config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
            _leave_out_of_the_model(config, suffix, column)


def _form(column: str, kind: str, value: Any) -> Any:
    """The value in the form that RecBole's filter takes for a column of this type.

    Raises:
        ValueError: it has none.
    """
    if kind == "token":
        if isinstance(value, str):
            raise ValueError(
                f"val_interval.{column}={value!r} is not allowed: {column}:token holds names; allowed: a list of those "
                f"to keep, e.g. {{{column}: ['a', 'b']}}"
            )
        return [one if isinstance(one, str) else str(one) for one in value]
    if kind != "float":
        raise ValueError(f"val_interval.{column} is not allowed: {column}:{kind} holds several values in each row")
    try:
        return intervals.normalise(value)
    except ValueError:
        numbers = [one for one in value if forms.is_number(one)]
        several = ";".join(f"[{one},{one}]" for one in numbers)
        hint = f"; those values alone: '{several}'" if len(numbers) == len(value) else ""
        raise ValueError(
            f"val_interval.{column}={value!r} is not allowed: {column}:float holds numbers; allowed: "
            f"{intervals.EXAMPLE}{hint}"
        ) from None


def _settle_threshold(config: Any, fields: dict[str, str]) -> None:
    for column in config["threshold"] or {}:
        if fields.get(column) != "float":
            found = f"{column}:{fields[column]}" if column in fields else ", ".join(fields)
            raise ValueError(f"threshold names {column!r}, which must be a column {column}:float; the file has {found}")
        if not _loads(config, "inter", column):
            _load(config, "inter", column, "threshold")


def _settle_label(config: Any, fields: Optional[dict[str, str]]) -> None:
    """The column of labels, where the training or the evaluation reads one.

    Raises:
        ValueError: there is none, and RecBole makes none.
    """
    label, settings = config["LABEL_FIELD"], config.final_config_dict
    why, instead = None, ""
    if learning.required_input(config.model_class, settings) == "labels" and not learning.samples_negatives(settings):
        why = f"{config['model']} learns from labels (train_neg_sample_args: null)"
        instead = ", or train_neg_sample_args: {distribution: uniform, sample_num: 1}"
    elif "labeled" in config["eval_args"]["mode"].values():
        why = "eval_args.mode labeled compares scores with labels"
    if why is None or config["threshold"]:
        return
    known = fields is not None and label in fields
    if not known and (fields is not None or not _loads(config, "inter", label)):
        there = f"; {config['dataset']}.inter has {', '.join(fields)}" if fields else ""
        raise ValueError(
            f"{why}, and there is no column {label!r}{there}; set threshold, e.g. {{rating: 4}}, or LABEL_FIELD to the "
            f"name of a column of 0 and 1{instead}"
        )
    if not _loads(config, "inter", label):
        _load(config, "inter", label, "LABEL_FIELD")


def _loads(config: Any, suffix: str, column: str) -> bool:
    """Whether ``load_col`` and ``unload_col`` let the column through."""
    load, unload = config["load_col"], config["unload_col"] or {}
    names = "*" if load is None else load.get(suffix, [])
    return (names == "*" or column in names) and column not in unload.get(suffix, [])


def _load(config: Any, suffix: str, column: str, key: str) -> None:
    """Add the column to ``load_col``.

    Raises:
        ValueError: ``unload_col`` leaves it out.
    """
    if column in (config["unload_col"] or {}).get(suffix, []):
        raise ValueError(f"{key} names the column {column!r}, which unload_col.{suffix} leaves out; take it out there")
    user, item = config["USER_ID_FIELD"], config["ITEM_ID_FIELD"]
    names = config["load_col"].get(suffix) or {"inter": [user, item], "user": [user], "item": [item]}[suffix]
    config["load_col"] = {**config["load_col"], suffix: [*names, column]}


def _leave_out_of_the_model(config: Any, suffix: str, column: str) -> None:
    """A column that is loaded for a filter is no feature: models of features would learn from it."""
    unused = config["unused_col"] or {}
    config["unused_col"] = {**unused, suffix: [*unused.get(suffix, []), column]}


def _listed(headers: Headers) -> str:
    return ", ".join(f"{column} (.{suffix})" for suffix, fields in headers.items() for column in fields)
