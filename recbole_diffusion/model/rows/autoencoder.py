r"""L-DiffRec's variational auto-encoder: one encoder per cluster of items (DiffRec, section 3.4).

A user's row is sparse and stays so: the first layer sums the weights of the user's items, dropout touches the items
that are there, and the multinomial loss needs the logits at the user's items and their log-sum. Only the logits are
dense. Positions count the items cluster after cluster ("category order" in the official code).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.model.networks.denoiser import ACTIVATIONS
from recbole_diffusion.model.rows.history import SparseRows


class Encoded(NamedTuple):
    """``mu``, ``logvar``: (B, latent). ``target``: the rows as encoded (after dropout), by position."""

    mu: Tensor
    logvar: Tensor
    target: SparseRows

    def kl(self) -> Tensor:
        r""":math:`D_{KL}(\mathcal N(\mu, \sigma^2) \| \mathcal N(0, I))`, mean over the rows; scalar."""
        return -0.5 * (1 + self.logvar - self.mu.square() - self.logvar.exp()).sum(dim=1).mean()


def encoder_sizes(counts: Sequence[int], in_dims: Sequence[int]) -> list[list[int]]:
    """Widths of each cluster's encoder: its share of the items times each width, at least 1; the last has the rest.

    Args:
        counts: items of each cluster.
        in_dims: widths of all encoders together, from the items to the latent.
    """
    total = sum(counts)
    sizes = [[max(int(count / total * width), 1) for width in in_dims] for count in counts[:-1]]
    last = [max(width - sum(size[place] for size in sizes), 1) for place, width in enumerate(in_dims)]
    return [*sizes, last]


class ClusterAutoencoder(nn.Module):
    """Encoders per cluster, a decoder, and the map from items to clusters, which is saved with the weights.

    Loading weights that belong to another clustering rebuilds the layers for it.

    Args:
        labels: (n_items,), the cluster of each item (column of the history); empty clusters are left out.
        in_dims: widths as the official code takes them: the latent first, ``[300, 600]``: items, 600, 300.
        out_dims: empty: one linear layer from the latent to all items. Otherwise, with one cluster, the decoder's
            hidden widths; with several, a decoder per cluster that mirrors its encoder (whatever the widths).
        activation: after every layer but the decoder's last.
        dropout: probability on the input row; what is dropped is not in the target either.
    """

    labels: Tensor
    place: Tensor

    def __init__(
        self, labels: Tensor, in_dims: Sequence[int], out_dims: Sequence[int], activation: str, dropout: float
    ) -> None:
        super().__init__()
        self.in_dims, self.out_dims = [*reversed(in_dims)], [*out_dims]
        self.activation, self.dropout = activation, dropout
        self.register_buffer("labels", labels.new_zeros(0, dtype=torch.int64))
        self.register_buffer("place", self.labels, persistent=False)
        self._build(labels)

    def _build(self, labels: Tensor) -> None:
        """The layers that belong to a clustering."""
        self.labels = torch.unique(labels, return_inverse=True)[1]
        order = torch.sort(self.labels, stable=True)[1]  # argsort has no stable in torch 1.12
        self.place = torch.empty_like(order)
        self.place[order] = torch.arange(len(order), device=order.device)
        self.counts = torch.bincount(self.labels).tolist()
        sizes = encoder_sizes(self.counts, self.in_dims)
        self.latents = [size[-1] for size in sizes]
        self.encoders = nn.ModuleList(
            _Encoder([count, *size[:-1], 2 * size[-1]], self.activation) for count, size in zip(self.counts, sizes)
        )
        if self.out_dims and len(sizes) > 1:
            widths = [[*reversed(size), count] for count, size in zip(self.counts, sizes)]
        else:
            widths = [[sum(self.latents), *self.out_dims, sum(self.counts)]]
        self.decoders = nn.ModuleList(_Decoder(each, self.activation) for each in widths)

    @property
    def latent_size(self) -> int:
        return sum(self.latents)

    def encode(self, rows: SparseRows) -> Encoded:
        """rows: (B, n_items) by item; in training with dropout."""
        values = F.dropout(rows.values, self.dropout, self.training)
        target = SparseRows(self.place[rows.columns], values, rows.offsets, rows.width)
        halves, start = [], 0
        for encoder, count in zip(self.encoders, self.counts):
            part = target
            if len(self.counts) > 1:
                part = target.part((target.columns >= start) & (target.columns < start + count))
            halves.append(encoder(part._replace(columns=part.columns - start)).chunk(2, dim=1))
            start += count
        mu, logvar = (torch.cat(half, dim=1) for half in zip(*halves))
        return Encoded(mu, logvar, target)

    def decode(self, z: Tensor) -> Tensor:
        """Logits by position, (B, n_items); z: (B, latent)."""
        if len(self.decoders) == 1:
            logits: Tensor = self.decoders[0](z)
            return logits
        return torch.cat([decoder(part) for decoder, part in zip(self.decoders, z.split(self.latents, dim=1))], dim=1)

    def by_item(self, logits: Tensor) -> Tensor:
        """From positions to items, (B, n_items)."""
        return logits if len(self.counts) == 1 else logits.index_select(1, self.place)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        labels = state_dict.get(f"{prefix}labels")
        if labels is not None and len(labels) == len(self.labels) and not torch.equal(labels.cpu(), self.labels.cpu()):
            before: Any = next(self.parameters())
            self._build(labels.to(before.device))
            self.to(before.device, before.dtype).train(self.training)
        super()._load_from_state_dict(state_dict, prefix, *args)


class _Encoder(nn.Module):
    """Layers with an activation after each, the last one too; the first takes sparse rows."""

    def __init__(self, sizes: Sequence[int], activation: str) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.weight = nn.Parameter(torch.empty(sizes[0], sizes[1]))  # (items, width): a row per item, to be summed
        self.bias = nn.Parameter(torch.zeros(sizes[1]))
        nn.init.normal_(self.weight, std=math.sqrt(2 / (sizes[0] + sizes[1])))
        self.layers = _linears(sizes[1:])

    def forward(self, rows: SparseRows) -> Tensor:
        h = F.embedding_bag(
            rows.columns,
            self.weight,
            rows.offsets,
            mode="sum",
            per_sample_weights=rows.values.to(self.weight.dtype),
            include_last_offset=True,
        )
        h = self.activation(h + self.bias)
        for layer in self.layers:
            h = self.activation(layer(h))
        return h


class _Decoder(nn.Module):
    """Layers with an activation after each but the last."""

    def __init__(self, sizes: Sequence[int], activation: str) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.layers = _linears(sizes)

    def forward(self, z: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            z = self.activation(layer(z))
        logits: Tensor = self.layers[-1](z)
        return logits


def _linears(sizes: Sequence[int]) -> nn.ModuleList:
    """Xavier-normal weights, biases 0."""
    layers = [nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:])]
    for layer in layers:
        nn.init.xavier_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.ModuleList(layers)


class _Multinomial(torch.autograd.Function):
    """Forward makes the gradient, backward scales it in place: one dense matrix is kept where autograd keeps four.

    A second backward of the same graph is an error of autograd's, not a wrong gradient.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, columns: Tensor, values: Tensor, row: Tensor) -> Tensor:
        log_sum = logits.logsumexp(dim=1)
        total = logits.new_zeros(len(logits)).index_add_(0, row, values)
        grad = (logits - log_sum[:, None]).exp_().mul_(total[:, None])
        grad[row, columns] -= values
        ctx.save_for_backward(grad)
        return (log_sum * total).sum() - (values * logits[row, columns]).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (grad,) = ctx.saved_tensors
        return grad.mul_(grads[0]), None, None, None


def multinomial_loss(logits: Tensor, target: SparseRows) -> Tensor:
    r""":math:`-\sum_i x_i \log\mathrm{softmax}(\mathrm{logits})_i`, mean over the rows; scalar (Liang et al. 2018).

    Args:
        logits: (B, n).
        target: (B, n), no column twice in a row; gets no gradient.
    """
    if logits.dtype in (torch.float16, torch.bfloat16):  # under autocast, as torch's own log_softmax
        logits = logits.float()
    loss: Tensor = _Multinomial.apply(logits, target.columns, target.values.to(logits.dtype), target.row_index())
    return loss / len(logits)
