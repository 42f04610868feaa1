"""Numbers of the official PreferDiff, frozen in tests/frozen/preferdiff_official.npz (lswhim/PreferDiff, fdf45b0).

Mode ``iids``, all in float64: width 16, two heads, 40 items, 16 rows of length 1 to 10, T = 200 with stride 10, w = 4.
docs/models/preferdiff.md says how it was made.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import FROZEN_DATA
from guided_frozen import SETTINGS, near, renamed

from recbole_diffusion.model.networks.guided_denoiser import GuidedChain
from recbole_diffusion.model.sequences import guided_recommender
from recbole_diffusion.model.sequences.guided_recommender import GuidedNoise
from recbole_diffusion.model.sequential_recommender.preferdiff import PreferDiff, PreferDiffNoise

FROZEN = np.load(FROZEN_DATA / "preferdiff_official.npz")
CASES = {"cosine": 0.4, "l2": 0.5}  # distance and lamda
DISTANCES = pytest.mark.parametrize("distance", list(CASES))
OFFICIAL = {"steps": 200, "n_heads": 2, "inference_steps": 21, "ddim_grid": "official"}


def frozen(key):
    return torch.from_numpy(np.asarray(FROZEN[key]))


def parameters(prefix):
    official = {key[len(prefix) :]: frozen(key) for key in FROZEN.files if key.startswith(prefix)}
    return renamed(official, "layers.0.", "step_nn", "denoise_nn")


def model(distance="cosine", **more):
    loss = {"distance": distance, "lamda": CASES[distance], "gamma": 5.0, "pair_loss": "batch"}
    config = {**SETTINGS, **OFFICIAL, "hidden_size": 16, **loss, "negatives": "batch_mean", **more}
    net = PreferDiff(config, SimpleNamespace(num=lambda field: 41)).double()
    net.load_state_dict(parameters("w/"))
    return net.eval()


def batch():
    positive = GuidedNoise(frozen("t"), frozen("eps"), frozen("keep"))
    return frozen("seq"), frozen("len"), frozen("target"), PreferDiffNoise(positive, frozen("eps_neg"))


@torch.no_grad()
def test_encoder_and_denoiser():
    net = model()
    near(net.encode(frozen("seq"), frozen("len")), frozen("h"))
    x, h, t = (frozen(f"denoiser/{name}") for name in ("x", "h", "t"))
    near(net.denoiser(x, h, t), frozen("denoiser/with"))
    near(net.denoiser(x, net.unconditional.expand_as(x), t), frozen("denoiser/without"))


@DISTANCES
def test_training(distance):
    net = model(distance)
    sequences, lengths, target, draws = batch()
    assert (~draws.positive.keep).sum() >= 2
    x0, t = net.target_embedding(target), draws.positive.t
    context = net.context(sequences, lengths, draws.positive)
    negative = torch.stack([x0[torch.arange(16) != row].mean(dim=0) for row in range(16)])
    for x, noise, name in ((x0, draws.positive.noise, "pos"), (negative, draws.negative_noise, "neg")):
        near(net._distances(net.estimate(x, context, t, noise), x).mean(), frozen(f"{distance}/{name}"))
    loss = net.loss(sequences, lengths, target, draws)
    near(loss, frozen(f"{distance}/loss"))
    loss.backward()
    expected = parameters(f"{distance}/grad/")
    assert expected.keys() == dict(net.named_parameters()).keys()
    for name, parameter in net.named_parameters():
        near(parameter.grad, expected[name])
        assert float(expected[name].abs().max()) > 1e-7, f"the gradient of {name} is nothing to compare with"


@DISTANCES
def test_three_steps_of_adam(distance):
    net = model(distance)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for expected in frozen(f"{distance}/adam/loss"):
        optimizer.zero_grad()
        loss = net.loss(*batch())
        near(loss.detach(), expected)
        loss.backward()
        optimizer.step()
    weights = {key.rpartition("adam/w/")[2]: frozen(key) for key in FROZEN.files if f"{distance}/adam/w/" in key}
    near(net.item_embedding.weight.detach()[1:], weights["item_embeddings.weight"][1:])
    near(net.unconditional.detach(), weights["none_embedding.weight"])
    near(net.encoder.key.weight.detach(), weights["layers.0.mh_attn.linear_k.weight"])
    near(net.encoder.value.bias.detach(), weights["layers.0.mh_attn.linear_v.bias"])
    near(net.denoiser.step_mlp[2].weight.detach(), weights["step_nn.3.weight"])
    state, condition, step = weights["denoise_nn.0.weight"].chunk(3, dim=1)
    for layer, expected in (("state", state), ("condition", condition), ("step", step)):
        near(getattr(net.denoiser, layer).weight.detach(), expected)


def test_the_official_grid():
    steps = model().solver.steps
    assert [step.t for step in steps] == [200 - 10 * place for place in range(21)]
    near(torch.tensor([step.q for step in steps], dtype=torch.float64).flip(0), frozen("coef1"))
    near(torch.tensor([step.p for step in steps], dtype=torch.float64).flip(0), frozen("coef2"))
    assert not any(step.r for step in steps)


@torch.no_grad()
def test_the_chain_state_by_state_and_in_closed_form(monkeypatch):
    net = model()
    monkeypatch.setattr(guided_recommender, "draw", lambda shape, like, generator: frozen("z")[None])
    states = []
    net.denoise(frozen("seq"), frozen("len"), callback=lambda t, out, x: states.append(x))
    near(torch.stack(states), frozen("states"))
    monkeypatch.setattr(GuidedChain, "__call__", lambda *_: pytest.fail("the chain was run step by step"))
    near(net.score(net.states(frozen("seq"), frozen("len")))[:, 1:], frozen("scores"))
