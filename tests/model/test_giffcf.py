"""GiffCF's graph, its start and its keys, against numpy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from recbole_diffusion.model.general_recommender import giffcf
from recbole_diffusion.model.interactions import item_graph
from recbole_diffusion.model.interactions.item_graph import ItemGraph
from recbole_diffusion.model.networks.mixing import STRENGTHS, Condition, Mixer, MixingNetwork
from recbole_diffusion.model.rows.graph_diffusion import row_norms
from recbole_diffusion.model.rows.history import SparseRows

#: Four users, five items.
X = np.array([[1, 1, 0, 0, 1], [0, 1, 1, 0, 0], [1, 0, 1, 1, 0], [0, 0, 1, 1, 1]], dtype=np.float64)
QUICK = {"embedding_size": 8}
USERS = torch.arange(1, 9)
FORMS = pytest.mark.parametrize("dense", [True, False], ids=["dense", "sparse"])


def rows_and_model(built, **more):
    _, model, *_ = built("GiffCF", **{**QUICK, **more})
    model.eval()
    return model.history.rows(USERS), model


def by_hand(x, user_power=-0.25):
    """A in numpy, without sparse matrices."""
    users, items = x.sum(1), x.sum(0)
    factor = np.diag([d**user_power if d else 0 for d in users]) @ x @ np.diag([d**-0.5 if d else 0 for d in items])
    return factor.T @ factor / np.linalg.svd(factor, compute_uv=False)[0] ** 2


@FORMS
def test_the_graph_of_four_users_and_five_items(dense):
    graph = ItemGraph(csr_matrix(X), dense=dense)
    a = graph(torch.eye(5)).numpy()
    np.testing.assert_allclose(a[0], [0.344112, 0.172056, 0.140483, 0.172056, 0.172056], atol=1e-6)
    np.testing.assert_allclose(a, by_hand(X), atol=1e-6)
    assert np.linalg.norm(a, 2) == pytest.approx(1, abs=1e-5)
    assert item_graph._top_eigenpairs(item_graph._factor(csr_matrix(X), -0.25), 1)[0][0] ** 0.5 == pytest.approx(
        1.2952980785
    )


@FORMS
@pytest.mark.parametrize("user_power", [-0.5, 0.0])
def test_users_and_items_without_interactions_have_weight_zero(dense, user_power):
    x = np.zeros((6, 7))
    x[1:5, 1:6] = X
    graph = ItemGraph(csr_matrix(x), user_power, dense=dense)
    a = graph(torch.eye(7)).numpy()
    assert np.isfinite(a).all()
    assert not a[0].any()
    assert not a[6].any()
    np.testing.assert_allclose(a[1:6, 1:6], by_hand(X, user_power), atol=1e-6)


@FORMS
def test_the_ideal_filter_projects_on_the_eigenvectors(dense):
    graph = ItemGraph(csr_matrix(X), ideal_weight=0.3, ideal_cutoff=2, dense=dense)
    a = by_hand(X)
    _, vectors = np.linalg.eigh(a)
    expected = (X @ a + 0.3 * X @ vectors[:, -2:] @ vectors[:, -2:].T) / 1.3
    rows = torch.from_numpy(X).float()
    np.testing.assert_allclose(graph(rows).numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(graph.sparse_forward(SparseRows.of(rows)).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("iterated", [True, False])
def test_eigenvectors_fall_in_eigenvalue_and_have_fixed_signs(iterated, monkeypatch):
    if iterated:
        monkeypatch.setattr(item_graph, "MAX_FULL_SPECTRUM", 0)
    vectors = ItemGraph(csr_matrix(X)).eigenvectors(3).numpy()
    values, expected = np.linalg.eigh(by_hand(X))
    np.testing.assert_allclose(np.abs(vectors), np.abs(expected[:, ::-1][:, :3]), atol=1e-6)
    np.testing.assert_allclose(by_hand(X) @ vectors, vectors * values[::-1][:3], atol=1e-6)
    assert (vectors[np.abs(vectors).argmax(0), range(3)] > 0).all()


def test_a_linear_mixer_is_the_linear_map():
    mixer = Mixer(3).double()
    mixer.start_linear((0.5, -2.0, 3.0))
    x, y, row = torch.randn(4, 6).double(), torch.randn(4, 6).double(), torch.randn(4, 1).double()
    torch.testing.assert_close(mixer(row, x, y), 0.5 * x - 2 * y + 3 * row, rtol=1e-6, atol=1e-6)


def test_a_mixer_is_the_perceptron_on_the_stacked_inputs():
    mixer = Mixer(3).double()
    x, y, row = torch.randn(4, 6).double(), torch.randn(4, 6).double(), torch.randn(4, 1).double()
    stacked = torch.stack([x, y, row.expand(4, 6)], dim=-1)
    expected = mixer.out(torch.nn.functional.silu(mixer.hidden(stacked))).squeeze(-1)
    torch.testing.assert_close(mixer(row, x, y), expected)


@pytest.mark.parametrize("rows_need_it", [True, False])
def test_the_gradient_of_a_mixer(rows_need_it):
    """Against finite differences and, in float64, against autograd on the stacked inputs."""
    torch.manual_seed(0)
    mixer = Mixer(3).double()
    x, y, row = torch.randn(4, 6).double(), torch.randn(4, 6).double(), torch.randn(4, 1).double()
    x.requires_grad_()
    row.requires_grad_()
    y.requires_grad_(rows_need_it)
    assert torch.autograd.gradcheck(mixer, (row, x, y))
    stacked = torch.stack([x, y, row.expand(4, 6)], dim=-1)
    expected = mixer.out(torch.nn.functional.silu(mixer.hidden(stacked))).squeeze(-1)
    wanted = [row, x, *mixer.parameters()]
    for ours, theirs in zip(
        torch.autograd.grad(mixer(row, x, y).square().sum(), wanted),
        torch.autograd.grad(expected.square().sum(), wanted),
    ):
        torch.testing.assert_close(ours, theirs)


def test_the_spectral_start_by_hand():
    """The scores are half of (z E / I + c E / |c|) E' plus the smoothed row, whatever the step."""
    graph, rows = ItemGraph(csr_matrix(X)), torch.from_numpy(X)
    net = MixingNetwork(5, 4)
    net.start_spectral(graph.eigenvectors(4))
    _, vectors = np.linalg.eigh(by_hand(X))
    strengths = [STRENGTHS[0], *np.linspace(STRENGTHS[1], STRENGTHS[2], 3)]
    gram = sum(s**2 * np.outer(v, v) for s, v in zip(strengths, vectors.T[::-1]))
    smoothed = X @ by_hand(X)
    expected = 0.5 * (smoothed / 5 + X / X.sum(1, keepdims=True)) @ gram + smoothed
    embedded = rows.float() @ net.items / rows.sum(1, keepdim=True).float()
    condition = (rows.float(), torch.from_numpy(smoothed).float(), embedded)
    for t in range(3):
        with torch.no_grad():
            out = net(torch.from_numpy(smoothed).float(), torch.full((4,), t), Condition(*condition))
        np.testing.assert_allclose(out.numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dense", ["dense", "sparse"])
def test_rows_that_are_smoothed_once_train_as_rows_that_are_smoothed_in_each_batch(dense, built, monkeypatch):
    def loss_and_gradients(limit):
        monkeypatch.setattr(giffcf, "MAX_SMOOTHED_BYTES", limit)
        monkeypatch.setattr(giffcf, "SMOOTHED_BLOCK", 7)
        _, model, *_ = built("GiffCF", **QUICK, item_graph=dense)
        model.train()
        torch.manual_seed(3)
        losses = [model.calculate_loss({"user_id": users}) for users in (USERS, USERS + 5)]
        assert (model._smoothed is None) == (limit == 0)
        return [*losses, *torch.autograd.grad(sum(losses), list(model.parameters()))]

    for cached, fresh in zip(loss_and_gradients(2**28), loss_and_gradients(0)):
        torch.testing.assert_close(cached, fresh, rtol=1e-6, atol=1e-6)


def test_the_rows_that_are_smoothed_once_are_not_saved(built):
    _, model, *_ = built("GiffCF", **QUICK)
    model.train().calculate_loss({"user_id": USERS})
    assert model._smoothed.shape == (len(model.history.indptr) - 1, model.history.n_columns)
    assert copy.deepcopy(model)._smoothed is None
    assert not any("smoothed" in key for key in model.state_dict())


@pytest.mark.parametrize(("probability", "rescale"), [(0.5, True), (0.5, False), (0.0, True)])
def test_dropped_entries_are_left_out_of_the_sparse_rows(probability, rescale, built):
    _, model, *_ = built("GiffCF", **QUICK, dropout_prob=probability, dropout_rescale=rescale)
    rows = model.train().history.sparse(USERS)
    torch.manual_seed(1)
    dropped = model.diffusion._dropped(rows)
    torch.manual_seed(1)
    values = torch.nn.functional.dropout(rows.values, probability)
    expected = rows._replace(values=values if rescale else values * (1 - probability)).dense()
    assert torch.equal(dropped.dense(), expected)
    assert len(dropped.values) == int((expected != 0).sum())
    assert torch.equal(model.eval().diffusion._dropped(rows).dense(), rows.dense())


def test_the_mixers_start_linear_but_for_noise(built):
    """The noise has the standard deviation of the key, comes from the seed, and leaves the item matrix."""

    def parts(**keys):
        net = rows_and_model(built, split_seed=1, **keys)[1].diffusion.denoiser
        mixers = [*net.item_mixer.parameters(), *net.latent_mixer.parameters()]
        return net.items, torch.cat([parameter.detach().flatten() for parameter in mixers])

    items, linear = parts(mixer_noise=0.0)
    assert torch.equal(parts()[1], linear)
    assert linear.tolist() == [0.5, 0, 1, 0, -0.5, 0, -1, 0, 0, 0, 1, -1, 0, 1, 1, 0, -1, -1, 0, 0, 0, 1, -1, 0]
    for seed in (1, 2):
        assert torch.equal(parts(seed=seed)[1], linear)
    added = torch.stack([parts(seed=seed, mixer_noise=0.3)[1] - linear for seed in range(20)])
    assert added.mean().abs() < 0.05
    assert float(added.std()) == pytest.approx(0.3, rel=0.1)
    doubled = parts(seed=0, mixer_noise=0.6)
    torch.testing.assert_close(doubled[1] - linear, 2 * added[0])
    assert torch.equal(doubled[0], items)


def test_the_start_does_not_depend_on_the_seed_and_the_official_one_does(built):
    def items(**keys):
        return rows_and_model(built, split_seed=1, **keys)[1].diffusion.denoiser.items

    assert torch.equal(items(seed=1), items(seed=2))
    assert not torch.equal(items(seed=1, item_init="glorot"), items(seed=2, item_init="glorot"))


def test_a_start_wider_than_the_graph_keeps_random_columns(built):
    _, model = rows_and_model(built, embedding_size=50)
    items = model.diffusion.denoiser.items
    assert items.shape == (40, 50)
    assert bool((items[:, 40:].abs() <= (6 / 90) ** 0.5).all())
    assert bool((items.norm(dim=0) > 0).all())


@pytest.mark.parametrize("order", [1, 2])
def test_norms_of_sparse_rows(order):
    dense = torch.tensor([[1.0, -2.0, 0.0], [0.0, 0.0, 0.0], [3.0, 4.0, 0.5]])
    expected = torch.linalg.vector_norm(dense, ord=order, dim=1)
    torch.testing.assert_close(row_norms(SparseRows.of(dense), order), expected)


def test_dense_and_sparse_graphs_give_the_same_scores(built):
    scores = []
    for form in ("auto", "dense", "sparse"):
        _, model = rows_and_model(built, item_graph=form, ideal_weight=0.2, ideal_cutoff=3, seed=1)
        assert (model.diffusion.graph.matrix is None) is (form == "sparse")
        scores.append(model.full_sort_predict({"user_id": USERS})[:, 1:])
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(scores[2], scores[0], rtol=1e-4, atol=1e-4)


def test_fewer_steps_start_from_a_less_smoothed_row(built):
    rows, model = rows_and_model(built, inference_steps=1, noise_decay=0.0)
    diffusion = model.diffusion
    condition = diffusion.condition(SparseRows.of(rows))
    with torch.no_grad():
        start = rows + 0.5 * (diffusion.graph(rows) - rows)
        expected = diffusion.denoiser(start, torch.zeros(8, dtype=torch.int64), condition)
        torch.testing.assert_close(model.denoise(SparseRows.of(rows)), expected, rtol=1e-5, atol=1e-5)
    assert model.nfe == 1


@pytest.mark.parametrize(("rescale", "value"), [(True, 2.0), (False, 1.0)])
def test_dropout_acts_on_the_condition_alone(rescale, value, built):
    rows, model = rows_and_model(built, dropout_rescale=rescale)
    diffusion, seen = model.diffusion.train(), {}
    forward = diffusion.denoiser.forward
    diffusion.denoiser.forward = lambda x, t, condition: seen.update(x=x, c=condition.rows) or forward(x, t, condition)
    torch.manual_seed(0)
    diffusion.loss(SparseRows.of(rows))
    torch.manual_seed(0)
    t = diffusion.timesteps.sample(8).t
    torch.testing.assert_close(seen["x"], diffusion.process.sample(rows, t, rows).x_t, rtol=1e-5, atol=1e-5)
    assert set(seen["c"][rows > 0].unique().tolist()) == {0.0, value}
    assert not seen["c"][rows == 0].any()


def test_the_loss_is_the_sum_over_the_items(built):
    rows, model = rows_and_model(built, dropout_prob=0.0, steps=1)
    diffusion = model.diffusion
    with torch.no_grad():
        t = torch.zeros(8, dtype=torch.int64)
        x_t = diffusion.process.sample(rows, t, rows).x_t
        out = diffusion.denoiser(x_t, t, diffusion.condition(SparseRows.of(rows)))
        expected = (out - rows).square().sum(dim=1).mean()
        loss = model.calculate_loss({"user_id": USERS})
    torch.testing.assert_close(loss.float(), expected)


def test_the_item_matrix_may_have_its_own_learning_rate(built):
    _, model = rows_and_model(built, item_learning_rate=0.5)
    items, others = model.parameter_groups()
    assert items["params"] == [model.diffusion.denoiser.items]
    assert (items["lr"], items["eps"], others["eps"]) == (0.5, 1e-7, 1e-7)
    assert len(others["params"]) == 16
    assert "lr" not in rows_and_model(built)[1].parameter_groups()[0]


def test_a_checkpoint_is_loaded_without_eigenvectors(built, monkeypatch):
    config, model, _, loaders = built("GiffCF", **QUICK)
    monkeypatch.setattr(ItemGraph, "eigenvectors", None)
    again = type(model).from_state(config, loaders[0]._dataset, model.state_dict())
    again.load_state_dict(model.state_dict())
    scores = (each.eval().full_sort_predict({"user_id": USERS}) for each in (model, again))
    torch.testing.assert_close(*scores)
    assert not [key for key in model.state_dict() if "graph" in key or "smooth" in key]


def test_the_weighted_graph_differs_from_the_binary_one(built):
    """gram: weighted uses the rows' weights, sums of weights as degrees."""
    graphs = {}
    for gram in ("binary", "weighted"):
        _, model = rows_and_model(built, row_weights="recency", gram=gram)
        x = model.history.csr().toarray()
        expected = by_hand(x if gram == "weighted" else (x > 0).astype(float))
        graphs[gram] = model.diffusion.graph.matrix.numpy()
        np.testing.assert_allclose(graphs[gram], expected, atol=1e-5)
    assert np.abs(graphs["binary"] - graphs["weighted"]).max() > 1e-3


def test_new_users_are_scored_from_their_rows(built):
    rows, model = rows_and_model(built)
    scores = model.full_sort_predict({"user_id": USERS})[:, 1:]
    with torch.no_grad():
        torch.testing.assert_close(model.denoise(SparseRows.of(rows)), scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"inference_steps": 4}, "inference_steps=4 is more than steps=3; allowed: at most steps"),
        ({"item_init": "eigen"}, "item_init='eigen' is not allowed"),
        ({"norm_ord": 3}, "norm_ord=3 is not allowed"),
        ({"user_power": 0.5}, "user_power=0.5 is not allowed"),
    ],
    ids=str,
)
def test_slips_are_named(keys, message, built):
    with pytest.raises(ValueError, match=message):
        built("GiffCF", **QUICK, **keys)
