"""RecBole's atomic files (.inter, .user, .item, .kg, .link and others by suffix), read and checked by us.

In place of ``Dataset._load_feat``, whose reader is slow, takes names such as NA for missing and quotes for quoting, and
fails without naming file or line. Of a good file RecBole gets the same frame: the same columns, types and values.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Callable, Optional

import numpy as np
import pandas as pd
from recbole.data.dataset import Dataset
from recbole.utils import FeatureSource, FeatureType, ModelType

from recbole_diffusion.data import time_order
from recbole_diffusion.data.account import account_of
from recbole_diffusion.data.reading import header as atomic_header
from recbole_diffusion.data.reading import names as atomic_names
from recbole_diffusion.data.reading import settings
from recbole_diffusion.data.reading import text as atomic_text
from recbole_diffusion.data.reading import times as atomic_times
from recbole_diffusion.data.reading import values as atomic_values
from recbole_diffusion.data.reading.header import Column
from recbole_diffusion.data.reading.lists import check_lists


def hooks() -> list[tuple[Any, str, Any]]:
    """RecBole's methods that are replaced, for :mod:`recbole_diffusion.data.hooks`."""
    return [(Dataset, "_load_feat", load_feat), (Dataset, "_load_data", _checked(vars(Dataset)["_load_data"]))]


def _checked(load_data: Callable[..., None]) -> Callable[..., None]:
    def _load_data(self: Any, token: str, dataset_path: str) -> None:
        if os.path.isdir(dataset_path):  # otherwise it is still to be downloaded
            settings.check_files(self.config, self, dataset_path)
        load_data(self, token, dataset_path)

    return _load_data


def load_feat(self: Any, filepath: str, source: Any) -> Optional[pd.DataFrame]:
    """``Dataset._load_feat``: the frame of one file, and its fields' properties in the data set.

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
    reader = _Reader(self, filepath, source, kind)
    return reader.frame()


class _Reader:
    """Reads one file for one data set."""

    def __init__(self, dataset: Any, path: str, source: Any, kind: str) -> None:
        config = dataset.config
        self.dataset, self.config, self.source, self.kind = dataset, config, source, kind
        self.account, self.file = account_of(dataset), os.path.basename(path)
        self.parts = kind == "inter" and config["benchmark_filename"] is not None
        self.ids = settings.ids_of(config, kind)
        self.need = time_order.need(config) if kind == "inter" else None
        written = settings.separator_of(config, "field_separator")
        self.text = atomic_text.read(path, config["encoding"])
        numbers = [config[key] for key in ("RATING_FIELD", "LABEL_FIELD", "TIME_FIELD") if config[key]]
        all_columns = atomic_header.parse(path, self.text.head, written, numbers)
        self.columns = self._choose(path, all_columns)
        self.text, self.separator = atomic_text.single_byte(self.text, written)
        atomic_text.check_fields(self.text, self.separator, len(all_columns), written)
        self.types = {column.name: column.type for column in self.columns}

    def _choose(self, path: str, columns: Sequence[Column]) -> list[Column]:
        """The columns to load; the ids and the needed times are among them."""
        load, unload = settings.columns_asked(self.config, self.kind)
        names = {column.name: column for column in columns}
        for name, key in self.ids.items():
            if name not in names:
                raise self.text.fault(
                    f"has no column {name!r}, which {key} names; its columns: {', '.join(names)}; "
                    f"set {key} to the right one, or rename the column"
                )
            if names[name].type != "token":
                raise self.text.fault(f"is of type {names[name].type} but holds names; write {name}:token", None, name)
        needed = dict(self.ids)
        if self.need is not None:
            time = self.config["TIME_FIELD"]
            if time not in names:
                raise ValueError(time_order.missing(self.config, self.need, names, path))
            if names[time].type.endswith("seq"):
                raise self.text.fault(f"is of type {names[time].type}; write one time a row, {time}:float", None, time)
            needed[time] = self.need.who
        tolerated = settings.of_defaults(self.config, self.kind)
        return atomic_header.choose(path, columns, self.kind, load, unload, needed, tolerated)

    def frame(self) -> Optional[pd.DataFrame]:
        if not self.columns:
            self.account.note(f"load_col and unload_col leave no column of {self.file}; it is not read")
            return None
        self.account.read(self.file, self.text.rows)
        self._check_rows()
        time = self._time_column()
        as_text = [time.name] if time is not None and time.type == "float" else []
        frame = atomic_values.read(self.text, self.separator, self.columns, as_text)
        if time is not None:
            self._set_times(frame, time)
        self._check_values(frame, time)
        self._check_fields_of_other_files()
        dropped = self._drop(frame, time)
        self._register()
        self._set_sequences(frame)
        if self.parts and self.config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
            check_lists(self.config, self.text, frame, self.types, ~dropped)
        return frame[~dropped].reset_index(drop=True) if dropped.any() else frame

    def _check_rows(self) -> None:
        """Whether there are rows; parts of a split other than the first may have none."""
        blank = self.text.blank
        if len(blank):
            lines = "1 blank line" if len(blank) == 1 else f"{len(blank)} blank lines"
            self.account.note(f"{lines} of {self.file} left out (first: line {blank[0]})")
        if self.text.rows:
            return
        first = not self.parts or self.file == f"{self.config['dataset']}.{self.config['benchmark_filename'][0]}.inter"
        if first:
            raise self.text.fault("has no rows below line 1, the names of the columns; add them, or leave the file out")
        self.account.note(f"{self.file} has no rows")

    def _time_column(self) -> Optional[Column]:
        """The column of times where it is loaded from .inter, unless it is an attribute of the rows like others."""
        if self.kind != "inter":
            return None
        time = next((column for column in self.columns if column.name == self.config["TIME_FIELD"]), None)
        attribute = self.config["MODEL_TYPE"] in (ModelType.CONTEXT, ModelType.DECISIONTREE) and not self._in_time
        if time is None or time.type.endswith("seq") or (time.type == "token" and attribute):
            return None
        return time

    @property
    def _in_time(self) -> bool:
        """Whether the times decide about rows; RecBole sorts by them before it removes repeated pairs too."""
        return self.need is not None or bool(self.config["rm_dup_inter"])

    def _set_times(self, frame: pd.DataFrame, time: Column) -> None:
        """Make the times float64: of text, of dates, and of numbers that float64 does not tell apart."""
        values = frame[time.name].to_numpy()
        if values.dtype == np.float64:
            if not atomic_times.may_tie(values, self.text.body):
                frame[time.name] = np.where(np.isinf(values), np.nan, values)
                return
            as_text = atomic_values.read(self.text, self.separator, [Column(time.name, "token", time.place)])
            values = as_text[time.name].to_numpy()
        try:
            times = atomic_times.parse(self.text, time, values)
        except ValueError as error:
            if self._in_time or time.type == "float":
                raise
            self.account.note(f"{error}; the column stays a token, since nothing here needs the times")
            return
        self._note_times(time, times)
        frame[time.name] = times.ranks if times.ranks is not None and self._in_time else times.values
        self.types[time.name] = "float"

    def _note_times(self, time: Column, times: atomic_times.Times) -> None:
        if times.read_as != "numbers" or time.type == "token":
            unit = ", in seconds since 1970 (UTC)" if times.read_as != "numbers" else ""
            self.account.note(
                f"the times of {self.file} (column {time.name!r}, type {time.type}) are read as {times.read_as}{unit}"
            )
        if times.ranks is None or not self._in_time:
            return
        if self.parts or time.name in (self.config["val_interval"] or {}):
            raise self.text.fault(
                "times that float64 cannot tell apart, which neither files that are split nor val_interval allow; "
                "write them in seconds or milliseconds",
                None,
                time.name,
            )
        self.account.note(
            f"float64 cannot tell the times of {self.file} (column {time.name!r}) apart; their ranks take their place"
        )

    def _check_values(self, frame: pd.DataFrame, time: Optional[Column]) -> None:
        sequences = settings.separator_of(self.config, "seq_separator")
        atomic_names.check_padding(self.text, [c for c in self.columns if c is not time], frame, sequences)
        codes = {
            column.name: atomic_names.check_names(
                self.text, column, frame[column.name].to_numpy(), self.account, self.file
            )
            for column in self.columns
            if column.name in self.ids and self.ids[column.name] != "RELATION_ID_FIELD"
        }
        for column in self.columns:
            if column.type == "float" and column is not time:
                values = frame[column.name].to_numpy()
                atomic_values.check_numbers(self.text, self.separator, column, values)
                self._count_missing(column, np.isnan(values))
        if self.kind == "inter" and len(codes) == 2 and not self.config["rm_dup_inter"]:
            self._count_repeated(frame, *codes.values())

    def _count_missing(self, column: Column, missing: np.ndarray) -> None:
        if not missing.any():
            return
        if missing.all() and not self.parts:
            raise self.text.fault(
                "has no value in any row; leave it out of load_col, or name it in unload_col with load_col: null",
                None,
                column.name,
            )
        count = f"{missing.sum()} of {len(missing)} values" if missing.sum() > 1 else f"1 of {len(missing)} values"
        self.account.note(
            f"{count} of column {column.name!r} in {self.file} {'are' if missing.sum() > 1 else 'is'} missing "
            f"({atomic_values.first(missing, self.text)}); RecBole fills in the mean"
        )

    def _count_repeated(self, frame: pd.DataFrame, users: np.ndarray, items: np.ndarray) -> None:
        """Note rows that are equal to an earlier one in every loaded column."""
        pairs = pd.Series(users.astype(np.int64) * (int(items.max(initial=0)) + 1) + items)
        several = pairs.duplicated(keep=False).to_numpy() & (users >= 0) & (items >= 0)
        if not several.any():
            return
        repeated = np.zeros(len(frame), dtype=bool)
        repeated[several] = frame[several].duplicated()
        if repeated.any():
            count = int(repeated.sum())
            self.account.note(
                f"{count} {'row' if count == 1 else 'rows'} of {self.file} {'repeats' if count == 1 else 'repeat'} an "
                f"earlier row in every loaded column ({atomic_values.first(repeated, self.text)}); rm_dup_inter: first "
                "keeps one of each"
            )

    def _check_fields_of_other_files(self) -> None:
        """Whether fields that were loaded before are of the same type, and parts of a split have the same columns."""
        if self.kind == "link":
            return
        known = self.dataset.field2type
        for name, kind in self.types.items():
            if name in known and known[name].value != kind:
                other = known[name].value
                raise self.text.fault(f"is of type {kind}, in another file of type {other}; write one type", None, name)
        sources = self.dataset.field2source
        if self.parts:
            before = {name for name, source in sources.items() if source == FeatureSource.INTERACTION}
            for name in sorted(before ^ {*self.types} if before else ()):
                has = "has" if name in self.types else "lacks"
                raise self.text.fault(f"{has} the column {name!r}, unlike the parts before; give all the same columns")
        elif self.kind in {"user", "item"}:
            for name in self.types:
                if name in sources and name not in self.ids:
                    self.account.note(
                        f"the column {name!r} is in another file too; RecBole's joined rows have that of {self.file}"
                    )

    def _drop(self, frame: pd.DataFrame, time: Optional[Column]) -> np.ndarray:
        """The rows that are left out, (rows,): those without a name, a time that is needed, and repeated features."""
        dropped = np.zeros(len(frame), dtype=bool)
        names = [*self.ids] or [name for name in self._shared_ids() if name in self.types]
        for name in names:
            self._leave_out(dropped, frame[name].isna().to_numpy(), f"no {name}")
        if time is not None and self._in_time and self.types[time.name] == "float":
            missing = frame[time.name].isna().to_numpy()
            self._leave_out(dropped, missing, f"no time ({time.name})")
        elif time is not None and self.types[time.name] == "float":
            self._count_missing(time, frame[time.name].isna().to_numpy())
        if self.kind in {"user", "item"} and names:
            repeated = frame.duplicated(subset=names).to_numpy()
            self._leave_out(dropped, repeated, f"the {names[0]} of an earlier row")
        if self.kind == "link":
            self._count_linked_twice(frame, names)
        if len(frame) and dropped.all():
            raise self.text.fault(f"no row is left: {self.account.dropped[-1].reason}; fill in the column")
        return dropped

    def _count_linked_twice(self, frame: pd.DataFrame, names: Sequence[str]) -> None:
        """RecBole keeps one entity for an item and one item for an entity: the last."""
        twice = np.logical_or.reduce([frame.duplicated(subset=[name]).to_numpy() for name in names])
        if twice.any():
            self.account.note(
                f"{twice.sum()} of {len(frame)} rows of {self.file} link an item or an entity of an earlier row "
                f"({atomic_values.first(twice, self.text)}); the last link counts"
            )

    def _shared_ids(self) -> list[str]:
        return [self.config[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD") if self.config[key]]

    def _leave_out(self, dropped: np.ndarray, rows: np.ndarray, why: str) -> None:
        more = rows & ~dropped
        if more.any():
            first = atomic_values.first(more, self.text)
            self.account.drop(f"{why} in {self.file} ({first})", int(more.sum()), requested=False)
            dropped |= more

    def _register(self) -> None:
        """Tell RecBole the fields' source, type, length, and number of buckets, as its own reader does."""
        if self.kind == "link":
            return
        for name, kind in self.types.items():
            self.dataset.field2source[name] = self.source
            self.dataset.field2type[name] = FeatureType(kind)
            if not kind.endswith("seq"):
                self.dataset.field2seqlen[name] = 1
            if "float" in kind:
                self.dataset.field2bucketnum[name] = 2

    def _set_sequences(self, frame: pd.DataFrame) -> None:
        separator, most = settings.separator_of(self.config, "seq_separator"), self.config["seq_len"] or {}
        for column in self.columns:
            if not column.type.endswith("seq"):
                continue
            values = frame[column.name].to_numpy()
            arrays = atomic_values.to_sequences(self.text, column, values, separator, self.account, self.file)
            longest = max(map(len, arrays), default=0)
            if most.get(column.name):
                arrays = [array[: most[column.name]] for array in arrays]
                longest = min(most[column.name], longest)
            frame[column.name] = pd.Series(arrays, index=frame.index, dtype=object)
            self.dataset.field2seqlen[column.name] = longest
