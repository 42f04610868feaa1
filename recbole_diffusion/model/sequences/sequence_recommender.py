"""What every recommender does that turns a sequence of items into one vector and scores the items against it."""

from __future__ import annotations

from typing import Any

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor
from torch.nn import functional as F

from recbole_diffusion.model.hooks import Hooks


class SequenceRecommender(Hooks, SequentialRecommender):
    """Base class; a subclass writes ``calculate_loss``, :meth:`states` and :meth:`score`.

    Raises:
        ValueError: a width that the attention heads cannot share.
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
        """(B, d) from right-padded sequences (B, L) and their lengths (B,), each at least 1.

        A row's state depends on nothing but the row, where the model's page does not say otherwise.
        """
        raise NotImplementedError

    def score(self, states: Tensor) -> Tensor:
        """(B, n_items) from states (B, d)."""
        raise NotImplementedError

    def generator(self) -> torch.Generator:
        """Of the noise at inference: the same in every call."""
        return torch.Generator(next(self.parameters()).device).manual_seed(self.eval_seed)

    def sequences(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """The batch's sequences, right-padded to MAX_ITEM_LIST_LENGTH, and their lengths.

        Those of pre-split data may be narrower, or longer and keep their last items.
        """
        items, lengths = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
        most = self.max_seq_length
        if items.shape[1] <= most:
            return F.pad(items, (0, most - items.shape[1])), lengths
        place = (lengths - most).clamp(min=0)[:, None] + torch.arange(most, device=items.device)
        return items.gather(1, place), lengths.clamp(max=most)

    @torch.no_grad()
    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of every item, shape (B, n_items); column 0, the padding item, is -inf."""
        scores = self.score(self.states(*self.sequences(interaction)))
        scores[:, 0] = -torch.inf
        return scores

    def predict(self, interaction: Any) -> Tensor:
        """Scores of (sequence, item) pairs, shape (B,): each sequence goes through the network once."""
        items, lengths = self.sequences(interaction)
        rows = torch.cat([lengths[:, None], items], dim=1)
        distinct, place = torch.unique(rows, dim=0, return_inverse=True)
        scores = self.full_sort_predict({self.ITEM_SEQ: distinct[:, 1:], self.ITEM_SEQ_LEN: distinct[:, 0]})
        return scores[place, interaction[self.ITEM_ID]]
