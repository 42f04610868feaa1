"""Graph filters and TEASE against their definitions in dense float64 matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from filter_models import config_of, dataset_of, filter_model
from numpy.polynomial import Polynomial
from scipy.sparse import csr_matrix

from recbole_diffusion import quick_start
from recbole_diffusion.model.general_recommender.bspm import BSPM
from recbole_diffusion.model.general_recommender.gfcf import GFCF
from recbole_diffusion.model.general_recommender.giffcf import GiffCF
from recbole_diffusion.model.general_recommender.sgfcf import SGFCF
from recbole_diffusion.model.general_recommender.tease import TEASE
from recbole_diffusion.model.general_recommender.turbocf import TurboCF
from recbole_diffusion.model.interactions import item_filter
from recbole_diffusion.model.interactions.item_filter import (
    GramProduct,
    apply_polynomial,
    polynomial_of_matrix,
    right_singular,
    symmetric,
)
from recbole_diffusion.model.rows.history import SparseRows, rank_weights
from recbole_diffusion.testing import quick

#: Four users and five items.
SMALL = np.array([[1, 1, 0, 0, 1], [0, 1, 1, 0, 0], [1, 0, 1, 1, 0], [0, 0, 1, 1, 1]], dtype=float)
MODELS = pytest.mark.parametrize("model_class", [SGFCF, BSPM, GFCF, TurboCF, TEASE])
GRAPHS = pytest.mark.parametrize("item_graph", ["dense", "sparse"])


def random_matrix(users=12, items=9, seed=0):
    """0/1; the last user and the last item have nothing."""
    matrix = (np.random.default_rng(seed).random((users, items)) < 0.4).astype(float)
    matrix[-1], matrix[:, -1] = 0, 0
    return matrix


def rows_of(matrix):
    return SparseRows.of(torch.tensor(matrix, dtype=torch.float32))


def dense_parts(matrix, cutoff):
    """P and J of the definitions, float64."""
    users, items = matrix.sum(1), matrix.sum(0)
    normal = matrix / np.sqrt(np.outer(np.where(users, users, 1), np.where(items, items, 1)))
    vectors = np.linalg.svd(normal, full_matrices=False)[2][:cutoff].T
    root = np.sqrt(items)
    inverse_root = np.where(items, 1 / np.where(items, root, 1), 0)
    return normal.T @ normal, inverse_root[:, None] * vectors @ vectors.T * root


def integrate(start, slope, duration, steps, solver):
    """The states of dr/dt = slope(r) after each step; rk4 is the method of the 3/8 rule."""
    state, h, states = start, duration / steps, []
    for _ in range(steps):
        k1 = slope(state)
        if solver == "euler":
            state = state + h * k1
        else:
            k2 = slope(state + h * k1 / 3)
            k3 = slope(state + h * (k2 - k1 / 3))
            k4 = slope(state + h * (k1 - k2 + k3))
            state = state + h * (k1 + 3 * k2 + 3 * k3 + k4) / 8
        states.append(state)
    return states


@pytest.mark.parametrize("solver", ["euler", "rk4"])
@pytest.mark.parametrize("merge", ["early", "late"])
@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("times", [(1.0, 1, 1.0, 1, 2.5, 1), (1.5, 3, 0.7, 2, 2.0, 4), (0.5, 2, 1.2, 3, 0.0, 1)])
def test_bspms_polynomial_is_the_plain_integration(solver, merge, average, times):
    keys = ("blurring_time", "blurring_steps", "ideal_time", "ideal_steps", "sharpening_time", "sharpening_steps")
    config = config_of("BSPM", solver=solver, merge=merge, average_states=average, **dict(zip(keys, times)))
    config["ideal_weight"], config["ideal_cutoff"] = 0.3, 2
    matrix = random_matrix()
    gram, ideal = dense_parts(matrix, 2)
    blurring_time, blurring_steps, ideal_time, ideal_steps, sharpening_time, sharpening_steps = times
    blurred = integrate(matrix, lambda r: r @ gram - r, blurring_time, blurring_steps, "euler")
    low = integrate(matrix, lambda r: r @ ideal - r, ideal_time, ideal_steps, "euler")[-1]
    sharpened = []
    if sharpening_time:
        start = blurred[-1] + 0.3 * low if merge == "early" else blurred[-1]
        sharpened = integrate(start, lambda r: -r @ gram, sharpening_time, sharpening_steps, solver)
    states = [*blurred, *sharpened]
    expected = np.mean(states, axis=0) if average else states[-1]
    if merge == "late" or not sharpening_time:
        expected = expected + 0.3 * low
    response = BSPM.response(None, config)
    result = matrix @ polynomial_of_matrix(response.rows, gram)
    result += matrix @ ideal @ polynomial_of_matrix(response.ideal, gram)
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"sharpening_time": 2.5, "ideal_weight": 0.2}, [0.492165, 0.544499, 0.429104, 0.297492, 0.492165]),
        (
            {"solver": "euler", "sharpening_time": 1.2, "ideal_weight": 0.3, "average_states": True},
            [0.304748, 0.402788, 0.084516, -0.009838, 0.304748],
        ),
        (
            {"sharpening_time": 2.2, "sharpening_steps": 2, "ideal_weight": 0.0, "merge": "late"},
            [0.131327, 0.143993, -0.020989, -0.025581, 0.131327],
        ),
        ({"sharpening_time": 0.0, "ideal_weight": 0.0}, [0.666667, 0.75, 0.47629, 0.333333, 0.666667]),
    ],
)
@GRAPHS
def test_bspm_by_hand(settings, expected, item_graph):
    scores = filter_model(BSPM, SMALL, item_graph=item_graph, ideal_cutoff=2, **settings).denoise(rows_of(SMALL))
    np.testing.assert_allclose(scores[0].numpy(), expected, atol=2e-6)


@GRAPHS
def test_gfcf_is_its_formula(item_graph):
    matrix = random_matrix()
    gram, ideal = dense_parts(matrix, 3)
    scores = filter_model(GFCF, matrix, item_graph=item_graph, ideal_cutoff=3, ideal_weight=0.4).denoise(
        rows_of(matrix)
    )
    np.testing.assert_allclose(scores.numpy(), matrix @ gram + 0.4 * matrix @ ideal, rtol=1e-5, atol=1e-6)


@GRAPHS
@pytest.mark.parametrize(("power", "shape"), [(1.0, "ideal"), (0.7, "second"), (1.4, "linear")])
def test_turbocf_is_its_formula(power, shape, item_graph):
    matrix = random_matrix()
    users, items = (np.where(degree, degree, 1) for degree in (matrix.sum(1), matrix.sum(0)))
    normal = users[:, None] ** -0.3 * matrix * items**-0.7
    p = (normal.T @ normal) ** power
    filters = {"linear": p, "second": 2 * p - p @ p, "ideal": p + 0.01 * (-p @ p @ p + 10 * p @ p - 29 * p)}
    model = filter_model(TurboCF, matrix, item_graph=item_graph, alpha=0.3, power=power, filter=shape)
    scores = model.denoise(rows_of(matrix)).numpy()
    np.testing.assert_allclose(scores, matrix @ filters[shape], rtol=1e-5, atol=1e-6)


@GRAPHS
@pytest.mark.parametrize(
    ("alpha", "eps", "beta", "cutoff"), [(0.0, 0.5, 1.0, 3), (7.0, 0.4, 1.6, 2), (2.0, 0.5, 0.3, 4)]
)
def test_sgfcf_is_its_formula(alpha, eps, beta, cutoff, item_graph):
    """With the users' own degrees and left singular vectors, as the paper has it; both cancel or fold."""
    matrix = random_matrix()
    normal = (matrix.sum(1) + max(alpha, 1e-9))[:, None] ** -eps * matrix * (matrix.sum(0) + max(alpha, 1e-9)) ** -eps
    left, values, right = np.linalg.svd(normal, full_matrices=False)
    spectrum = (values[:cutoff] / values[0]) ** beta
    low_rank, full_rank = (left[:, :cutoff] * spectrum) @ (right[:cutoff].T * spectrum).T, normal @ normal.T @ normal
    busy = matrix.sum(1) > 0
    expected = sum(
        weight * part[busy] / np.abs(part[busy]).sum(1, keepdims=True)
        for weight, part in ((1, low_rank), (0.6, full_rank))
    )
    settings = {"alpha": alpha, "eps": eps, "beta": beta, "ideal_cutoff": cutoff, "gamma": 0.6}
    scores = filter_model(SGFCF, matrix, item_graph=item_graph, **settings).denoise(rows_of(matrix)).numpy()
    np.testing.assert_allclose(scores[busy], expected, rtol=2e-5, atol=1e-6)
    assert not scores[~busy].any()


@pytest.mark.parametrize("gram", ["binary", "weighted"])
def test_tease_solves_a_ridge_regression_per_item(gram):
    """Each item from the others; the input row is weighted in time."""
    matrix = random_matrix()
    weighted = matrix.copy()
    users, _ = matrix.nonzero()
    weighted[matrix > 0] = rank_weights(users, np.arange(len(users)), 0.2, 0.8)
    model = filter_model(TEASE, matrix, gram=gram, reg_weight=3.0, w_min=0.2, w_max=0.8)
    x, n_items = weighted if gram == "weighted" else matrix, matrix.shape[1]
    expected = np.zeros((n_items, n_items))
    for item in range(n_items):
        others = np.delete(np.arange(n_items), item)
        left = x[:, others].T @ x[:, others] + 3.0 * np.eye(n_items - 1)
        expected[others, item] = np.linalg.solve(left, x[:, others].T @ x[:, item])
    np.testing.assert_allclose(model.fitted["matrix"].numpy(), expected, rtol=1e-4, atol=1e-6)
    scores = model.full_sort_predict({"u": torch.arange(1, len(matrix) + 1)})
    assert scores[:, 0].eq(-torch.inf).all()
    np.testing.assert_allclose(scores[:, 1:].numpy(), weighted @ expected, rtol=1e-4, atol=1e-6)


def test_tease_without_weights_is_recboles_ease(built):
    ease = built("EASE", reg_weight=20.0)
    tease = built("TEASE", reg_weight=20.0, w_min=1.0, w_max=1.0)
    batch = {"user_id": torch.arange(1, 20)}
    expected = ease.model.full_sort_predict(batch).view(19, -1)[:, 1:]
    torch.testing.assert_close(tease.model.full_sort_predict(batch)[:, 1:], expected, rtol=1e-3, atol=1e-4)


@MODELS
@GRAPHS
def test_items_and_users_without_interactions_score_zero(model_class, item_graph):
    matrix = random_matrix()
    model = filter_model(model_class, matrix, item_graph=item_graph)
    scores = model.full_sort_predict({"u": torch.arange(0, len(matrix) + 1)})[:, 1:]
    assert scores.isfinite().all()
    assert not scores[:, -1].any()
    assert not scores[[0, -1]].any()
    stranger = torch.zeros(1, matrix.shape[1])
    stranger[0, -1] = 1
    assert not model.denoise(SparseRows.of(stranger)).any()


@pytest.mark.parametrize("model_class", [SGFCF, BSPM, GFCF, TurboCF])
def test_sparse_products_give_the_scores_of_the_matrix(model_class):
    matrix = random_matrix(40, 25, 3)
    settings = {"row_weights": "recency", "gram": "weighted", "ideal_cutoff": 5}
    batch = {"u": torch.arange(1, 41)}
    dense, sparse = (
        filter_model(model_class, matrix, item_graph=graph, **settings).full_sort_predict(batch)
        for graph in ("dense", "sparse")
    )
    torch.testing.assert_close(sparse, dense, rtol=1e-4, atol=1e-6)


@MODELS
def test_scores_of_a_row_are_those_of_its_user_and_follow_its_weights(model_class):
    matrix = random_matrix()
    model = filter_model(model_class, matrix, row_weights="recency", w_min=0.2, w_max=0.9)
    users = torch.arange(1, len(matrix))
    torch.testing.assert_close(model.denoise(model.history.sparse(users)), model.full_sort_predict({"u": users})[:, 1:])
    first = matrix[0].nonzero()[0]
    weights = model.history.rows(torch.tensor([1]))[0, first].numpy()
    np.testing.assert_allclose(weights, np.linspace(0.2, 0.9, len(first)), rtol=1e-6)


@MODELS
@pytest.mark.parametrize("gram", ["binary", "weighted"])
def test_the_key_gram_decides_what_is_fitted(model_class, gram):
    """With a binary Gram matrix only the input row has weights."""
    matrix = random_matrix()
    settings = {"row_weights": "recency", "w_min": 0.2, "w_max": 0.9}
    binary = filter_model(model_class, matrix, w_min=1.0, w_max=1.0)
    fitted = filter_model(model_class, matrix, gram=gram, **settings)
    equal = all(torch.allclose(fitted.fitted[name], binary.fitted[name]) for name in binary.fitted.state_dict())
    assert equal == (gram == "binary")


@MODELS
@GRAPHS
def test_a_checkpoint_is_loaded_without_fitting(model_class, item_graph, monkeypatch):
    matrix = random_matrix()
    model = filter_model(model_class, matrix, item_graph=item_graph)
    monkeypatch.setattr(model_class, "fit", lambda *arguments: pytest.fail("fitted again"))
    config, state = config_of(model_class.__name__, item_graph=item_graph), model.state_dict()
    loaded = model_class.from_state(config, dataset_of(matrix), state)
    loaded.load_state_dict(state)
    batch = {"u": torch.arange(1, 12)}
    assert torch.equal(loaded.full_sort_predict(batch), model.full_sort_predict(batch))


@pytest.mark.parametrize("shape", [(60, 40), (40, 60)])
@pytest.mark.parametrize("method", ["full", "Lanczos", "block"])
def test_singular_vectors_are_those_of_a_full_decomposition_and_repeat(shape, method, monkeypatch):
    matrix = (np.random.default_rng(1).random(shape) < 0.2).astype(float)
    factor = symmetric(csr_matrix(matrix))
    if method != "full":
        monkeypatch.setattr(item_filter, "MAX_FULL_SPECTRUM", 0)
    if method == "block":
        monkeypatch.setattr(item_filter, "MAX_LANCZOS_ENTRIES", 0)
        monkeypatch.setattr(item_filter, "BLOCK_ITERATIONS", 200)
    values, vectors = right_singular(factor, 6)
    _, expected, right = np.linalg.svd(factor.toarray(), full_matrices=False)
    np.testing.assert_allclose(values, expected[:6], rtol=1e-9)
    np.testing.assert_allclose(vectors @ vectors.T, right[:6].T @ right[:6], atol=1e-7)
    again = right_singular(factor, 6)
    assert np.array_equal(again[1], vectors)


def test_more_singular_vectors_than_the_rank_are_left_out():
    factor = csr_matrix(np.outer(np.ones(4), [1.0, 2.0, 0.0]))
    values, vectors = right_singular(factor, 10)
    assert vectors.shape == (3, 1)
    np.testing.assert_allclose(values, [np.sqrt(20)])
    assert right_singular(csr_matrix((4, 3)), 2)[1].shape == (3, 0)


@pytest.mark.parametrize("n_rows", [1, 3, 4, 9])
def test_rows_are_filtered_in_blocks(n_rows, monkeypatch):
    monkeypatch.setattr(item_filter, "CACHED_ROWS", 3)
    draw = np.random.default_rng(0)
    dense = torch.from_numpy((draw.random((n_rows, 7)) < 0.4).astype(np.float32))
    matrix = torch.from_numpy(draw.normal(size=(7, 7)).astype(np.float32))
    widths = []

    def operator(columns):
        widths.append(columns.shape[1])
        return matrix.t() @ columns

    filtered = item_filter.filter_in_blocks(SparseRows.of(dense), operator)
    torch.testing.assert_close(filtered, dense @ matrix)
    assert filtered.is_contiguous()
    assert sum(widths) == n_rows
    assert max(widths) <= 3


@pytest.mark.parametrize("coefficients", [[2.0], [0.0, 1.0], [1.0, 0.0, -3.0], [0.5, 1.0, 2.0, -1.0]])
def test_polynomials_of_a_matrix(coefficients):
    factor = csr_matrix(np.random.default_rng(2).random((5, 4)))
    gram = (factor.T @ factor).toarray()
    expected = sum(value * np.linalg.matrix_power(gram, k) for k, value in enumerate(coefficients))
    polynomial = Polynomial(coefficients)
    np.testing.assert_allclose(polynomial_of_matrix(polynomial, gram), expected, rtol=1e-12)
    product = GramProduct(factor, products=False)
    np.testing.assert_allclose(apply_polynomial(polynomial, np.eye(4), product.of_rows), expected, rtol=1e-12)


def test_a_model_in_closed_form_calls_no_network_and_changes_in_no_epoch(settings):
    result = quick_start.run("SGFCF", "board", config_dict={**settings, **quick("SGFCF"), "epochs": 7})
    assert result["timing"]["denoiser_calls_per_user"] == result["timing"]["parameters"] == 0
    assert result["timing"]["epochs"] == 1
    loaded = quick_start.load(result["checkpoint"])
    fresh = quick_start.build_model(loaded.config, loaded[3:])
    batch = {"user_id": torch.arange(1, 65)}
    assert torch.equal(fresh.full_sort_predict(batch), loaded.model.full_sort_predict(batch))


@pytest.mark.parametrize(
    ("item_graph", "n_items", "dense"),
    [("auto", 8192, True), ("auto", 8193, False), ("dense", 10**6, True), ("sparse", 2, False)],
)
def test_one_rule_for_dense_matrices(item_graph, n_items, dense):
    assert item_filter.is_dense(item_graph, n_items) == dense


def test_giffcf_follows_the_rule(monkeypatch):
    monkeypatch.setattr(item_filter, "MAX_DENSE_BYTES", 4 * 2**2)
    graphs = [filter_model(GiffCF, np.eye(n), embedding_size=2).diffusion.graph for n in (2, 3)]
    assert [graph.matrix is not None for graph in graphs] == [True, False]
