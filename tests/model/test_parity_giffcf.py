"""Numbers of the official GiffCF, frozen in tests/frozen/giffcf_official.npz (commit 3f67e02, TensorFlow 2.14).

The file holds inputs, draws, weights and outputs only; docs/models/giffcf.md says how it was made.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import FROZEN_DATA
from scipy.sparse import csr_matrix

from recbole_diffusion.diffusion import GraphSolver, Timesteps
from recbole_diffusion.model.interactions import item_graph
from recbole_diffusion.model.interactions.item_graph import ItemGraph
from recbole_diffusion.model.networks.denoiser import timestep_embedding
from recbole_diffusion.model.networks.mixing import ABLATIONS, MixingNetwork
from recbole_diffusion.model.rows.graph_diffusion import GraphDiffusion
from recbole_diffusion.model.rows.history import SparseRows

FROZEN = np.load(FROZEN_DATA / "giffcf_official.npz")
KEYS = {
    "steps": 3,
    "inference_steps": None,
    "alpha": 1.5,
    "noise_scale": 0.0,
    "noise_decay": 0.5,
    "dropout_prob": 0.5,
    "dropout_rescale": True,
    "norm_ord": 1,
    "embedding_size": 5,
    "ablation": "none",
}
#: Inputs that the mixers of the official ablations have.
MIXED = {"wo_latent": [1, 2], "wo_precond": [0, 2], "wo_postcond": [0, 3]}


def frozen(key):
    return torch.from_numpy(np.asarray(FROZEN[key]))


def renamed(prefix):
    """Theirs are (inputs, outputs); their time embedding has the sines first, ours the cosines."""
    state = {"items": frozen(f"{prefix}/items")}
    for net in ("latent_time", "item_time", "latent_mixer", "item_mixer"):
        for layer in ("hidden", "out"):
            kernel = frozen(f"{prefix}/{net}.{layer}.kernel").t()
            if net.endswith("time") and layer == "hidden":
                kernel = kernel.roll(10, dims=1)
            state[f"{net}.{layer}.weight"] = kernel
            state[f"{net}.{layer}.bias"] = frozen(f"{prefix}/{net}.{layer}.bias")
    return state


@pytest.fixture(params=[True, False], ids=["dense", "sparse"])
def graph(request):
    return ItemGraph(csr_matrix(FROZEN["x"]), dense=request.param)


def made(graph, **keys):
    """The diffusion with the official weights."""
    diffusion = GraphDiffusion({**KEYS, **keys}, graph)
    diffusion.denoiser.load_state_dict(renamed("net"))
    return diffusion


def rows(key="x"):
    return SparseRows.of(frozen(key))


def test_made_by_the_commit_that_is_named():
    assert str(FROZEN["meta/commit"]).startswith("3f67e02")


def test_the_graph(graph):
    torch.testing.assert_close(graph(frozen("x")), frozen("graph/smoothed"), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(graph.sparse_forward(rows()), frozen("graph/smoothed"), rtol=1e-5, atol=1e-6)
    factor = item_graph._factor(csr_matrix(FROZEN["x"]), -0.25)
    top = item_graph._top_eigenpairs(factor, 1)[0][0]
    assert top == pytest.approx(float(FROZEN["graph/top_eigenvalue"]), rel=1e-6)


@pytest.mark.parametrize("dense", [True, False])
def test_the_graph_with_an_ideal_filter(dense):
    graph = ItemGraph(csr_matrix(FROZEN["x"]), ideal_weight=0.2, ideal_cutoff=4, dense=dense)
    torch.testing.assert_close(graph(frozen("x")), frozen("graph/ideal"), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(graph.sparse_forward(rows()), frozen("graph/ideal"), rtol=1e-5, atol=1e-6)
    scores = made(graph).eval().denoise(rows())
    torch.testing.assert_close(scores, frozen("infer/ideal"), rtol=1e-5, atol=2e-5)


def test_smoothing_at_every_step(graph):
    x, expected = frozen("x"), frozen("filter")
    process = made(graph).process
    assert torch.equal(x, expected[0])
    for t in range(3):
        times = torch.full((len(x),), t)
        point = process.sample(x, times, process.source(x, torch.randn_like))
        torch.testing.assert_close(point.x_t, expected[t + 1], rtol=1e-5, atol=1e-6)


def test_the_time_embedding():
    expected = frozen("sinusoids")[1:].roll(10, dims=1)
    torch.testing.assert_close(timestep_embedding(torch.arange(1, 4), 20), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", [1, 2, None])
def test_network(norm, graph):
    diffusion = made(graph, norm_ord=norm)
    condition = diffusion.condition(rows("net/c"))
    for t, expected in enumerate(frozen(f"net/out/{norm}")):
        out = diffusion.denoiser(frozen("net/z"), torch.full((12,), t), condition)
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("ablation", ABLATIONS[1:])
def test_ablations(ablation, graph):
    """The official ablation has a mixer of fewer inputs, ours an input of zeros."""
    diffusion = made(graph, ablation=ablation)
    out = diffusion.denoiser(frozen("net/z"), torch.full((12,), 1), diffusion.condition(rows("net/c")))
    torch.testing.assert_close(out, frozen(f"ablation/{ablation}"), rtol=1e-5, atol=2e-5)
    assert len(MIXED[ablation]) == 2


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_loss_its_gradient_and_three_steps_of_adam(noise, graph, monkeypatch):
    diffusion = made(graph, noise_scale=noise).train()
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=1e-3, eps=1e-7)
    before, gradients = renamed("net"), renamed(f"train/{noise}/gradient")
    for step in range(3):
        t, dropped, eps = (frozen(f"train/{noise}/{key}")[step] for key in ("t", "c", "eps"))
        timesteps = Timesteps(t - 1, torch.ones(len(t), dtype=torch.float64))
        monkeypatch.setattr(diffusion.timesteps, "sample", lambda n, drawn=timesteps: drawn)
        monkeypatch.setattr(diffusion, "_dropped", lambda rows, c=dropped: SparseRows.of(c))
        monkeypatch.setattr(torch, "randn_like", lambda x, z=eps: z)
        loss = diffusion.loss(rows())
        optimizer.zero_grad()
        loss.backward()
        torch.testing.assert_close(loss.item(), float(FROZEN[f"train/{noise}/loss"][step]), rtol=1e-5, atol=0)
        if step == 0:
            for key, parameter in diffusion.denoiser.named_parameters():
                scale = float(gradients[key].abs().max())
                torch.testing.assert_close(parameter.grad, gradients[key], rtol=1e-4, atol=1e-4 * scale, msg=key)
        optimizer.step()
    after = renamed(f"train/{noise}/after")
    compared = set()
    for key, value in diffusion.denoiser.named_parameters():
        # Keras adds epsilon before its correction of the second moment, torch after it: gradients near it differ.
        large = gradients[key].abs() > 1e-3
        moved = (after[key] - before[key]).abs().max()
        assert moved > 1e-3
        if large.any():
            compared.add(key)
            difference = (value.detach() - after[key]).abs()[large].max()
            assert difference < 0.005 * moved, (key, difference)
    assert compared >= {key for key in before if "time" not in key}


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_inference(decay, graph):
    scores = made(graph, noise_decay=decay).eval().denoise(rows())
    torch.testing.assert_close(scores, frozen(f"infer/{decay}"), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("key", "levels"), [("0-3", [3, 0]), ("0-1", [1, 0]), ("0-1-2", [2, 1, 0])])
def test_inference_on_fewer_levels(key, levels, graph):
    diffusion = made(graph).eval()
    diffusion.solver = GraphSolver(diffusion.process, levels, 0.5)
    torch.testing.assert_close(diffusion.denoise(rows()), frozen(f"infer/{key}"), rtol=1e-5, atol=2e-5)
    if levels[-2] == 1:
        fewer = made(graph, inference_steps=len(levels) - 1).eval()
        torch.testing.assert_close(fewer.denoise(rows()), frozen(f"infer/{key}"), rtol=1e-5, atol=2e-5)


def test_parameter_count_at_the_official_settings_of_ml_1m():
    assert sum(parameter.numel() for parameter in MixingNetwork(2810, 200).parameters()) == 562_906
