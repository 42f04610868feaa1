"""The steps of one import: columns chosen, ids, times and ratings converted, rows filtered, files and card written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np

from recbole_diffusion.data.importing import (
    atomic_output,
    card,
    conditions,
    features,
    filters,
    item_table,
    names,
    numbers,
    roles,
    statistics,
    times,
)
from recbole_diffusion.data.importing.coded import Coded
from recbole_diffusion.data.importing.request import Request
from recbole_diffusion.data.importing.table import Table, counted


class TableImport:
    """The steps of one import.

    Attributes:
        roles: the column of each role.
        fields: the converted columns by role: names, numbers, or times as text.
        time_values: the times, float64 (rows,), or None.
        rows: the rows that are left.
        notes: what was decided.
    """

    def __init__(self, table: Table, request: Request) -> None:
        self.table, self.request = table, request
        requested = {role: getattr(request, role) for role in roles.ROLES}
        self.roles = roles.choose(table, requested)
        self.notes = list(table.notes)
        self.renamed: dict[str, dict[str, str]] = {}
        self.fields: dict[str, Coded] = {}
        self.read_as: dict[str, str] = {}
        self.rows = filters.Rows(table.rows)
        for role in ("user", "item"):
            self._read_names(role)
        if self.roles["rating"].column is not None:
            self.fields["rating"] = numbers.to_numbers(table, self.roles["rating"].column, request.missing)
        self.time_values = self._read_times()

    def _read_names(self, role: str) -> None:
        column = self.roles[role].column
        assert column is not None
        read = names.to_names(self.table, column, self.request.missing)
        self.fields[role] = read.column
        self.notes += read.notes
        if read.renamed:
            self.renamed[roles.FIELDS[role].partition(":")[0]] = read.renamed

    def _read_times(self) -> Optional[np.ndarray]:
        column, request = self.roles["time"].column, self.request
        self.are_dates = False
        if column is None:
            self.notes.append("no column of times: sequential models and splits in order of time need one")
            return None
        read = times.to_times(self.table, column, request.time_unit, request.time_format, request.missing)
        self.fields["time"], self.read_as["time"], self.are_dates = read
        values = np.array([float(text) for text in read.column.values] + [np.nan])
        return values[read.column.codes]

    def filter_rows(self) -> None:
        """Drop rows without a value, rows that are not positive, repeated pairs, and rows outside the core.

        Raises:
            ValueError: no row is left.
        """
        request, rows, (users, items) = self.request, self.rows, (self.fields["user"], self.fields["item"])
        for role, column in self.fields.items():
            rows.drop(column.missing, f"no {role} ({self.roles[role].column})", requested=False)
        self._check_left("rows with a value in every column")
        if request.positive is not None:
            self._keep_positive(request.positive)
        if request.drop_duplicates != "none":
            repeated = filters.repeated_pairs(users, items, rows.kept, self.time_values, request.drop_duplicates)
            rows.drop(repeated, f"repeated (user, item) pairs; the {request.drop_duplicates} of each stays")
        if request.min_user > 1 or request.min_item > 1:
            outside, rounds = filters.below_core(users, items, rows.kept, request.min_user, request.min_item)
            what = f"users with less than {request.min_user} rows, items with less than {request.min_item}"
            rows.drop(outside, f"{what}, repeated until none was left ({counted(rounds, 'round')})")
            self._check_left(what)
        if request.drop_duplicates == "none":
            count = int(filters.repeated_pairs(users, items, rows.kept, None, "first").sum())
            if count:
                self.notes.append(
                    f"{counted(count)} repeat an earlier (user, item) pair and stay; --drop-duplicates=last or first "
                    "keeps one of each"
                )

    def _keep_positive(self, text: str) -> None:
        fulfilled = np.ones(self.table.rows, dtype=bool)
        for comparison in conditions.parse(text):
            name, column = self._compared(comparison.column)
            fulfilled &= conditions.matches(self.table, name, column.rows(self.rows.kept), comparison)[
                np.cumsum(self.rows.kept) - 1
            ]
        self.rows.drop(~fulfilled, f"not {text}")
        self._check_left(f"rows with {text}")

    def _compared(self, name: str) -> tuple[str, Coded]:
        """The column that a condition names, by its role or by its name in the table."""
        fields = {entry.partition(":")[0]: role for role, entry in roles.FIELDS.items()}
        role = fields.get(name, name)
        if name not in self.table.columns and role in self.fields:
            return str(self.roles[role].column), self.fields[role]
        self.table.check_column(name, "--positive")
        return name, self.table.columns[name]

    def _check_left(self, what: str) -> None:
        if not self.rows.left:
            dropped = "; ".join(f"{step.rows:,} {step.reason}" for step in self.rows.steps)
            raise ValueError(f"{self.table.source}: no row of {self.table.rows:,} is left ({what}); dropped: {dropped}")

    def write(self, stage: Path, source: dict[str, Any]) -> dict[str, Any]:
        """Write the files and the card into a folder; return the card's content."""
        request, kept = self.request, self.rows.kept
        fields = {role: column.rows(kept) for role, column in self.fields.items()}
        columns = {
            roles.FIELDS[role]: atomic_output.texts(
                [numbers.written(value) for value in column.values] if role == "rating" else column.values, column.codes
            )
            for role, column in fields.items()
        }
        origins = {
            roles.FIELDS[role].partition(":")[0]: {
                "from": choice.column,
                "guessed": choice.guessed,
                "read_as": self.read_as.get(role),
            }
            for role, choice in self.roles.items()
            if choice.column is not None
        }
        self._add_features(columns, origins, kept)
        name = f"{request.name}.inter"
        files = {name: atomic_output.write_file(stage / name, columns)}
        if request.items is not None:
            files.update(self._write_items(stage, fields["item"]))
        content = {
            **card.stamp(),
            "source": {**source, "rows": self.table.rows, "format": self.table.format},
            "columns": origins,
            "steps": [step._asdict() for step in self.rows.steps],
            "notes": self.notes,
            "renamed": self.renamed,
            "counts": self._counts(fields),
            "options": self._options(),
            **request.facts,
            "files": files,
        }
        card.write(stage, request.name, content)
        return content

    def _add_features(self, columns: dict[str, np.ndarray], origins: dict[str, Any], kept: np.ndarray) -> None:
        taken = [choice.column for choice in self.roles.values() if choice.column is not None]
        for name, kind in features.requested(self.table, self.request.columns, taken).items():
            feature = features.to_feature(self.table, name, kind, kept)
            written = {entry.partition(":")[0] for entry in columns}
            field_name = feature.entry.partition(":")[0]
            if field_name in written:
                raise ValueError(
                    f"--columns: {name!r} would be the second column {field_name!r}; rename it in the table"
                )
            columns[feature.entry] = feature.text
            origins[field_name] = {"from": name, "guessed": False, "read_as": feature.entry.partition(":")[2]}
            self.notes += feature.notes

    def _write_items(self, stage: Path, items: Coded) -> dict[str, str]:
        table, name = self.request.items, f"{self.request.name}.item"
        assert table is not None
        written = item_table.columns_of(table, self.request, items)
        self.notes += written.notes
        return {name: atomic_output.write_file(stage / name, written.columns)}

    def _counts(self, fields: dict[str, Coded]) -> dict[str, Any]:
        ratings = None
        if "rating" in fields:
            ratings = np.array(fields["rating"].values, dtype=np.float64)[fields["rating"].codes]
        kept_times = None if self.time_values is None else self.time_values[self.rows.kept]
        return statistics.describe(fields["user"].codes, fields["item"].codes, ratings, kept_times, self.are_dates)

    def _options(self) -> dict[str, Any]:
        """The options that decide about rows, as given."""
        keys = ("positive", "drop_duplicates", "min_user", "min_item", "time_unit", "time_format")
        return {key: getattr(self.request, key) for key in keys}
