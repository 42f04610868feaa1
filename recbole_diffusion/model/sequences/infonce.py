r"""InfoNCE between two views (CDDRec, eq. 14 and 15): symmetric, over unit vectors, mean over the rows of both views.

:math:`-\frac{1}{2n} \sum_i \log \frac{\exp(z_i \cdot z_{i'} / \tau)}{\sum_j \exp(z_i \cdot z_j / \tau)}` for the
2n vectors of both views, where i' is the same row in the other view.

``exact`` excludes j = i from the sum, as NT-Xent does. ``rff`` estimates the sum, with j = i, from random Fourier
features in time linear in n. The estimate is clamped from below to its term j = i. The official estimate is not: for
low temperatures or few dimensions it can be negative, and its logarithm nan.
"""

from __future__ import annotations

import math
from typing import Any, Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def exact_infonce(first: Tensor, second: Tensor, temperature: float, is_row: Optional[Tensor] = None) -> Tensor:
    """Compute InfoNCE of two views (n, d), with a matrix of (2n, 2n); scalar. For ``is_row``: :func:`rff_infonce`."""
    z1, z2 = F.normalize(first, dim=1), F.normalize(second, dim=1)
    z = torch.cat([z1, z2])
    similarity = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    if is_row is not None:
        similarity = similarity.masked_fill(~is_row.repeat(2), -torch.inf)
    return _mean(similarity.logsumexp(dim=1), is_row) - _mean((z1 * z2).sum(dim=1), is_row) / temperature


def rff_infonce(
    first: Tensor, second: Tensor, temperature: float, frequencies: Tensor, is_row: Optional[Tensor] = None
) -> Tensor:
    r"""Compute InfoNCE of two views with sums estimated from random Fourier features; scalar.

    :math:`e^{z \cdot z'/\tau} = e^{1/\tau}\, \mathrm E \cos(w \cdot (z - z'))` for unit vectors and
    :math:`w \sim \mathcal N(0, I/\tau)` (Rahimi and Recht 2007).

    Args:
        first, second: (n, d).
        temperature: :math:`\tau`.
        frequencies: (d, D), standard normal, drawn for each call.
        is_row: (n,) bool; the loss is that of these rows of both views. None: all.
    """
    z1, z2 = F.normalize(first, dim=1), F.normalize(second, dim=1)
    weights = None if is_row is None else is_row.repeat(2).to(z1.dtype)
    sums = _KernelSums.apply(torch.cat([z1, z2]), frequencies / math.sqrt(temperature), weights)
    n_frequencies = frequencies.shape[1]
    scale = math.exp(1 / temperature) / n_frequencies
    logarithms = (sums.clamp(min=n_frequencies) * scale).log()
    return _mean(logarithms, is_row) - _mean((z1 * z2).sum(dim=1), is_row) / temperature


def _mean(values: Tensor, is_row: Optional[Tensor]) -> Tensor:
    """Mean of values (k n,) over the rows ``is_row`` (n,) of each of the k parts; scalar."""
    if is_row is None:
        return values.mean()
    counted = is_row.repeat(len(values) // len(is_row))
    return values.masked_fill(~counted, 0.0).sum() / counted.sum()


class _KernelSums(torch.autograd.Function):
    r""":math:`k_i = \sum_j w_j \sum_r \cos(a_{ir} - a_{jr})` of angles :math:`a = z W`, in O(nD).

    z: (n, d). W: (d, D). The weights w (n,) are 1 if None.

    Forward and backward are written by hand in blocks of rows that fit the cache, because most of the time of a
    training step is spent here.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, frequencies: Tensor, weights: Optional[Tensor]) -> Tensor:
        cos = z.new_empty(len(z), frequencies.shape[1])
        sin = torch.empty_like(cos)
        for rows in _blocks(len(z), z.device):
            angles = z[rows] @ frequencies
            torch.cos(angles, out=cos[rows])
            torch.sin(angles, out=sin[rows])
        ones = z.new_ones(len(z)) if weights is None else weights
        sums = ones @ cos, ones @ sin
        ctx.save_for_backward(frequencies, cos, sin, *sums, *([] if weights is None else [weights]))
        return cos @ sums[0] + sin @ sums[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        frequencies, cos, sin, sum_cos, sum_sin, *weights = ctx.saved_tensors
        weighted_cos, weighted_sin = gradient @ cos, gradient @ sin
        z_gradients = []
        for rows in _blocks(len(cos), cos.device):
            as_others_see = [
                sums * weights[0][rows, None] if weights else sums.expand_as(cos[rows])
                for sums in (weighted_sin, weighted_cos)
            ]
            angle_gradient = torch.addr(as_others_see[0], gradient[rows], sum_sin).mul_(cos[rows])
            cos_gradient = torch.addr(as_others_see[1], gradient[rows], sum_cos)
            z_gradients.append(angle_gradient.addcmul_(cos_gradient, sin[rows], value=-1) @ frequencies.T)
        return torch.cat(z_gradients), None, None


def _blocks(n: int, device: torch.device) -> list[slice]:
    """Blocks of 256 rows on the CPU, one block elsewhere."""
    size = 256 if device.type == "cpu" else n
    return [slice(start, start + size) for start in range(0, n, size)]
