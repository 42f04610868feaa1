r"""Exact uniform negatives without rejection: no loop, and no wait for the device.

The positives of a user are sorted, :math:`a_0 < a_1 < \dots`, so that :math:`a_j - j` negatives lie before
:math:`a_j`. The r-th negative is therefore r plus the number of positives with :math:`a_j - j \le r`, which a binary
search finds. A rejecting sampler draws the same distribution, but must look at its draws after each round.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class Negatives(nn.Module):
    """Sampler of items without a training interaction of the user, from torch's global generator.

    The buffers can be computed from the data set and are not in the state dict.

    Args:
        users, items: (N,), pairs of training; items count from 0. Repeated pairs count once.
        n_users, n_items: the numbers of both.
    """

    before: Tensor
    start: Tensor
    count: Tensor

    def __init__(self, users: np.ndarray, items: np.ndarray, n_users: int, n_items: int) -> None:
        super().__init__()
        self.n_items = n_items
        keys = np.unique(users.astype(np.int64) * n_items + items.astype(np.int64))
        owner = keys // n_items
        positives = np.bincount(owner, minlength=n_users)
        start = np.cumsum(positives) - positives
        before = keys - (np.arange(len(keys)) - start[owner])  # owner * n_items + negatives before the item
        self.register_buffer("before", torch.from_numpy(before), persistent=False)
        self.register_buffer("start", torch.from_numpy(start), persistent=False)
        self.register_buffer("count", torch.from_numpy(n_items - positives), persistent=False)

    def sample(self, users: Tensor) -> Tensor:
        """Draw a negative for each of ``users``, an int64 tensor of any shape; the same shape.

        A user without negatives gets an item that is uniform among all items.
        """
        count = self.count[users]
        draw = torch.rand(users.shape, dtype=torch.float64, device=users.device)  # float32 cannot reach every item
        rank = (draw * torch.where(count > 0, count, self.n_items)).long()
        passed = torch.searchsorted(self.before, users * self.n_items + rank, right=True) - self.start[users]
        return torch.where(count > 0, rank + passed, rank)
