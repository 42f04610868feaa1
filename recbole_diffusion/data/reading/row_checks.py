"""Checks of the rows of an atomic file: values, repeated rows, and rows that have to be left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np
import pandas as pd
from recbole.utils import FeatureSource

from recbole_diffusion.data.reading import names as atomic_names
from recbole_diffusion.data.reading import settings
from recbole_diffusion.data.reading import values as atomic_values
from recbole_diffusion.data.reading.header import Column
from recbole_diffusion.data.reading.opened_file import OpenedFile


def check_row_count(file: OpenedFile) -> None:
    """Check that the file has rows, and note blank lines. Only the first of several pre-split files must have rows.

    Raises:
        ValueError: no row follows the header.
    """
    blank = file.text.blank
    if len(blank):
        lines = "1 blank line" if len(blank) == 1 else f"{len(blank)} blank lines"
        file.account.note(f"{lines} of {file.name} left out (first: line {blank[0]})")
    if file.text.rows:
        return
    parts = file.config["benchmark_filename"]
    if not file.is_part or file.name == f"{file.config['dataset']}.{parts[0]}.inter":
        raise file.text.fault("has no rows below line 1, the names of the columns; add them, or leave the file out")
    file.account.note(f"{file.name} has no rows")


def check_values(file: OpenedFile, frame: pd.DataFrame, time: Optional[Column]) -> None:
    """Check names and numbers; note missing numbers and repeated rows.

    Args:
        file: the file.
        frame: its values; sequences are still text.
        time: its time column, which is checked elsewhere.

    Raises:
        ValueError: a name or a number that RecBole cannot hold.
    """
    seq_separator = settings.separator_of(file.config, "seq_separator")
    atomic_names.check_padding(
        file.text, [column for column in file.columns if column is not time], frame, seq_separator
    )
    codes = {
        column.name: atomic_names.check_names(file.text, column, frame[column.name].to_numpy(), file.account, file.name)
        for column in file.columns
        if column.name in file.ids and file.ids[column.name] != "RELATION_ID_FIELD"
    }
    for column in file.columns:
        if column.type == "float" and column is not time:
            values = frame[column.name].to_numpy()
            atomic_values.check_numbers(file.text, file.separator, column, values)
            file.note_missing(column, np.isnan(values))
    if file.kind == "inter" and len(codes) == 2 and not file.config["rm_dup_inter"]:
        _note_repeated(file, frame, *codes.values())


def _note_repeated(file: OpenedFile, frame: pd.DataFrame, users: np.ndarray, items: np.ndarray) -> None:
    """Note rows that equal an earlier row in every loaded column; ``users`` and ``items`` are codes, int (rows,)."""
    pairs = pd.Series(users.astype(np.int64) * (int(items.max(initial=0)) + 1) + items)
    has_twin = pairs.duplicated(keep=False).to_numpy() & (users >= 0) & (items >= 0)
    if not has_twin.any():
        return
    repeated = np.zeros(len(frame), dtype=bool)
    repeated[has_twin] = frame[has_twin].duplicated()
    if repeated.any():
        count = int(repeated.sum())
        file.account.note(
            f"{count} {'row' if count == 1 else 'rows'} of {file.name} {'repeats' if count == 1 else 'repeat'} an "
            f"earlier row in every loaded column ({file.first_line(repeated)}); rm_dup_inter: first keeps one of each"
        )


def check_shared_fields(file: OpenedFile) -> None:
    """Compare the columns with the files that were read before.

    Raises:
        ValueError: a field has another type there, or pre-split files have different columns.
    """
    if file.kind == "link":
        return
    known = file.dataset.field2type
    for name, kind in file.types.items():
        if name in known and known[name].value != kind:
            raise file.text.fault(
                f"is of type {kind}, in another file of type {known[name].value}; write one type", None, name
            )
    sources = file.dataset.field2source
    if file.is_part:
        earlier = {name for name, source in sources.items() if source == FeatureSource.INTERACTION}
        for name in sorted(earlier ^ {*file.types} if earlier else ()):
            has = "has" if name in file.types else "lacks"
            raise file.text.fault(f"{has} the column {name!r}, unlike the parts before; give all the same columns")
    elif file.kind in {"user", "item"}:
        for name in file.types:
            if name in sources and name not in file.ids:
                file.account.note(
                    f"the column {name!r} is in another file too; RecBole's joined rows have that of {file.name}"
                )


def rows_to_drop(file: OpenedFile, frame: pd.DataFrame, time: Optional[Column]) -> np.ndarray:
    """Select the rows to leave out, and enter them into the account.

    These are rows without a name, rows without a needed time, and repeated lines of a user or an item.

    Returns:
        A mask, bool, (rows,).

    Raises:
        ValueError: no row would remain.
    """
    dropped = np.zeros(len(frame), dtype=bool)
    id_names = [*file.ids] or [name for name in _user_and_item_fields(file) if name in file.types]
    for name in id_names:
        _drop(file, dropped, frame[name].isna().to_numpy(), f"no {name}")
    if time is not None and file.types[time.name] == "float":
        missing = frame[time.name].isna().to_numpy()
        if file.needs_times:
            _drop(file, dropped, missing, f"no time ({time.name})")
        else:
            file.note_missing(time, missing)
    if file.kind in {"user", "item"} and id_names:
        repeated = frame.duplicated(subset=id_names).to_numpy()
        _drop(file, dropped, repeated, f"the {id_names[0]} of an earlier row")
    if file.kind == "link":
        _note_linked_twice(file, frame, id_names)
    if len(frame) and dropped.all():
        raise file.text.fault(f"no row is left: {file.account.dropped[-1].reason}; fill in the column")
    return dropped


def _user_and_item_fields(file: OpenedFile) -> list[str]:
    return [file.config[key] for key in ("USER_ID_FIELD", "ITEM_ID_FIELD") if file.config[key]]


def _drop(file: OpenedFile, dropped: np.ndarray, rows: np.ndarray, reason: str) -> None:
    """Add ``rows`` to the mask ``dropped`` in place, and the newly dropped ones to the account."""
    new = rows & ~dropped
    if new.any():
        where = f"{reason} in {file.name} ({file.first_line(new)})"
        file.account.record_dropped(where, int(new.sum()), requested=False)
        dropped |= new


def _note_linked_twice(file: OpenedFile, frame: pd.DataFrame, id_names: Sequence[str]) -> None:
    """Note links of an item or an entity that is linked already; RecBole keeps the last link of each."""
    repeated = np.logical_or.reduce([frame.duplicated(subset=[name]).to_numpy() for name in id_names])
    if repeated.any():
        file.account.note(
            f"{repeated.sum()} of {len(frame)} rows of {file.name} link an item or an entity of an earlier row "
            f"({file.first_line(repeated)}); the last link counts"
        )
