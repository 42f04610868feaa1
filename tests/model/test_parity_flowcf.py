"""Numbers of the official FlowCF, frozen in tests/frozen/flowcf_official.npz (commit c7db8f3).

The file holds inputs, draws, weights and outputs only; docs/models/flowcf.md says how it was made.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import FROZEN_DATA
from scipy.sparse import csr_matrix

from recbole_diffusion.diffusion import DiscreteFlow, JumpSolver, UniformTimesteps
from recbole_diffusion.model.general_recommender.flowcf import popularity
from recbole_diffusion.model.networks.denoiser import timestep_embedding
from recbole_diffusion.model.networks.flow_mlp import FlowMLP
from recbole_diffusion.model.rows.history import InteractionMatrix
from recbole_diffusion.model.rows.vector_diffusion import VectorDiffusion

FROZEN = np.load(FROZEN_DATA / "flowcf_official.npz")
STEPS, ITEMS = 9, 11


def frozen(key):
    return torch.from_numpy(np.asarray(FROZEN[key]))


def renamed(prefix):
    """Ours has the first layer split into the row's part and the time's."""
    first = frozen(f"{prefix}/mlp_layers.mlp_layers.1.weight")
    state = {f"time.{part}": frozen(f"{prefix}/emb_layer.{part}") for part in ("weight", "bias")}
    state |= {"input.weight": first[:, :ITEMS], "time_input.weight": first[:, ITEMS:]}
    state["input.bias"] = frozen(f"{prefix}/mlp_layers.mlp_layers.1.bias")
    for ours, theirs in (("hidden.0", 4), ("output", 7)):
        state |= {
            f"{ours}.{part}": frozen(f"{prefix}/mlp_layers.mlp_layers.{theirs}.{part}") for part in ("weight", "bias")
        }
    return state


def parts():
    """Process and network with the official weights, without dropout."""
    process = DiscreteFlow(STEPS, frozen("frequencies"))
    net = FlowMLP([ITEMS, 6, 5, ITEMS], process.shares * 2 * math.pi, time_size=4, dropout=0.0)
    net.load_state_dict(renamed("net"))
    return process, net


class Bare(VectorDiffusion):
    """The loss and the reverse process on given parts, without settings."""

    def __init__(self, count=2):
        torch.nn.Module.__init__(self)
        self.process, self.denoiser = parts()
        self.solver, self.timesteps, self.sampling_steps = JumpSolver(count), UniformTimesteps(STEPS), 0


def uniforms(step):
    """Numbers for which ours draws what the official code drew: its mask, and its x0 where that is used."""
    share, f = frozen("times")[frozen("step/steps")[step]][:, None], frozen("frequencies")
    x0 = frozen("step/x0")[step] > 0
    outside = share + (1 - share) * torch.where(x0, f / 2, (1 + f) / 2)
    return torch.where(frozen("step/u")[step] <= share, share / 2, outside)


def ours_of(steps):
    """Our steps count from the data, the official ones from the prior."""
    return STEPS - 1 - steps


def test_made_by_the_commit_that_is_named():
    assert str(FROZEN["meta/commit"]).startswith("c7db8f3")


def test_the_prior_is_the_popularity():
    matrix = csr_matrix(np.pad(FROZEN["x"], ((1, 0), (1, 0))))  # RecBole's padding user and item
    torch.testing.assert_close(popularity(InteractionMatrix(matrix)).float(), frozen("frequencies"))


@pytest.mark.parametrize(("width", "key"), [(4, "time_embedding"), (10, "time_embedding_10")])
def test_times_and_their_embedding(width, key):
    shares = DiscreteFlow(STEPS, torch.zeros(1)).shares.flip(0)
    torch.testing.assert_close(shares.float(), frozen("times"))
    torch.testing.assert_close(timestep_embedding(shares * 2 * math.pi, width), frozen(key), rtol=1e-5, atol=1e-6)


def test_network_at_every_step():
    _, net = parts()
    for step, out in enumerate(frozen("net/out")):
        t = torch.full((len(out),), ours_of(step))
        torch.testing.assert_close(net.eval()(frozen("x"), t), out, rtol=1e-5, atol=1e-6)


def test_the_law_of_the_noised_row():
    """4000 batches of the official code: how often each item was in x_t, by step, beside our probability."""
    process = parts()[0]
    x0, f = frozen("x")[0].double(), frozen("frequencies").double()
    for step, (count, total) in enumerate(zip(frozen("law/count"), frozen("law/total"))):
        share = process.shares[ours_of(step)]
        probability = share * x0 + (1 - share) * f
        error = (probability * (1 - probability) / total).sqrt()
        assert bool(((count / total - probability).abs() <= 4.5 * error + 1e-12).all())


@pytest.mark.parametrize("step", range(3))
def test_noised_rows_for_the_official_draws(step):
    point = parts()[0].sample(frozen("x"), ours_of(frozen("step/steps")[step]), uniforms(step))
    assert torch.equal(point.x_t, frozen("step/xt")[step])
    assert not torch.equal(point.x_t, frozen("x"))


def test_the_loss_its_gradient_and_three_steps_of_adam():
    model = Bare().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(3):
        t = ours_of(frozen("step/steps")[step])
        loss = model.row_loss(frozen("x"), t, uniforms(step)).loss.mean()
        optimizer.zero_grad()
        loss.backward()
        torch.testing.assert_close(loss.item(), float(FROZEN["step/loss"][step]), rtol=1e-5, atol=0)
        if step == 0:
            expected = renamed("gradient")
            for key, parameter in model.denoiser.named_parameters():
                torch.testing.assert_close(parameter.grad, expected[key], rtol=1e-4, atol=1e-7, msg=key)
        optimizer.step()
    before, after = renamed("net"), renamed("after")
    for key, value in model.denoiser.named_parameters():
        moved = float((after[key] - before[key]).abs().max())
        assert moved > 1e-3
        torch.testing.assert_close(value.detach(), after[key], rtol=0, atol=1e-3 * moved, msg=key)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_inference_with_its_states(count):
    model, states = Bare(count).eval(), []
    with torch.no_grad():
        scores = model.denoise(frozen("x"), callback=lambda t, out, x: states.append(x))
    torch.testing.assert_close(scores, frozen(f"infer/{count}"), rtol=1e-5, atol=1e-6)
    expected = frozen(f"states/{count}")[1:]
    assert all(torch.equal(state, other) for state, other in zip(states[:-1], expected))
    assert len(states) == model.nfe == count
    if count > 1:
        assert bool((expected != frozen("x")).any())  # items are added on the way


def test_parameter_count_at_the_official_settings_of_ml_1m():
    net = FlowMLP([2810, 300, 300, 2810], torch.zeros(9))
    assert sum(parameter.numel() for parameter in net.parameters()) == 1_782_520
