"""Filters of the rows of an import, in a fixed order, with an account of the rows that each drops."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import numpy as np
import pandas as pd

from recbole_diffusion.data.importing.coded import Coded

KEEP = ("last", "first", "none")


class Step(NamedTuple):
    """Rows that one filter dropped.

    Attributes:
        reason: why.
        rows: their number.
        requested: whether an option requests it.
    """

    reason: str
    rows: int
    requested: bool


class Rows:
    """The rows that are left, and the steps so far.

    Attributes:
        kept: mask, bool (rows,).
        steps: the filters that dropped something or were requested.
    """

    def __init__(self, rows: int) -> None:
        self.kept = np.ones(rows, dtype=bool)
        self.steps: list[Step] = []

    def drop(self, dropped: np.ndarray, reason: str, requested: bool = True) -> None:
        """Drop the rows of a mask, bool (rows,), that are still there."""
        count = int((dropped & self.kept).sum())
        self.kept &= ~dropped
        if count or requested:
            self.steps.append(Step(reason, count, requested))

    @property
    def left(self) -> int:
        """The number of rows that are left."""
        return int(self.kept.sum())


def repeated_pairs(users: Coded, items: Coded, kept: np.ndarray, times: Optional[np.ndarray], keep: str) -> np.ndarray:
    """The rows of a (user, item) pair beside its first or last one, by time and then by place in the table.

    Args:
        users, items: the columns.
        kept: the rows to compare, bool (rows,).
        times: float64, (rows,); None: by place alone.
        keep: ``first`` or ``last``.

    Returns:
        A mask, bool (rows,).
    """
    rows = np.flatnonzero(kept)
    if times is not None:
        rows = rows[np.argsort(times[rows], kind="stable")]
    if keep == "last":
        rows = rows[::-1]
    pairs = users.codes[rows] * (len(items.values) + 1) + items.codes[rows]
    repeated = np.zeros(len(kept), dtype=bool)
    repeated[rows[pd.Series(pairs).duplicated().to_numpy()]] = True
    return repeated


def below_core(users: Coded, items: Coded, kept: np.ndarray, min_user: int, min_item: int) -> tuple[np.ndarray, int]:
    """The rows outside the (min_user, min_item)-core: the filter is repeated until it drops nothing.

    Args:
        users, items: the columns.
        kept: the rows to look at, bool (rows,).
        min_user: least number of rows of a user.
        min_item: least number of rows of an item.

    Returns:
        A mask, bool (rows,), and the number of rounds that dropped something.
    """
    left, rounds = kept.copy(), 0
    while True:
        enough = _enough(users, left, min_user) & _enough(items, left, min_item)
        if not (left & ~enough).any():
            return kept & ~left, rounds
        left &= enough
        rounds += 1


def _enough(column: Coded, rows: np.ndarray, least: int) -> np.ndarray:
    counts = np.bincount(column.codes[rows], minlength=len(column.values) + 1)
    enough: Any = counts[column.codes] >= least
    return np.asarray(enough, dtype=bool)
