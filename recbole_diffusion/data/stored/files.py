"""The atomic files of a data set, read as tables of text."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from recbole_diffusion.data.importing import card, roles
from recbole_diffusion.data.importing.coded import Coded, code
from recbole_diffusion.data.importing.table import Table
from recbole_diffusion.data.reading import header
from recbole_diffusion.data.reading import text as atomic_text
from recbole_diffusion.data.reading import values as atomic_values
from recbole_diffusion.data.reading.header import Column
from recbole_diffusion.settings import places

#: Suffixes of the files that are read of a data set.
SUFFIXES = (".inter", ".user", ".item", ".kg", ".link", ".net")
_PARTS = ("train", "valid", "test")


class AtomicTable(NamedTuple):
    """An atomic file as text.

    Attributes:
        path: the file.
        entries: its columns.
        table: their values; "" is missing.
        fields: the name of the column of each role that it has.
    """

    path: Path
    entries: list[Column]
    table: Table
    fields: dict[str, str]

    def text(self, role: str) -> np.ndarray:
        """The text of each row of a role's column, object (rows,)."""
        return self.table.columns[self.fields[role]].filled("")

    def codes(self, role: str) -> np.ndarray:
        """The code of each row's value of a role, int64 (rows,)."""
        return self.table.columns[self.fields[role]].codes

    def numbers(self, role: str) -> Optional[np.ndarray]:
        """The numbers of a role, float64 (rows,), nan where one is missing; None without the column.

        ISO dates are seconds since 1970, as a run reads them.
        """
        if role not in self.fields:
            return None
        column = self.table.columns[self.fields[role]]
        numbers = _parse_numbers(self, column.values)
        return np.append(numbers, np.nan)[column.codes]


def _parse_numbers(file: AtomicTable, values: np.ndarray) -> np.ndarray:
    from recbole_diffusion.data.importing import times

    try:
        return np.array([float(value) for value in values], dtype=np.float64)
    except ValueError:
        table = Table(str(file.path), "", {"time": code(values)}, rows=len(values))
        column = times.to_times(table, "time", "raw").column
        return np.append(np.array([float(text) for text in column.values]), np.nan)[column.codes]


class StoredSet(NamedTuple):
    """A data set.

    Attributes:
        name: its name.
        folder: its folder.
        is_packaged: whether it is an example data set in RecBole's package, where nothing may be written.
        card: its card; None without one.
    """

    name: str
    folder: Path
    is_packaged: bool
    card: Optional[dict[str, Any]]

    @property
    def inter(self) -> Path:
        """The file of all interactions, which may be missing where the data set is split."""
        return self.folder / f"{self.name}.inter"

    def parts(self) -> list[str]:
        """The middle parts of the names of pre-split files, train before valid before test."""
        start, end = len(self.name) + 1, -len(".inter")
        middles = [file.name[start:end] for file in self.folder.glob(f"{self.name}.*.inter")]
        return sorted(middles, key=lambda middle: (_stem(middle), _rank(middle)))

    def files(self) -> list[Path]:
        """All its atomic files."""
        kinds = {".inter", ".user", ".item", ".kg", ".link"}
        return sorted(file for file in self.folder.glob(f"{self.name}.*") if file.suffix in kinds)


def _rank(middle: str) -> int:
    return next((rank for rank, part in enumerate(_PARTS) if part in middle), len(_PARTS))


def _stem(middle: str) -> str:
    for part in _PARTS:
        middle = middle.replace(part, "")
    return middle


def find(name: str, data_path: str = "dataset") -> StoredSet:
    """Find a data set as a run does: in ``data_path``, or among RecBole's examples.

    Raises:
        ValueError: it is not there.
    """
    place = places.locate(data_path, name, given=True)
    folder = Path(place.folder)
    found = StoredSet(name, folder, place.root == places.PACKAGED, None)
    if not folder.is_dir() or not found.files():
        here = Path(data_path)
        names = (
            sorted(path.name for path in here.iterdir() if path.is_dir() and path.name[0] != ".")
            if here.is_dir()
            else []
        )
        listed = f" (there: {', '.join(names)})" if names else ""
        raise ValueError(
            f"dataset={name!r} is not in {data_path}{listed}; make it by recbole-diffusion data import FILE "
            f"--name={name}, or see data list"
        )
    return found._replace(card=card.read(folder, name))


def read(path: Path) -> AtomicTable:
    """Read an atomic file as text, with the checks of a run on its lines.

    Raises:
        ValueError: a fault of the file.
    """
    text = atomic_text.read(str(path))
    entries = header.parse(str(path), text.head, "\t")
    atomic_text.check_fields(text, "\t", len(entries), "\t")
    frame = atomic_values.read(text, "\t", [entry._replace(type="token") for entry in entries])
    columns = {entry.name: code(frame[entry.name]) for entry in entries}
    return AtomicTable(path, entries, Table(str(path), "atomic file", columns, rows=len(frame)), _fields(path, columns))


def _fields(path: Path, columns: dict[str, Coded]) -> dict[str, str]:
    """The column of each role: RecBole's names, or else those that an import would guess."""
    if path.suffix != ".inter":
        return {}
    standard = {role: entry.partition(":")[0] for role, entry in roles.FIELDS.items()}
    chosen = roles.choose(
        Table(str(path), "", columns), {role: name for role, name in standard.items() if name in columns}
    )
    return {role: choice.column for role, choice in chosen.items() if choice.column is not None}


def list_separator(path: Path) -> str:
    """The separator of the item lists in a file of sequences: as ``data split`` has recorded, or RecBole's default."""
    for file in path.parent.glob("*split.json"):
        content = json.loads(file.read_text("utf-8"))
        if path.name in content.get("files", {}):
            return str(content.get("seq_separator", " "))
    return " "


def sha256(path: Path) -> str:
    """The hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def changed_files(stored: StoredSet) -> list[str]:
    """The files whose content is not the one that the card lists."""
    listed = (stored.card or {}).get("files", {})
    present = {name: stored.folder / name for name in listed}
    return [name for name, path in present.items() if not path.is_file() or sha256(path) != listed[name]]
