"""The items that users have had, which recommendations leave out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Union

import numpy as np

from recbole_diffusion.data import fit_on, pipeline
from recbole_diffusion.data.pairs import sequence_pairs
from recbole_diffusion.serving.trained import PHASES, Trained, is_sequential, loaders_of

#: The splits whose items are left out by default. So the lists are those that the test evaluation ranks, and the test
#: split can be used to evaluate them. A model that was trained on all rows has them all in its train split.
DEFAULT = ("train", "valid")
NONE = "none"


class SeenItems(NamedTuple):
    """Items by user.

    Attributes:
        items: ids of the items, user after user, int64, (n,).
        starts: user u has ``items[starts[u]:starts[u + 1]]``, int64, (n_users + 1,).
    """

    items: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, pairs: np.ndarray, n_users: int) -> SeenItems:
        """Sort (user, item) pairs, int64 (n, 2), by user."""
        order = np.argsort(pairs[:, 0], kind="stable")
        starts = np.zeros(n_users + 1, dtype=np.int64)
        np.cumsum(np.bincount(pairs[:, 0], minlength=n_users), out=starts[1:])
        return cls(pairs[order, 1], starts)

    def of_users(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The position in ``users`` (B,) and the item of each seen item, int64, (n,) each."""
        counts = self.starts[users + 1] - self.starts[users]
        rows = np.repeat(np.arange(len(users)), counts)
        first = np.cumsum(counts) - counts
        return rows, self.items[np.arange(len(rows)) - first[rows] + self.starts[users][rows]]


def phases_of(exclude: Union[str, Sequence[str], None]) -> tuple[str, ...]:
    """The splits whose items are left out, in the order of time.

    Args:
        exclude: names of splits, also as a text separated by commas; ``none`` or None for no split.

    Raises:
        ValueError: another name.
    """
    words = [] if exclude is None else exclude.split(",") if isinstance(exclude, str) else list(exclude)
    phases = {str(word).strip() for word in words} - {""}
    if phases == {NONE}:
        return ()
    if not phases <= {*PHASES}:
        raise ValueError(f"exclude={exclude!r} is not allowed; allowed: some of {','.join(PHASES)}, or {NONE}")
    return tuple(phase for phase in PHASES if phase in phases)


def seen_items(trained: Trained, phases: Sequence[str]) -> SeenItems:
    """The items of every user in some splits.

    Args:
        trained: the model with its data.
        phases: names of splits.
    """
    sequential, pairs = is_sequential(trained), [np.empty((0, 2), dtype=np.int64)]
    for phase, loader in zip(PHASES, loaders_of(trained)):
        if phase in phases:
            pairs.append(sequence_pairs(loader._dataset) if sequential else pipeline.pairs(loader))
    return SeenItems.of(np.concatenate(pairs), trained.dataset.user_num)


def note(phases: Sequence[str], trained: Trained) -> str:
    """A sentence that says which items are left out."""
    if not phases:
        return "no items are left out: lists may hold items that a user has had"
    text = f"left out of each list: the user's items of {', '.join(phases)}"
    if fit_on.is_joined(trained.config):
        text += f" (train holds the rows of {', '.join(fit_on.trained_phases(trained.config))}: fit_on)"
    elif is_sequential(trained) and not trained.config["mask_history"] and tuple(phases) == DEFAULT:
        text += " (the run's own metrics rank them too, as mask_history is False; exclude none to rank as they do)"
    return text
