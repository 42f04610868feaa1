"""Statistics against hand-computed numbers and against scipy."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from recbole_diffusion.experiment.report import significance

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_a_comparison_by_hand():
    """Differences 3, -1, 2, 0: ranks of |d| without the tie are 3, 1, 2; the smaller sum is 1."""
    found = significance.paired(np.array([4.0, 1.0, 3.0, 1.0]), np.array([1.0, 2.0, 1.0, 1.0]))
    assert found.difference == 1.0
    assert (found.wins, found.ties, found.losses) == (2, 1, 1)
    assert found.w == 1.0
    assert found.rank_biserial == pytest.approx((5 - 1) / 6)
    # rank sums of losses 0 and 1 are two of the eight patterns, and as many lie at the other end
    assert found.p_wilcoxon == pytest.approx(4 / 8)
    sd = math.sqrt((4 + 4 + 1 + 1) / 3)
    assert found.d_z == pytest.approx(1 / sd)
    assert found.t == pytest.approx(1 / (sd / 2))
    assert found.p_t == pytest.approx(2 * stats.t.sf(2 / sd, df=3))


@pytest.mark.parametrize("users", [4, 9, 40])
def test_swapping_the_models_changes_signs_only(users):
    draw = np.random.default_rng(1)
    first, second = draw.random(users).round(1) + 0.1, draw.random(users).round(1)
    second[0] = first[0]
    one, other = significance.paired(first, second), significance.paired(second, first)
    assert (one.wins, one.ties, one.losses) == (other.losses, other.ties, other.wins)
    assert one.ties > 0
    for name in ("difference", "t", "d_z", "rank_biserial"):
        assert getattr(one, name) == pytest.approx(-getattr(other, name))
    for name in ("w", "p_t", "p_wilcoxon"):
        assert getattr(one, name) == pytest.approx(getattr(other, name))


@pytest.mark.parametrize("users", [9, 30, 400])
def test_tests_are_scipys(users):
    draw = np.random.default_rng(users)
    first, second = draw.random(users), draw.random(users)
    found = significance.paired(first, second)
    t, w = stats.ttest_rel(first, second), stats.wilcoxon(first, second)
    assert (found.t, found.p_t) == pytest.approx((t.statistic, t.pvalue), abs=1e-7)
    assert (found.w, found.p_wilcoxon) == pytest.approx((w.statistic, w.pvalue))


@pytest.mark.parametrize("users", [20, 300])
def test_with_ties_the_normal_approximation_is_corrected_for_them(users):
    draw = np.random.default_rng(1)
    first, second = draw.integers(0, 4, users) / 4.0, draw.integers(0, 5, users) / 4.0
    changed = (first - second)[first != second]
    ranks = stats.rankdata(np.abs(changed))
    mean, variance = ranks.sum() / 2, (ranks**2).sum() / 4  # exact, also with ties
    expected = 2 * stats.norm.sf(abs(ranks[changed > 0].sum() - mean) / math.sqrt(variance))
    assert significance.paired(first, second).p_wilcoxon == pytest.approx(expected)


def test_few_differences_with_ties_are_enumerated():
    """Three gains of the same size: all signs alike has probability 2/8, whichever way they point."""
    first = np.zeros(100)
    first[:3] = 0.5
    assert significance.paired(first, np.zeros(100)).p_wilcoxon == pytest.approx(2 / 8)


def test_equal_models():
    values = np.array([0.1, 0.4, 0.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = significance.paired(values, values)
    assert (found.p_t, found.p_wilcoxon) == (1.0, 1.0)
    assert (found.t, found.w, found.d_z, found.rank_biserial, found.difference) == (0, 0, 0, 0, 0)
    assert (found.wins, found.ties, found.losses) == (0, 3, 0)


def test_means_that_were_added_in_another_order_are_ties():
    first, second = np.full(5, (0.1 + 0.2 + 0.3) / 3), np.full(5, (0.3 + 0.2 + 0.1) / 3)
    assert (first != second).all()
    found = significance.paired(first, second)
    assert (found.ties, found.p_wilcoxon, found.p_t) == (5, 1.0, 1.0)


def test_a_constant_gain():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = significance.paired(np.full(20, 0.3), np.full(20, 0.1))
    assert (found.t, found.p_t, found.d_z) == (math.inf, 0.0, math.inf)
    assert (found.wins, found.rank_biserial) == (20, 1.0)


def test_one_user():
    found = significance.paired(np.array([1.0]), np.array([0.5]))
    assert (found.t, found.p_t, found.d_z) == (None, None, None)
    assert (found.difference, found.p_wilcoxon, found.wins) == (0.5, 1.0, 1)


def test_infinite_values_are_refused():
    values = [math.inf, 0.0]
    with pytest.raises(ValueError, match="infinite"):
        significance.paired(np.array(values), np.zeros(2))
    with pytest.raises(ValueError, match="infinite"):
        significance.bootstrap_means(np.array([values]))


def test_users_without_a_value_are_left_out():
    draw = np.random.default_rng(3)
    first, second = draw.random(40), draw.random(40)
    first[:7], second[5:11] = np.nan, np.nan
    assert significance.paired(first, second) == significance.paired(first[11:], second[11:])
    with pytest.raises(ValueError, match="no user has a value of both"):
        significance.paired(np.array([np.nan, 1.0]), np.array([1.0, np.nan]))


def test_the_bootstrap_of_users_without_a_value():
    draw = np.random.default_rng(4)
    values = draw.random((3, 30))
    complete = significance.bootstrap_means(values, 50)
    values[1, 4:], values[2] = np.nan, np.nan
    means = significance.bootstrap_means(values, 50)
    assert np.array_equal(means[0], complete[0])
    rows = np.random.default_rng(0).integers(0, 30, size=(50, 30))
    for mean, row in zip(means[1], values[1][rows]):
        some = row[~np.isnan(row)]
        assert mean == pytest.approx(some.mean()) if len(some) else math.isnan(mean)
    low, high = significance.interval(means[1])
    assert np.nanmin(values[1]) <= low < high <= np.nanmax(values[1])
    assert all(math.isnan(bound) for bound in significance.interval(means[2]))


@pytest.mark.parametrize(("first", "second"), [(np.zeros(2), np.zeros(3)), (np.zeros(0), np.zeros(0))])
def test_vectors_that_cannot_be_paired_are_refused(first, second):
    with pytest.raises(ValueError, match="cannot be paired"):
        significance.paired(first, second)


def test_over_seeds():
    t, p = significance.over_seeds([0.3, 0.4, 0.5], [0.2, 0.2, 0.4])
    expected = stats.ttest_rel([0.3, 0.4, 0.5], [0.2, 0.2, 0.4])
    assert (t, p) == pytest.approx((expected.statistic, expected.pvalue))
    assert significance.over_seeds([0.3], [0.2]) == (None, None)
    assert significance.over_seeds([0.3, 0.4], [0.2, 0.3]) == (None, None)  # a spread of zero is none of evidence
    assert significance.over_seeds([], []) == (None, None)


def test_holm_by_hand():
    """Sorted .01 .02 .03 .04 times 4 3 2 1: .04 .06 .06 .04, and never less than the one before."""
    assert significance.holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert significance.holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert len(significance.holm([])) == 0


def test_benjamini_hochberg_by_hand():
    """Sorted .01 .02 .03 .5 times 4/1 4/2 4/3 4/4: .04 .04 .04 .5."""
    assert significance.benjamini_hochberg([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.04, 0.04])
    assert len(significance.benjamini_hochberg([])) == 0


@given(P_VALUES)
def test_corrections_lie_between_raw_and_bonferroni_and_keep_the_order(p):
    raw = np.array(p)
    bonferroni = np.minimum(raw * len(raw), 1)
    order = np.argsort(raw, kind="stable")
    holm, hochberg = significance.holm(p), significance.benjamini_hochberg(p)
    for corrected in (holm, hochberg):
        assert (corrected >= raw - 1e-15).all()
        assert (corrected <= bonferroni + 1e-15).all()
        assert (np.diff(corrected[order]) >= 0).all()
    assert (hochberg <= holm + 1e-15).all()
    assert holm[order[0]] == pytest.approx(bonferroni[order[0]])


@given(P_VALUES)
def test_benjamini_hochberg_is_scipys(p):
    control = pytest.importorskip("scipy.stats").__dict__.get("false_discovery_control")
    if control is None:
        pytest.skip("scipy before 1.11")
    np.testing.assert_allclose(significance.benjamini_hochberg(p), control(p))


def test_the_bootstrap_is_scipys_of_the_means_and_of_their_difference():
    values = np.random.default_rng(3).random((2, 57))
    means = significance.bootstrap_means(values, resamples=999, seed=11)
    assert means.shape == (2, 999)
    for row, drawn in [*zip(values, means), (values[0] - values[1], means[0] - means[1])]:
        theirs = stats.bootstrap((row,), np.mean, n_resamples=999, method="percentile", random_state=_generator(11))
        low, high = theirs.confidence_interval
        assert significance.interval(drawn) == pytest.approx((low, high), rel=1e-12)


def _generator(seed):
    return np.random.default_rng(seed)


def test_the_bootstrap_does_not_depend_on_how_much_is_held_at_a_time(monkeypatch):
    values = np.random.default_rng(3).random((2, 31))
    whole = significance.bootstrap_means(values, resamples=50)
    monkeypatch.setattr(significance, "_CHUNK_ELEMENTS", 31 * 7)
    np.testing.assert_allclose(significance.bootstrap_means(values, resamples=50), whole, rtol=1e-13)


def test_the_interval_covers_the_mean_as_often_as_it_says():
    """Of 200 samples of 60 exponential users, 95 % intervals hold the true mean in 186 (93 %) give or take ten."""
    draw = np.random.default_rng(5)
    inside = 0
    for _ in range(200):
        low, high = significance.interval(significance.bootstrap_means(draw.exponential(size=(1, 60)), 400)[0])
        inside += low < 1.0 < high
    assert 176 <= inside <= 197
