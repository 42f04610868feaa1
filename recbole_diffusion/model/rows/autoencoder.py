r"""L-DiffRec's variational auto-encoder with one encoder per cluster of items (DiffRec, section 3.4).

Users' rows stay sparse. The first layer sums the weights of the user's items, dropout affects only these items, and the
multinomial loss needs the logits of these items and the log-sum-exp of all. Only the logits are dense.

A *position* numbers the items cluster by cluster ("category order" in the official code).
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
    r"""Output of the encoders.

    ``mu``, ``logvar``: mean and :math:`\log\sigma^2` of the latents, (B, latent). ``target``: the encoded rows after
    dropout, by position.
    """

    mu: Tensor
    logvar: Tensor
    target: SparseRows

    def kl(self) -> Tensor:
        r"""KL divergence :math:`D_{KL}(\mathcal N(\mu, \sigma^2) \| \mathcal N(0, I))`, mean over the rows; scalar."""
        return -0.5 * (1 + self.logvar - self.mu.square() - self.logvar.exp()).sum(dim=1).mean()


def encoder_sizes(counts: Sequence[int], in_dims: Sequence[int]) -> list[list[int]]:
    """Layer widths of each cluster's encoder.

    A cluster gets its share of the items of each width, rounded down and at least 1; the last cluster gets the rest.

    Args:
        counts: number of items of each cluster.
        in_dims: widths of all encoders together, from the first layer to the latent.
    """
    total = sum(counts)
    sizes = [[max(int(count / total * width), 1) for width in in_dims] for count in counts[:-1]]
    last = [max(width - sum(size[layer] for size in sizes), 1) for layer, width in enumerate(in_dims)]
    return [*sizes, last]


class ClusterAutoencoder(nn.Module):
    """Encoders per cluster, decoders, and the clusters of the items, which are saved with the weights.

    Loading weights of another clustering rebuilds the layers.

    Args:
        labels: (n_items,), the cluster of each item (column of the interaction matrix); empty clusters are left out.
        in_dims: widths of the encoders in the official code's order, the latent first: ``[300, 600]`` means layers
            from the items to 600 to 300.
        out_dims: empty: the decoder is one linear layer from the latent to all items. Otherwise, with one cluster, the
            hidden widths of the decoder; with several, each cluster's decoder mirrors its encoder and the values are
            ignored.
        activation: activation after every layer but the decoder's last, one of
            :data:`~recbole_diffusion.model.networks.denoiser.ACTIVATIONS`.
        dropout: dropout probability on the input row; dropped entries are not in the target either.
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
        """Build the layers for a clustering (n_items,)."""
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
        self.decoders = nn.ModuleList(_Decoder(decoder_widths, self.activation) for decoder_widths in widths)

    @property
    def latent_size(self) -> int:
        """Width of the latents of all clusters together."""
        return sum(self.latents)

    def encode(self, rows: SparseRows) -> Encoded:
        """Encode rows (B, n_items) by item; in training with dropout."""
        values = F.dropout(rows.values, self.dropout, self.training)
        target = SparseRows(self.place[rows.columns], values, rows.offsets, rows.width)
        moments, start = [], 0
        for encoder, count in zip(self.encoders, self.counts):
            in_cluster = target
            if len(self.counts) > 1:
                in_cluster = target.select((target.columns >= start) & (target.columns < start + count))
            moments.append(encoder(in_cluster._replace(columns=in_cluster.columns - start)).chunk(2, dim=1))
            start += count
        mu, logvar = (torch.cat(of_clusters, dim=1) for of_clusters in zip(*moments))
        return Encoded(mu, logvar, target)

    def decode(self, z: Tensor) -> Tensor:
        """Decode latents (B, latent) to logits by position, (B, n_items)."""
        if len(self.decoders) == 1:
            logits: Tensor = self.decoders[0](z)
            return logits
        latents = z.split(self.latents, dim=1)
        return torch.cat([decoder(latent) for decoder, latent in zip(self.decoders, latents)], dim=1)

    def by_item(self, logits: Tensor) -> Tensor:
        """Reorder logits (B, n_items) from positions to items."""
        return logits if len(self.counts) == 1 else logits.index_select(1, self.place)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        labels = state_dict.get(f"{prefix}labels")
        if labels is not None and len(labels) == len(self.labels) and not torch.equal(labels.cpu(), self.labels.cpu()):
            parameter: Any = next(self.parameters())
            self._build(labels.to(parameter.device))
            self.to(parameter.device, parameter.dtype).train(self.training)
        super()._load_from_state_dict(state_dict, prefix, *args)


class _Encoder(nn.Module):
    """Multi-layer perceptron on sparse rows, with an activation after every layer, the last one included."""

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
    """Multi-layer perceptron with an activation after every layer but the last."""

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
    """Make linear layers with Xavier-normal weights and zero biases."""
    layers = [nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:])]
    for layer in layers:
        nn.init.xavier_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.ModuleList(layers)


class _Multinomial(torch.autograd.Function):
    """Multinomial loss that stores one dense matrix where autograd stores four.

    The forward pass computes the gradient, the backward pass scales it in place. A second backward pass over the same
    graph raises autograd's error about modified tensors rather than returning a wrong gradient.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, columns: Tensor, values: Tensor, row: Tensor) -> Tensor:
        log_sum = logits.logsumexp(dim=1)
        total = logits.new_zeros(len(logits)).index_add_(0, row, values)
        gradient = (logits - log_sum[:, None]).exp_().mul_(total[:, None])
        gradient[row, columns] -= values
        ctx.save_for_backward(gradient)
        return (log_sum * total).sum() - (values * logits[row, columns]).sum()

    @staticmethod
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(output_gradients[0]), None, None, None


def multinomial_loss(logits: Tensor, target: SparseRows) -> Tensor:
    r"""Multinomial loss :math:`-\sum_i x_i \log\mathrm{softmax}(\mathrm{logits})_i` (Liang et al. 2018).

    Args:
        logits: (B, n).
        target: x, (B, n), without repeated columns in a row; gets no gradient.

    Returns:
        The mean over the rows; scalar.
    """
    if logits.dtype in (torch.float16, torch.bfloat16):  # under autocast in float32, as torch's log_softmax
        logits = logits.float()
    loss: Tensor = _Multinomial.apply(logits, target.columns, target.values.to(logits.dtype), target.row_index())
    return loss / len(logits)
