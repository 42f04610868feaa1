"""Description of a data set: counts of its files, columns, and what its card says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np

from recbole_diffusion.data.importing import card, statistics
from recbole_diffusion.data.importing.coded import code
from recbole_diffusion.data.stored import files
from recbole_diffusion.data.stored.files import AtomicTable, StoredSet
from recbole_diffusion.support.atomic_folder import unchanged


def describe(stored: StoredSet) -> dict[str, Any]:
    """Count the interactions of each file.

    Returns:
        ``name``, ``folder``, ``columns`` (``name:type`` by file), ``counts`` by file (see
        :func:`statistics.describe`), ``unseen`` (users and items of each pre-split file that are not in the train
        file, in lists of items neither), ``card`` and ``changed`` (files that are not those of the card).
    """
    with unchanged(stored.folder, files.SUFFIXES):
        tables = {path.name: files.read(path) for path in stored.files()}
    inter = {name: table for name, table in tables.items() if name.endswith(".inter")}
    return {
        "name": stored.name,
        "folder": str(stored.folder),
        "columns": {name: [f"{entry.name}:{entry.type}" for entry in table.entries] for name, table in tables.items()},
        "rows": {name: table.table.rows for name, table in tables.items()},
        "counts": {name: count(table) for name, table in inter.items()},
        "unseen": _unseen(stored, inter),
        "card": stored.card,
        "changed": files.changed_files(stored),
    }


def count(table: AtomicTable) -> dict[str, Any]:
    """Count the interactions of a file; rows without a user or an item are left out, as in a run."""
    users, items = table.codes("user"), table.codes("item")
    present = (users >= 0) & (items >= 0)
    ratings, times = table.numbers("rating"), table.numbers("time")
    return statistics.describe(
        users[present],
        items[present],
        None if ratings is None else ratings[present],
        None if times is None else times[present],
    )


def count_together(tables: list[AtomicTable]) -> dict[str, Any]:
    """Count the interactions of several files as one data set."""
    texts = {role: np.concatenate([table.text(role) for table in tables]) for role in ("user", "item")}
    codes = {role: code(values).codes for role, values in texts.items()}
    times = [table.numbers("time") for table in tables]
    joined = (
        None if any(part is None for part in times) else np.concatenate([part for part in times if part is not None])
    )
    return statistics.describe(codes["user"], codes["item"], None, joined)


def _unseen(stored: StoredSet, inter: dict[str, AtomicTable]) -> dict[str, dict[str, int]]:
    """The number of users and items of each part that its train part lacks."""
    result: dict[str, dict[str, int]] = {}
    known: Optional[dict[str, set[str]]] = None
    for part in stored.parts():
        table = inter[f"{stored.name}.{part}.inter"]
        if "train" in part:
            known = {"user": {*table.text("user")}, "item": {*table.text("item")} | _listed_items(table)}
        elif known is not None:
            result[table.path.name] = {f"{role}s": len({*table.text(role)} - names) for role, names in known.items()}
    return result


def _listed_items(table: AtomicTable) -> set[str]:
    """The items in the lists of a file of sequences: a user's first item is in no other place. Else none."""
    column = table.table.columns.get(f"{table.fields['item']}_list")
    if column is None:
        return set()
    separator = files.list_separator(table.path)
    return {item for text in column.values for item in text.split(separator)}


def lines(description: dict[str, Any]) -> list[str]:
    """Format a description, a line each."""
    result = [f"{description['name']}: {description['folder']}"]
    for name, columns in description["columns"].items():
        result.append(f"{name}: {description['rows'][name]:,} rows; {' '.join(columns)}")
        result += (
            [f"  {line}" for line in statistics.lines(description["counts"][name])] if name.endswith(".inter") else []
        )
        unseen = description["unseen"].get(name)
        if unseen:
            result.append(f"  not in train: {unseen['users']:,} users, {unseen['items']:,} items")
    content = description["card"]
    if content is not None:
        result.append(f"card of {content['created']}, from {content['source']['name']}:")
        result += [f"  {line}" for line in card.row_lines(content)]
        result += [f"  note: {note}" for note in content["notes"]]
    result += [f"warning: {name} is not the file that the card describes" for name in description["changed"]]
    return result


def overlap(parts: np.ndarray, codes: np.ndarray) -> list[int]:
    """For each of the three parts: how many distinct codes it has that part 0 lacks."""
    train = np.unique(codes[parts == 0])
    return [len(np.setdiff1d(codes[parts == part], train)) for part in range(3)]


def written_folder(stored: StoredSet, data_path: str) -> Path:
    """The folder to write to: that of the data set, or for RecBole's examples a folder in ``data_path``."""
    return Path(data_path) / stored.name if stored.is_packaged else stored.folder
