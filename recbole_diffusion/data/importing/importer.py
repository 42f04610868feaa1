"""Import of tables: files and data frames become data sets that ``run`` finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional, Union

from recbole_diffusion.data.importing import atomic_output, card, sources, statistics
from recbole_diffusion.data.importing.request import Request, check
from recbole_diffusion.data.importing.table import Table
from recbole_diffusion.data.importing.table_import import TableImport


class Imported:
    """An imported data set.

    Attributes:
        name: its name, for ``run(model, name)``.
        folder: the folder with its files.
        card: the content of its card.
    """

    def __init__(self, name: str, folder: Path, content: dict[str, Any]) -> None:
        self.name, self.folder, self.card = name, folder, content

    def __repr__(self) -> str:
        counts = self.card["counts"]
        numbers_of = f"{counts['users']:,} users, {counts['items']:,} items, {counts['interactions']:,} interactions"
        return f"<Imported {self.name!r}: {numbers_of}; folder {self.folder}>"

    def summary(self) -> str:
        """What was read, guessed, dropped and written, a line each."""
        content = self.card
        lines = [f"{content['source']['name']}: {content['source']['rows']:,} rows ({content['source']['format']})"]
        for name, entry in content["columns"].items():
            read_as = f", {entry['read_as']}" if entry.get("read_as") else ""
            lines.append(f"  {name:10} from {entry['from']!r}{' (guessed)' if entry['guessed'] else ''}{read_as}")
        lines += [f"  {line}" for line in card.row_lines(content)[1:-1]]
        lines += [f"note: {note}" for note in content["notes"]]
        lines += [f"{self.folder}: {', '.join([*content['files'], card.card_file(self.folder, self.name, 'md').name])}"]
        return "\n".join([*lines, *(f"  {line}" for line in statistics.lines(content["counts"]))])


def import_table(table: Table, source: dict[str, Any], request: Request) -> Imported:
    """Write a table as a data set.

    Args:
        table: the interactions.
        source: the entries ``name``, ``sha256`` and ``bytes`` of the card.
        request: what to import.

    Raises:
        ValueError: a column, a value or an option that is not right; nothing is written then.
    """
    check(request)
    work = TableImport(table, request)
    work.filter_rows()
    with atomic_output.staged(request.folder, request.name, request.overwrite) as stage:
        content = work.write(stage, source)
    return Imported(request.name, request.folder, content)


def import_file(
    path: Union[str, Path],
    request: Request,
    form: sources.Form = sources.RECOGNISED,
    items: Union[str, Path, None] = None,
) -> Imported:
    """Import a file; see :func:`import_table`.

    Args:
        path: the table of interactions.
        request: what to import.
        form: what the caller says about a text file.
        items: a file about items; None: none.
    """
    check(request)
    asked = [name for name in (request.user, request.item, request.rating, request.time) if name]
    table, facts = sources.read_file(path, form, asked)
    if items is not None:
        item_form = form._replace(delimiter=None, header=None, quotes=None)
        item_source, _ = sources.read_file(items, item_form, [request.item_id] if request.item_id else [])
        request = replace(request, items=item_source)
    return import_table(table, facts, request)


def from_frame(
    frame: Any,
    name: str,
    *,
    user: Optional[str] = None,
    item: Optional[str] = None,
    rating: Optional[str] = None,
    time: Optional[str] = None,
    positive: Optional[str] = None,
    drop_duplicates: str = "none",
    min_user: int = 0,
    min_item: int = 0,
    columns: Sequence[str] = (),
    time_unit: Optional[str] = None,
    time_format: Optional[str] = None,
    missing: Sequence[str] = (),
    items: Any = None,
    item_id: Optional[str] = None,
    item_columns: Optional[Sequence[str]] = None,
    data_path: Union[str, Path] = "dataset",
    overwrite: bool = False,
) -> Imported:
    """Write a data frame as a data set that ``run(model, name)`` finds; the same as the command ``data import``.

    Args:
        frame: interactions; of pandas, polars, pyarrow, or with an interchange protocol.
        name: of the new data set.
        user, item, rating, time: columns; None: guessed by their names. ``"none"`` leaves rating or time out.
        positive: condition that rows must fulfil, e.g. ``"rating >= 4"``.
        drop_duplicates: which row of a repeated (user, item) pair stays: ``"last"``, ``"first"``, ``"none"``: all.
        min_user, min_item: least number of rows of a user and of an item, repeated until nothing changes (k-core).
        columns: other columns to write, ``"name"`` or ``"name:type"``; ``"*"`` for all.
        time_unit: ``"s"``, ``"ms"``, ``"us"``, ``"ns"``, ``"raw"``; None: recognised.
        time_format: form of dates, as of ``strptime``; None: recognised.
        missing: texts that stand for missing values.
        items: data frame about items, or None.
        item_id: its column of ids; None: guessed.
        item_columns: its columns to write; None: all.
        data_path: folder of the data sets.
        overwrite: replace a data set of that name.

    Returns:
        The data set's name, folder and card; ``print(result.summary())`` shows what was guessed and dropped.

    Raises:
        ValueError: a column, a value or an option that is not right; nothing is written then.
    """
    table = None if items is None else sources.from_frame(items, "the data frame of items")
    request = Request(
        name=name,
        user=user,
        item=item,
        rating=rating,
        time=time,
        positive=positive,
        drop_duplicates=drop_duplicates,
        min_user=min_user,
        min_item=min_item,
        columns=columns,
        time_unit=time_unit,
        time_format=time_format,
        missing=frozenset(missing),
        items=table,
        item_id=item_id,
        item_columns=item_columns,
        data_path=data_path,
        overwrite=overwrite,
    )
    check(request)
    return import_table(sources.from_frame(frame), {"name": "a data frame"}, request)
