"""The table about items: titles, genres and others, as the ``.item`` file of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from recbole_diffusion.data.importing import features, names, roles
from recbole_diffusion.data.importing.coded import Coded
from recbole_diffusion.data.importing.table import Table, counted


class ItemColumns(NamedTuple):
    """The columns of an ``.item`` file.

    Attributes:
        columns: text of each row by ``name:type``.
        notes: what was decided, a line each.
    """

    columns: dict[str, np.ndarray]
    notes: list[str]


def columns_of(table: Table, request: Any, items: Coded) -> ItemColumns:
    """Convert a table about items: one row for each item of the interactions, in the order of their first row.

    RecBole would count items without interactions too, and drop interactions of items without a line. Here the former
    are left out, and the latter get a line without values.

    Args:
        table: the table.
        request: with ``item_id``, ``item_columns`` and ``missing``.
        items: the items of the interactions.

    Raises:
        ValueError: no column of ids, or none of them is an item of the interactions.
    """
    id_column = request.item_id or roles.guess_item(table)
    table.check_column(id_column, "--item-id")
    read = names.to_names(table, id_column, request.missing)
    order, notes = _matched_rows(table, read.column, items)
    wanted = features.requested(table, _all_or(request.item_columns), [id_column])
    columns = {"item_id:token": items.values.astype(object)}
    for name, kind in wanted.items():
        feature = features.to_feature(table, name, kind, np.ones(table.rows, dtype=bool))
        entry = _free(feature.entry, columns)
        columns[entry] = np.append(feature.text, "")[order]
        notes += feature.notes
    return ItemColumns(columns, [f"items: {note}" for note in (f"ids from {id_column!r}", *notes)])


def _all_or(words: Optional[Sequence[str]]) -> Sequence[str]:
    return ["*"] if words is None else words


def _matched_rows(table: Table, ids: Coded, items: Coded) -> tuple[np.ndarray, list[str]]:
    """The row of the table for each item, -1 for none; and notes on those that have none or several."""
    row_of: dict[str, int] = {}
    repeated = 0
    for row, code in enumerate(ids.codes.tolist()):
        if code >= 0:
            name = ids.values[code]
            repeated += name in row_of
            row_of.setdefault(name, row)
    order = np.array([row_of.get(name, -1) for name in items.values], dtype=np.int64)
    without, unused = int((order < 0).sum()), len(row_of) - int((order >= 0).sum())
    if without == len(order):
        raise ValueError(
            f"{table.source}: none of its {len(row_of):,} ids, e.g. {next(iter(row_of), '')!r}, is an item of the "
            f"interactions, e.g. {items.values[0]!r}; give --item-id=COLUMN"
        )
    notes = [
        (without, f"{counted(without, 'item')} without a row; they get a line without values"),
        (unused, f"{counted(unused, 'item')} without interactions left out"),
        (repeated, f"{counted(repeated)} with the id of an earlier row left out"),
        (int(ids.missing.sum()), f"{counted(int(ids.missing.sum()))} without an id left out"),
    ]
    return order, [note for count, note in notes if count]


def _free(entry: str, columns: dict[str, np.ndarray]) -> str:
    """The ``name:type`` of a column, with another name if that one is taken."""
    name, _, kind = entry.partition(":")
    taken = {other.partition(":")[0] for other in columns}
    while name in taken:
        name = f"item_{name}"
    return f"{name}:{kind}"
