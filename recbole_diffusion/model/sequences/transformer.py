"""A pre-norm Transformer over packed sequences that gives the vector at each row's last item (DiffuRec, section 4.2).

What it saves is exact: the last block computes queries and feed-forward only where they are read (21 % of a pass), and
padded keys are left out where they are not attended.
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


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Optional[Tensor] = None, p: float = 0.0) -> Tensor:
    """Scaled dot-product attention with dropout ``p`` on the probabilities.

    q: (B, heads, Lq, d); k, v: (B, heads, L, d); seen: bool, broadcast to (B, heads, Lq, L), or None for all keys.
    """
    if hasattr(F, "scaled_dot_product_attention") and not (p and q.device.type == "cpu"):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=p)
    scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)  # torch's own draws slowly on the CPU
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    return dropout(scores.softmax(dim=-1), p) @ v


def attend_heads(q: Tensor, k: Tensor, v: Tensor, heads: int, seen: Optional[Tensor] = None, p: float = 0.0) -> Tensor:
    """:func:`attend` on (B, Lq, d) and (B, L, d), split into heads and put together again: (B, Lq, d)."""
    q, k, v = (one.unflatten(-1, (heads, -1)).transpose(1, 2) for one in (q, k, v))
    return attend(q, k, v, seen, p).transpose(1, 2).flatten(2)


class Block(nn.Module):
    """``h + drop(attention(norm(h)))``, ``h + drop(feed_forward(norm(h)))``, and dropout on the sum.

    Args:
        size: d. heads: attention heads. p: dropout, everywhere in the block.
        see_padding: padded places are seen as keys, and as queries they see every key alike: the official code's mask.
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
        """x: (N, d), the tokens; the same shape."""
        qkv = self.qkv(self.attention_norm(x))
        mixed = [self._attend(each, *each.tokens(qkv).chunk(3, dim=-1)) for each in packed.groups]
        return self._finish(x, torch.cat([one.reshape(-1, self.size) for one in mixed]))

    def at_last(self, x: Tensor, packed: Packed) -> Tensor:
        """:meth:`forward` at each row's last item: (B, d), in packed order."""
        normed = self.attention_norm(x)
        q = F.linear(normed[packed.last], self.qkv.weight[: self.size], self.qkv.bias[: self.size])
        kv = F.linear(normed, self.qkv.weight[self.size :], self.qkv.bias[self.size :])
        mixed = []
        for each in packed.groups:
            here = q[each.first : each.first + each.rows].unsqueeze(1)
            mixed.append(self._attend(each, here, *each.tokens(kv).chunk(2, dim=-1)).squeeze(1))
        return self._finish(x[packed.last], torch.cat(mixed))

    def _attend(self, group: Group, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys = group.real
        if self.see_padding and keys is not None:
            if q.shape[1] > 1:
                q = q * keys.unsqueeze(-1)  # a query of zeros sees every key alike: the official mask, without a mask
            keys = None
        seen = None if keys is None else keys[:, None, None, :]
        return attend_heads(q, k, v, self.heads, seen, self.p if self.training else 0.0)

    def _finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + dropout(self.out(mixed), self.p, self.training)
        hidden = F.gelu(self.widen(self.feed_norm(x)), approximate="tanh")
        x = x + dropout(self.narrow(dropout(hidden, self.p, self.training)), self.p, self.training)
        return dropout(x, self.p, self.training)


class LastItemTransformer(nn.Module):
    """``n_layers`` blocks, then LayerNorm of the dropped-out vector at each row's last item.

    Args: see :class:`Block`.
    """

    def __init__(self, size: int, n_layers: int, heads: int, p: float, see_padding: bool) -> None:
        super().__init__()
        self.p = p
        self.blocks = nn.ModuleList([Block(size, heads, p, see_padding) for _ in range(n_layers)])
        self.norm = nn.LayerNorm(size, eps=EPS)

    def forward(self, x: Tensor, packed: Packed) -> Tensor:
        """x: (N, d) tokens; result: (B, d), in packed order."""
        for block in self.blocks[:-1]:
            x = block(x, packed)
        last: Block = self.blocks[-1]  # type: ignore[assignment]
        return self.norm(dropout(last.at_last(x, packed), self.p, self.training))
