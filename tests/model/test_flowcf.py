"""FlowCF's keys, each shown to do what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_diffusion.model.rows.history import SparseRows

QUICK = {"steps": 4, "dims_dnn": [8]}
USERS = torch.arange(1, 9)


def rows_and_model(built, **more):
    _, model, _, loaders = built("FlowCF", **{**QUICK, **more})
    model.eval()
    return model.history.rows(USERS), model, loaders[0]._dataset


def test_one_step_is_one_pass_of_the_network_beside_the_data(built):
    rows, model, _ = rows_and_model(built, inference_steps=1)
    with torch.no_grad():
        expected = model.diffusion.denoiser(rows, torch.zeros(8, dtype=torch.int64))
        torch.testing.assert_close(model.denoise(SparseRows.of(rows)), expected)
    assert [rows_and_model(built, inference_steps=count)[1].nfe for count in (1, 3, None)] == [1, 3, 4]


@pytest.mark.parametrize("prior", ["popularity", "zero", "uniform"])
def test_the_prior(prior, built):
    """Against a count over the train split, with neither the padding user nor the padding item."""
    _, model, dataset = rows_and_model(built, prior=prior)
    items = dataset.inter_feat["item_id"].numpy()
    popular = np.bincount(items, minlength=41)[1:] / 64
    expected = {"popularity": popular, "zero": np.zeros(40), "uniform": np.full(40, 0.5)}[prior]
    np.testing.assert_allclose(model.diffusion.process.probabilities.numpy(), expected, rtol=1e-12)


def test_a_prior_of_zeros_only_removes_items(built):
    rows, model, _ = rows_and_model(built, prior="zero")
    process = model.diffusion.process
    x_t = process.sample(rows, torch.full((8,), 2), process.source(rows, torch.randn_like)).x_t
    assert bool((x_t <= rows).all())
    assert 0 < x_t.sum() < rows.sum()


def test_dropout_is_on_the_row_the_time_and_the_hidden_layers(built):
    """With the same x and t, two passes in training differ; each part alone makes them differ."""
    rows, model, _ = rows_and_model(built, dims_dnn=[8, 8], dropout_prob=0.5)
    net, t = model.diffusion.denoiser.train(), torch.ones(8, dtype=torch.int64)
    assert not torch.equal(net._embed_time(t, torch.float32)[0], net._embed_time(t, torch.float32)[1])
    hidden = net._hidden_layers(torch.randn(200, 8))
    assert float((hidden == 0).float().mean()) == pytest.approx(0.5, abs=0.1)  # before the last layer
    assert not torch.equal(net(rows, t), net(rows, t))
    assert torch.equal(net.eval()(rows, t), net(rows, t))


def test_the_time_reaches_the_network(built):
    rows, model, _ = rows_and_model(built)
    with torch.no_grad():
        first, last = (model.diffusion.denoiser(rows, torch.full((8,), t)) for t in (0, 3))
    assert (first - last).abs().max() > 1e-3


def test_official_names_of_the_keys_still_work(built):
    config, model, *_ = built("FlowCF", n_steps=5, s_steps=3, dims_mlp=[7], time_embedding_size=6)
    assert (config["steps"], config["inference_steps"], config["embedding_size"]) == (5, 3, 6)
    assert (model.nfe, model.diffusion.denoiser.input.out_features) == (3, 7)


def test_recency_keeps_the_weights_of_observed_items(built):
    rows, model, _ = rows_and_model(built, row_weights="recency", w_min=0.2, w_max=0.8)
    weights = rows[rows > 0]
    assert (float(weights.min()), float(weights.max())) == (pytest.approx(0.2), pytest.approx(0.8))
    states = []
    model.denoise(SparseRows.of(rows), callback=lambda t, out, x: states.append(x))
    assert torch.equal(states[0][rows > 0], rows[rows > 0])


def test_new_users_are_scored_from_their_rows(built):
    rows, model, _ = rows_and_model(built)
    scores = model.full_sort_predict({"user_id": USERS})[:, 1:]
    with torch.no_grad():
        torch.testing.assert_close(model.denoise(SparseRows.of(rows)), scores)


def test_more_inference_steps_than_steps_are_refused(built):
    with pytest.raises(ValueError, match="inference_steps=5 is more than steps=4; allowed: at most steps"):
        built("FlowCF", **QUICK, inference_steps=5)
