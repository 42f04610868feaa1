"""Uniform negatives, without rejection."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_diffusion.model.interactions.negatives import Negatives

N_USERS, N_ITEMS = 4, 7
PAIRS = st.sets(st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1)), max_size=N_USERS * N_ITEMS)


def made(pairs):
    users, items = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2).T
    return Negatives(np.append(users, users[:2]), np.append(items, items[:2]), N_USERS, N_ITEMS)  # two pairs repeated


@given(PAIRS)
def test_every_rank_is_one_negative_and_every_negative_has_a_rank(pairs):
    """Draws at the middle of each of ``count`` equal intervals give all negatives, in order."""
    sampler = made(pairs)
    for user in range(N_USERS):
        negatives = [item for item in range(N_ITEMS) if (user, item) not in pairs]
        expected = negatives or [*range(N_ITEMS)]
        users = torch.full((len(expected),), user)
        middle = (torch.arange(len(expected), dtype=torch.float64) + 0.5) / len(expected)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "rand", lambda shape, middle=middle, **_: middle)
            assert sampler.sample(users).tolist() == expected


def test_negatives_are_uniform_and_of_the_shape_of_the_users():
    torch.manual_seed(0)
    sampler = made({(1, item) for item in range(N_ITEMS) if item not in (0, 2, 6)} | {(2, 3)})
    users = torch.tensor([[1, 0], [2, 1]]).repeat(6000, 1)
    drawn = sampler.sample(users)
    assert drawn.shape == users.shape
    for user, negatives in ((0, range(N_ITEMS)), (1, (0, 2, 6)), (2, (0, 1, 2, 4, 5, 6))):
        share = torch.bincount(drawn[users == user], minlength=N_ITEMS) / (users == user).sum()
        for item in range(N_ITEMS):
            assert share[item] == pytest.approx(1 / len(negatives) if item in negatives else 0.0, abs=0.02)


def test_a_user_with_every_item_gets_any():
    torch.manual_seed(0)
    drawn = made({(0, item) for item in range(N_ITEMS)}).sample(torch.zeros(500, dtype=torch.int64))
    assert sorted(set(drawn.tolist())) == [*range(N_ITEMS)]


def test_without_interactions_every_item_is_a_negative():
    empty = np.empty(0, dtype=np.int64)
    drawn = Negatives(empty, empty, N_USERS, N_ITEMS).sample(torch.tensor([3] * 300))
    assert sorted(set(drawn.tolist())) == [*range(N_ITEMS)]


def test_nothing_of_it_is_saved():
    assert not made({(0, 1)}).state_dict()
