r"""Post-norm causal Transformer over packed sequences, and at the last item with the earlier keys kept (ADRec).

A causal block's output at a position depends on that and earlier positions only. If the input at the last item changes
while the others stay, as in a reverse process at the last place, the keys and values of the others are computed once.

Padding on the right of a row is never visible. Padding on its left, as the official code has it, is visible to all
items: the official mask is applied to queries. All padded positions of a row are one and the same vector in every
layer, since a padded query attends to padding alone. So k of them equal one *ghost* token in front of the row, whose
key has the bias log k. This is exact without dropout; with dropout, the ghost has one draw in place of k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.model.networks.dropout import dropout
from recbole_diffusion.model.sequences.packing import Packed
from recbole_diffusion.model.sequences.transformer import EPS, attend_heads

NO_GHOST = -1e4  # bias of the key of a ghost without padding: finite, also in half precision, for its own query


class KeysValues(NamedTuple):
    """Keys and values of a block for a group of rows: k, v (n_rows, heads, width, d / heads), and the keys' bias.

    ``bias``: added to the scores of the last item's query, (n_rows, 1, 1, width): -inf at the last item itself and
    behind it.
    """

    k: Tensor
    v: Tensor
    bias: Tensor


class CausalBlock(nn.Module):
    """Post-norm causal Transformer block.

    ``h = norm(h + dropout(attention(h)))``, then ``h = norm(h + dropout(feed_forward(h)))``.

    Args:
        size: width d.
        heads: number of attention heads.
        p: dropout probability everywhere in the block.
    """

    def __init__(self, size: int, heads: int, p: float) -> None:
        super().__init__()
        self.size, self.heads, self.p = size, heads, p
        self.attention_norm, self.feed_norm = nn.LayerNorm(size, eps=EPS), nn.LayerNorm(size, eps=EPS)
        self.qkv, self.out = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.widen, self.narrow = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)
        for weight in (*self.qkv.weight.chunk(3), self.out.weight, self.widen.weight, self.narrow.weight):
            nn.init.xavier_normal_(weight)

    def forward(self, x: Tensor, packed: Packed, masks: Sequence[Tensor]) -> Tensor:
        """Apply the block to tokens x (N, d); the same shape. ``masks``: of each group, see :func:`causal_masks`."""
        return self._finish(x, self._attended(self.qkv(x), packed, masks))

    def with_keys(
        self, x: Tensor, packed: Packed, masks: Sequence[Tensor], biases: Sequence[Tensor]
    ) -> tuple[Tensor, list[KeysValues]]:
        """Compute :meth:`forward`, and the keys and values of each group for :meth:`at_last`."""
        qkv = self.qkv(x)
        kept = []
        for group, bias in zip(packed.groups, biases):
            _, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in group.tokens(qkv).chunk(3, -1))
            kept.append(KeysValues(k.contiguous(), v.contiguous(), bias))
        return self._finish(x, self._attended(qkv, packed, masks)), kept

    def at_last(self, x: Tensor, packed: Packed, kept: Sequence[KeysValues]) -> Tensor:
        """Apply the block to the last item of each row, x (B, d) in packed order, with the keys of the others."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (B, 3, heads, d / heads)
        attended = []
        for group, (k, v, bias) in zip(packed.groups, kept):
            q, own_k, own_v = (part.unsqueeze(2) for part in group.rows(qkv).unbind(1))
            q = q / math.sqrt(q.shape[-1])
            scores = torch.cat([q @ k.transpose(-2, -1) + bias, (q * own_k).sum(-1, keepdim=True)], dim=-1)
            weights = scores.softmax(dim=-1)
            attended.append((weights[..., :-1] @ v + weights[..., -1:] * own_v).flatten(1))
        return self._finish(x, torch.cat(attended))

    def _attended(self, qkv: Tensor, packed: Packed, masks: Sequence[Tensor]) -> Tensor:
        """Attention within the rows; qkv: (N, 3 d); returns (N, d)."""
        p = self.p if self.training else 0.0
        attended = []
        for group, mask in zip(packed.groups, masks):
            q, k, v = group.tokens(qkv).chunk(3, dim=-1)
            attended.append(attend_heads(q, k, v, self.heads, mask, p).reshape(-1, self.size))
        return torch.cat(attended)

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Output projection, feed-forward layers, residual connections and norms; x, attended: (n, d)."""
        x = self.attention_norm(x + dropout(self.out(attended), self.p, self.training))
        hidden = dropout(F.gelu(self.widen(x), approximate="tanh"), self.p, self.training)
        normed: Tensor = self.feed_norm(x + dropout(self.narrow(hidden), self.p, self.training))
        return normed


class Kept(NamedTuple):
    """Keys and values of the earlier items: of each block, of each group."""

    blocks: list[list[KeysValues]]


class CausalTransformer(nn.Module):
    """``n_layers`` causal blocks; 0: the input itself.

    Args:
        n_layers: number of blocks.
        size, heads, p: see :class:`CausalBlock`.
    """

    def __init__(self, size: int, n_layers: int, heads: int, p: float) -> None:
        super().__init__()
        self.blocks: Any = nn.ModuleList([CausalBlock(size, heads, p) for _ in range(n_layers)])

    def forward(self, x: Tensor, packed: Packed, ghosts: Optional[Tensor] = None) -> Tensor:
        """Encode tokens x (N, d); the same shape.

        Args:
            x: the tokens.
            packed: the sequences; with ``ghosts``, each with a ghost in front.
            ghosts: (B,) float, number of padded positions that the ghost of each packed row stands for; None: there are
                no ghosts.
        """
        masks = causal_masks(packed, x, ghosts)
        for block in self.blocks:
            x = block(x, packed, masks)
        return x

    def keep(self, x: Tensor, packed: Packed, ghosts: Optional[Tensor] = None) -> Kept:
        """Compute the keys and values of the earlier items for :meth:`at_last`. Arguments: see :meth:`forward`.

        The tokens of the last items have no effect.
        """
        masks, biases, kept = causal_masks(packed, x, ghosts), last_biases(packed, x, ghosts), []
        for block in self.blocks:
            x, of_block = block.with_keys(x, packed, masks, biases)
            kept.append(of_block)
        return Kept(kept)

    def at_last(self, x: Tensor, packed: Packed, kept: Kept) -> Tensor:
        """Encode the last item of each row, x (B, d) in packed order; the same shape. For inference: no dropout."""
        for block, of_block in zip(self.blocks, kept.blocks):
            x = block.at_last(x, packed, of_block)
        return x


def causal_masks(packed: Packed, like: Tensor, ghosts: Optional[Tensor]) -> list[Tensor]:
    """Make the mask of each group: bool (width, width), or with ghosts floats (n_rows, 1, width, width)."""
    masks = []
    for group in packed.groups:
        visible = torch.ones(group.width, group.width, dtype=torch.bool, device=like.device).tril()
        if ghosts is None:
            masks.append(visible)
        else:
            masks.append(_ghost_bias(group.rows(ghosts), group.width, like).masked_fill(~visible, -torch.inf))
    return masks


def last_biases(packed: Packed, like: Tensor, ghosts: Optional[Tensor]) -> list[Tensor]:
    """Make the bias of the earlier keys of each group for the last item's query, (n_rows, 1, 1, width)."""
    biases, is_earlier = [], packed.items_after > 0
    for group in packed.groups:
        earlier = group.tokens(is_earlier[:, None]).squeeze(-1)[:, None, None, :]
        bias = torch.zeros(earlier.shape, dtype=like.dtype, device=like.device)
        if ghosts is not None:
            bias = _ghost_bias(group.rows(ghosts), group.width, like)
        biases.append(bias.masked_fill(~earlier, -torch.inf))
    return biases


def _ghost_bias(counts: Tensor, width: int, like: Tensor) -> Tensor:
    """Bias of the keys, (n_rows, 1, 1, width): log k at the ghost in front, 0 elsewhere. counts: (n_rows,)."""
    ghost = counts.to(like.dtype).log().clamp(min=NO_GHOST)
    return F.pad(ghost[:, None], (0, width - 1))[:, None, None, :]
