r"""InfoNCE between two views (CDDRec, eq. 14 and 15): two-sided, over unit vectors, mean over both views' rows.

:math:`-\frac{1}{2n} \sum_i \log \frac{\exp(z_i \cdot z_{i'} / \tau)}{\sum_j \exp(z_i \cdot z_j / \tau)}` for the
2n vectors of both views, i' the same row in the other view. ``exact`` leaves j = i out of the sum, as NT-Xent does;
``rff`` estimates the sum from random Fourier features, whose j = i term is in it, in time linear in n. The estimate is
never taken below that term: the official one can be negative, and its logarithm nan, for low temperatures or few
dimensions.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def exact_infonce(one: Tensor, two: Tensor, temperature: float) -> Tensor:
    """The loss of views (n, d) and (n, d), which takes a matrix of (2n, 2n); scalar."""
    z1, z2 = F.normalize(one, dim=1), F.normalize(two, dim=1)
    z = torch.cat([z1, z2])
    similarity = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    return similarity.logsumexp(dim=1).mean() - (z1 * z2).sum(dim=1).mean() / temperature


def rff_infonce(one: Tensor, two: Tensor, temperature: float, frequencies: Tensor) -> Tensor:
    r"""The loss of views (n, d) and (n, d) with the sums estimated; scalar.

    :math:`e^{z \cdot z'/\tau} = e^{1/\tau}\, \mathrm E \cos(w \cdot (z - z'))` for unit vectors and
    :math:`w \sim \mathcal N(0, I/\tau)` (Rahimi and Recht 2007).

    Args:
        frequencies: (d, D), standard normal, drawn anew for each call.
    """
    z1, z2 = F.normalize(one, dim=1), F.normalize(two, dim=1)
    total = _KernelSums.apply(torch.cat([z1, z2]), frequencies / math.sqrt(temperature))
    count = frequencies.shape[1]
    scale = math.exp(1 / temperature) / count
    return (total.clamp(min=count) * scale).log().mean() - (z1 * z2).sum(dim=1).mean() / temperature


class _KernelSums(torch.autograd.Function):
    r""":math:`k_i = \sum_j \sum_r \cos(a_{ir} - a_{jr})` of angles :math:`a = z W` for z (n, d), W (d, D), in O(nD).

    Written out, block by block of rows that fit the cache: most of the time of a training step goes in here.
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
        frequencies, cos, sin, all_cos, all_sin = ctx.saved_tensors
        own_cos, own_sin = gradient @ cos, gradient @ sin
        found = []
        for rows in _blocks(len(cos), cos.device):
            of_angles = torch.addr(own_sin.expand_as(cos[rows]), gradient[rows], all_sin).mul_(cos[rows])
            towards_cos = torch.addr(own_cos.expand_as(cos[rows]), gradient[rows], all_cos)
            found.append(of_angles.addcmul_(towards_cos, sin[rows], value=-1) @ frequencies.T)
        return torch.cat(found), None


def _blocks(n: int, device: torch.device) -> list[slice]:
    step = 256 if device.type == "cpu" else n
    return [slice(first, first + step) for first in range(0, n, step)]
