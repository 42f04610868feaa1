"""Numbers of the official DiffRec code, frozen in tests/data/diffrec_official.npz (commit d35a6c6).

The file holds inputs, injected noise, weights and outputs only; docs/models/diffrec.md says how it was made.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import FROZEN_DATA

from recbole_diffusion.diffusion import GaussianDiffusion, LossSecondMomentTimesteps, Timesteps, make_betas, sample
from recbole_diffusion.model.general_recommender.diffrec import DiffRec
from recbole_diffusion.model.networks.denoiser import RowMLP
from recbole_diffusion.model.rows.vector_diffusion import VectorDiffusion

FROZEN = np.load(FROZEN_DATA / "diffrec_official.npz")
TABLES = {
    "betas": "betas",
    "alphas_cumprod": "alpha_bar",
    "posterior_variance": "posterior_variance",
    "posterior_mean_coef1": "coef_x0",
    "posterior_mean_coef2": "coef_xt",
}


def frozen(key):
    return torch.from_numpy(np.asarray(FROZEN[key]))


def process(name="linear-var", fixed=True, prediction="x0"):
    betas = make_betas(name, 7, noise_scale=0.1, noise_min=0.001, noise_max=0.02, beta_fixed=fixed)
    return GaussianDiffusion(betas, prediction)


def network(group="net", time_size=4, normalize=False):
    """Ours with the official weights: their first layer is our input and time_input side by side."""
    net = RowMLP([23, 5, 8, 5, 23], time_size=time_size, dropout=0.0, normalize=normalize)
    load(net, f"{group}/state/")
    return net


def load(net, prefix):
    net.load_state_dict(renamed(prefix))


def renamed(prefix):
    theirs = {key[len(prefix) :]: frozen(key) for key in FROZEN.files if key.startswith(prefix)}
    first = theirs["in_layers.0.weight"]
    return {
        "time.weight": theirs["emb_layer.weight"],
        "time.bias": theirs["emb_layer.bias"],
        "input.weight": first[:, :23],
        "input.bias": theirs["in_layers.0.bias"],
        "time_input.weight": first[:, 23:],
        "hidden.0.weight": theirs["in_layers.1.weight"],
        "hidden.0.bias": theirs["in_layers.1.bias"],
        "hidden.1.weight": theirs["out_layers.0.weight"],
        "hidden.1.bias": theirs["out_layers.0.bias"],
        "output.weight": theirs["out_layers.1.weight"],
        "output.bias": theirs["out_layers.1.bias"],
    }


class Bare(VectorDiffusion):
    """DiffRec's loss and chain on given parts, without settings."""

    def __init__(self, diffusion, denoiser, sampling_steps=0, noise=False):
        torch.nn.Module.__init__(self)
        self.process, self.denoiser, self.steps = diffusion, denoiser, diffusion.steps
        self.timesteps = LossSecondMomentTimesteps(diffusion.steps)
        self.reweight, self.first_step_weight, self.sampling_steps = True, 1.0, sampling_steps
        self.reverse = diffusion.ancestral_steps(diffusion.steps, noise)


def test_made_by_the_commit_that_is_named():
    assert str(FROZEN["meta/commit"]).startswith("d35a6c6")


@pytest.mark.parametrize("name", ["linear", "linear-var", "cosine", "binomial"])
@pytest.mark.parametrize("fixed", [0, 1])
def test_schedule_tables(name, fixed):
    ours = process(name, bool(fixed))
    for theirs, mine in TABLES.items():
        expected = frozen(f"schedule/{name}/{fixed}/{theirs}")
        torch.testing.assert_close(getattr(ours, mine), expected, rtol=1e-9, atol=1e-15)


def test_schedule_and_weights_at_the_official_settings_of_ml_1m():
    betas = make_betas("linear-var", 40, noise_scale=0.005, noise_min=0.005, noise_max=0.01, beta_fixed=True)
    ours = GaussianDiffusion(betas)
    for theirs, mine in TABLES.items():
        expected = frozen(f"schedule/ml-1m_clean/{theirs}")
        torch.testing.assert_close(getattr(ours, mine), expected, rtol=1e-8, atol=1e-15)
    torch.testing.assert_close(ours.loss_weights(), frozen("schedule/ml-1m_clean/weights"), rtol=1e-6, atol=0)


def test_q_sample():
    noised = process().q_sample(frozen("q/x0"), frozen("q/t"), frozen("q/noise"))
    torch.testing.assert_close(noised, frozen("q/xt"), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("group", "time_size", "normalize"), [("net", 4, False), ("net_odd", 5, True)])
def test_network(group, time_size, normalize):
    net = network(group, time_size, normalize).eval()
    out = net(frozen(f"{group}/x"), frozen(f"{group}/t"))
    torch.testing.assert_close(out, frozen(f"{group}/out"), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("prediction", ["x0", "eps"])
def test_loss_with_weights_and_importance_weights(prediction):
    group = f"loss_{prediction}"
    ts, ratio = frozen(f"{group}/ts"), frozen(f"{group}/pt")
    assert (ts == 0).any()
    model = Bare(process(prediction=prediction), network())
    loss = model.row_loss(frozen(f"{group}/x"), ts, frozen(f"{group}/noise")).loss
    torch.testing.assert_close(loss / ratio, frozen(f"{group}/loss_vector"), rtol=1e-5, atol=0)
    torch.testing.assert_close((loss / ratio).mean(), frozen(f"{group}/loss"), rtol=1e-5, atol=0)


def test_importance_sampling():
    sampler = LossSecondMomentTimesteps(7)
    for ts, losses, history, count in zip(
        *(frozen(f"hist/{key}") for key in ("ts", "losses", "history_each", "count_each"))
    ):
        sampler.update(ts, losses)
        assert torch.equal(sampler.count, count)
        assert torch.equal(sampler.losses, history)
    torch.testing.assert_close(sampler.probabilities(), frozen("hist/p"), rtol=1e-12, atol=0)
    drawn = sampler.probabilities()[frozen("hist/drawn_ts")] * 7
    torch.testing.assert_close(drawn, frozen("hist/drawn_pt"), rtol=1e-12, atol=0)


def test_training_steps():
    """Three AdamW steps: losses and every weight. The history takes the weighted loss, before the ratio."""
    model = Bare(process(), network()).train()
    before = {key: value.clone() for key, value in model.denoiser.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    for place in range(3):
        ts = frozen("step/ts")[place]
        loss = model.row_loss(frozen("step/x")[place], ts, frozen("step/noise")[place]).loss
        model.timesteps.update(ts, loss)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        torch.testing.assert_close(loss.mean().detach(), frozen("step/loss")[place], rtol=1e-5, atol=0)
    after = renamed("step/after/")
    for key, value in model.denoiser.state_dict().items():
        moved = float((after[key] - before[key]).abs().max())
        assert moved > 1e-3
        torch.testing.assert_close(value, after[key], rtol=0, atol=1e-3 * moved, msg=key)


@pytest.mark.parametrize("prediction", ["x0", "eps"])
@pytest.mark.parametrize("start", ["T0", "T3"])
def test_full_inference(prediction, start, monkeypatch):
    """Both the folded chain (as the model scores) and the plain one (as a callback makes it)."""
    monkeypatch.setattr(
        "recbole_diffusion.model.rows.vector_diffusion.randn", lambda like, g=None: frozen("infer/noise_start")
    )
    model = Bare(process(prediction=prediction), network(), sampling_steps=int(start[1])).eval()
    with torch.no_grad():
        for callback in (None, lambda t, out, x: None):
            scores = model.denoise(frozen("infer/x"), callback=callback)
            torch.testing.assert_close(scores, frozen(f"infer/{prediction}/{start}"), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("prediction", ["x0", "eps"])
def test_inference_with_noise_in_every_step(prediction, monkeypatch):
    """The official loop also draws at t = 0 and multiplies by 0; ours does not draw there."""
    noises = iter(frozen("infer/noise_steps"))
    monkeypatch.setattr("recbole_diffusion.diffusion.sampler.randn", lambda like, g=None: next(noises))
    d = process(prediction=prediction)
    with torch.no_grad():
        scores = sample(network().eval(), frozen("infer/x"), d.ancestral_steps(7, noise=True))
    torch.testing.assert_close(scores, frozen(f"infer/{prediction}/noisy"), rtol=1e-5, atol=2e-6)


def test_parameter_count_at_the_official_settings_of_ml_1m():
    net = RowMLP([2810, 600, 200, 600, 2810])
    assert sum(each.numel() for each in net.parameters()) == 3_622_320


@pytest.mark.parametrize("prediction", ["x0", "eps"])
def test_the_loss_that_trains(prediction, monkeypatch):
    """calculate_loss itself: divided by the ratio, and the history gets the weighted loss before that."""
    group = f"loss_{prediction}"
    ts, ratio, vector = (frozen(f"{group}/{key}") for key in ("ts", "pt", "loss_vector"))
    seen = []
    model = DiffRec.__new__(DiffRec)
    torch.nn.Module.__init__(model)
    model.USER_ID = "user_id"
    model.history = SimpleNamespace(rows=lambda users: frozen(f"{group}/x"))
    model.diffusion = Bare(process(prediction=prediction), network())
    monkeypatch.setattr(model.diffusion.timesteps, "sample", lambda n: Timesteps(ts, ratio))
    monkeypatch.setattr(model.diffusion.timesteps, "update", lambda t, loss: seen.append(loss))
    monkeypatch.setattr(torch, "randn_like", lambda x: frozen(f"{group}/noise"))
    loss = model.calculate_loss({"user_id": torch.arange(len(ts))})
    torch.testing.assert_close(loss, frozen(f"{group}/loss"), rtol=1e-5, atol=0)
    torch.testing.assert_close(seen[0], vector * ratio, rtol=1e-5, atol=0)
