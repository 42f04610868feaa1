"""The rows that ``val_interval`` filters out, kept for natural noise, with their numbers on the scales of the columns.

RecBole computes labels, fills in missing numbers and normalises columns after it has filtered. The kept rows get the
same treatment, with the mean, minimum and maximum of the rows that stay. Normalised numbers outside of the column's
range are clipped to [0, 1].
"""

from __future__ import annotations

from typing import Any, Callable, Optional

import numpy as np
from recbole.data.dataset import Dataset
from recbole.utils import FeatureType

#: The column of the kept rows that holds their times as in the file, float64. No file has a column of this name.
EXACT_TIME = "(exact time)"
Method = Callable[[Any], None]


def kept(original: Method) -> Method:
    """Wrap ``_filter_by_field_value``: keep the rows that it removes, for natural noise."""

    def _filter_by_field_value(dataset: Any) -> None:
        before = dataset.inter_feat.copy(deep=False)  # RecBole drops rows in place
        original(dataset)
        if dataset.config["train_noise"] == "natural":
            dataset.removed_rows = before.loc[before.index.difference(dataset.inter_feat.index)]

    return _filter_by_field_value


def hooks() -> list[tuple[Any, str, Any]]:
    """The methods of RecBole that are replaced; see :mod:`recbole_diffusion.data.hooks`."""
    normalize, set_labels = vars(Dataset)["_normalize"], vars(Dataset)["_set_label_by_threshold"]

    def _set_label_by_threshold(dataset: Any) -> None:
        if getattr(dataset, "removed_rows", None) is not None:
            dataset.removed_rows = _labelled(dataset, dataset.removed_rows)
        set_labels(dataset)  # removes the column that labels are made of

    def _normalize(dataset: Any) -> None:
        if getattr(dataset, "removed_rows", None) is not None:
            dataset.removed_rows = _on_scales(dataset, dataset.removed_rows)
        normalize(dataset)

    return [(Dataset, "_normalize", _normalize), (Dataset, "_set_label_by_threshold", _set_label_by_threshold)]


def _labelled(dataset: Any, removed: Any) -> Any:
    """The removed rows with the labels by ``threshold``."""
    rows = removed.copy()
    for field, least in (dataset.config["threshold"] or {}).items():
        if field in dataset.inter_feat:  # RecBole refuses another one
            values, _ = _filled(dataset, removed, field)
            rows[dataset.label_field] = (values >= least).astype(np.float64)
    return rows


def _on_scales(dataset: Any, removed: Any) -> Any:
    """The removed rows with the numbers that they would have in ``dataset.inter_feat``, before that is normalised."""
    config, rows = dataset.config, removed.copy()
    for field in dataset.inter_feat:
        if field not in rows or dataset.field2type[field] is not FeatureType.FLOAT:
            continue
        values, column = _filled(dataset, rows, field)
        if field == dataset.time_field:
            rows[EXACT_TIME] = values
        in_range = config["normalize_field"] or (dataset.inter_feat if config["normalize_all"] else ())
        rows[field] = _normalised(values, column) if field in in_range else values
    return rows


def _filled(dataset: Any, rows: Any, field: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a column, missing ones as the mean of the rows that stay, and the column of these; float64."""
    column = dataset.inter_feat[field].to_numpy(np.float64)
    values = rows[field].to_numpy(np.float64)
    return np.where(np.isnan(values), column.mean(), values), column


def _normalised(values: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Scale values so that the column is in [0, 1], as RecBole does, and clip them; a constant column is 1."""
    low, high = column.min(), column.max()
    if low == high:
        return np.where(values < low, 0.0, 1.0)
    return np.clip((values - low) / (high - low), 0.0, 1.0)


def take(dataset: Any, parts: Any) -> Optional[Any]:
    """Take the kept rows from a data set and its parts; None without any."""
    for part in parts:
        part.__dict__.pop("removed_rows", None)
    return dataset.__dict__.pop("removed_rows", None)
