"""What to import: columns, filters, items, and where to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

from recbole_diffusion.data.importing import atomic_output, conditions, filters, times
from recbole_diffusion.data.importing.table import Table


@dataclass(frozen=True)
class Request:
    """What to import.

    Attributes:
        name: of the new data set.
        user, item, rating, time: columns; None: guessed by their names; rating and time: ``none`` leaves it out.
        positive: condition that rows must fulfil, see :mod:`conditions`; None: none.
        drop_duplicates: which row of a repeated (user, item) pair stays: ``first`` or ``last`` by time; ``none``: all.
        min_user, min_item: least number of rows of a user and of an item; repeated until nothing changes.
        columns: other columns to write, ``name`` or ``name:type``; ``*`` for all.
        time_unit: ``s``, ``ms``, ``us``, ``ns`` or ``raw``; None: recognised.
        time_format: form of dates, as of ``strptime``; None: recognised.
        missing: texts that stand for missing values, beside the empty one.
        items: table about items; None: none.
        item_id: its column of ids; None: guessed.
        item_columns: its columns to write; None: all.
        data_path: folder of the data sets.
        overwrite: replace a data set of that name.
        facts: other entries of the card.
    """

    name: str
    user: Optional[str] = None
    item: Optional[str] = None
    rating: Optional[str] = None
    time: Optional[str] = None
    positive: Optional[str] = None
    drop_duplicates: str = "none"
    min_user: int = 0
    min_item: int = 0
    columns: Sequence[str] = ()
    time_unit: Optional[str] = None
    time_format: Optional[str] = None
    missing: frozenset[str] = frozenset()
    items: Optional[Table] = None
    item_id: Optional[str] = None
    item_columns: Optional[Sequence[str]] = None
    data_path: Union[str, Path] = "dataset"
    overwrite: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder of the new data set."""
        return Path(self.data_path) / self.name


def check(request: Request) -> None:
    """Check what needs no table, so that a mistake is reported before a long read.

    Raises:
        ValueError: a value that is not allowed, or a data set that exists.
    """
    atomic_output.check_name(request.name)
    atomic_output.check_free(request.folder, request.name, request.overwrite)
    if request.drop_duplicates not in filters.KEEP:
        raise ValueError(f"--drop-duplicates={request.drop_duplicates} is not allowed; allowed: last | first | none")
    if request.time_unit is not None and request.time_unit not in times.UNITS:
        raise ValueError(f"--time-unit={request.time_unit} is not allowed; allowed: {' | '.join(times.UNITS)}")
    for option, least in (("min-user", request.min_user), ("min-item", request.min_item)):
        if least < 0:
            raise ValueError(f"--{option}={least} is not allowed; allowed: 0 or more")
    if request.positive is not None:
        conditions.parse(request.positive)
