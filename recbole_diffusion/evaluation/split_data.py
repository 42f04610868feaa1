"""What metrics of ranked lists need of a split: training pairs, targets, categories of items. Needs numpy only."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from recbole_diffusion.data.item_categories import Categories
from recbole_diffusion.support import npz_files
from recbole_diffusion.support.atomic_write import atomic_write

FORMAT = 1


def _no_pairs() -> np.ndarray:
    return np.empty((0, 2), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class SplitData:
    """The training pairs and targets of a split, in ids; id 0 is padding.

    Attributes:
        n_users, n_items: numbers of ids, with the padding id.
        train: (user, item) of each training interaction, repeated ones included, int64, (n_interactions, 2).
        targets: (user, item) of the evaluated split, int64, (n_targets, 2); may be empty.
        categories: of the items; None if the data set has none.
        user_names, item_names: the name behind each id, str, (n_users,) and (n_items,); None if they are not known.
    """

    n_users: int
    n_items: int
    train: np.ndarray
    targets: np.ndarray = field(default_factory=_no_pairs)
    categories: Optional[Categories] = None
    user_names: Optional[np.ndarray] = None
    item_names: Optional[np.ndarray] = None

    @functools.cached_property
    def histories(self) -> np.ndarray:
        """The different training pairs, sorted by user and item, int64, (n_pairs, 2)."""
        return unique_pairs(self.train, self.n_items)

    @functools.cached_property
    def item_counts(self) -> np.ndarray:
        """The number of training interactions of each item, repeated ones included, (n_items,)."""
        return np.bincount(self.train[:, 1], minlength=self.n_items)

    @functools.cached_property
    def user_counts(self) -> np.ndarray:
        """The number of training interactions of each user, repeated ones included, (n_users,)."""
        return np.bincount(self.train[:, 0], minlength=self.n_users)

    def history_matrix(self) -> Any:
        """Users by items, 1 for each different training pair; scipy's csr_matrix, float64, (n_users, n_items)."""
        from scipy import sparse

        users, items = self.histories.T
        return sparse.csr_matrix((np.ones(len(users)), (users, items)), shape=(self.n_users, self.n_items))

    def counters(self) -> dict[str, Any]:
        """The entries that RecBole's metrics read from a collector: counts of items and users by id."""
        return {
            "data.num_items": self.n_items,
            "data.num_users": self.n_users,
            "data.count_items": Counter(self.train[:, 1].tolist()),
            "data.count_users": Counter(self.train[:, 0].tolist()),
            "data.item_users": Counter(self.histories[:, 1].tolist()),
        }

    def save(self, file: Union[str, Path]) -> None:
        """Write the data to a compressed npz file, atomically; ids as int32."""
        arrays = {
            "format": np.array(FORMAT),
            "sizes": np.array([self.n_users, self.n_items]),
            "train": self.train.astype(np.int32),
            "targets": self.targets.astype(np.int32),
        }
        if self.categories is not None:
            arrays["categories"] = self.categories.pairs.astype(np.int32)
            arrays["category_names"] = np.asarray(self.categories.names, dtype=str)
            arrays["category_field"] = np.array(self.categories.field)
        for name in ("user_names", "item_names"):
            if getattr(self, name) is not None:
                arrays[name] = np.asarray(getattr(self, name), dtype=str)
        atomic_write(Path(file), lambda stream: np.savez_compressed(stream, **arrays))

    @classmethod
    def load(cls, file: Union[str, Path]) -> SplitData:
        """Read a file of :meth:`save`.

        Raises:
            ValueError: the file does not exist, is damaged, or was written by another version.
        """
        try:
            arrays = npz_files.read(file)
            version = int(arrays["format"])
            if version == FORMAT:
                return cls._of_arrays(arrays)
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise ValueError(f"split data {str(file)!r} cannot be read: it does not exist or is damaged") from error
        raise ValueError(f"split data {str(file)!r} has format {version}; allowed: {FORMAT}")

    @classmethod
    def _of_arrays(cls, arrays: dict[str, np.ndarray]) -> SplitData:
        """The data in the arrays of :meth:`save`.

        Raises:
            KeyError, ValueError, TypeError, IndexError: an array is missing or another one.
        """
        n_users, n_items = arrays["sizes"].tolist()
        categories = None
        if "categories" in arrays:
            pairs = arrays["categories"].astype(np.int64)
            categories = Categories(pairs, arrays["category_names"], str(arrays["category_field"]))
        train, targets = (arrays[name].astype(np.int64) for name in ("train", "targets"))
        return cls(n_users, n_items, train, targets, categories, arrays.get("user_names"), arrays.get("item_names"))


def unique_pairs(pairs: np.ndarray, n_items: int) -> np.ndarray:
    """The different (user, item) pairs, sorted, int64, (n, 2).

    Args:
        pairs: (N, 2).
        n_items: more than the largest item id.
    """
    codes = np.unique(pairs[:, 0].astype(np.int64) * n_items + pairs[:, 1])
    return np.stack([codes // n_items, codes % n_items], axis=1)
