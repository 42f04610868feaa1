"""Statistics of paired comparisons: intervals, tests, effect sizes, corrections. Arrays in, numbers out.

The unit is the user: a value is a user's metric, averaged over the seeds of a model, and two models are paired by user.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

LEVEL = 0.95
RESAMPLES = 9999
#: Means over seeds that were added in another order differ by rounding errors; to so many digits they are ties.
DIGITS = 9
#: Up to so many differences, all assignments of signs are enumerated.
_ENUMERATED = 13
#: Numbers that the bootstrap holds at a time, 64 MiB.
_AT_ONCE = 2**23


class Paired(NamedTuple):
    """The comparison of two models over the same users; p-values are two-sided and uncorrected.

    Attributes:
        difference: mean of first - second.
        t, p_t: paired t-test; None with one user.
        w, p_wilcoxon: Wilcoxon's signed-rank test, users with equal values left out; p is 1 where all are equal.
        d_z: Cohen's effect size, mean over standard deviation of the differences; None with one user.
        rank_biserial: (rank sum of wins - of losses) / of both, from -1 to 1.
        wins, ties, losses: numbers of users.
    """

    difference: float
    t: Optional[float]
    p_t: Optional[float]
    w: float
    p_wilcoxon: float
    d_z: Optional[float]
    rank_biserial: float
    wins: int
    ties: int
    losses: int


def paired(first: np.ndarray, second: np.ndarray) -> Paired:
    """Compare two models user by user.

    Args:
        first, second: the same users' values in the same order, shape (n_users,).

    Raises:
        ValueError: no user, shapes that differ, a value that is not finite.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise ValueError(f"shapes {first.shape} and {second.shape} cannot be paired; give two equal, non-empty vectors")
    difference = np.round(_finite(first) - _finite(second), DIGITS)
    t, p_t, d_z = _student(difference)
    w, p_wilcoxon, rank_biserial = _signed_ranks(difference)
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    ties = len(difference) - wins - losses
    return Paired(float(difference.mean()), t, p_t, w, p_wilcoxon, d_z, rank_biserial, wins, ties, losses)


def over_seeds(first: Sequence[float], second: Sequence[float]) -> tuple[Optional[float], Optional[float]]:
    """t and p of the paired t-test over the means of common seeds.

    None, None with fewer than two, and where the difference is the same for all: models that draw nothing, like EASE,
    tell nothing of how results vary over seeds.
    """
    difference = np.round(np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64), DIGITS)
    if len(difference) < 2 or np.ptp(difference) == 0:
        return None, None
    t, p, _ = _student(difference)
    return t, p


def bootstrap_means(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Means over resampled users, of several rows at once and with the same users for all rows.

    So the difference of two rows of the result is the paired bootstrap of their difference. The draws are those of
    ``scipy.stats.bootstrap``, which would hold ``n_rows * n_users`` numbers per resample; counting how often each user
    is drawn makes it one matrix product.

    Args:
        values: shape (n_rows, n_users), at least one user.

    Returns:
        shape (n_rows, resamples).

    Raises:
        ValueError: a value that is not finite.
    """
    values = _finite(np.asarray(values, dtype=np.float64))
    users = values.shape[1]
    draw = np.random.default_rng(seed)
    at_once = max(1, min(256, _AT_ONCE // users))
    means = np.empty((len(values), resamples))
    for start in range(0, resamples, at_once):
        drawn = draw.integers(0, users, size=(min(at_once, resamples - start), users))
        counts = np.stack([np.bincount(row, minlength=users) for row in drawn], axis=1)
        means[:, start : start + at_once] = values @ counts.astype(np.float64)
    return means / users


def interval(means: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of bootstrapped means, shape (resamples,)."""
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def holm(p: Sequence[float]) -> np.ndarray:
    """p-values of a family, corrected for the probability of any false finding (Holm 1979). Shape (n,)."""
    raw = np.asarray(p, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    adjusted = np.maximum.accumulate(np.arange(len(raw), 0, -1) * raw[order])
    return _in_place(np.minimum(adjusted, 1.0), order)


def benjamini_hochberg(p: Sequence[float]) -> np.ndarray:
    """p-values of a family, corrected for the share of false findings (Benjamini and Hochberg 1995). Shape (n,)."""
    raw = np.asarray(p, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    stretched = raw[order] * len(raw) / np.arange(1, len(raw) + 1)
    return _in_place(np.minimum(np.minimum.accumulate(stretched[::-1])[::-1], 1.0), order)


def _in_place(sorted_values: np.ndarray, order: np.ndarray) -> np.ndarray:
    values = np.empty_like(sorted_values)
    values[order] = sorted_values
    return values


def _finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ValueError("a user's metric is not finite (nan or inf); run it again")
    return values


def _student(difference: np.ndarray) -> tuple[Optional[float], Optional[float], Optional[float]]:
    """t, its p-value, and Cohen's d_z."""
    if len(difference) < 2:
        return None, None, None
    mean, spread = float(difference.mean()), float(difference.std(ddof=1))
    if np.ptp(difference) == 0:  # scipy gives nan for equal values, and warns of lost digits for a constant difference
        sign = math.copysign(math.inf, mean) if mean else 0.0
        return sign, 0.0 if mean else 1.0, sign
    from scipy import stats  # a second or two

    result = stats.ttest_1samp(difference, 0.0)  # which ttest_rel is, of differences
    return float(result.statistic), float(result.pvalue), mean / spread


def _signed_ranks(difference: np.ndarray) -> tuple[float, float, float]:
    """Wilcoxon's statistic (the smaller rank sum), its p-value, and the rank-biserial correlation."""
    changed = difference[difference != 0]
    if not len(changed):
        return 0.0, 1.0, 0.0
    from scipy import stats

    ranks = stats.rankdata(np.abs(changed))
    won, lost = float(ranks[changed > 0].sum()), float(ranks[changed < 0].sum())
    return min(won, lost), _p_of_ranks(changed, ranks, won), (won - lost) / (won + lost)


def _p_of_ranks(changed: np.ndarray, ranks: np.ndarray, won: float) -> float:
    """As today's scipy: exact for few users. Its older versions give a wrong p-value for few users with ties."""
    if len(changed) <= _ENUMERATED:
        signs = (np.arange(2 ** len(changed))[:, None] >> np.arange(len(changed))) & 1
        sums = signs @ ranks
        return min(1.0, 2 * float(min((sums <= won).mean(), (sums >= won).mean())))
    from scipy import stats

    if len(changed) <= 50 and len(np.unique(ranks)) == len(ranks):
        return float(stats.wilcoxon(changed, method="exact").pvalue)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return float(stats.wilcoxon(changed, method="asymptotic").pvalue)
        except ValueError:  # its name in older versions of scipy
            return float(stats.wilcoxon(changed, method="approx").pvalue)
