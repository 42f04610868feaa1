"""FMRec: flow matching on the embedding of the next item, conditioned on the sequence by a Transformer.

Reference:
    Feng Liu, Lixin Zou, Xiangyu Zhao, Min Tang, Liming Dong, Dan Luo, Xiangyang Luo, Chenliang Li. "Flow Matching Based
    Sequential Recommender Model." IJCAI 2025. https://doi.org/10.24963/ijcai.2025/346

Reference code:
    https://github.com/FengLiu-1/FMRec (commit 1c39b17), compared by numbers in tests/model/test_parity_fmrec.py
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_diffusion.diffusion import Denoiser, StepCallback, sample
from recbole_diffusion.model.networks.item_cross_entropy import item_cross_entropy
from recbole_diffusion.model.sequences.history_decoder import HistoryDecoder
from recbole_diffusion.model.sequences.mixed_sequence import MixedSequenceRecommender, MixingNoise
from recbole_diffusion.model.sequences.packing import Packed


class FMRec(MixedSequenceRecommender):
    r"""Move the embedding of the next item on a straight line to noise, and predict it from a point of the line.

    :math:`x_t = (1-t)\,e + t\,z` with the target's embedding e and :math:`z \sim \mathcal N(0, I)`; the paper's time is
    1 - t. The network is that of :class:`MixedSequenceRecommender`. The loss is

    .. math:: w_m \lVert \hat x_0 - e \rVert^2 / d + w_c\,\mathrm{CE}(\hat x_0 E^\top) + w_r R,

    where R is the error of a reconstruction of the history from an inner state (off by default). At inference the
    velocity is :math:`\hat x_0 - z` with the start z, so that the result is the mean of the predictions
    (:class:`~recbole_diffusion.diffusion.MeanSolver`).

    Keys: properties/model/FMRec.yaml. Deviations of the official code and their keys: docs/models/fmrec.md.

    Raises:
        ValueError: ``recon_weight`` > 0 and no block before the last ``recon_last``.
    """

    family = "FMRec"

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.mse_weight, self.ce_weight = config["mse_weight"], config["ce_weight"]
        self.recon_weight, self.recon_ratio = config["recon_weight"], config["recon_ratio"]
        self.recon_mean_of_all = config["recon_mean"] == "all"
        blocks: Any = self.approximator.blocks
        for block in blocks:
            nn.init.zeros_(block.widen.bias)
            nn.init.zeros_(block.narrow.bias)
        n_layers, last = config["n_layers"], config["recon_last"]
        self.recon_blocks = n_layers - last
        self.history_decoder: Optional[HistoryDecoder] = None
        if self.recon_weight:
            if not 1 <= last < n_layers:
                raise ValueError(
                    f"recon_last={last} is not allowed with n_layers={n_layers}; allowed: 1 to {n_layers - 1}, "
                    "or 0 for recon_weight"
                )
            self.history_decoder = HistoryDecoder(config["hidden_size"], self.n_items)

    def step_is_capturable(self, batch_size: int) -> Optional[bool]:
        """Return whether the batches are padded, and no history is reconstructed; see :class:`Hooks`."""
        return None if self.recon_weight else super().step_is_capturable(batch_size)

    def loss(
        self, packed: Packed, target: Tensor, draws: Optional[MixingNoise], zeros: Optional[Tensor] = None
    ) -> Tensor:
        """Compute the weighted sum of :meth:`losses`; scalar. Arguments: see there."""
        mse, cross_entropy, reconstruction = self.losses(packed, target, draws, zeros)
        loss = self.mse_weight * mse + self.ce_weight * cross_entropy
        return loss if reconstruction is None else loss + self.recon_weight * reconstruction

    def losses(
        self, packed: Packed, target: Tensor, draws: Optional[MixingNoise], zeros: Optional[Tensor] = None
    ) -> tuple[Tensor, Tensor, Optional[Tensor]]:
        """Compute the squared error, the cross-entropy and the error of the reconstruction; scalars.

        Args:
            packed: the sequences.
            target: (B,), in packed order.
            draws: in packed order; None if x_t does not reach the network.
            zeros: see :meth:`HistoryDecoder.cells`; None: drawn.

        Returns:
            The three losses; the last one is None without ``recon_weight``.
        """
        tokens = self.tokens(packed)
        if draws is not None:
            tokens = self.mixed(packed, tokens, self.noised(target, draws), draws.t, draws.lambda_noise)
        reconstruction = None
        if self.history_decoder is None:
            x0 = self.approximator(tokens, packed)
        else:
            x0, inner = self.approximator.with_inner(tokens, packed, self.recon_blocks)
            cells = self.history_decoder.cells(packed, self.recon_ratio, zeros)
            reconstruction = self.history_decoder.loss(inner, cells, self.recon_mean_of_all)
        mse = F.mse_loss(x0, self.item_embedding(target))
        return mse, item_cross_entropy(x0, self.item_embedding.weight, target), reconstruction

    def embed_step(self, t: Tensor) -> Tensor:
        """Embed times (B,) to (B, d): the network is told the paper's time, 1 - t."""
        return super().embed_step(1 - t)

    def solve(
        self, denoiser: Denoiser, start: Tensor, generator: torch.Generator, callback: Optional[StepCallback]
    ) -> Tensor:
        """Follow the flow, which draws no noise."""
        return sample(denoiser, start, self.solver, callback=callback)
