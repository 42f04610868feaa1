"""A table that is read and not yet interpreted, and the messages about its cells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Optional

import numpy as np

from recbole_diffusion.data.importing.coded import Coded
from recbole_diffusion.settings.schema import nearest


@dataclass
class Table:
    """Columns of equal length.

    Attributes:
        source: name of the file or frame, for messages.
        format: what was read, e.g. ``csv separated by ','``.
        columns: by name, in the table's order; ``1``, ``2``, … where the table names none.
        has_names: whether the table names its columns.
        rows: the number of rows.
        notes: what was decided while it was read, a line each.
    """

    source: str
    format: str
    columns: dict[str, Coded]
    has_names: bool = True
    rows: int = 0
    notes: list[str] = field(default_factory=list)

    def fault(self, what: str, column: Optional[str] = None, row: Optional[int] = None) -> ValueError:
        """The error about a cell; ``row`` counts from 0."""
        places = [f"row {row + 1}"] if row is not None else []
        places += [f"column {column!r}"] if column is not None else []
        return ValueError(f"{self.source}: {', '.join(places)}{': ' if places else ''}{what}")

    def check_column(self, name: str, option: str) -> None:
        """Check that a column exists.

        Raises:
            ValueError: it does not; the message proposes the nearest name.
        """
        if name not in self.columns:
            near = nearest(name, self.columns)
            hint = f"; did you mean {near!r}?" if near else ""
            raise ValueError(f"{option}={name!r}: {self.source} has no such column{hint}; {listed(self.columns)}")


def listed(names: Iterable[str], most: int = 12) -> str:
    """The columns, for messages."""
    names = list(names)
    more = f", … ({len(names)} in all)" if len(names) > most else ""
    return f"columns: {', '.join(names[:most])}{more}"


def counted(number: int, what: str = "row") -> str:
    """A number with its unit: ``1 row``, ``1,200 rows``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def rows_of(column: Coded, values: Iterable[bool]) -> int:
    """The number of rows whose distinct value is selected by ``values``, one bool for each of ``column.values``."""
    selected = np.append(np.fromiter(values, dtype=bool, count=len(column.values)), False)
    return int(selected[column.codes].sum())
