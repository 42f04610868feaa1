"""One atomic file, opened for one data set: its text, its columns, and which of them are loaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from recbole_diffusion.data import time_order
from recbole_diffusion.data.account import account_of
from recbole_diffusion.data.reading import header as atomic_header
from recbole_diffusion.data.reading import settings
from recbole_diffusion.data.reading import text as atomic_text
from recbole_diffusion.data.reading import values as atomic_values
from recbole_diffusion.data.reading.header import Column


class OpenedFile:
    """An atomic file whose header is read and whose lines are checked; its values are not parsed yet.

    Attributes:
        dataset: RecBole's data set, which is being made.
        config: its settings.
        source: RecBole's ``FeatureSource``, or the suffix of another file.
        kind: the suffix without the dot, the key in ``load_col``.
        name: the file's name, for messages.
        account: of the data set; takes notes and dropped rows.
        is_part: whether it is one of the pre-split files of ``benchmark_filename``.
        ids: the id columns, each with the setting that names it.
        time_requirement: what needs the times of the interactions; None if nothing does.
        text: the lines, with a separator of one byte.
        separator: that byte.
        columns: the columns to load, in the file's order.
        types: their types by name; the time column becomes ``float`` once its times are parsed.
    """

    def __init__(self, dataset: Any, path: str, source: Any, kind: str) -> None:
        config = dataset.config
        self.dataset, self.config, self.source, self.kind = dataset, config, source, kind
        self.account, self.name = account_of(dataset), os.path.basename(path)
        self.is_part = kind == "inter" and config["benchmark_filename"] is not None
        self.ids = settings.id_columns(config, kind)
        self.time_requirement = time_order.time_requirement(config) if kind == "inter" else None
        field_separator = settings.separator_of(config, "field_separator")
        self.text = atomic_text.read(path, config["encoding"])
        number_fields = [config[key] for key in ("RATING_FIELD", "LABEL_FIELD", "TIME_FIELD") if config[key]]
        all_columns = atomic_header.parse(path, self.text.head, field_separator, number_fields)
        self.columns = self._choose_columns(path, all_columns)
        self.text, self.separator = atomic_text.single_byte(self.text, field_separator)
        atomic_text.check_fields(self.text, self.separator, len(all_columns), field_separator)
        self.types = {column.name: column.type for column in self.columns}

    def _choose_columns(self, path: str, columns: Sequence[Column]) -> list[Column]:
        """Select the columns to load. The id columns and a needed time column are always among them."""
        load, unload = settings.requested_columns(self.config, self.kind)
        by_name = {column.name: column for column in columns}
        self._check_ids(by_name)
        needed_by = dict(self.ids)
        if self.time_requirement is not None:
            time = self.config["TIME_FIELD"]
            if time not in by_name:
                raise ValueError(time_order.missing_column(self.config, self.time_requirement, by_name, path))
            kind = by_name[time].type
            if kind.endswith("seq"):
                raise self.text.fault(f"is of type {kind}; write one time a row, {time}:float", None, time)
            needed_by[time] = self.time_requirement.source
        optional = settings.default_columns(self.config, self.kind)
        return atomic_header.choose(path, columns, self.kind, load, unload, needed_by, optional)

    def _check_ids(self, columns: dict[str, Column]) -> None:
        """Check that the file has the id columns and that they hold names.

        Raises:
            ValueError: a column is missing or not of type ``token``.
        """
        for name, key in self.ids.items():
            if name not in columns:
                raise self.text.fault(
                    f"has no column {name!r}, which {key} names; its columns: {', '.join(columns)}; "
                    f"set {key} to the right one, or rename the column"
                )
            if columns[name].type != "token":
                kind = columns[name].type
                raise self.text.fault(f"is of type {kind} but holds names; write {name}:token", None, name)

    @property
    def needs_times(self) -> bool:
        """Whether the times decide about rows; RecBole also sorts by them before it removes repeated pairs."""
        return self.time_requirement is not None or bool(self.config["rm_dup_inter"])

    def first_line(self, rows: np.ndarray) -> str:
        """The line number of the first row of a mask, bool (rows,), for messages."""
        return atomic_values.first_line(rows, self.text)

    def note_missing(self, column: Column, missing: np.ndarray) -> None:
        """Note how many numbers of a column are missing.

        Args:
            column: a column of numbers.
            missing: which rows have no value, bool, (rows,).

        Raises:
            ValueError: no row has a value.
        """
        if not missing.any():
            return
        if missing.all() and not self.is_part:
            raise self.text.fault(
                "has no value in any row; leave it out of load_col, or name it in unload_col with load_col: null",
                None,
                column.name,
            )
        count = f"{missing.sum()} of {len(missing)} values" if missing.sum() > 1 else f"1 of {len(missing)} values"
        self.account.note(
            f"{count} of column {column.name!r} in {self.name} {'are' if missing.sum() > 1 else 'is'} missing "
            f"({self.first_line(missing)}); RecBole fills in the mean"
        )
