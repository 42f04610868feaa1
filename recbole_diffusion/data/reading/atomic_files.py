"""Reader of RecBole's atomic files (.inter, .user, .item, .kg, .link and others by suffix), with checks.

Replaces ``Dataset._load_feat``. RecBole's reader is slow, takes names such as NA for missing values and quotes for
quoting, and fails without naming file or line. For a valid file the frame is the same as RecBole's: the same columns,
types and values.
"""

from __future__ import annotations

import os
from typing import Any, Callable, Optional

import pandas as pd
from recbole.data.dataset import Dataset
from recbole.utils import FeatureSource, FeatureType, ModelType

from recbole_diffusion.data.account import account_of
from recbole_diffusion.data.reading import row_checks, settings, time_column
from recbole_diffusion.data.reading import values as atomic_values
from recbole_diffusion.data.reading.lists import check_lists
from recbole_diffusion.data.reading.opened_file import OpenedFile


def hooks() -> list[tuple[Any, str, Any]]:
    """The methods of RecBole that are replaced, for :mod:`recbole_diffusion.data.hooks`."""
    return [(Dataset, "_load_feat", load_feat), (Dataset, "_load_data", _checked(vars(Dataset)["_load_data"]))]


def _checked(load_data: Callable[..., None]) -> Callable[..., None]:
    """Wrap ``Dataset._load_data``: check that the needed files exist."""

    def _load_data(self: Any, token: str, dataset_path: str) -> None:
        if os.path.isdir(dataset_path):  # otherwise it is still to be downloaded
            settings.check_files(self.config, self, dataset_path)
        load_data(self, token, dataset_path)

    return _load_data


def load_feat(self: Any, filepath: str, source: Any) -> Optional[pd.DataFrame]:
    """Read one file and register its fields in the data set; replaces ``Dataset._load_feat``.

    Args:
        self: RecBole's data set.
        filepath: the file.
        source: RecBole's ``FeatureSource``, or the suffix of another file.

    Returns:
        The loaded columns; None where ``load_col`` leaves the file out.

    Raises:
        ValueError: a fault of the file, or settings that do not fit it.
    """
    kind = source.value if isinstance(source, FeatureSource) else str(source)
    if not settings.is_read(self.config, kind):
        if kind in (self.config["additional_feat_suffix"] or ()):
            account_of(self).note(f"{os.path.basename(filepath)} is not read: load_col has no columns of {kind!r}")
        return None
    return _read_frame(OpenedFile(self, filepath, source, kind))


def _read_frame(file: OpenedFile) -> Optional[pd.DataFrame]:
    """Parse and check the values of a file; None if none of its columns are loaded."""
    if not file.columns:
        file.account.note(f"load_col and unload_col leave no column of {file.name}; it is not read")
        return None
    file.account.record_file(file.name, file.text.rows)
    row_checks.check_row_count(file)
    time = time_column.find(file)
    as_text = [time.name] if time is not None and time.type == "float" else []
    frame = atomic_values.read(file.text, file.separator, file.columns, as_text)
    if time is not None:
        time_column.convert(file, frame, time)
    row_checks.check_values(file, frame, time)
    row_checks.check_shared_fields(file)
    dropped = row_checks.rows_to_drop(file, frame, time)
    _register_fields(file)
    _parse_sequences(file, frame)
    if file.is_part and file.config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        check_lists(file.config, file.text, frame, file.types, ~dropped)
    return frame[~dropped].reset_index(drop=True) if dropped.any() else frame


def _register_fields(file: OpenedFile) -> None:
    """Set source, type, length and number of buckets of each field in the data set, as RecBole's own reader does."""
    if file.kind == "link":
        return
    for name, kind in file.types.items():
        file.dataset.field2source[name] = file.source
        file.dataset.field2type[name] = FeatureType(kind)
        if not kind.endswith("seq"):
            file.dataset.field2seqlen[name] = 1
        if "float" in kind:
            file.dataset.field2bucketnum[name] = 2


def _parse_sequences(file: OpenedFile, frame: pd.DataFrame) -> None:
    """Replace the text of sequence columns by arrays, cut to ``seq_len``, and register their lengths."""
    separator, max_lengths = settings.separator_of(file.config, "seq_separator"), file.config["seq_len"] or {}
    for column in file.columns:
        if not column.type.endswith("seq"):
            continue
        values = frame[column.name].to_numpy()
        arrays = atomic_values.to_sequences(file.text, column, values, separator, file.account, file.name)
        longest = max(map(len, arrays), default=0)
        max_length = max_lengths.get(column.name)
        if max_length:
            arrays = [array[:max_length] for array in arrays]
            longest = min(max_length, longest)
        frame[column.name] = pd.Series(arrays, index=frame.index, dtype=object)
        file.dataset.field2seqlen[column.name] = longest
