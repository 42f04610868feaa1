"""Numbers of the official HDRM and of its first stage, HGCF, frozen in tests/data/hdrm_official.npz.

Commits 9f90145 (HDRM) and 782a194 (HGCF). Three settings of HDRM on HGCF's tables: a as the script for ml-1m with more
reverse calls than steps; b with strong noise; c with the directional restriction. The file holds inputs, injected
noise, weights and outputs only; docs/models/hdrm.md says how it was made.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import FROZEN_DATA, frozen_network, near

from recbole_diffusion.model.embeddings.embedding_diffusion import EmbeddingDiffusion, interpolate
from recbole_diffusion.model.embeddings.embedding_recommender import EmbeddingRecommender
from recbole_diffusion.model.general_recommender.hdrm import HDRM, HyperbolicNoise
from recbole_diffusion.model.general_recommender.hgcf import HGCF
from recbole_diffusion.model.geometry.riemannian_sgd import RiemannianSGD
from recbole_diffusion.model.geometry.space import Lorentz
from recbole_diffusion.model.interactions.propagation import SparseProduct, row_means, row_normalised
from recbole_diffusion.model.rows.history import InteractionMatrix

FROZEN = np.load(FROZEN_DATA / "hdrm_official.npz")
_STRONG = {"steps": 4, "infer_factor": 1.0, "noise_scale": 1.0, "noise_min": 0.1, "noise_max": 0.5, "recon_weight": 0.3}
SETTINGS = {
    "a": {"steps": 5, "infer_factor": 1.25, "noise_scale": 1e-2, "noise_min": 1e-4, "noise_max": 1e-3},
    "b": _STRONG,
    "c": {**_STRONG, "restrict": "directional"},
}
SETTINGS["a"]["recon_weight"] = 0.05
CASES = pytest.mark.parametrize("case", SETTINGS)
COMMON = {"dims": [6, 10], "mlp_act_func": "relu", "noise_schedule": "linear-var", "beta_fixed": True}
COMMON |= {"prediction_type": "x0", "time_emb_size": 10, "norm": False, "guidance": True, "dropout_prob": 0.5}
COMMON |= {"sampling_steps": None, "inference_steps": None, "sampling_noise": False, "eval_seed": 1}
COMMON |= {"restrict": "none", "noise_order": "official", "radial_push": 0.01, "radial_steps": 2000.0}
SPACE = Lorentz(1.0)
NETWORKS = (("user_denoiser", "user_net"), ("item_denoiser", "item_net"))


def frozen(key):
    return torch.from_numpy(np.asarray(FROZEN[key]))


def diffusion_of(case):
    settings = {**COMMON, **SETTINGS[case]}
    net = EmbeddingDiffusion(settings, 8, HyperbolicNoise(settings, 1.0))
    for mine, theirs in NETWORKS:
        getattr(net, mine).load_state_dict(frozen_network(FROZEN, f"{case}_{theirs}."))
    if case == "c":  # ours come from the tables; the official ones from the batch
        net.noise.statistics = {
            users: (frozen(f"c_{kind}_mean"), frozen(f"c_{kind}_std"))
            for users, kind in ((True, "user"), (False, "item"))
        }
        net.noise.prepare = lambda user, item: None
    return net.eval()


def pairs_of(case, net):
    user, item = frozen("h_user")[frozen(f"{case}_users")], frozen("h_item")[frozen(f"{case}_positives")]
    noises = [frozen(f"{case}_{kind}_noise") for kind in ("user", "item")]
    return net.denoise_pairs(user, item, frozen(f"{case}_t"), *noises, mix=0.05)


def model_of(case, net):
    """HDRM's own loss on the frozen tables, without a data set."""
    names = ("users", "positives", "negatives")
    model = SimpleNamespace(
        tables=lambda: (frozen("h_user"), frozen("h_item")),
        diffusion=net,
        mix=0.05,
        space=SPACE,
        base=SimpleNamespace(net=None),
        margin=0.2,
        averaged=False,
        recon_weight=SETTINGS[case]["recon_weight"],
        _triples=lambda _: tuple(frozen(f"{case}_{name}") for name in names),
    )
    model.triple_losses = lambda *args: HDRM.triple_losses(model, *args)
    model._sum_over_blocks = lambda *args: EmbeddingRecommender._sum_over_blocks(model, *args)
    return model


def test_maps_of_the_hyperboloid():
    u, x, y = frozen("m_u"), frozen("m_exp"), frozen("m_v")
    torch.testing.assert_close(SPACE.exp0(u), x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(SPACE.log0(x), frozen("m_log"), rtol=1e-10, atol=1e-12)
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    distances = SPACE.sqdist(x, y)
    torch.testing.assert_close(distances.detach(), frozen("m_sqdist"), rtol=1e-10, atol=1e-12)
    # in the ambient space the gradients differ by what moves a point off the manifold: compare the Riemannian ones
    found = torch.autograd.grad(distances.sum(), (x, y))
    for point, mine, theirs in zip((x, y), found, (frozen("m_grad_x"), frozen("m_grad_y"))):
        torch.testing.assert_close(
            SPACE.gradient(point, mine).detach(), SPACE.gradient(point, theirs).detach(), rtol=1e-9, atol=1e-10
        )


def hgcf(table):
    """HGCF's own forward and loss on the frozen graph, without a data set."""
    pairs = FROZEN["h_pairs"]
    model = SimpleNamespace(
        space=SPACE, n_layers=3, n_users=9, margin=0.2, triples=None, USER_ID="u", ITEM_ID="i", NEG_ITEM_ID="j"
    )

    class Model(SimpleNamespace):
        def __call__(self):
            return HGCF.forward(self)

    model = Model(**vars(model), points=table.clone().requires_grad_())
    model.graph = SparseProduct(row_normalised(pairs[:, 0], pairs[:, 1], (9, 13)), table.dtype)
    batch = {"u": frozen("h_users"), "i": frozen("h_positives"), "j": frozen("h_negatives")}
    return model, lambda: HGCF.calculate_loss(model, batch)


def test_hgcf():
    model, loss = hgcf(frozen("h_table"))
    user, item = model()
    near(user.detach(), frozen("h_user"))
    near(item.detach(), frozen("h_item"))
    points = SPACE.to_points(user)[:, None].expand(-1, 13, -1), SPACE.to_points(item)[None].expand(9, -1, -1)
    distances = -SPACE.similarity(*points)
    near(distances.detach(), frozen("h_scores_sqdist"))
    scores = SPACE.user_factor(user) @ SPACE.item_factor(item).t()
    assert torch.equal(scores.argsort(1, descending=True), frozen("h_scores_sqdist").argsort(1))
    near(loss().detach(), frozen("h_loss"))
    loss().backward()
    near(model.points.grad, frozen("h_grad"))


@pytest.mark.parametrize(("table", "tables", "losses", "tolerance"), [
    ("h_table", "h_tables", "h_losses", 1e-5),
    ("h64_table", "h64_tables", "h64_losses", 1e-10),
])  # fmt: skip
def test_hgcf_four_steps(table, tables, losses, tolerance):
    model, loss = hgcf(frozen(table))
    optimiser = RiemannianSGD([model.points], SPACE, lr=0.005, momentum=0.95, weight_decay=0.01)
    for expected, expected_loss in zip(frozen(tables), frozen(losses)):
        found = loss()
        torch.testing.assert_close(found.detach(), expected_loss, rtol=tolerance, atol=tolerance)
        optimiser.zero_grad()
        found.backward()
        optimiser.step()
        torch.testing.assert_close(model.points.detach(), expected, rtol=tolerance, atol=tolerance)


@CASES
def test_schedule(case):
    process = diffusion_of(case).noise.process
    for mine, theirs in (
        ("betas", "betas"),
        ("alpha_bar", "alphas_cumprod"),
        ("coef_x0", "coef1"),
        ("coef_xt", "coef2"),
    ):
        torch.testing.assert_close(getattr(process, mine), frozen(f"{case}_{theirs}"), rtol=1e-9, atol=1e-12)


@CASES
def test_noise_networks_and_parts_of_the_loss(case):
    net = diffusion_of(case)
    for users, kind, ids in ((True, "user", "users"), (False, "item", "positives")):
        clean = frozen(f"h_{kind}")[frozen(f"{case}_{ids}")]
        near(net.noise(clean, frozen(f"{case}_t"), frozen(f"{case}_{kind}_noise"), users), frozen(f"{case}_{kind}_x"))
    pairs = pairs_of(case, net)
    near(pairs.user, frozen(f"{case}_user_mixed"))
    near(pairs.item, frozen(f"{case}_item_mixed"))
    torch.testing.assert_close(pairs.error, frozen(f"{case}_recon"), rtol=1e-4, atol=1e-8)
    rank, recon = HDRM.triple_losses(model_of(case, net), pairs, frozen("h_item")[frozen(f"{case}_negatives")])
    near(rank.sum(), frozen(f"{case}_rank"))
    torch.testing.assert_close(recon, frozen(f"{case}_recon"), rtol=1e-4, atol=1e-8)


@CASES
def test_loss_gradients_and_three_steps(case, monkeypatch):
    net = diffusion_of(case)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    monkeypatch.setattr(net, "sample_times", lambda size, device: frozen(f"{case}_t"))
    losses = []
    for step in range(3):
        noises = iter([frozen(f"{case}_user_noise"), frozen(f"{case}_item_noise")])
        monkeypatch.setattr(torch, "randn", lambda *size, device, noises=noises: next(noises))
        loss = sum(EmbeddingRecommender.calculate_loss(model_of(case, net), None))
        optimiser.zero_grad()
        loss.backward()
        if step == 0:
            near(loss.detach(), frozen(f"{case}_loss"))
            for mine, theirs in NETWORKS:
                expected = frozen_network(FROZEN, f"{case}_grad.{theirs}.")
                for name, parameter in getattr(net, mine).named_parameters():
                    torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-6)
        optimiser.step()
        losses.append(loss.detach())
    near(torch.stack(losses), frozen(f"{case}_losses"))
    for mine, theirs in NETWORKS:
        for name, expected in frozen_network(FROZEN, f"{case}_after.{theirs}.").items():
            near(getattr(net, mine).state_dict()[name], expected)


@CASES
def test_chain_mixing_and_scores(case, monkeypatch):
    net = diffusion_of(case)
    if case == "c":  # at inference the official statistics are of the users' means in the batch
        net.noise.statistics[False] = (frozen("c_start_mean"), frozen("c_start_std"))
    pairs = FROZEN["h_pairs"]
    history = InteractionMatrix.of(pairs[:, 0], pairs[:, 1] + 1, (9, 14))
    start = row_means(history.indptr, history.items, history.n_columns)(frozen("h_item"))
    near(start, frozen(f"{case}_history_mean"))
    monkeypatch.setattr(
        "recbole_diffusion.model.embeddings.embedding_diffusion.randn", lambda *_: frozen(f"{case}_start_noise")
    )
    near(
        net.noise(start, torch.full((9,), net.steps - 1), frozen(f"{case}_start_noise"), False), frozen(f"{case}_start")
    )
    with torch.no_grad():
        generated = net.generate(start, frozen("h_user"))
    near(generated, frozen(f"{case}_generated"))
    final = interpolate(frozen("h_user"), generated, 0.05)
    near(final, frozen(f"{case}_final"))
    scores = SPACE.user_factor(final) @ SPACE.item_factor(frozen("h_item")).t()
    theirs = frozen(f"{case}_scores")  # minus the squared distances: theirs order as ours
    assert torch.equal(scores.argsort(1), theirs.argsort(1))
    product = scores - SPACE.exp0(final)[:, :1]  # of Minkowski
    near(-torch.acosh(-product).square(), theirs)
