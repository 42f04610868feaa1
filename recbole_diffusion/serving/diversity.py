"""Similarity of the lists of several generations, collected while the batches pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from recbole_diffusion.serving.recommendation import Batch


class Diversity:
    """Collects the similarities of the users' lists.

    Args:
        k: length of the lists.
        samples: number of generations.
    """

    def __init__(self, k: int, samples: int) -> None:
        self.k, self.samples = k, samples
        self._jaccard: list[np.ndarray] = []

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches unchanged."""
        for batch in batches:
            if batch.jaccard is not None:
                self._jaccard.append(batch.jaccard)
            yield batch

    @property
    def jaccard(self) -> np.ndarray:
        """Mean similarity of each user's lists over pairs of generations, (n_users,)."""
        return np.concatenate(self._jaccard) if self._jaccard else np.empty(0)

    def sentence(self) -> str:
        """The mean similarity over users, for people."""
        return (
            f"{self.samples} samples: two of them share {self.jaccard.mean():.3f} of a user's top {self.k} on average "
            "(Jaccard similarity; 1: the same items)"
        )
