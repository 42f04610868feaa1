"""Histories as sparse rows, and the weights by rank in time."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_diffusion.model.rows.history import (
    InteractionMatrix,
    SparseRows,
    binary_history,
    fitted_matrix,
    rank_weights,
    row_history,
    time_history,
)

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 9)), max_size=40)


def dense(pairs, values=None):
    out = np.zeros((7, 10), dtype=np.float32)
    for place, (user, item) in enumerate(pairs):
        out[user, item] = 1 if values is None else values[place]  # the last one wins
    return out[:, 1:]


@given(PAIRS, st.lists(st.integers(0, 6), min_size=1, max_size=9))
def test_rows_are_the_dense_matrix_without_the_padding_column(pairs, users):
    ids = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    history = InteractionMatrix.of(ids[:, 0], ids[:, 1], (7, 10))
    rows = history.rows(torch.tensor(users))
    assert rows.shape == (len(users), 9)
    np.testing.assert_array_equal(rows.numpy(), dense(pairs)[users])
    assert not history.state_dict()


@given(PAIRS, st.integers(0, 99))
def test_of_a_repeated_pair_the_last_weight_counts(pairs, seed):
    ids = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    weights = np.random.default_rng(seed).random(len(pairs)).astype(np.float32)
    rows = InteractionMatrix.of(ids[:, 0], ids[:, 1], (7, 10), weights).rows(torch.arange(7))
    np.testing.assert_array_equal(rows.numpy(), dense(pairs, weights))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=30))
def test_rank_weights_are_linspace_per_user_in_time(rows):
    users, times = np.array(rows).T
    weights = rank_weights(users, times, 0.1, 1.0)
    for user in np.unique(users):
        mine = np.flatnonzero(users == user)
        order = mine[np.argsort(times[mine], kind="stable")]
        np.testing.assert_allclose(weights[order], np.linspace(0.1, 1.0, len(mine)))


def test_a_single_row_has_the_lower_weight():
    assert rank_weights(np.array([3]), np.array([5]), 0.2, 1.0).tolist() == [0.2]


def dataset(users, items, times=None):
    """What is asked of RecBole's data set."""
    feat = {"u": torch.tensor(users), "i": torch.tensor(items)}
    feat |= {} if times is None else {"t": torch.tensor(times)}
    return SimpleNamespace(uid_field="u", iid_field="i", time_field="t", inter_feat=feat, user_num=3, item_num=5)


def test_of_a_pair_repeated_in_time_the_latest_weight_counts_whatever_the_order_of_rows():
    found = time_history(dataset([1, 1, 1, 2], [2, 3, 2, 4], [30.0, 20.0, 10.0, 5.0]), 0.1, 0.9)
    torch.testing.assert_close(found.rows(torch.tensor([1, 2])), torch.tensor([[0, 0.9, 0.5, 0], [0, 0, 0, 0.1]]))
    plain = binary_history(dataset([1, 1, 1, 2], [2, 3, 2, 4]))
    torch.testing.assert_close(plain.rows(torch.tensor([1])), torch.tensor([[0, 1.0, 1.0, 0]]))


def test_weights_by_time_need_times():
    with pytest.raises(ValueError, match="need the field 't'"):
        time_history(dataset([1], [2]), 0.1, 1.0)


def test_more_pairs_have_weight_one_and_known_ones_keep_theirs():
    history = time_history(dataset([1, 1], [1, 2], [1.0, 2.0]), 0.25, 0.75)
    more = history.with_pairs(np.array([1, 1, 2]), np.array([2, 4, 3]))
    torch.testing.assert_close(more.rows(torch.tensor([1, 2])), torch.tensor([[0.25, 0.75, 0, 1], [0, 0, 1.0, 0]]))


@given(PAIRS, st.lists(st.integers(0, 6), max_size=9), st.integers(0, 9))
def test_sparse_rows_are_the_dense_ones_and_come_in_parts(pairs, users, cut):
    ids = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    rows = InteractionMatrix.of(ids[:, 0], ids[:, 1], (7, 10)).sparse(torch.tensor(users, dtype=torch.int64))
    full = rows.dense()
    again = SparseRows.of(full)
    for one, two in zip(rows[:3], again[:3]):
        assert torch.equal(one, two)
    assert torch.equal(rows.transposed(), full.t())
    start = min(cut, len(full))
    assert torch.equal(rows.slice(start, len(full)).dense(), full[start:])
    assert torch.equal(rows.slice(0, start).transposed(), full[:start].t())
    left = rows.select(rows.columns < cut).dense()
    assert torch.equal(left[:, :cut], full[:, :cut])
    assert not left[:, cut:].any()


@pytest.mark.parametrize("users", [[0], [3, 1, 2, 0], [2, 2, 2], [4, 4], []])
def test_rows_without_a_wait_are_the_same_rows(users):
    """As on a GPU: user 0 has nothing, 4 has everything."""
    ids = np.array([(1, 2), (1, 5), (2, 1), (3, 6), *((4, item) for item in range(1, 7))])
    history = InteractionMatrix.of(ids[:, 0], ids[:, 1], (5, 7), np.arange(1.0, 1 + len(ids)))
    users = torch.tensor(users, dtype=torch.int64)
    rows = history._rows_without_wait(users, len(users) * history.longest)
    assert torch.equal(rows, history.sparse(users).dense())
    assert rows.is_contiguous()


REPEATED = ([1, 1, 1, 2], [2, 3, 2, 4], [30.0, 20.0, 10.0, 5.0])


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"row_weights": "recency"}, [0, 0.9, 0.5, 0]),
        ({"row_weights": "binary", "time-aware": True}, [0, 0.9, 0.5, 0]),
        ({"row_weights": "binary"}, [0, 1.0, 1.0, 0]),
        ({}, [0, 1.0, 1.0, 0]),
    ],
)
def test_the_key_row_weights_makes_the_rows(keys, expected):
    config = defaultdict(lambda: None, {"w_min": 0.1, "w_max": 0.9, **keys})
    rows = row_history(config, dataset(*REPEATED)).rows(torch.tensor([1]))
    torch.testing.assert_close(rows, torch.tensor([expected]))


@pytest.mark.parametrize(
    ("gram", "expected"), [("weighted", [0, 0.9, 0.5, 0]), ("binary", [0, 1, 1, 0]), (None, [0, 1, 1, 0])]
)
def test_the_key_gram_makes_the_fitted_matrix_and_leaves_the_rows(gram, expected):
    history = time_history(dataset(*REPEATED), 0.1, 0.9)
    matrix = fitted_matrix({"gram": gram}, history)
    assert matrix.shape == (3, 4)
    assert matrix.dtype == np.float64
    np.testing.assert_allclose(matrix.toarray()[1], expected, rtol=1e-6)
    matrix.data[:] = 7
    matrix.indices[:] = 0
    torch.testing.assert_close(history.rows(torch.tensor([1])), torch.tensor([[0, 0.9, 0.5, 0]]))
