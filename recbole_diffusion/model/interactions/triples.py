"""Training triples (user, positive, negative) with uniformly drawn users, as in the official code of DDRM and HDRM."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from recbole_diffusion.model.rows.history import InteractionMatrix


class Triples(nn.Module):
    """Sampler of training triples, from torch's global generator.

    The user is uniform among users with a positive and a negative, the positive among the user's items, the negative
    among all other items. RecBole draws one triple per interaction instead, so that users count by their number of
    interactions.

    The buffers can be computed from the data set and are not in the state dict.

    Args:
        history: interactions of the train split.

    Raises:
        ValueError: no user has both a positive and a negative.
    """

    users: Tensor
    keys: Tensor

    def __init__(self, history: InteractionMatrix) -> None:
        super().__init__()
        count = history.indptr.diff()
        users = torch.nonzero((count > 0) & (count < history.n_columns)).squeeze(1)
        if not len(users):
            raise ValueError(
                "triple_sampling: no user has both a positive and a negative item; allowed: data with such users"
            )
        self.register_buffer("users", users, persistent=False)
        row = torch.repeat_interleave(torch.arange(len(count)), count)
        self.register_buffer("keys", row * history.n_columns + history.items, persistent=False)

    def draw(self, history: InteractionMatrix, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw ``size`` triples.

        Args:
            history: the interactions that the sampler was built with.
            size: the number of triples.

        Returns:
            Users, positives and negatives in RecBole's ids, int64 (size,) each.
        """
        device = self.users.device
        users = self.users[torch.randint(len(self.users), (size,), device=device)]
        start, count = history.indptr[users], history.indptr[users + 1] - history.indptr[users]
        # float64 has enough digits that every index below count can be drawn.
        index = (torch.rand(size, dtype=torch.float64, device=device) * count).long()
        positives = history.items[start + index]
        negatives = torch.randint(history.n_columns, (size,), device=device)
        rejected = torch.arange(size, device=device)
        while True:
            keys = users[rejected] * history.n_columns + negatives[rejected]
            position = torch.searchsorted(self.keys, keys).clamp_max(len(self.keys) - 1)
            rejected = rejected[self.keys[position] == keys]
            if not len(rejected):
                return users, positives + 1, negatives + 1
            negatives[rejected] = torch.randint(history.n_columns, (len(rejected),), device=device)


def check_negatives(config: Any, setting: str) -> None:
    """Check that RecBole draws negatives into its batches.

    Args:
        config: the settings.
        setting: the setting that needs negatives, for the error message.

    Raises:
        ValueError: RecBole draws no negatives.
    """
    sampling = config["train_neg_sample_args"]
    if not sampling or sampling.get("distribution") == "none":
        raise ValueError(
            f"{setting} needs negatives in RecBole's batches; allowed: train_neg_sample_args as by default"
        )
