"""Histories as sparse rows, and the weights by rank in time."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_diffusion.model.history import History, rank_weights

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 9)), max_size=40)


def dense(pairs, values=None):
    out = np.zeros((7, 10), dtype=np.float32)
    for place, (user, item) in enumerate(pairs):
        out[user, item] = 1 if values is None else values[place]  # the last one wins
    return out[:, 1:]


@given(PAIRS, st.lists(st.integers(0, 6), min_size=1, max_size=9))
def test_rows_are_the_dense_matrix_without_the_padding_column(pairs, users):
    ids = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    history = History.of(ids[:, 0], ids[:, 1], (7, 10))
    rows = history.rows(torch.tensor(users))
    assert rows.shape == (len(users), 9)
    np.testing.assert_array_equal(rows.numpy(), dense(pairs)[users])
    assert not history.state_dict()


@given(PAIRS, st.integers(0, 99))
def test_of_a_repeated_pair_the_last_weight_counts(pairs, seed):
    ids = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    weights = np.random.default_rng(seed).random(len(pairs)).astype(np.float32)
    rows = History.of(ids[:, 0], ids[:, 1], (7, 10), weights).rows(torch.arange(7))
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
