"""Triples (user, positive, negative) with users drawn alike, as the official code of DDRM and HDRM draws them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recbole_diffusion.model.rows.history import InteractionMatrix


class Triples(nn.Module):
    """Draws from torch's global generator. Buffers follow from the data set and are not in the state dict.

    RecBole makes one triple per interaction: a user counts as often as they have interactions.

    Raises:
        ValueError: no user has both an item and one that is missing.
    """

    users: Tensor
    keys: Tensor

    def __init__(self, history: InteractionMatrix) -> None:
        super().__init__()
        count = history.indptr.diff()
        users = torch.nonzero((count > 0) & (count < history.n_columns)).squeeze(1)
        if not len(users):
            raise ValueError("triple_sampling: no user has an item and lacks one; allowed: data with such users")
        self.register_buffer("users", users, persistent=False)
        row = torch.repeat_interleave(torch.arange(len(count)), count)
        self.register_buffer("keys", row * history.n_columns + history.items, persistent=False)

    def draw(self, history: InteractionMatrix, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """``size`` triples in RecBole's ids, int64 (size,) each.

        The user uniformly among those of the train split, the positive uniformly among their items, the negative
        uniformly among the others.
        """
        device = self.users.device
        users = self.users[torch.randint(len(self.users), (size,), device=device)]
        start, count = history.indptr[users], history.indptr[users + 1] - history.indptr[users]
        # float64: count is at most the number of items, so that every place can come up
        place = (torch.rand(size, dtype=torch.float64, device=device) * count).long()
        positives = history.items[start + place]
        negatives = torch.randint(history.n_columns, (size,), device=device)
        again = torch.arange(size, device=device)
        while True:
            keys = users[again] * history.n_columns + negatives[again]
            found = torch.searchsorted(self.keys, keys).clamp_max(len(self.keys) - 1)
            again = again[self.keys[found] == keys]
            if not len(again):
                return users, positives + 1, negatives + 1
            negatives[again] = torch.randint(history.n_columns, (len(again),), device=device)


def check_negatives(config: Any, what: str) -> None:
    """Whether RecBole's batches hold negatives, for what needs them.

    Raises:
        ValueError: they do not.
    """
    asked = config["train_neg_sample_args"]
    if not asked or asked.get("distribution") == "none":
        raise ValueError(f"{what} needs negatives in RecBole's batches; allowed: train_neg_sample_args as by default")
