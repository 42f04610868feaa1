"""Ranked lists of items: the recommendations of a model, or of any other source.

This module needs numpy only, so that a report reads lists without torch; pandas is imported by :meth:`TopLists.frame`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

#: Index of a place without an item, and the first entry of :attr:`TopLists.names`. It is RecBole's padding item.
NO_ITEM = 0
#: Columns of :meth:`TopLists.frame`.
COLUMNS = ("user", "item", "rank", "score")


class TopLists(NamedTuple):
    """The best items of each user, in descending order.

    Where a user has fewer than k candidates, the places after the last one are empty.

    Attributes:
        users: names of the users, str, (n_users,).
        items: indices into ``names``, :data:`NO_ITEM` where a place is empty, int32, (n_users, k).
        names: names of the items; the entry 0 stands for no item, str, (n_items + 1,).
        scores: nan where a place is empty, float32, (n_users, k).
    """

    users: np.ndarray
    items: np.ndarray
    names: np.ndarray
    scores: np.ndarray

    @property
    def k(self) -> int:
        """Number of places of a list."""
        return int(self.items.shape[1])

    def rows(self) -> dict[str, np.ndarray]:
        """The items as columns, one row per item in the order of users and ranks.

        Returns:
            ``user`` and ``item`` (names), ``rank`` (int64, from 1), ``score`` (float32); (n_rows,) each. Empty places
            have no row.
        """
        user_index, place = np.nonzero(self.items != NO_ITEM)
        return {
            "user": self.users[user_index],
            "item": self.names[self.items[user_index, place]],
            "rank": place.astype(np.int64) + 1,
            "score": self.scores[user_index, place],
        }

    def frame(self) -> Any:
        """The lists as a pandas frame with the columns :data:`COLUMNS`; see :meth:`rows`."""
        import pandas as pd

        columns = self.rows()
        return pd.DataFrame({name: columns[name] for name in COLUMNS}).astype({"user": object, "item": object})

    def cut(self, k: int) -> TopLists:
        """The first k places of each list.

        Raises:
            ValueError: the lists are shorter.
        """
        if k > self.k:
            raise ValueError(f"k={k} is not allowed; the lists hold the best {self.k} items; allowed: 1 to {self.k}")
        return self._replace(items=self.items[:, :k], scores=self.scores[:, :k])


def concatenate(parts: Iterable[TopLists]) -> TopLists:
    """Join lists of different users with the same ``names`` and k, in the order of the parts.

    Raises:
        ValueError: no parts, or parts with other names.
    """
    lists = list(parts)
    if not lists:
        raise ValueError("no lists to concatenate")
    names = lists[0].names
    if not all(part.names is names or np.array_equal(part.names, names) for part in lists):
        raise ValueError("the lists have different names of items; lists of one catalogue can be concatenated")
    users, items, scores = (
        np.concatenate([getattr(part, field) for part in lists]) for field in ("users", "items", "scores")
    )
    return TopLists(users, items, names, scores)
