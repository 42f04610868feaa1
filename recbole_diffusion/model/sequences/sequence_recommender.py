"""Base class of recommenders that encode a sequence into one vector and score the items against it."""

from __future__ import annotations

from typing import Any

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor
from torch.nn import functional as F

from recbole_diffusion.model.hooks import Hooks


class SequenceRecommender(Hooks, SequentialRecommender):
    """Base class. A subclass implements ``calculate_loss``, :meth:`states` and :meth:`score`.

    Raises:
        ValueError: ``hidden_size`` is not a multiple of ``n_heads``.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.eval_seed = config["eval_seed"]
        if config["hidden_size"] % config["n_heads"]:
            raise ValueError(
                f"hidden_size={config['hidden_size']} is not allowed; allowed: multiples of n_heads={config['n_heads']}"
            )

    def states(self, sequences: Tensor, lengths: Tensor) -> Tensor:
        """Encode right-padded sequences (B, L) with lengths (B,), each at least 1, to vectors (B, d).

        A vector depends on its own sequence alone; the model's page names exceptions.
        """
        raise NotImplementedError

    def score(self, states: Tensor) -> Tensor:
        """Score all items, (B, n_items), for vectors (B, d)."""
        raise NotImplementedError

    def seed_inference(self, seed: int) -> None:
        """Set the seed of the noise at inference."""
        self.eval_seed = seed

    def generator(self) -> torch.Generator:
        """Make the generator of the noise at inference, seeded by ``eval_seed`` in every call.

        It is of the CPU, so that the scores are the same on every device.
        """
        return torch.Generator().manual_seed(self.eval_seed)

    def sequences(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """Return the batch's sequences, right-padded or cut to MAX_ITEM_LIST_LENGTH, and their lengths.

        Sequences of pre-split data may have another width than the key. Longer ones keep their last items.
        """
        items, lengths = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
        max_length = self.max_seq_length
        if items.shape[1] <= max_length:
            return F.pad(items, (0, max_length - items.shape[1])), lengths
        position = (lengths - max_length).clamp(min=0)[:, None] + torch.arange(max_length, device=items.device)
        return items.gather(1, position), lengths.clamp(max=max_length)

    @torch.no_grad()
    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Score all items, (B, n_items); column 0, the padding item, is -inf."""
        scores = self.score(self.states(*self.sequences(interaction)))
        scores[:, 0] = -torch.inf
        return scores

    def predict(self, interaction: Any) -> Tensor:
        """Score (sequence, item) pairs, (B,). Each different sequence is encoded once."""
        items, lengths = self.sequences(interaction)
        rows = torch.cat([lengths[:, None], items], dim=1)
        distinct, row = torch.unique(rows, dim=0, return_inverse=True)
        scores = self.full_sort_predict({self.ITEM_SEQ: distinct[:, 1:], self.ITEM_SEQ_LEN: distinct[:, 0]})
        return scores[row, interaction[self.ITEM_ID]]
