"""Triples by users, and products with sparse matrices."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from recbole_diffusion.model.interactions.propagation import SparseProduct, row_means, row_normalised
from recbole_diffusion.model.interactions.triples import Triples
from recbole_diffusion.model.rows.history import InteractionMatrix

USERS = np.array([1, 1, 1, 2, 3, 3, 3, 3, 3])
ITEMS = np.array([1, 2, 5, 3, 1, 2, 3, 4, 5])  # user 3 has every item, user 0 is the padding
HISTORY = InteractionMatrix.of(USERS, ITEMS, (4, 6))


def test_the_law_of_the_triples():
    torch.manual_seed(0)
    users, positives, negatives = Triples(HISTORY).draw(HISTORY, 60_000)
    assert set(users.tolist()) == {1, 2}
    assert (users == 1).float().mean() == pytest.approx(0.5, abs=0.01)
    first = users == 1
    for items, expected in ((positives, {1: 1 / 3, 2: 1 / 3, 5: 1 / 3}), (negatives, {3: 1 / 2, 4: 1 / 2})):
        share = torch.bincount(items[first], minlength=6) / first.sum()
        for item in range(6):
            assert share[item] == pytest.approx(expected.get(item, 0.0), abs=0.01)
    assert set(positives[~first].tolist()) == {3}
    assert set(negatives[~first].tolist()) == {1, 2, 4, 5}


def test_triples_follow_the_seed():
    triples = Triples(HISTORY)
    torch.manual_seed(3)
    one = triples.draw(HISTORY, 50)
    torch.manual_seed(3)
    assert all(torch.equal(a, b) for a, b in zip(one, triples.draw(HISTORY, 50)))


def test_without_a_user_to_draw_the_key_is_named():
    with pytest.raises(ValueError, match="triple_sampling: no user has both a positive and a negative item"):
        Triples(InteractionMatrix.of(np.array([1, 1]), np.array([1, 2]), (2, 3)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_product_and_gradient_are_those_of_the_dense_matrix(dtype):
    matrix = row_normalised(USERS, ITEMS, (4, 6))
    product = SparseProduct(matrix, dtype)
    dense = torch.from_numpy(matrix.toarray()).to(dtype)
    table = torch.randn(10, 3, dtype=dtype, requires_grad=True)
    weights = torch.randn(10, 3, dtype=dtype)
    found = product(table)
    torch.testing.assert_close(found, dense @ table)
    (gradient,) = torch.autograd.grad((found * weights).sum(), table)
    torch.testing.assert_close(gradient, dense.t() @ weights)
    torch.testing.assert_close(copy.deepcopy(product)(table), found)
    assert not product.state_dict()


def test_rows_of_the_graph_sum_to_one_with_self_loops_and_repeated_pairs_once():
    once = row_normalised(USERS, ITEMS, (4, 6)).toarray()
    twice = row_normalised(np.append(USERS, USERS[:2]), np.append(ITEMS, ITEMS[:2]), (4, 6)).toarray()
    np.testing.assert_allclose(once.sum(1), 1)
    np.testing.assert_allclose(once, twice)
    assert once[0, 0] == 1  # nobody's neighbour
    np.testing.assert_allclose(once[1, [1, 5, 6, 9]], 1 / 4)


def test_means_of_users_items_and_nothing_for_users_without():
    table = torch.randn(5, 3)
    means = row_means(HISTORY.indptr, HISTORY.items, HISTORY.n_columns)(table)
    torch.testing.assert_close(means[1], table[[0, 1, 4]].mean(0))
    torch.testing.assert_close(means[3], table.mean(0))
    assert not means[0].any()
