"""DiffuRec: a diffusion on the embedding of the next item, conditioned on the sequence by a Transformer.

Reference:
    Zihao Li, Aixin Sun, Chenliang Li. "DiffuRec: A Diffusion Model for Sequential Recommendation." ACM TOIS 42(3),
    2023. https://doi.org/10.1145/3631116

Reference code:
    https://github.com/WHUIR/DiffuRec (commit f6f70c9), compared by numbers in tests/model/test_parity_diffurec.py
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from recbole_diffusion.diffusion import Denoiser, SharedGenerator, StepCallback, make_betas, sample
from recbole_diffusion.model.networks.item_cross_entropy import item_cross_entropy
from recbole_diffusion.model.sequences.mixed_sequence import MixedSequenceRecommender, MixingNoise
from recbole_diffusion.model.sequences.packing import Packed

DiffuRecNoise = MixingNoise


class DiffuRec(MixedSequenceRecommender):
    r"""Noise the embedding of the next item by a Gaussian diffusion and predict the clean one from it and the sequence.

    The network is that of :class:`MixedSequenceRecommender`. At inference the reverse process starts from noise.

    Keys: properties/model/DiffuRec.yaml. Deviations of the official code and their keys: docs/models/diffurec.md.
    """

    family = "DiffuRec"

    def loss(self, packed: Packed, target: Tensor, draws: Optional[MixingNoise]) -> Tensor:
        """Compute the cross-entropy over the inner products with all items (paper, eq. 18); scalar.

        ``target`` (B,) and the draws are in packed order.
        """
        if draws is None:
            x0 = self.approximator(self.tokens(packed), packed)
        else:
            x_t = self.noised(target, draws)
            x0 = self.approximate(packed, self.tokens(packed), x_t, draws.t, draws.lambda_noise)
        return item_cross_entropy(x0, self.item_embedding.weight, target)

    def solve(
        self, denoiser: Denoiser, start: Tensor, generator: torch.Generator, callback: Optional[StepCallback]
    ) -> Tensor:
        """Run the reverse chain; its noise is one draw per step, which all rows share."""
        return sample(denoiser, start, self.solver, SharedGenerator(generator), callback)


def _betas(name: str, steps: int) -> Tensor:
    """Noise schedule with DiffuRec's scaled bounds, for the parity test."""
    return make_betas(name, steps, noise_scale=1000 / steps)
