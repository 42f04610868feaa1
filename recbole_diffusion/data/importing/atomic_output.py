"""Writer of atomic files: composed in a folder of their own, read back and compared, then moved into place."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recbole_diffusion.data.reading import header
from recbole_diffusion.data.reading import text as atomic_text
from recbole_diffusion.data.reading import values as atomic_values
from recbole_diffusion.support import atomic_folder
from recbole_diffusion.support.atomic_write import atomic_write_text

_NAME = re.compile(r"[^\W.][\w.+-]*")


def check_name(name: str, option: str = "name") -> None:
    """Check that a data set's name is fit for a folder and for RecBole's file names.

    Args:
        name: the name.
        option: that gave it, for the message.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"--{option}={name} is not allowed; allowed: letters, digits, '_', '-', '+' and '.', e.g. my-shop"
        )


def stored_files(folder: Path, name: str) -> list[Path]:
    """The files of a data set in its folder."""
    return sorted(file for file in folder.glob(f"{name}.*") if file.is_file()) if folder.is_dir() else []


def check_free(folder: Path, name: str, overwrite: bool) -> None:
    """Check that a data set may be written.

    Raises:
        ValueError: it exists, and ``overwrite`` is False.
    """
    present = [file.name for file in stored_files(folder, name) if ".inter" in file.suffixes]
    if present and not overwrite:
        raise ValueError(
            f"{folder} holds a data set of that name ({', '.join(present)}); --overwrite replaces it, or give another "
            "--name"
        )


def write_file(path: Path, columns: Mapping[str, np.ndarray]) -> str:
    """Write an atomic file, read it back and compare.

    Args:
        path: the file.
        columns: the text of each row, str, (rows,); "" where a value is missing; by ``name:type``.

    Returns:
        The sha256 of the file.

    Raises:
        RuntimeError: the file does not give back the values, which is a fault of this package.
    """
    rows = zip(*(column.tolist() for column in columns.values()))
    content = "\n".join(["\t".join(columns), *map("\t".join, rows)]) + "\n"
    atomic_write_text(path, content)
    _check_file(path, columns)
    return hashlib.sha256(content.encode()).hexdigest()


def _check_file(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Read a file as a run does, as text, and compare each cell."""
    text = atomic_text.read(str(path))
    entries = header.parse(str(path), text.head, "\t")
    atomic_text.check_fields(text, "\t", len(entries), "\t")
    frame = atomic_values.read(text, "\t", [entry._replace(type="token") for entry in entries])
    for entry, expected in zip(entries, columns.values()):
        actual = frame[entry.name].fillna("").to_numpy(dtype=object)
        if len(actual) != len(expected) or (actual != expected).any():
            raise RuntimeError(f"{path}: column {entry.name!r} is read back with other values; please report this")


@contextlib.contextmanager
def staged(folder: Path, name: str, overwrite: bool) -> Iterator[Path]:
    """A new folder whose files replace those of the data set together at the end of the block, unless it raises.

    Where the data set exists, its ``.inter``, ``.item`` and ``.user`` files and its cards are removed first: a file of
    the former data would silently belong to the new one. Other files stay.

    Args:
        folder: ``<data_path>/<name>``.
        name: the data set's name.
        overwrite: whether the data set may exist. If not, of several processes one writes it and the others raise.
    """

    def obsolete(stage: Path) -> list[str]:
        new, replaced = {file.name for file in stage.iterdir()}, {".item", ".user", ".md", ".json", ".inter"}
        return [old.name for old in stored_files(folder, name) if old.suffix in replaced and old.name not in new]

    with atomic_folder.replace_files(folder, lambda: check_free(folder, name, overwrite), obsolete) as stage:
        yield stage


def texts(values: Iterable[Any], codes: np.ndarray) -> np.ndarray:
    """The text of each row, object (rows,): that of its code, "" for the code -1."""
    listed = [*values, ""]
    distinct = np.empty(len(listed), dtype=object)
    distinct[:] = listed
    return distinct[codes]
