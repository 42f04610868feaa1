"""Ranked lists of other software, in names, as lists of a split, in ids; everything that is left out is counted."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from recbole_diffusion.data.importing import frames
from recbole_diffusion.evaluation.list_evaluation import RankedLists
from recbole_diffusion.evaluation.split_data import unique_pairs
from recbole_diffusion.experiment.evaluate.list_files import Columns
from recbole_diffusion.experiment.evaluate.split import EvaluationSplit


class Options(NamedTuple):
    """How to treat lists.

    Attributes:
        keep_seen: keep items of the user's past, which our evaluation masks.
        drop_missing: leave out users of the split without a list; otherwise they have an empty list.
    """

    keep_seen: bool = False
    drop_missing: bool = False


class Account:
    """Counts of rows and users that differ from what the split expects, and a line for each.

    Attributes:
        counts: by name.
        notes: one line each.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.notes: list[str] = []

    def add(self, name: str, count: int, note: str) -> None:
        """Count; the note is kept where the count is not 0."""
        self.counts[name] = int(count)
        if count:
            self.notes.append(note)


def ranked_lists(
    frame: Any, columns: Columns, split: EvaluationSplit, length: int, options: Options
) -> tuple[RankedLists, Account]:
    """Convert a table of lists to the lists of the users of a split.

    Unknown items, repeated items and items of the user's past are removed, and the list closes up, as in an evaluation
    that ranks candidates only.

    Args:
        frame: one row per item.
        columns: those of ``frame``.
        split: whose users with targets are evaluated.
        length: number of items of a list that are kept.
        options: see :class:`Options`.

    Raises:
        ValueError: a score or rank is no number, or no user of the table is evaluated.
    """
    account = Account()
    users, items = _ids(frame, columns, split, account)
    evaluated = np.unique(split.data.targets[:, 0])
    order, users, items = _ordered(frame, columns, users, items, account)
    users, items = _without_unknown(frame, columns, order, users, items, split, evaluated, account)
    users, items = _without_repeated(users, items, split, account)
    if split.masks:
        users, items = _without_seen(users, items, split, options, account)
    with_list = np.isin(evaluated, users)
    missing = evaluated[~with_list]
    consequence = "left out (--missing=drop)" if options.drop_missing else "they count as 0 (--missing=drop: left out)"
    names = split.data.user_names
    account.add(
        "users_without_list",
        len(missing),
        f"{len(missing)} of {len(evaluated)} users of the {split.phase} split have no list"
        f"{_examples(names[missing]) if names is not None else ''}: {consequence}",
    )
    if options.drop_missing:
        evaluated = evaluated[with_list]
    return _lists(users, items, evaluated, split, length, account), account


def _ids(frame: Any, columns: Columns, split: EvaluationSplit, account: Account) -> tuple[np.ndarray, np.ndarray]:
    """The ids of users and items of each row; -1 where the split does not have the name."""
    import pandas as pd

    account.counts["rows"] = len(frame)
    ids = []
    for column, names in ((columns.user, split.data.user_names), (columns.item, split.data.item_names)):
        index = pd.Index(np.asarray(names, dtype=object)[1:])
        positions = index.get_indexer(pd.Index(frames.texts(frame[column])))
        ids.append(np.where(positions >= 0, positions + 1, -1))
    return ids[0], ids[1]


def _ordered(
    frame: Any, columns: Columns, users: np.ndarray, items: np.ndarray, account: Account
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows by user, and the best first; equal values stay in the order of the file."""
    import pandas as pd

    name = columns.rank or columns.score
    if name is None:
        order = np.argsort(users, kind="stable")
        return order, users[order], items[order]
    values = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64)
    if np.isnan(values).any():
        row = int(np.flatnonzero(np.isnan(values))[0])
        raise ValueError(
            f"column {name!r} holds {frame[name].iloc[row]!r} in row {row + 1}, which is no number; name another "
            f"column by --{'rank' if columns.rank else 'score'}=COLUMN"
        )
    keys = values if columns.rank is not None else -values
    order = np.lexsort((np.arange(len(keys)), keys, users))
    tied = (users[order][1:] == users[order][:-1]) & (keys[order][1:] == keys[order][:-1]) & (users[order][1:] > 0)
    account.add(
        "tied_rows",
        tied.sum(),
        f"{int(tied.sum())} rows have the {'rank' if columns.rank else 'score'} of another row of their user: such "
        "rows keep the order of the file",
    )
    return order, users[order], items[order]


def _without_unknown(
    frame: Any,
    columns: Columns,
    order: np.ndarray,
    users: np.ndarray,
    items: np.ndarray,
    split: EvaluationSplit,
    evaluated: np.ndarray,
    account: Account,
) -> tuple[np.ndarray, np.ndarray]:
    """Remove the rows of users that are not evaluated and of unknown items, and count both."""
    name, phase = split.config["dataset"], split.phase
    user_names = frames.texts(frame[columns.user])[order]
    item_names = frames.texts(frame[columns.item])[order]
    unknown = _distinct(user_names[users < 0])
    account.add(
        "unknown_users",
        len(unknown),
        f"{len(unknown)} users are not in {name!r}{_examples(unknown)}: left out",
    )
    is_evaluated = np.isin(users, evaluated)
    if not is_evaluated.any():
        known = split.data.user_names
        raise ValueError(
            f"no user of the lists has targets in the {phase} split of {name!r}: the lists have users such as "
            f"{', '.join(map(repr, _distinct(user_names)[:2]))}, the split "
            f"{', '.join(repr(str(known[user])) for user in evaluated[:2]) if known is not None else ''}"
        )
    others = np.unique(users[~is_evaluated & (users > 0)])
    account.add(
        "users_without_targets",
        len(others),
        f"{len(others)} users have no targets in the {phase} split: left out",
    )
    no_item = is_evaluated & (items < 0)
    unknown = _distinct(item_names[no_item])
    account.add(
        "unknown_items",
        len(unknown),
        f"{len(unknown)} items are not in {name!r}{_examples(unknown)}: their {int(no_item.sum())} rows are removed, "
        "and the lists close up",
    )
    account.counts["unknown_item_rows"] = int(no_item.sum())
    rows = is_evaluated & (items > 0)
    if not rows.any():
        raise ValueError(f"no item of the lists is in {name!r}: they have items such as {_distinct(item_names)[:2]}")
    return users[rows], items[rows]


def _without_repeated(
    users: np.ndarray, items: np.ndarray, split: EvaluationSplit, account: Account
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the first of several places of an item in a list."""
    _, first = np.unique(users * split.data.n_items + items, return_index=True)
    n_repeated = len(users) - len(first)
    account.add("repeated_rows", n_repeated, f"{n_repeated} rows repeat an item of their user: the first place counts")
    first = np.sort(first)
    return users[first], items[first]


def _without_seen(
    users: np.ndarray, items: np.ndarray, split: EvaluationSplit, options: Options, account: Account
) -> tuple[np.ndarray, np.ndarray]:
    """Remove the items of the user's past, except targets; an evaluation masks the same items."""
    size = split.data.n_items
    past = np.unique(split.past @ [size, 1])
    targets = split.data.targets @ [size, 1]
    codes = users * size + items
    is_seen = np.isin(codes, past) & ~np.isin(codes, targets)
    earlier = {"train": "", "valid": "train", "test": "train or valid"}[split.phase]
    action = "kept (--keep-seen)" if options.keep_seen else "removed, as our evaluation masks them (--keep-seen: kept)"
    account.add(
        "seen_rows",
        is_seen.sum(),
        f"{int(is_seen.sum())} rows of {len(np.unique(users[is_seen]))} users are items that the user had in {earlier}"
        f": {action}",
    )
    if options.keep_seen:
        return users, items
    return users[~is_seen], items[~is_seen]


def _lists(
    users: np.ndarray, items: np.ndarray, evaluated: np.ndarray, split: EvaluationSplit, length: int, account: Account
) -> RankedLists:
    """The lists of the evaluated users, filled up with 0, and their targets."""
    data = split.data
    row_of_user = np.full(data.n_users, -1)
    row_of_user[evaluated] = np.arange(len(evaluated))
    starts = np.flatnonzero(np.append(True, users[1:] != users[:-1])) if len(users) else np.empty(0, dtype=np.int64)
    lengths = np.diff(np.append(starts, len(users)))
    places = np.arange(len(users)) - np.repeat(starts, lengths)
    table = np.zeros((len(evaluated), length), dtype=np.int64)
    inside = places < length
    table[row_of_user[users[inside]], places[inside]] = items[inside]
    short = lengths < length
    account.add(
        "short_lists",
        short.sum(),
        f"{int(short.sum())} lists have fewer than {length} items (the shortest {lengths.min(initial=length)}): "
        "missing places count as misses",
    )
    targets = data.targets[row_of_user[data.targets[:, 0]] >= 0]
    codes = evaluated[:, None] * data.n_items + table
    hits = np.isin(codes, targets @ [data.n_items, 1]) & (table > 0)
    target_rows = row_of_user[targets[:, 0]]
    n_positives = np.bincount(target_rows, minlength=len(evaluated))
    pairs = np.stack([target_rows, targets[:, 1]], axis=1)
    return RankedLists(evaluated, table, hits, n_positives, unique_pairs(pairs, data.n_items))


def _distinct(names: np.ndarray) -> list[str]:
    return list(dict.fromkeys(map(str, names)))


def _examples(names: Any) -> str:
    """Two of the names in brackets."""
    return f" ({', '.join(repr(str(name)) for name in list(names)[:2])}{', ...' if len(names) > 2 else ''})"
