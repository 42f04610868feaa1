"""Cross-entropy over all items in the memory of a block of rows.

The logits of n rows over N items take n N numbers, and their softmax and gradients as many again: at 60,000 items and
25,600 rows (512 sequences of 50 places) 5.7 GiB each in float32. Above a size, the rows are divided into blocks whose
logits are computed again in the backward pass (gradient checkpointing), so that one block's are alive at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

#: Number of logits above which the rows are divided: 512 MiB in float32.
MAX_LOGITS = 2**27
#: Number of logits of a block, at least one row: 128 MiB in float32.
BLOCK_LOGITS = 2**25


def item_cross_entropy(states: Tensor, table: Tensor, target: Tensor) -> Tensor:
    """Compute the mean cross-entropy of the inner products with all items; scalar.

    Args:
        states: (n, d).
        table: the items' embeddings, (N, d).
        target: (n,) int64, the rows' items.

    Returns:
        ``F.cross_entropy(states @ table.T, target)``: the same operations up to ``MAX_LOGITS`` logits, equal up to
        rounding above.
    """
    if len(states) * len(table) <= MAX_LOGITS:
        return F.cross_entropy(states @ table.T, target)
    rows = max(1, BLOCK_LOGITS // len(table))
    sums = [
        # nothing is drawn in a block: no state of the generators is kept, which a CUDA graph could not record
        checkpoint(_block_sum, *block, table, use_reentrant=False, preserve_rng_state=False)
        for block in zip(states.split(rows), target.split(rows))
    ]
    return torch.stack(sums).sum() / len(states)


def _block_sum(states: Tensor, target: Tensor, table: Tensor) -> Tensor:
    """Sum the cross-entropy over a block of rows; scalar."""
    return F.cross_entropy(states @ table.T, target, reduction="sum")
