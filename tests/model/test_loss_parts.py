"""The key ``loss_without``: what is left out is zero and trains nothing."""

from __future__ import annotations

import pytest
import torch

from recbole_diffusion.model.loss_parts import left_out
from recbole_diffusion.model.rows.latent_diffusion import LatentLosses
from recbole_diffusion.model.sequential_recommender.cddrec import StepLosses


def test_left_out_parts_are_checked():
    assert left_out({"loss_without": ["kl"]}, LatentLosses._fields) == {"kl"}
    assert left_out({}, LatentLosses._fields) == frozenset()
    for without in (["KL"], ["diffusion", "reconstruction", "kl"]):
        with pytest.raises(
            ValueError, match="is not allowed; allowed: some, not all, of diffusion, reconstruction, kl"
        ):
            left_out({"loss_without": without}, LatentLosses._fields)


def test_the_latent_losses_without_a_part():
    parts = [torch.tensor(value, requires_grad=True) for value in (2.0, 3.0, 5.0)]
    losses = LatentLosses(*parts).without({"reconstruction"})
    sum(losses).backward()
    assert [float(loss.detach()) for loss in losses] == [2, 0, 5]
    assert [part.grad for part in parts] == [torch.tensor(1.0), None, torch.tensor(1.0)]


def test_the_step_losses_without_parts():
    losses = StepLosses(*map(torch.tensor, (1.0, 2.0, 4.0, 8.0)))
    assert float(losses.weighted(0.5, 0.25)) == 1 + 0.5 * 2 + 0.25 * (4 + 8)
    assert float(losses.weighted(0.5, 0.25, {"logistic_second", "cross_view"})) == 1 + 0.25 * 4
    assert float(losses.weighted(0.5, 0.25, {"logistic"})) == 0.5 * 2 + 0.25 * (4 + 8)
