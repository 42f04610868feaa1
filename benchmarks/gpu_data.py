"""Random data sets with the shapes of the published ones, for ``gpu.py``: no cost depends on the real rows."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from recbole_diffusion.data.convert import write_split
from recbole_diffusion.support.atomic_write import atomic_write_text

#: Of a user's rows, how many are trained on and how many choose the epoch, as in the official splits.
TRAIN, VALID = 0.7, 0.1


class Shape(NamedTuple):
    """Numbers of users, items and distinct interactions."""

    users: int
    items: int
    interactions: int

    def scaled(self, scale: float) -> Shape:
        """Fewer users and items with rows as long as before, or half of the items where there are few."""
        users, items = max(int(self.users * scale), 64), max(int(self.items * scale), 64)
        length = min(self.interactions / self.users, items / 2)
        return Shape(users, items, int(users * length))


#: Splits of the DiffRec family, all three parts together (Wang et al., SIGIR 2023, table 1).
ROWS = {
    "ml-1m_clean": Shape(5_949, 2_810, 571_531),
    "yelp_clean": Shape(54_574, 34_395, 1_402_736),
    "amazon-book_clean": Shape(108_822, 94_949, 3_146_256),
}
#: Sequences of DiffuRec's paper; of ml-1m an eighth of the users, since its million prefixes of 200 items take longer
#: to build than all measures of them: a step depends on the items and the length alone.
SEQUENCES = {"beauty": Shape(22_363, 12_101, 198_502), "ml-1m_eighth": Shape(755, 3_416, 124_951)}


def pairs(shape: Shape, seed: int = 0) -> np.ndarray:
    """Distinct (user, item) pairs, int64 (N, 2), sorted by user; every user has five or more, every item one or more.

    Lengths are log-normal, items are drawn by a power law, as in real data: a batch has light and heavy rows.
    """
    draw = np.random.default_rng(seed)
    weights = draw.lognormal(sigma=0.8, size=shape.users)
    lengths = np.clip(weights / weights.sum() * shape.interactions, 5, shape.items * 0.6).astype(np.int64)
    popularity = np.cumsum((np.arange(shape.items) + 20.0) ** -0.7)
    keys = np.repeat(np.arange(shape.users), 2)[: 2 * shape.items] * shape.items  # every item once, to many users
    keys = np.resize(keys, shape.items) + draw.permutation(shape.items)
    for _ in range(50):
        missing = lengths - np.bincount(np.unique(keys) // shape.items, minlength=shape.users)
        if not (missing > 0).any():
            break
        users = np.repeat(np.arange(shape.users), np.maximum(missing, 0))
        items = np.searchsorted(popularity, draw.random(len(users)) * popularity[-1])
        keys = np.unique(np.concatenate([keys, users * shape.items + items]))
    keys = np.unique(keys)
    return np.stack([keys // shape.items, keys % shape.items], axis=1)


def write_rows(folder: Path, name: str, shape: Shape) -> int:
    """Write a pre-split data set and its arrays, ``folder/name-arrays``; returns the number of pairs."""
    rows = pairs(shape)
    order = np.random.default_rng(1).permutation(len(rows))
    rows = rows[order[np.argsort(rows[order, 0], kind="stable")]]  # a user's rows in random order
    first = np.searchsorted(rows[:, 0], np.arange(shape.users))
    share = (np.arange(len(rows)) - first[rows[:, 0]]) / np.bincount(rows[:, 0], minlength=shape.users)[rows[:, 0]]
    parts = {
        "train": rows[share < TRAIN],
        "valid": rows[(share >= TRAIN) & (share < TRAIN + VALID)],
        "test": rows[share >= TRAIN + VALID],
    }
    source = folder / f"{name}-arrays"
    source.mkdir(parents=True)
    for part, values in parts.items():
        np.save(source / f"{part}_list.npy", values)
    write_split(source, folder, name)
    return len(rows)


def write_sequences(folder: Path, name: str, shape: Shape) -> int:
    """Write ``folder/name/name.inter`` in a random order of each user's items; returns the number of rows."""
    rows = pairs(shape)
    times = np.random.default_rng(1).permutation(len(rows))
    target = folder / name
    target.mkdir(parents=True)
    lines = [f"{user}\t{item}\t{time}" for (user, item), time in zip(rows.tolist(), times.tolist())]
    atomic_write_text(
        target / f"{name}.inter", "user_id:token\titem_id:token\ttimestamp:float\n" + "\n".join(lines) + "\n"
    )
    return len(rows)
