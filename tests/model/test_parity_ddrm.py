"""Numbers of the official DDRM, frozen in tests/data/ddrm_official.npz (commit ad4034c).

Three settings on one small data set: a as the script for ml-1m, with more reverse calls than steps; b with strong
noise, the pair's score as a weight and noise in the chain; c with one hidden layer. The file holds inputs, injected
noise, weights and outputs only; docs/models/ddrm.md says how it was made.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import FROZEN_DATA, frozen_network, near

from recbole_diffusion.diffusion import sample
from recbole_diffusion.model.embeddings.embedding_diffusion import EmbeddingDiffusion, EmbeddingNoise
from recbole_diffusion.model.general_recommender.ddrm import DDRM
from recbole_diffusion.model.geometry.space import FLAT
from recbole_diffusion.model.interactions.propagation import row_means
from recbole_diffusion.model.rows.history import InteractionMatrix

FROZEN = np.load(FROZEN_DATA / "ddrm_official.npz")
_STRONG = {"infer_factor": 1.0, "noise_scale": 1.0}
SETTINGS = {
    "a": {"dims": [6, 10], "mlp_act_func": "relu", "steps": 5, "infer_factor": 1.25, "noise_scale": 1e-2,
          "noise_min": 1e-4, "noise_max": 1e-3, "recon_weight": 0.1, "reweight_gamma": 0.0},
    "b": {"dims": [6, 10], "mlp_act_func": "sigmoid", "steps": 4, **_STRONG,
          "noise_min": 0.1, "noise_max": 0.5, "recon_weight": 0.4, "reweight_gamma": 1.0},
    "c": {"dims": [12], "mlp_act_func": "tanh", "steps": 3, **_STRONG,
          "noise_min": 0.05, "noise_max": 0.6, "recon_weight": 0.3, "reweight_gamma": 0.5},
}  # fmt: skip
CASES = pytest.mark.parametrize("case", SETTINGS)
COMMON = {
    "noise_schedule": "linear-var",
    "beta_fixed": True,
    "prediction_type": "x0",
    "time_emb_size": 10,
    "norm": False,
}
COMMON |= {
    "guidance": True,
    "dropout_prob": 0.5,
    "sampling_steps": None,
    "inference_steps": None,
    "sampling_noise": False,
    "eval_seed": 1,
}


def frozen(key):
    return torch.from_numpy(np.asarray(FROZEN[key]))


def diffusion_of(case, **more):
    settings = {**COMMON, **SETTINGS[case], **more}
    net = EmbeddingDiffusion(settings, 8, EmbeddingNoise(settings))
    for mine, theirs in (("user_denoiser", "user_net"), ("item_denoiser", "item_net")):
        getattr(net, mine).load_state_dict(frozen_network(FROZEN, f"{case}_{theirs}."))
    return net.eval()


def model_of(case, net):
    """DDRM's own loss on the frozen tables, without a data set."""
    model = SimpleNamespace(
        tables=lambda: (frozen("user"), frozen("item")),
        diffusion=net,
        mix=1.0,
        averaged=True,
        space=FLAT,
        base=SimpleNamespace(net=None),
        recon_weight=SETTINGS[case]["recon_weight"],
        reweight_gamma=SETTINGS[case]["reweight_gamma"],
        _triples=lambda _: tuple(frozen(f"{case}_{name}") for name in ("users", "positives", "negatives")),
    )
    model.triple_losses = lambda *args: DDRM.triple_losses(model, *args)
    model._sum_over_blocks = lambda *args: DDRM._sum_over_blocks(model, *args)
    return model


def loss_of(case, net, monkeypatch):
    noises = iter([frozen(f"{case}_user_noise"), frozen(f"{case}_item_noise")])
    monkeypatch.setattr(torch, "randn", lambda *size, device: next(noises))
    monkeypatch.setattr(net, "sample_times", lambda size, device: frozen(f"{case}_t"))
    return sum(DDRM.calculate_loss(model_of(case, net), None))


def gradients(case, net):
    for mine, theirs in (("user_denoiser", "user_net"), ("item_denoiser", "item_net")):
        expected = frozen_network(FROZEN, f"{case}_grad.{theirs}.")
        for name, parameter in getattr(net, mine).named_parameters():
            yield parameter.grad, expected[name]


@CASES
def test_schedule(case):
    process = diffusion_of(case).noise.process
    for mine, theirs in {
        "betas": "betas",
        "alpha_bar": "alphas_cumprod",
        "coef_x0": "posterior_mean_coef1",
        "coef_xt": "posterior_mean_coef2",
    }.items():
        torch.testing.assert_close(getattr(process, mine), frozen(f"{case}_{theirs}"), rtol=1e-9, atol=1e-12)


@CASES
def test_networks_and_parts_of_the_loss(case):
    net = diffusion_of(case)
    user, item = frozen("user")[frozen(f"{case}_users")], frozen("item")[frozen(f"{case}_positives")]
    pairs = net.denoise_pairs(
        user, item, frozen(f"{case}_t"), frozen(f"{case}_user_noise"), frozen(f"{case}_item_noise")
    )
    near(pairs.user, frozen(f"{case}_user_out"))
    near(pairs.item, frozen(f"{case}_item_out"))
    near(pairs.error, frozen(f"{case}_recon"))
    negatives = frozen("item")[frozen(f"{case}_negatives")]
    bpr, recon = DDRM.triple_losses(model_of(case, net), pairs, negatives)
    weight = frozen(f"{case}_weight")
    near(bpr, weight * frozen(f"{case}_bpr"))
    near(recon, weight * frozen(f"{case}_recon"))


@CASES
def test_loss_gradients_and_three_steps(case, monkeypatch):
    net = diffusion_of(case)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)  # one for both, as two with equal settings
    losses = []
    for step in range(3):
        loss = loss_of(case, net, monkeypatch)
        optimiser.zero_grad()
        loss.backward()
        if step == 0:
            near(loss.detach(), frozen(f"{case}_loss"))
            for mine, expected in gradients(case, net):
                torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-7)
        optimiser.step()
        losses.append(loss.detach())
    near(torch.stack(losses), frozen(f"{case}_losses"))
    for mine, theirs in (("user_denoiser", "user_net"), ("item_denoiser", "item_net")):
        for name, expected in frozen_network(FROZEN, f"{case}_after.{theirs}.").items():
            near(getattr(net, mine).state_dict()[name], expected)


def test_dropout_is_on_the_noised_embedding_alone(monkeypatch):
    net = diffusion_of("a").train()
    masks = iter([frozen("a_user_mask"), frozen("a_item_mask")])
    monkeypatch.setattr(
        "recbole_diffusion.model.networks.conditional_mlp.dropout", lambda x, p, training: x * next(masks)
    )
    near(loss_of("a", net, monkeypatch).detach(), frozen("a_dropped_loss"))


def test_history_mean():
    pairs = FROZEN["pairs"]
    history = InteractionMatrix.of(pairs[:, 0], pairs[:, 1] + 1, (9, 14))
    near(row_means(history.indptr, history.items, history.n_columns)(frozen("item")), frozen("history_mean"))


@CASES
def test_chain_and_scores(case, monkeypatch):
    net = diffusion_of(case)
    monkeypatch.setattr(
        "recbole_diffusion.model.embeddings.embedding_diffusion.randn", lambda *_: frozen(f"{case}_start_noise")
    )
    states = []
    with torch.no_grad():
        folded = net.generate(frozen("history_mean"), frozen("user"))
        plain = net.generate(frozen("history_mean"), frozen("user"), callback=lambda t, out, x: states.append(x))
    near(torch.stack(states), frozen(f"{case}_states"))
    for found in (folded, plain):
        near(found, frozen(f"{case}_generated"))
        near(FLAT.user_factor(found) @ FLAT.item_factor(frozen("item")).t(), frozen(f"{case}_scores"))
    noised = net.noise(frozen("history_mean"), torch.full((9,), net.steps - 1), frozen(f"{case}_start_noise"), False)
    near(noised, frozen(f"{case}_start"))


def test_noise_in_the_chain(monkeypatch):
    net = diffusion_of("b", sampling_noise=True)
    noises = iter(frozen("b_chain_noise"))
    monkeypatch.setattr("recbole_diffusion.diffusion.sampler.randn", lambda *_: next(noises))
    with torch.no_grad():
        found = sample(lambda x, t: net.item_denoiser(x, t, frozen("user")), frozen("b_start"), net.reverse)
    near(found, frozen("b_noisy_generated"))
