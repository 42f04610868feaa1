"""Second views of sequences and negatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_diffusion.model.sequences.augment import Negatives, augment, crop, mask, reorder

LENGTHS = st.lists(st.integers(1, 10), min_size=1, max_size=16)


def batch(lengths, width=10):
    lengths = torch.tensor(lengths)
    return torch.arange(1, width + 1).expand(len(lengths), -1) * (torch.arange(width) < lengths[:, None]), lengths


@given(LENGTHS)
def test_reordering_moves_a_block_of_sixty_percent_only(lengths):
    sequences, lengths = batch(lengths)
    moved = reorder(sequences, lengths)
    assert torch.equal(moved.sort(dim=1)[0], sequences.sort(dim=1)[0])
    for row, length, original in zip(moved, lengths.tolist(), sequences):
        changed = (row != original).nonzero().flatten()
        if len(changed):
            assert int(changed.max() - changed.min()) < int(0.6 * length)
            assert int(changed.max()) < length


@given(LENGTHS)
def test_masking_thirty_percent(lengths):
    sequences, lengths = batch(lengths)
    masked = mask(sequences, lengths, 99)
    assert torch.equal((masked == 99).sum(dim=1), (lengths * 0.3).floor().long())
    assert torch.equal(torch.where(masked == 99, sequences, masked), sequences)
    assert (sequences[masked == 99] > 0).all()


@given(LENGTHS)
def test_cropping_keeps_a_block_in_its_place(lengths):
    sequences, lengths = batch(lengths)
    cut = crop(sequences, lengths)
    kept = cut > 0
    assert torch.equal(cut[kept], sequences[kept])
    size = (lengths * 0.6).floor().long()
    assert torch.equal(kept.sum(dim=1), torch.where(size > 0, size, lengths))
    for row in kept:
        places = row.nonzero().flatten()
        assert len(places) == int(places[-1] - places[0]) + 1


def test_every_place_of_a_block_occurs_and_every_order():
    torch.manual_seed(0)
    sequences, lengths = batch([5] * 4000, 5)
    starts = (crop(sequences, lengths) > 0).float().argmax(dim=1)
    assert torch.bincount(starts).tolist() == pytest.approx([4000 / 3] * 3, rel=0.1)
    orders, counts = torch.unique(reorder(sequences, lengths), dim=0, return_counts=True)
    assert len(orders) == 3 * 6 - 4  # of each block of three; the identity and two swaps are shared
    assert counts.max() == counts[(orders == torch.arange(1, 6)).all(dim=1)]


def test_one_kind_is_drawn_for_each_row():
    torch.manual_seed(0)
    sequences, lengths = batch([10] * 3000)
    drawn = augment(sequences, lengths, ["reorder", "mask", "crop"], 99)
    masked, cropped = (drawn == 99).any(dim=1), (drawn == 0).any(dim=1)
    assert not (masked & cropped).any()
    for share in (masked, cropped, ~(masked | cropped)):
        assert share.float().mean() == pytest.approx(1 / 3, abs=0.05)


def test_negatives_are_items_that_the_user_has_not():
    torch.manual_seed(0)
    pairs = np.array([(user, item) for user in (1, 3) for item in range(1, 10) if item != 2 * user])
    negatives = Negatives(pairs, 10)
    drawn = negatives.sample(torch.tensor([1, 3, 2]), 300)
    assert (drawn[0] == 2).all()
    assert (drawn[1] == 6).all()
    assert sorted(drawn[2].unique().tolist()) == list(range(1, 10))
    counts = torch.bincount(Negatives(pairs, 10).sample(torch.tensor([2]), 9000)[0])[1:]
    assert counts.tolist() == pytest.approx([1000] * 9, rel=0.15)


def test_a_user_who_has_everything_ends_the_search():
    pairs = np.array([(1, item) for item in range(1, 5)])
    drawn = Negatives(pairs, 5).sample(torch.tensor([1]), 6)
    assert drawn.min() >= 1
    assert drawn.max() <= 4
    assert Negatives(np.empty((0, 2), int), 5).sample(torch.tensor([1]), 6).shape == (1, 6)
