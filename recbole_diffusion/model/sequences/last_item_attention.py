r"""The encoder of DreamRec and PreferDiff: one attention block, computed at the last item of each sequence only.

A single query per sequence makes the projections of keys and values superfluous. With q the query and :math:`s_j` the
tokens, :math:`q \cdot (W_k s_j + b_k) = (W_k^\top q) \cdot s_j + q \cdot b_k`, whose last term is the same for all j
and falls out of the softmax. :math:`\sum_j a_j (W_v s_j + b_v) = W_v \sum_j a_j s_j + b_v \sum_j a_j`. So a row costs
5 d² instead of (3 + 2 length) d². Both are exact; a bias of the keys has no effect and is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_diffusion.model.networks.dropout import dropout


class LastItemAttention(nn.Module):
    r"""One block of causal attention and feed-forward, at the last item.

    With s the tokens, :math:`s_n` the last one and :math:`u = \mathrm{LN}_1 s_n`:
    :math:`a = \mathrm{attention}(u; s) + u`, whose keys and values are the tokens without a norm;
    :math:`z = \mathrm{LN}_2 a`; :math:`f = \mathrm{LN}_f(z + \mathrm{dropout}(W_2\,\mathrm{relu}(W_1 z)))`. The result
    is :math:`\mathrm{LN}_3 f`. With ``residual``, :math:`s_n` is added to a, and a to f. The scores are divided by
    :math:`\sqrt d` for any number of heads, and heads are joined without a projection, as in both official codes.

    Args:
        size: width d.
        heads: number of attention heads.
        p: dropout on the attention probabilities and on the feed-forward's output.
        residual: add the block's input to the attention's output, and that to the feed-forward's (PreferDiff).
    """

    def __init__(self, size: int, heads: int, p: float, residual: bool) -> None:
        super().__init__()
        self.heads, self.p, self.residual = heads, p, residual
        self.attention_norm, self.feed_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.inner_norm, self.output_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.query, self.value = nn.Linear(size, size), nn.Linear(size, size)
        self.key = nn.Linear(size, size, bias=False)
        self.widen, self.narrow = nn.Linear(size, size), nn.Linear(size, size)

    def reset_attention(self) -> None:
        """Draw the attention's weights from Xavier's uniform distribution and set its biases to 0 (PreferDiff)."""
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Encode right-padded tokens (B, L, d), zeros at padded positions, with lengths (B,); (B, d)."""
        last = tokens[torch.arange(len(tokens), device=tokens.device), lengths - 1]
        queries = self.attention_norm(last)
        state = self._attend(queries, tokens, lengths) + queries
        if self.residual:
            state = last + state
        normed = self.feed_norm(state)
        fed = dropout(self.narrow(torch.relu(self.widen(normed))), self.p, self.training)
        result = self.inner_norm(fed + normed)
        if self.residual:
            result = state + result
        encoded: Tensor = self.output_norm(result)
        return encoded

    def _attend(self, queries: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Attention of one query per row (B, d) over the tokens (B, L, d); (B, d)."""
        size = queries.shape[1]
        by_head = (self.heads, size // self.heads, size)
        query = self.query(queries).view(-1, *by_head[:2])
        query_of_tokens = torch.einsum("bhe,hed->bhd", query, self.key.weight.view(by_head))
        scores = query_of_tokens @ tokens.transpose(1, 2) / size**0.5
        is_padding = torch.arange(tokens.shape[1], device=tokens.device) >= lengths[:, None]
        weights = scores.masked_fill(is_padding[:, None], -torch.inf).softmax(dim=-1)
        weights = dropout(weights, self.p, self.training)
        pooled = torch.einsum("bhd,hed->bhe", weights @ tokens, self.value.weight.view(by_head))
        bias = weights.sum(dim=-1, keepdim=True) * self.value.bias.view(by_head[:2])
        return (pooled + bias).flatten(1)
