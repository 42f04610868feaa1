"""Published data of sequential models that are split by user: rows of a history and the next item.

Two formats are read. A folder with ``train_data.txt``, ``valid_data.txt`` and ``test_data.txt`` (PreferDiff,
lswhim/PreferDiff at fdf45b0) has one user a line, whose last item is the target. A folder with ``train_data.df``,
``val_data.df`` and ``test_data.df`` (DreamRec, YangZhengyi98/DreamRec at 454133c, and copies of it) has pickled pandas
frames with one row for each prefix of a user's sequence, the empty one included.

Users of the validation and the test part are not in the train part. So these are RecBole's pre-split files, and neither
leave-one-out nor any split of RecBole gives them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Union

from recbole_diffusion.support.atomic_folder import replace_files
from recbole_diffusion.support.atomic_write import atomic_write_text

PARTS = ("train", "valid", "test")
_LINES = {part: f"{part}_data.txt" for part in PARTS}
_FRAMES = {"train": "train_data.df", "valid": "val_data.df", "test": "test_data.df"}
HEADER = "user_id:token\titem_id_list:token_seq\titem_id:token"
#: Columns of a history and of the next item, by the official names and those of the copies.
_COLUMNS = (("seq", "next"), ("seq", "tgt"))
#: Classes and functions that a pickled frame may name. Nothing else is loaded.
_NAMES = {
    ("pandas.core.frame", "DataFrame"),
    ("pandas.core.internals.managers", "BlockManager"),
    ("pandas._libs.internals", "_unpickle_block"),
    ("pandas.core.indexes.base", "Index"),
    ("pandas.core.indexes.base", "_new_Index"),
    ("pandas.core.indexes.numeric", "Int64Index"),
    ("pandas.core.indexes.range", "RangeIndex"),
    *(("pandas", name) for name in ("DataFrame", "Index", "RangeIndex", "StringDtype")),  # pandas 3
    ("pandas.arrays", "StringArray"),
    ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("builtins", "slice"),
    ("_codecs", "encode"),  # of byte strings in protocol 2
}


class HistoryRow(NamedTuple):
    """A row: the ``user``'s name, the names of the items of the ``history``, and the name of the next item."""

    user: str
    history: list[str]
    target: str


class UserSplit(NamedTuple):
    """Rows by part, and the number of rows without a history, which are left out."""

    rows: dict[str, list[HistoryRow]]
    without_history: dict[str, int]

    def counts(self) -> dict[str, int]:
        """Number of items, and of rows in each part."""
        items = {item for rows in self.rows.values() for row in rows for item in (*row.history, row.target)}
        return {"items": len(items), **{f"{part}_rows": len(rows) for part, rows in self.rows.items()}}


def is_user_split(source: Union[str, Path]) -> bool:
    """Whether a path is a folder with the test part in one of the two formats."""
    return any((Path(source) / files["test"]).is_file() for files in (_LINES, _FRAMES))


def read_user_split(source: Union[str, Path]) -> UserSplit:
    """Read the rows of the three parts.

    The rows without a history, the first items of DreamRec's sequences, are left out: RecBole has no empty sequences.

    Args:
        source: a folder in one of the two formats.

    Raises:
        ValueError: a file is missing or does not hold such rows; one line.
    """
    folder = Path(source)
    files = _LINES if (folder / _LINES["test"]).is_file() else _FRAMES
    missing = [name for name in files.values() if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{str(folder)!r} lacks {missing[0]!r}; needed: {', '.join(files.values())}")
    read = _read_lines if files is _LINES else _read_frame
    users, rows, without = itertools.count(), {}, {}
    for part, name in files.items():
        part_rows = list(read(folder / name, users))
        rows[part] = [row for row in part_rows if row.history]
        without[part] = len(part_rows) - len(rows[part])
        if not rows[part]:
            raise ValueError(f"{str(folder / name)!r} holds no row with a history")
    return UserSplit(rows, without)


def _read_lines(file: Path, users: Iterator[int]) -> Iterator[HistoryRow]:
    """Parse one user a line: item numbers from 1, the last one is the target."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{str(file)!r} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        items = line.split()
        if items and not (all(item.isdigit() for item in items) and len(items) > 1):
            raise ValueError(f"{str(file)!r} line {number} must hold two or more item numbers; got {line[:40]!r}")
        if items:
            yield HistoryRow(str(next(users)), items[:-1], items[-1])


def _read_frame(file: Path, users: Iterator[int]) -> Iterator[HistoryRow]:
    """Convert the rows of a pickled frame. A row without a history begins a new user.

    The padding item is the largest number of the histories; numbers may be floats.
    """
    frame = _unpickled(file)
    names = next((pair for pair in _COLUMNS if set(pair) <= set(getattr(frame, "columns", ()))), None)
    if names is None:
        raise ValueError(f"{str(file)!r} must hold a frame with the columns seq and next (or tgt)")
    try:
        histories = [[int(item) for item in history] for history in frame[names[0]]]
        targets = [int(item) for item in frame[names[1]]]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{str(file)!r} must hold lists of item numbers: {error}") from error
    padding, user = max((max(history, default=0) for history in histories), default=0), None
    for history, target in zip(histories, targets):
        items = [str(item) for item in history if item != padding]
        if user is None or not items:
            user = str(next(users))
        yield HistoryRow(user, items, str(target))


def _unpickled(file: Path) -> Any:
    """Unpickle a frame, naming no class but those of pandas' and numpy's frames and arrays.

    Raises:
        ValueError: the file is no pickled frame, or names anything else, which could run code.
    """
    from pandas.compat import pickle_compat

    class FrameUnpickler(pickle_compat.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) not in _NAMES:
                raise ValueError(f"it names {module}.{name}, which is no part of a frame")
            return super().find_class(module, name)

    try:
        with open(file, "rb") as stream:
            return FrameUnpickler(stream).load()
    except Exception as error:  # pickle raises many types on files of other formats
        raise ValueError(f"{str(file)!r} cannot be read as a pickled frame: {error}") from error


def write_user_split(source: Union[str, Path], folder: Union[str, Path], name: str) -> tuple[Path, UserSplit]:
    """Write ``folder/name/name.{train,valid,test}.inter``; :func:`settings` returns the settings to read them.

    Args:
        source: see :func:`read_user_split`.
        folder: the value for ``data_path``.
        name: the value for ``dataset``.

    Returns:
        ``folder/name``, and what was read.

    Raises:
        ValueError: a source that :func:`read_user_split` rejects; nothing is written then.
    """
    split = read_user_split(source)
    target = Path(folder) / name
    with replace_files(target) as stage:
        for part, rows in split.rows.items():
            lines = (f"{row.user}\t{' '.join(row.history)}\t{row.target}" for row in rows)
            atomic_write_text(stage / f"{name}.{part}.inter", "\n".join([HEADER, *lines]) + "\n")
    return target, split


def settings(folder: Union[str, Path]) -> dict[str, Any]:
    """The settings for RecBole to read the files of :func:`write_user_split`."""
    columns = [field.split(":")[0] for field in HEADER.split("\t")]
    return {
        "data_path": str(folder),
        "benchmark_filename": list(PARTS),
        "load_col": {"inter": columns},
        "alias_of_item_id": ["item_id_list"],
    }
