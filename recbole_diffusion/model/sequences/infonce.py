r"""InfoNCE between two views (CDDRec, eq. 14 and 15): symmetric, over unit vectors, mean over the rows of both views.

:math:`-\frac{1}{2n} \sum_i \log \frac{\exp(z_i \cdot z_{i'} / \tau)}{\sum_j \exp(z_i \cdot z_j / \tau)}` for the
2n vectors of both views, where i' is the same row in the other view.

``exact`` excludes j = i from the sum, as NT-Xent does. ``rff`` estimates the sum, with j = i, from random Fourier
features in time linear in n. The estimate is clamped from below to its term j = i. The official estimate is not: for
low temperatures or few dimensions it can be negative, and its logarithm nan.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def exact_infonce(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Compute InfoNCE of two views (n, d), with a matrix of (2n, 2n); scalar."""
    z1, z2 = F.normalize(first, dim=1), F.normalize(second, dim=1)
    z = torch.cat([z1, z2])
    similarity = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    return similarity.logsumexp(dim=1).mean() - (z1 * z2).sum(dim=1).mean() / temperature


def rff_infonce(first: Tensor, second: Tensor, temperature: float, frequencies: Tensor) -> Tensor:
    r"""Compute InfoNCE of two views with sums estimated from random Fourier features; scalar.

    :math:`e^{z \cdot z'/\tau} = e^{1/\tau}\, \mathrm E \cos(w \cdot (z - z'))` for unit vectors and
    :math:`w \sim \mathcal N(0, I/\tau)` (Rahimi and Recht 2007).

    Args:
        first, second: (n, d).
        temperature: :math:`\tau`.
        frequencies: (d, D), standard normal, drawn for each call.
    """
    z1, z2 = F.normalize(first, dim=1), F.normalize(second, dim=1)
    sums = _KernelSums.apply(torch.cat([z1, z2]), frequencies / math.sqrt(temperature))
    n_frequencies = frequencies.shape[1]
    scale = math.exp(1 / temperature) / n_frequencies
    return (sums.clamp(min=n_frequencies) * scale).log().mean() - (z1 * z2).sum(dim=1).mean() / temperature


class _KernelSums(torch.autograd.Function):
    r""":math:`k_i = \sum_j \sum_r \cos(a_{ir} - a_{jr})` of angles :math:`a = z W` for z (n, d), W (d, D), in O(nD).

    Forward and backward are written by hand in blocks of rows that fit the cache, because most of the time of a
    training step is spent here.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, frequencies: Tensor) -> Tensor:
        cos = z.new_empty(len(z), frequencies.shape[1])
        sin = torch.empty_like(cos)
        for rows in _blocks(len(z), z.device):
            angles = z[rows] @ frequencies
            torch.cos(angles, out=cos[rows])
            torch.sin(angles, out=sin[rows])
        ones = z.new_ones(len(z))
        sums = ones @ cos, ones @ sin
        ctx.save_for_backward(frequencies, cos, sin, *sums)
        return cos @ sums[0] + sin @ sums[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        frequencies, cos, sin, sum_cos, sum_sin = ctx.saved_tensors
        weighted_cos, weighted_sin = gradient @ cos, gradient @ sin
        z_gradients = []
        for rows in _blocks(len(cos), cos.device):
            angle_gradient = torch.addr(weighted_sin.expand_as(cos[rows]), gradient[rows], sum_sin).mul_(cos[rows])
            cos_gradient = torch.addr(weighted_cos.expand_as(cos[rows]), gradient[rows], sum_cos)
            z_gradients.append(angle_gradient.addcmul_(cos_gradient, sin[rows], value=-1) @ frequencies.T)
        return torch.cat(z_gradients), None


def _blocks(n: int, device: torch.device) -> list[slice]:
    """Blocks of 256 rows on the CPU, one block elsewhere."""
    size = 256 if device.type == "cpu" else n
    return [slice(start, start + size) for start in range(0, n, size)]
