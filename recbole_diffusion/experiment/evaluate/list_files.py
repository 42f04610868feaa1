"""Files of ranked lists that other software has written, and the columns that hold user, item, score or rank."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from recbole_diffusion.data.importing import frames

#: Names of columns, in lower case, in the order in which they are tried.
NAMES: dict[str, tuple[str, ...]] = {
    "user": ("user", "user_id", "userid", "uid", "users", "u", "customer", "customer_id", "visitor_id"),
    "item": ("item", "item_id", "itemid", "iid", "items", "i", "product_id", "movie_id", "track_id", "asin"),
    "rank": ("rank", "ranking", "position", "pos"),
    "score": ("score", "scores", "prediction", "predicted", "pred", "rating", "r_hat", "relevance", "similarity"),
}
#: Suffixes of files of lists. Other files are told from checkpoints by their first bytes.
SUFFIXES = frozenset({".csv", ".tsv", ".txt", ".parquet", ".pq", ".jsonl", ".ndjson", ".json"})
_PACKED = frozenset({".gz", ".xz", ".bz2"})


class Columns(NamedTuple):
    """The columns of a table of lists; the order is by ``rank``, else by ``score``, else that of the rows."""

    user: str
    item: str
    rank: Optional[str]
    score: Optional[str]

    def describe(self) -> str:
        """The columns and the order in words."""
        order = "the order of its rows"
        if self.rank is not None:
            order = f"ordered by rank={self.rank}"
        elif self.score is not None:
            order = f"ordered by score={self.score}, the highest first"
        return f"columns user={self.user}, item={self.item}; {order}"


def is_list_file(path: Path) -> bool:
    """Whether a path names a file of lists and not a checkpoint: by its suffix, else by its first bytes.

    A checkpoint is a zip archive, or a pickle where an old torch has written it.
    """
    if _suffix(path) in SUFFIXES:
        return True
    if not path.is_file():
        return False
    with open(path, "rb") as stream:
        return stream.read(2)[:2] not in {b"PK"} and path.suffix.lower() not in {".pth", ".pt", ".pkl", ".ckpt"}


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read(path: Path, names: Iterable[Optional[str]] = ()) -> Any:
    """Read a table of lists as a pandas frame, see :func:`recbole_diffusion.data.importing.frames.read`.

    Args:
        path: the file.
        names: of columns that the caller names.
    """
    known = [name for guesses in NAMES.values() for name in guesses]
    return frames.read(path, [*known, *(name for name in names if name)])


def find_columns(frame: Any, passed: Mapping[str, Optional[str]], source: str) -> Columns:
    """Find the columns by their names.

    Args:
        frame: the table.
        passed: names by kind, see :data:`NAMES`; None or missing: guessed.
        source: of the table, for messages.

    Raises:
        ValueError: a column that was named is missing, or there is none of users or of items.
    """
    existing = {str(name).lower(): str(name) for name in frame.columns}
    columns: dict[str, Optional[str]] = {}
    for kind, guesses in NAMES.items():
        name = passed.get(kind)
        if name is not None and name not in frame.columns:
            raise ValueError(f"{source} has no column {name!r}; it has {', '.join(map(str, frame.columns))}")
        columns[kind] = name or next((existing[guess] for guess in guesses if guess in existing), None)
    if passed.get("score") is not None and passed.get("rank") is None:
        columns["rank"] = None  # the named column decides, not one whose name looks like a rank
    for kind in ("user", "item"):
        if columns[kind] is None:
            raise ValueError(
                f"{source} has no column that is known to hold {kind}s; it has {', '.join(map(str, frame.columns))}; "
                f"name it by --{kind}=COLUMN (the first line must hold the names)"
            )
    return Columns(str(columns["user"]), str(columns["item"]), columns["rank"], columns["score"])


def long_form(frame: Any, columns: Columns) -> Any:
    """The table with one row per item; a cell with a list of items, as in json, becomes several rows."""
    is_list = frame[columns.item].map(_is_list).astype(bool)
    if not is_list.any():
        return frame
    frame = frame[is_list & (frame[columns.item].map(_length) > 0)]
    lists = [columns.item]
    if columns.score is not None and frame[columns.score].map(_is_list).any():
        lists.append(columns.score)
    return frame.explode(lists, ignore_index=True)


def _is_list(cell: Any) -> bool:
    return isinstance(cell, (list, tuple, np.ndarray))


def _length(cell: Any) -> int:
    return len(cell) if _is_list(cell) else 0
