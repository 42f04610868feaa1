"""Files of ranked lists that other software has written, and the columns that hold user, item, score or rank."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Optional

#: Names of columns, in lower case, in the order in which they are tried.
NAMES: dict[str, tuple[str, ...]] = {
    "user": ("user", "user_id", "userid", "uid", "users", "u", "customer", "customer_id", "visitor_id"),
    "item": ("item", "item_id", "itemid", "iid", "items", "i", "product_id", "movie_id", "track_id", "asin"),
    "rank": ("rank", "ranking", "position", "pos"),
    "score": ("score", "scores", "prediction", "predicted", "pred", "rating", "r_hat", "relevance", "similarity"),
}
#: Suffixes of files of lists. Other files are told from checkpoints by their first bytes.
SUFFIXES = frozenset({".csv", ".tsv", ".txt", ".parquet", ".pq", ".jsonl", ".ndjson", ".json"})
_SEPARATORS = "\t,;|"
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open}


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
    if suffixes and suffixes[-1] in _OPENERS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read(path: Path) -> Any:
    """Read a table as a pandas frame; names of users and items as texts.

    Raises:
        ValueError: the file does not exist, is empty, or is no table.
    """
    import pandas as pd

    if not path.is_file():
        raise ValueError(f"file {str(path)!r} does not exist")
    suffix = _suffix(path)
    try:
        if suffix in {".parquet", ".pq"}:
            frame = pd.read_parquet(path)
        elif suffix in {".jsonl", ".ndjson", ".json"}:
            frame = pd.read_json(path, lines=suffix != ".json", dtype=False)
        else:
            frame = pd.read_csv(
                path, sep=_separator(path), dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8-sig"
            )
    except ImportError as error:  # pandas' message is long
        raise ValueError(f"file {str(path)!r} needs pyarrow: pip install pyarrow, or take a csv file") from error
    except (ValueError, OSError, EOFError, lzma.LZMAError) as error:  # pandas' parser errors are ValueErrors
        raise ValueError(f"file {str(path)!r} cannot be read as a table: {' '.join(str(error).split())}") from error
    if not len(frame):
        raise ValueError(f"file {str(path)!r} holds no rows")
    return frame.rename(columns=lambda name: str(name).partition(":")[0].strip())  # user_id:token of atomic files


def _separator(path: Path) -> str:
    """The separator that occurs most often in the first line; a comma if none does."""
    with _OPENERS.get(path.suffix.lower(), open)(path, "rt", encoding="utf-8-sig") as stream:
        line = stream.readline()
    return max(_SEPARATORS, key=lambda separator: (line.count(separator), separator == ","))


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
    cells = frame[columns.item]
    if not len(cells) or not hasattr(cells.iloc[0], "__len__") or isinstance(cells.iloc[0], (str, bytes)):
        return frame
    lists = [columns.item]
    if columns.score is not None and hasattr(frame[columns.score].iloc[0], "__len__"):
        lists.append(columns.score)
    return frame.explode(lists, ignore_index=True)


def texts(values: Any) -> Any:
    """Names as texts; whole numbers have no decimal point, also where a missing value has made floats of them."""
    import pandas as pd

    if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    return values.astype(object).where(values.isna(), values.astype(str))
