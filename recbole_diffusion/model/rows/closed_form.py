"""Base class of models that score from a user's row and are fitted without gradients."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np
import torch
from recbole.utils import ModelType
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.diffusion import Generators, StepCallback
from recbole_diffusion.model.rows.history import InteractionMatrix, SparseRows, fitted_matrix, row_history
from recbole_diffusion.model.rows.row_recommender import RowRecommender

#: Prefix of the fitted tensors in the state dict.
_FITTED = "fitted."


class NoNetwork:
    """Stands for the diffusion of a model that calls no network."""

    nfe = 0
    draws_noise = False

    def seed_inference(self, seed: int) -> None:
        """Ignore the seed: there is no noise."""

    def generators(self, users: Tensor) -> Generators:
        """Return None: there is no noise."""


class Fitted(nn.Module):
    """Tensors computed from the training data; buffers of the checkpoint.

    Args:
        tensors: the tensors by name.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def __getitem__(self, name: str) -> Tensor:
        return self._buffers[name]  # type: ignore[return-value]

    def __contains__(self, name: str) -> bool:
        return name in self._buffers


class ClosedFormRecommender(RowRecommender):
    """Base class. A subclass implements :meth:`fit` and :meth:`score`, and may override :meth:`prepare`.

    The model is fitted when it is built, as RecBole's EASE is. A checkpoint holds the fitted tensors, and loading it
    fits nothing. RecBole trains it for one epoch, in which nothing changes.

    Args:
        state: weights of a checkpoint, which the caller loads; None: fit.
        history: the users' rows; None: made by the key ``row_weights``.

    Attributes:
        fitted: the fitted tensors.
    """

    type = ModelType.TRADITIONAL
    diffusion = NoNetwork()

    def __init__(
        self,
        config: Any,
        dataset: Any,
        state: Optional[Mapping[str, Tensor]] = None,
        history: Optional[InteractionMatrix] = None,
    ) -> None:
        super().__init__(config, dataset, row_history(config, dataset) if history is None else history)
        self.unused = nn.Parameter(torch.zeros(1))  # RecBole's trainer makes an optimiser
        matrix = fitted_matrix(config, self.history)
        self.prepare(config, matrix)
        if state is not None:
            stored = {key[len(_FITTED) :]: value for key, value in state.items() if key.startswith(_FITTED)}
            self.fitted = Fitted({name: torch.empty_like(value, device="cpu") for name, value in stored.items()})
            return
        start = time.perf_counter()
        arrays = self.fit(config, matrix)
        self.fitted = Fitted({name: torch.from_numpy(array).float() for name, array in arrays.items()})
        self.logger.info(f"{type(self).__name__} fitted in {time.perf_counter() - start:.1f} s")

    @classmethod
    def from_state(cls, config: Any, dataset: Any, state: dict[str, Tensor]) -> ClosedFormRecommender:
        """Build the model for the tensors of a checkpoint, without fitting."""
        return cls(config, dataset, state)

    def prepare(self, config: Any, matrix: csr_matrix) -> None:
        """Set up what is cheap to compute from the data and is not in the checkpoint.

        Args:
            config: the settings.
            matrix: see :meth:`fit`.
        """

    def fit(self, config: Any, matrix: csr_matrix) -> dict[str, np.ndarray]:
        """Compute the tensors that :meth:`score` needs.

        Args:
            config: the settings.
            matrix: rows of all users, float64, (n_users, n_items - 1), binary or weighted by the key ``gram``; row 0,
                the padding user's, is empty.

        Returns:
            Arrays by name; they are stored in float32.
        """
        raise NotImplementedError

    def score(self, rows: SparseRows) -> Tensor:
        """Score all items from rows (B, n_items - 1); a new tensor (B, n_items - 1)."""
        raise NotImplementedError

    def denoise(
        self, rows: SparseRows, generator: Generators = None, callback: Optional[StepCallback] = None
    ) -> Tensor:
        """Score all items from rows, see :meth:`score`; there are no steps and no noise. In float32, also with AMP."""
        with torch.autocast(rows.values.device.type, enabled=False):
            return self.score(rows)

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Return 0, whose gradient is 0; RecBole's trainer needs a loss."""
        return self.unused.square().sum()


def weighted_sum(rows: SparseRows, table: Tensor) -> Tensor:
    """Multiply sparse rows (B, n) and a table (n, d); (B, d)."""
    weights = rows.values.to(table.dtype)
    return F.embedding_bag(
        rows.columns, table, rows.offsets, mode="sum", per_sample_weights=weights, include_last_offset=True
    )
