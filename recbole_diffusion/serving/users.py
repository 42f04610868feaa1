"""The users and candidate items that are asked for, by name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import pandas as pd

from recbole_diffusion.data import names
from recbole_diffusion.data.importing import frames
from recbole_diffusion.serving import tables

#: All users, names of users, or a file of them.
Users = Union[None, str, Path, Iterable[Any]]
ALL = "all"


def requested(users: Users, kind: str, field: str) -> Optional[list[str]]:
    """The names that are asked for, without repetitions; None for all.

    Args:
        users: ``all`` or None; a file (see :func:`tables.read_names`); names, in a text separated by commas.
        kind: ``user`` or ``item``.
        field: the data set's name of the column.

    Raises:
        ValueError: an empty list, or a file that cannot be read.
    """
    if users is None or (isinstance(users, str) and users == ALL):
        return None
    if isinstance(users, Path) or (isinstance(users, str) and _is_file(users)):
        listed = tables.read_names(Path(users), kind, field)
    elif isinstance(users, str):
        listed = [name.strip() for name in users.split(",") if name.strip()]
    else:
        listed = frames.texts(users).tolist()
    if not listed:
        raise ValueError(f"no {kind}s are given; allowed: all, names, or a file of names")
    return tables.distinct(listed)


def _is_file(text: str) -> bool:
    """Whether a text is a file, or looks like one that does not exist."""
    return Path(text).is_file() or (("/" in text or Path(text).suffix in {".csv", ".tsv", ".txt"}) and "," not in text)


def ids_of(listed: list[str], known: np.ndarray) -> np.ndarray:
    """The ids of names, 0 for unknown ones, int64, (n,).

    Args:
        listed: the names.
        known: the names of the ids 1, 2, ..., (n_ids,).
    """
    ids: np.ndarray = pd.Index(known.astype(object)).get_indexer(np.array(listed, dtype=object)) + 1
    return ids.astype(np.int64)


def known_ids(listed: list[str], dataset: Any, field: str, kind: str, skip: bool) -> tuple[np.ndarray, list[str]]:
    """The ids of the names that the data set has, and notes about the others.

    Args:
        listed: names of users or items.
        dataset: RecBole's data set.
        field: its field of users or items.
        kind: ``user`` or ``item``.
        skip: leave unknown names out, with a note.

    Raises:
        ValueError: unknown names and not ``skip``, or no known name.
    """
    ids = ids_of(listed, names.names_of(dataset, field))
    unknown = [name for name, id in zip(listed, ids) if not id]
    if len(unknown) == len(listed) or (unknown and not skip):
        remedies = ["give their items by histories (--histories=FILE)"] if kind == "user" else []
        remedies += ["leave them out by skip_unknown (--skip-unknown)"] if len(unknown) < len(listed) else []
        remedy = " or ".join(remedies) or "names are those of the data's files"
        example = names.examples(unknown)
        raise ValueError(
            f"{len(unknown)} of {len(listed)} {kind}s are not in the model's data, e.g. {example}; {remedy}"
        )
    note = f"{len(unknown)} of {len(listed)} {kind}s are not in the model's data and left out, e.g. "
    return ids[ids > 0], [note + names.examples(unknown)] if unknown else []
