"""Timestep sampling: the official law, vectorised."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_diffusion.diffusion import ContinuousTimes, LossSecondMomentTimesteps, UniformTimesteps


def one_after_another(sampler, ts, losses):
    """The law in its plain form: append, and drop the oldest when full."""
    rows = [sampler.losses[t, : sampler.count[t]].tolist() for t in range(sampler.steps)]
    for t, loss in zip(ts.tolist(), losses.tolist()):
        rows[t] = (rows[t] + [loss])[-sampler.history :]
    return rows


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 999))
def test_update_is_sequential_appending(steps, history, sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    sampler = LossSecondMomentTimesteps(steps, history)
    for size in sizes:
        ts = torch.randint(0, steps, (size,), generator=generator)
        losses = torch.rand(size, generator=generator, dtype=torch.float64)
        expected = one_after_another(sampler, ts, losses)
        sampler.update(ts, losses)
        for t in range(steps):
            assert sampler.losses[t, : sampler.count[t]].tolist() == expected[t]


def warmed(steps=5, history=3):
    sampler = LossSecondMomentTimesteps(steps, history)
    ts = torch.arange(steps).repeat(history)
    sampler.update(ts, (1.0 + ts) ** 2)
    return sampler


def test_uniform_until_every_step_is_full():
    sampler = LossSecondMomentTimesteps(4, 2)
    sampler.update(torch.tensor([0, 0, 1, 1, 2, 2, 3]), torch.rand(7))
    assert torch.equal(sampler.sample(50).ratio, torch.ones(50, dtype=torch.float64))
    assert torch.equal(sampler.probabilities(), torch.full((4,), 0.25, dtype=torch.float64))
    sampler.update(torch.tensor([3]), torch.tensor([9.0]))
    assert float(sampler.probabilities()[3]) > 0.25


def test_probabilities_sum_to_one_and_have_a_floor():
    p = warmed().probabilities()
    assert abs(float(p.sum()) - 1) < 1e-12
    assert float(p.min()) >= 0.001 / 5
    moments = torch.tensor([1.0, 4, 9, 16, 25], dtype=torch.float64)
    torch.testing.assert_close(p, 0.999 * moments / moments.sum() + 0.001 / 5)


def test_the_drawn_frequencies_and_ratios_follow_the_law():
    sampler = warmed()
    t, ratio = sampler.sample(200_000, torch.Generator().manual_seed(0))
    p = sampler.probabilities()
    torch.testing.assert_close(torch.bincount(t, minlength=5) / 200_000, p.float(), atol=5e-3, rtol=0)
    torch.testing.assert_close(ratio, p[t] * 5)


def test_a_loss_divided_by_the_ratio_is_unbiased():
    sampler = warmed()
    value = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0], dtype=torch.float64)
    t, ratio = sampler.sample(400_000, torch.Generator().manual_seed(0))
    assert abs(float((value[t] / ratio).mean()) - float(value.mean())) < 0.05


def test_state_is_in_the_state_dict_and_comes_back():
    sampler, other = warmed(), LossSecondMomentTimesteps(5, 3)
    other.load_state_dict(sampler.state_dict())
    assert torch.equal(other.probabilities(), sampler.probabilities())
    assert not UniformTimesteps(5).state_dict()


def test_zero_losses_leave_the_uniform_law():
    sampler = LossSecondMomentTimesteps(3, 1)
    sampler.update(torch.arange(3), torch.zeros(3))
    assert torch.equal(sampler.probabilities(), torch.full((3,), 1 / 3, dtype=torch.float64))
    assert sampler.sample(10).t.shape == (10,)


def test_gather_brings_the_losses_of_all_ranks():
    """The hook gives the rows of two ranks: the law is that of one process with the whole batch."""
    whole, part = LossSecondMomentTimesteps(4, 3), LossSecondMomentTimesteps(4, 3)
    t, losses = torch.tensor([0, 1, 1, 3]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    whole.update(t, losses)
    rest = iter([t[2:], losses[2:]])
    part.gather = lambda values: torch.cat([values, next(rest)])
    part.update(t[:2], losses[:2])
    assert torch.equal(part.losses, whole.losses)
    assert part.count.tolist() == [1, 2, 0, 1]
    assert not hasattr(UniformTimesteps(4), "gather")


def test_points_of_time_are_uniform_in_their_interval():
    times = ContinuousTimes(UniformTimesteps(4), 4, end=0.5)
    t, ratio = times.sample(100_000, torch.Generator().manual_seed(0))
    assert t.dtype == torch.float64
    assert float(t.min()) > 0
    assert float(t.max()) <= 0.5
    counts = torch.histc(t.float(), 10, 0, 0.5) / 100_000
    torch.testing.assert_close(counts, torch.full((10,), 0.1), atol=5e-3, rtol=0)
    assert torch.equal(ratio, torch.ones(100_000, dtype=torch.float64))


def test_points_of_time_follow_an_adaptive_law_without_bias():
    times = ContinuousTimes(LossSecondMomentTimesteps(5, 3), 5, end=2.0)
    middle = (torch.arange(5) + 0.5) * 0.4
    times.update(middle.repeat(3), (1.0 + torch.arange(5).repeat(3)) ** 2)
    assert torch.equal(times.law.probabilities(), warmed().probabilities())
    t, ratio = times.sample(400_000, torch.Generator().manual_seed(0))
    assert float((t > 1.6).double().mean()) == pytest.approx(float(times.law.probabilities()[4]), abs=5e-3)
    assert float((t**2 / ratio).mean()) == pytest.approx(4 / 3, abs=0.03)  # the mean of t^2 on (0, 2]
    assert [*times.state_dict()] == ["law.losses", "law.count"]
