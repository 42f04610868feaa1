r"""Transitions: a sequential yardstick without training, which counts the transitions between items.

Nothing is learned and nothing is tuned. It is the sequential counterpart of ItemKNN: what a sequential model must beat
before its parameters, its diffusion and its training time have carried anything.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from scipy import sparse
from torch import Tensor, nn

from recbole_diffusion.data.pairs import item_lists
from recbole_diffusion.model.hooks import Hooks

#: Entries of S that are gathered at once, which bounds the memory of scoring: about 30 bytes each.
BLOCK = 4_000_000


class Transitions(Hooks, SequentialRecommender):
    r"""Score items by normalised transition counts from the items of the history.

    The count of item j after item i sums over the pairs (i, j) of the training sequences, with j d places after i:

    .. math:: C_{ij} = \sum_{(i, j)} \frac 1 d, \qquad
        S_{ij} = \frac{C_{ij}}{\sqrt{\sum_k C_{ik} \sum_k C_{kj}}}

    A history :math:`i_n, \dots, i_1`, most recent item first, scores item j with
    :math:`\sum_p \gamma^p S_{i_{n - p} j}`, p from 0, :math:`\gamma` the key ``decay``.

    Pairs are at most ``MAX_ITEM_LIST_LENGTH`` places apart, the length of the sequences.

    Buffers:
        crow, col, weight: S in compressed rows, int64 (n_items + 1,), int64 (nnz,) and float32 (nnz,). They are in the
            checkpoint.
    """

    input_type = InputType.POINTWISE
    crow: Tensor
    col: Tensor
    weight: Tensor

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.decay = config["decay"]
        self._set_matrix(normalised(transition_counts(dataset, self.ITEM_ID, self.ITEM_SEQ_LEN, self.n_items)))
        self.unused = nn.Parameter(torch.zeros(1))  # RecBole's trainer wants a parameter to optimise

    @classmethod
    def from_state(cls, config: Any, dataset: Any, state: dict[str, Tensor]) -> Transitions:
        """Build the model with the matrix of a checkpoint."""
        model = cls.__new__(cls)
        SequentialRecommender.__init__(model, config, dataset)
        model.decay = config["decay"]
        for name in ("crow", "col", "weight"):
            model.register_buffer(name, torch.empty_like(state[name], device="cpu"))
        model.unused = nn.Parameter(torch.zeros(1))
        return model

    def _set_matrix(self, matrix: sparse.csr_matrix) -> None:
        self.register_buffer("crow", torch.from_numpy(matrix.indptr.astype(np.int64)))
        self.register_buffer("col", torch.from_numpy(matrix.indices.astype(np.int64)))
        self.register_buffer("weight", torch.from_numpy(matrix.data.astype(np.float32)))

    @property
    def nfe(self) -> int:
        """Number of function evaluations: 0, since no network is called."""
        return 0

    def calculate_loss(self, interaction: Any) -> Tensor:
        """Return a loss of 0: nothing is trained."""
        return self.unused.sum() * 0

    @torch.no_grad()
    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Score all items, (B, n_items); column 0, the padding item, is -inf."""
        items, lengths = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
        places = torch.arange(items.shape[1], device=items.device)
        age = lengths[:, None] - 1 - places
        weights = torch.where(age >= 0, self.decay ** age.clamp(min=0).float(), 0.0)
        scores = self._products(items * (age >= 0), weights)
        scores[:, 0] = -torch.inf
        return scores

    def _products(self, items: Tensor, weights: Tensor) -> Tensor:
        """Sum the rows of S of the items with their weights; items, weights: (B, L); returns (B, n_items).

        A row of S has few entries, so that they are added one by one rather than multiplied as a matrix.
        """
        scores = torch.zeros(len(items), self.n_items, device=items.device, dtype=self.weight.dtype)
        entries = (self.crow[items + 1] - self.crow[items]).sum(dim=1).cumsum(dim=0)
        sizes = torch.unique_consecutive(entries // BLOCK, return_counts=True)[1].tolist()
        for block in zip(scores.split(sizes), items.split(sizes), weights.split(sizes)):
            self._add_rows(*block)
        return scores

    def _add_rows(self, scores: Tensor, items: Tensor, weights: Tensor) -> None:
        """Add the weighted rows of S to ``scores`` (B, n_items); items, weights: (B, L)."""
        first, counts = self.crow[items].flatten(), (self.crow[items + 1] - self.crow[items]).flatten()
        places = torch.arange(len(first), device=items.device).repeat_interleave(counts)
        before = counts.cumsum(0) - counts
        entry = first[places] + torch.arange(len(places), device=items.device) - before[places]
        values = self.weight[entry] * weights.flatten()[places]
        scores.index_put_((places // items.shape[1], self.col[entry]), values, accumulate=True)

    def predict(self, interaction: Any) -> Tensor:
        """Score (sequence, item) pairs, (B,)."""
        scores = self.full_sort_predict(interaction)
        return scores.gather(1, interaction[self.ITEM_ID][:, None]).squeeze(1)


def transition_counts(dataset: Any, item_field: str, length_field: str, n_items: int) -> sparse.csr_matrix:
    """Count the transitions of the training rows, each a sequence with its next item; float64, (n_items, n_items).

    Every pair of a user's sequence that lies within a row's length is counted once: as an item of a row and the row's
    next item.
    """
    lists = item_lists(dataset).numpy()
    targets = dataset.inter_feat[item_field].numpy()
    distance = dataset.inter_feat[length_field].numpy()[:, None] - np.arange(lists.shape[1])
    row, place = np.nonzero(distance > 0)
    entries = (1.0 / distance[row, place], (lists[row, place], targets[row]))
    counts = sparse.coo_matrix(entries, shape=(n_items, n_items)).tocsr()
    counts.sum_duplicates()
    return counts


def normalised(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Divide each count by the root of the product of its row's and its column's sum."""
    scale = [_inverse_root(np.asarray(counts.sum(axis=axis)).ravel()) for axis in (1, 0)]
    return sparse.csr_matrix(sparse.diags(scale[0]) @ counts @ sparse.diags(scale[1]))


def _inverse_root(sums: np.ndarray) -> np.ndarray:
    roots: np.ndarray = np.sqrt(sums)
    return np.divide(1.0, roots, out=np.zeros_like(roots), where=roots > 0)
