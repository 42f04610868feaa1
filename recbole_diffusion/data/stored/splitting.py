"""Division of interactions into train, valid and test: by ratio, leave-one-out, time, cold items, cold users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

PARTS = ("train", "valid", "test")
WAYS = ("ratio", "leave-one-out", "time", "cold-items", "cold-users")
#: The part of a row that is left out.
LEFT_OUT = -1


class Rows(NamedTuple):
    """The interactions of a data set.

    Attributes:
        users: code of each row's user, int64 (rows,).
        items: the same of the items.
        order: the rows in order of time, rows of equal times in that of the file, int64 (rows,).
        times: float64 (rows,); None without times, where ``order`` is the file's.
    """

    users: np.ndarray
    items: np.ndarray
    order: np.ndarray
    times: Optional[np.ndarray]


class Way(NamedTuple):
    """How to split.

    Attributes:
        by: one of :data:`WAYS`.
        ratio: shares of train, valid and test.
        random: with ``ratio``: whether a user's rows are drawn; else the first ones in time are for training.
        seed: of what is drawn.
        valid_from, test_from: with ``time``: the first times of valid and test; None: by ``ratio``.
    """

    by: str
    ratio: Sequence[float] = (0.8, 0.1, 0.1)
    random: bool = False
    seed: int = 0
    valid_from: Optional[float] = None
    test_from: Optional[float] = None


class Split(NamedTuple):
    """The part of each row.

    Attributes:
        parts: index in :data:`PARTS`, or :data:`LEFT_OUT`, int64 (rows,).
        notes: what was left out, and which models can use the split, a line each.
        history: the parts whose rows are earlier items of a row of each part in sequences.
    """

    parts: np.ndarray
    notes: list[str]
    history: tuple[tuple[int, ...], ...] = ((0,), (0, 1), (0, 1, 2))


def split(rows: Rows, way: Way) -> Split:
    """Split interactions.

    Args:
        rows: the interactions.
        way: how.

    Raises:
        ValueError: a way that is not known, shares that are not right, or a split by time without times.
    """
    if way.by not in WAYS:
        raise ValueError(f"--by={way.by} is not allowed; allowed: {' | '.join(WAYS)}")
    ratio = list(way.ratio)
    if len(ratio) != 3 or min(ratio) < 0 or not abs(sum(ratio) - 1) < 1e-6 or ratio[0] <= 0:
        raise ValueError(f"--ratio={','.join(map(str, ratio))} is not allowed; allowed: three shares with the sum 1")
    methods = {"ratio": _by_ratio, "leave-one-out": _leave_one_out, "time": _by_time, "cold-items": _cold_items}
    return methods.get(way.by, _cold_users)(rows, way)


def counts_of(total: int, ratio: Sequence[float]) -> list[int]:
    """The sizes of the parts of ``total`` rows, by RecBole's rule (``Dataset._calcu_split_ids``).

    Shares are rounded down, train takes the rest. A part whose share is between 0 and 1 row gets one row, test before
    valid, as long as train keeps more than one.
    """
    counts = [int(share * total) for share in ratio]
    counts[0] = total - sum(counts[1:])
    for place in range(1, len(ratio)):
        if counts[0] <= 1:
            break
        if 0 < ratio[-place] * total < 1:
            counts[-place] += 1
            counts[0] -= 1
    return counts


def _by_user(rows: Rows, order: np.ndarray) -> list[np.ndarray]:
    """The rows of each user, in ``order``."""
    sorted_rows = order[np.argsort(rows.users[order], kind="stable")]
    starts = np.flatnonzero(np.diff(rows.users[sorted_rows])) + 1
    return np.split(sorted_rows, starts)


def _by_ratio(rows: Rows, way: Way) -> Split:
    """A user's rows in the shares of ``ratio``."""
    order = np.random.default_rng(way.seed).permutation(len(rows.users)) if way.random else rows.order
    parts = np.zeros(len(rows.users), dtype=np.int64)
    for group in _by_user(rows, order):
        train, valid, _ = counts_of(len(group), way.ratio)
        parts[group[train : train + valid]] = 1
        parts[group[train + valid :]] = 2
    return Split(parts, [])


def _leave_one_out(rows: Rows, way: Way) -> Split:
    """A user's last row for test and the one before for valid, by RecBole's rule (``LS: valid_and_test``)."""
    parts, short = np.zeros(len(rows.users), dtype=np.int64), 0
    for group in _by_user(rows, rows.order):
        short += len(group) < 3
        if len(group) > 1:
            parts[group[-1]] = 2
        if len(group) > 2:
            parts[group[-2]] = 1
    notes = [f"{short:,} users have less than 3 rows: with 2 they have no row in valid, with 1 only one in train"]
    return Split(parts, notes if short else [])


def _by_time(rows: Rows, way: Way) -> Split:
    """Rows before one point in time for train, before a second one for valid, and the others for test.

    Rows of equal times are in one part.
    """
    if rows.times is None:
        raise ValueError("--by=time needs times, and the data set has none")
    starts = np.append(rows.times[rows.order], np.inf)  # inf: the part has no row
    train, valid, _ = counts_of(len(rows.times), way.ratio)
    first_valid = starts[train] if way.valid_from is None else way.valid_from
    first_test = starts[train + valid] if way.test_from is None else way.test_from
    if first_valid > first_test:
        raise ValueError(f"the times of valid begin at {first_valid:.15g}, after those of test at {first_test:.15g}")
    parts = (rows.times >= first_valid).astype(np.int64) + (rows.times >= first_test)
    texts = [f"{start:.15g} on" if np.isfinite(start) else "no time on" for start in (first_valid, first_test)]
    return Split(parts, [f"valid from {texts[0]}, test from {texts[1]}"])


def _drawn(codes: np.ndarray, way: Way) -> np.ndarray:
    """The part of each distinct code, drawn in the shares of ``ratio``, int64 (n,)."""
    n = int(codes.max(initial=-1)) + 1
    train, valid, _ = counts_of(n, way.ratio)
    parts = np.zeros(n, dtype=np.int64)
    drawn = np.random.default_rng(way.seed).permutation(n)
    parts[drawn[train : train + valid]] = 1
    parts[drawn[train + valid :]] = 2
    return parts


def _cold_items(rows: Rows, way: Way) -> Split:
    """Items in the shares of ``ratio``: those of valid and test have no row in train."""
    parts = _drawn(rows.items, way)[rows.items]
    known = np.zeros(int(rows.users.max(initial=-1)) + 1, dtype=bool)
    known[rows.users[parts == 0]] = True
    unknown = ~known[rows.users]
    notes = [
        "no item of valid and test is in train: only models that read features of items (context-aware ones, with "
        "an .item file) can rank them; others rank them by the initial values of what they learn per item"
    ]
    if unknown.any():
        notes.append(f"{int(unknown.sum()):,} rows of users without a row in train are left out")
    return Split(np.where(unknown, LEFT_OUT, parts), notes, ((0,), (0,), (0,)))


def _cold_users(rows: Rows, way: Way) -> Split:
    """Users in the shares of ``ratio``: those of valid and test have no row in train."""
    parts = _drawn(rows.users, way)[rows.users]
    notes = [
        "no user of valid and test is in train: sequential models score them from their earlier items; general models "
        "know users from train alone, and give all of them the same list (DiffRec's family: that of an empty row)"
    ]
    return Split(parts, notes)
