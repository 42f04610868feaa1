"""Checks of settings that name columns against the columns that were loaded.

For an unknown name RecBole raises a KeyError or a TypeError that does not name the setting, or ignores the column.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Callable

import numpy as np
from recbole.data.dataset import Dataset
from recbole.utils import FeatureType, ModelType

from recbole_diffusion.data import columns
from recbole_diffusion.data.columns import list_field
from recbole_diffusion.settings import learning
from recbole_diffusion.settings.schema import nearest

_TOKENS = (FeatureType.TOKEN, FeatureType.TOKEN_SEQ)
_SEQUENCES = (FeatureType.TOKEN_SEQ, FeatureType.FLOAT_SEQ)
_FLOATS = (FeatureType.FLOAT, FeatureType.FLOAT_SEQ)


def hooks() -> list[tuple[Any, str, Any]]:
    """The methods of RecBole that are replaced; see :mod:`recbole_diffusion.data.hooks`."""
    return [
        (Dataset, "_set_alias", _loaded_aliases(vars(Dataset)["_set_alias"])),
        (Dataset, "_init_alias", _checked(vars(Dataset)["_init_alias"])),
    ]


def _checked(init_alias: Callable[[Any], None]) -> Callable[[Any], None]:
    """Wrap ``_init_alias``, the first step after the files are read: check the settings before it."""

    def _init_alias(dataset: Any) -> None:
        check(dataset)
        init_alias(dataset)

    return _init_alias


def _loaded_aliases(set_alias: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``_set_alias``: leave out columns that are not loaded, for which RecBole's numbering fails."""

    def _set_alias(dataset: Any, alias_name: str, default_value: Any) -> None:
        set_alias(dataset, alias_name, default_value)
        key = f"alias_of_{alias_name}"
        names = [*(dataset.config[key] or [])]
        _check_type(dataset, key, [name for name in names if name in dataset.field2type], _TOKENS)
        missing = [name for name in names if name not in dataset.field2type]
        _check_in_files(dataset, key, missing)
        fields = dataset.alias[alias_name]
        dataset.alias[alias_name] = fields[~np.isin(fields, missing)]

    return _set_alias


def check(dataset: Any) -> None:
    """Check every setting that names columns, except the aliases.

    Raises:
        ValueError: a setting names a column that is not loaded or of another type, or excludes a column that the
            model needs.
    """
    config = dataset.config
    weights, numbers = config["preload_weight"] or {}, config["numerical_features"] or ()
    _check_loaded(dataset, "normalize_field", config["normalize_field"] or ())
    _check_loaded(dataset, "preload_weight", [*weights, *weights.values()])
    _check_loaded(dataset, "numerical_features", numbers)
    _check_type(dataset, "numerical_features", numbers, _FLOATS)
    sequences = [*(config["seq_len"] or ())]
    _check_in_files(dataset, "seq_len", [name for name in sequences if name not in dataset.field2type])
    _check_type(dataset, "seq_len", [name for name in sequences if name in dataset.field2type], _SEQUENCES)
    _check_unused(dataset)


def _check_loaded(dataset: Any, key: str, names: Iterable[str]) -> None:
    for name in names:
        if name not in dataset.field2type:
            raise ValueError(
                f"{key} names the column {name!r}, which is not loaded; loaded: {', '.join(dataset.field2type)}"
                f"{_hint(name, dataset.field2type)}; add it to load_col, or take it out of {key}"
            )


def _check_type(dataset: Any, key: str, names: Iterable[str], kinds: tuple[FeatureType, ...]) -> None:
    for name in names:
        kind = dataset.field2type[name]
        if kind not in kinds:
            raise ValueError(
                f"{key} names the column {name!r} of type {kind.value}, and takes {' or '.join(k.value for k in kinds)}"
                f"; take it out of {key}"
            )


def _check_in_files(dataset: Any, key: str, names: Iterable[str]) -> None:
    """Check that columns that are not loaded exist in the files."""
    config = dataset.config
    files = columns.interaction_files(config)
    files += [Path(config["data_path"]) / f"{config['dataset']}.{kind}" for kind in ("user", "item")]
    known = {name for file in files for name in columns.header(config, file) or ()}
    for name in names:
        if name not in known:
            raise ValueError(
                f"{key} names the column {name!r}, which no file of {config['dataset']!r} has{_hint(name, known)}; "
                f"take it out of {key}"
            )


def _check_unused(dataset: Any) -> None:
    """Check that ``unused_col`` does not exclude a column that the model reads."""
    config = dataset.config
    needed_by = {config["USER_ID_FIELD"]: "USER_ID_FIELD", config["ITEM_ID_FIELD"]: "ITEM_ID_FIELD"}
    model = f"model={config['model']!r}"
    if config["MODEL_TYPE"] == ModelType.SEQUENTIAL and config["benchmark_filename"] is not None:
        needed_by[list_field(config)] = model
    if config["time-aware"]:
        needed_by[config["TIME_FIELD"]] = "time-aware=True"
    if config["row_weights"] == "recency":
        needed_by[config["TIME_FIELD"]] = "row_weights='recency'"
    if learning.required_input(config.model_class, config.final_config_dict) == "labels":
        needed_by[config["LABEL_FIELD"]] = model
    for suffix, names in (config["unused_col"] or {}).items():
        if getattr(dataset, f"{suffix}_feat", None) is None:
            raise ValueError(
                f"unused_col.{suffix}={names!r} names columns of {config['dataset']}.{suffix}, which is not loaded; "
                f"take {suffix} out of unused_col, or add it to load_col"
            )
        for name in names:
            if name in needed_by:
                raise ValueError(
                    f"unused_col.{suffix} leaves out {name!r}, which {needed_by[name]} needs; take it out of unused_col"
                )


def _hint(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    return f" (did you mean {near}?)" if near else ""
