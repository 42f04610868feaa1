"""A pre-norm Transformer on packed sequences that returns the vector at each sequence's last item (DiffuRec, sec. 4.2).

The last block computes queries and feed-forward layers only at the last items, which saves 21 % of a pass. Padded keys
that are not attended are left out. Both savings are exact.
"""

from __future__ import annotations

import math
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.model.networks.dropout import dropout
from recbole_diffusion.model.sequences.packing import Group, Packed

EPS = 1e-12  # of every LayerNorm, as in the official code


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Optional[Tensor] = None, p: float = 0.0) -> Tensor:
    """Scaled dot-product attention.

    Args:
        q: (B, heads, Lq, d).
        k, v: (B, heads, L, d).
        mask: bool, True for visible keys, or floats that are added to the scores; broadcast to (B, heads, Lq, L).
            None: all keys are visible.
        p: dropout on the attention probabilities.

    Returns:
        (B, heads, Lq, d).
    """
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(q.dtype)
    if hasattr(F, "scaled_dot_product_attention") and not (p and q.device.type == "cpu"):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p)
    scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)  # on the CPU, torch's attention draws dropout slowly
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return dropout(scores.softmax(dim=-1), p) @ v


def attend_heads(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Optional[Tensor] = None, p: float = 0.0) -> Tensor:
    """Multi-head attention: split q (B, Lq, d) and k, v (B, L, d) into heads and apply :func:`attend`; (B, Lq, d)."""
    q, k, v = (tensor.unflatten(-1, (heads, -1)).transpose(1, 2) for tensor in (q, k, v))
    return attend(q, k, v, mask, p).transpose(1, 2).flatten(2)


class Block(nn.Module):
    """Pre-norm Transformer block.

    ``h + dropout(attention(norm(h)))``, then ``h + dropout(feed_forward(norm(h)))``, then dropout on the result.

    Args:
        size: width d.
        heads: number of attention heads.
        p: dropout probability everywhere in the block.
        see_padding: use the official code's mask: padded keys are visible, and padded queries see all keys equally.
    """

    def __init__(self, size: int, heads: int, p: float, see_padding: bool) -> None:
        super().__init__()
        self.size, self.heads, self.p, self.see_padding = size, heads, p, see_padding
        self.attention_norm, self.feed_norm = nn.LayerNorm(size, eps=EPS), nn.LayerNorm(size, eps=EPS)
        self.qkv, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.widen, self.narrow = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)
        for layer in (self.out, self.widen, self.narrow):
            nn.init.xavier_normal_(layer.weight)

    def forward(self, x: Tensor, packed: Packed) -> Tensor:
        """Apply the block to tokens x (N, d); the same shape."""
        qkv = self.qkv(self.attention_norm(x))
        attended = [self._attend(group, *group.tokens(qkv).chunk(3, dim=-1)) for group in packed.groups]
        return self._finish(x, torch.cat([of_group.reshape(-1, self.size) for of_group in attended]))

    def at_last(self, x: Tensor, packed: Packed) -> Tensor:
        """Compute :meth:`forward` at each row's last item only; (B, d), in packed order."""
        normed = self.attention_norm(x)
        q = F.linear(normed[packed.last], self.qkv.weight[: self.size], self.qkv.bias[: self.size])
        kv = F.linear(normed, self.qkv.weight[self.size :], self.qkv.bias[self.size :])
        attended = []
        for group in packed.groups:
            k, v = group.tokens(kv).chunk(2, dim=-1)
            attended.append(self._attend(group, group.rows(q).unsqueeze(1), k, v).squeeze(1))
        return self._finish(x[packed.last], torch.cat(attended))

    def _attend(self, group: Group, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention within the rows of a group. q: (n_rows, Lq, d); k, v: (n_rows, width, d)."""
        is_item = group.is_item
        if self.see_padding and is_item is not None:
            if q.shape[1] > 1:
                q = q * is_item.unsqueeze(-1)  # a query of zeros weights all keys equally, as the official mask does
            is_item = None
        mask = None if is_item is None else is_item[:, None, None, :]
        return attend_heads(q, k, v, self.heads, mask, self.p if self.training else 0.0)

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Output projection, residual connections and feed-forward layers; x, attended: (n, d)."""
        x = x + dropout(self.out(attended), self.p, self.training)
        hidden = F.gelu(self.widen(self.feed_norm(x)), approximate="tanh")
        x = x + dropout(self.narrow(dropout(hidden, self.p, self.training)), self.p, self.training)
        return dropout(x, self.p, self.training)


class LastItemTransformer(nn.Module):
    """``n_layers`` blocks, then dropout and LayerNorm of the vector at each row's last item.

    Args:
        n_layers: number of blocks.
        size, heads, p, see_padding: see :class:`Block`.
    """

    def __init__(self, size: int, n_layers: int, heads: int, p: float, see_padding: bool) -> None:
        super().__init__()
        self.p = p
        self.blocks = nn.ModuleList([Block(size, heads, p, see_padding) for _ in range(n_layers)])
        self.norm = nn.LayerNorm(size, eps=EPS)

    def forward(self, x: Tensor, packed: Packed) -> Tensor:
        """Encode tokens x (N, d) to one vector per row, (B, d), in packed order."""
        for block in self.blocks[:-1]:
            x = block(x, packed)
        return self._at_last(x, packed)

    def with_inner(self, x: Tensor, packed: Packed, count: int) -> tuple[Tensor, Tensor]:
        """Compute :meth:`forward`, and the last items' state after ``count`` < ``n_layers`` blocks; (B, d) each."""
        for block in self.blocks[:count]:
            x = block(x, packed)
        inner = x[packed.last]
        for block in self.blocks[count:-1]:
            x = block(x, packed)
        return self._at_last(x, packed), inner

    def _at_last(self, x: Tensor, packed: Packed) -> Tensor:
        """Apply the last block, dropout and LayerNorm at the last items; (B, d)."""
        last: Block = self.blocks[-1]  # type: ignore[assignment]
        return self.norm(dropout(last.at_last(x, packed), self.p, self.training))
