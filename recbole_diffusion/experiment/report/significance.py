"""Statistics of paired comparisons: bootstrap intervals, tests, effect sizes, corrections for multiple tests.

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
#: Decimal digits up to which differences are ties: the order of a sum changes its rounding errors.
DIGITS = 9
#: Largest number of differences for which all assignments of signs are enumerated.
_ENUMERATED = 13
#: Largest number of array elements per chunk of the bootstrap, 64 MiB.
_CHUNK_ELEMENTS = 2**23


class Paired(NamedTuple):
    """The comparison of two models over the same users; p-values are two-sided and uncorrected.

    Attributes:
        difference: mean of first - second.
        t, p_t: paired t-test; None with one user.
        w, p_wilcoxon: Wilcoxon's signed-rank test without users with equal values; p is 1 if all values are equal.
        d_z: Cohen's d_z, mean over standard deviation of the differences; None with one user.
        rank_biserial: (rank sum of wins - rank sum of losses) / total rank sum, from -1 to 1.
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
    """Compare two models over the users that have a value of both.

    Args:
        first, second: values of the same users in the same order, shape (n_users,); nan: the user has no value.

    Raises:
        ValueError: different shapes, an infinite value, no user with both values.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or not first.size:
        raise ValueError(f"shapes {first.shape} and {second.shape} cannot be paired; give two equal, non-empty vectors")
    difference = _not_infinite(first) - _not_infinite(second)
    difference = np.round(difference[~np.isnan(difference)], DIGITS)
    if not len(difference):
        raise ValueError("no user has a value of both models, which therefore cannot be compared")
    t, p_t, d_z = _student(difference)
    w, p_wilcoxon, rank_biserial = _signed_ranks(difference)
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    ties = len(difference) - wins - losses
    return Paired(float(difference.mean()), t, p_t, w, p_wilcoxon, d_z, rank_biserial, wins, ties, losses)


def over_seeds(first: Sequence[float], second: Sequence[float]) -> tuple[Optional[float], Optional[float]]:
    """Return t and the two-sided p of the paired t-test over seeds.

    Args:
        first, second: means of two models with the same seeds, shape (n_seeds,).

    Returns:
        None, None with fewer than two seeds and if all differences are equal: deterministic models such as EASE have
        no variance over seeds.
    """
    difference = np.round(np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64), DIGITS)
    if len(difference) < 2 or np.ptp(difference) == 0:
        return None, None
    t, p, _ = _student(difference)
    return t, p


def bootstrap_means(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Return the means over resampled users, with the same resamples for all rows.

    The difference of two rows of the result is therefore the paired bootstrap of their difference. The draws are
    those of ``scipy.stats.bootstrap``, which holds ``n_rows * n_users`` numbers per resample. Counting how often each
    user is drawn reduces it to one matrix product.

    Args:
        values: shape (n_rows, n_users), at least one user; nan: the user has no value, and the mean is over the
            others.
        resamples: number of bootstrap resamples.
        seed: of the draws.

    Returns:
        Means, shape (n_rows, resamples); nan for a resample without a user that has a value.

    Raises:
        ValueError: an infinite value.
    """
    values = _not_infinite(np.asarray(values, dtype=np.float64))
    has_value = ~np.isnan(values)
    partial = np.flatnonzero(~has_value.all(axis=1))
    values, has_value = np.where(has_value, values, 0.0), has_value[partial].astype(np.float64)
    users = values.shape[1]
    generator = np.random.default_rng(seed)
    chunk = max(1, min(256, _CHUNK_ELEMENTS // users))
    means, n_drawn = np.empty((len(values), resamples)), np.full((len(partial), resamples), np.nan)
    for start in range(0, resamples, chunk):
        drawn = generator.integers(0, users, size=(min(chunk, resamples - start), users))
        counts = np.stack([np.bincount(row, minlength=users) for row in drawn], axis=1).astype(np.float64)
        means[:, start : start + chunk] = values @ counts
        n_drawn[:, start : start + chunk] = has_value @ counts
    result = means / users
    result[partial] = means[partial] / np.where(n_drawn > 0, n_drawn, np.nan)
    return result


def interval(means: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval (low, high) of bootstrap means, shape (resamples,); nan means are left out."""
    means = means[~np.isnan(means)]
    if not len(means):
        return math.nan, math.nan
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def holm(p: Sequence[float]) -> np.ndarray:
    """Return Holm's (1979) corrected p-values of a family, which control the family-wise error rate. Shape (n,)."""
    raw = np.asarray(p, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    adjusted = np.maximum.accumulate(np.arange(len(raw), 0, -1) * raw[order])
    return _unsorted(np.minimum(adjusted, 1.0), order)


def benjamini_hochberg(p: Sequence[float]) -> np.ndarray:
    """Return Benjamini and Hochberg's (1995) p-values, which control the false discovery rate. Shape (n,)."""
    raw = np.asarray(p, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    scaled = raw[order] * len(raw) / np.arange(1, len(raw) + 1)
    return _unsorted(np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0), order)


def _unsorted(sorted_values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Undo the sorting ``values[order]``."""
    values = np.empty_like(sorted_values)
    values[order] = sorted_values
    return values


def _not_infinite(values: np.ndarray) -> np.ndarray:
    if np.isinf(values).any():
        raise ValueError("a user's metric is infinite; run it again")
    return values


def _student(difference: np.ndarray) -> tuple[Optional[float], Optional[float], Optional[float]]:
    """Student's t, its p-value, and Cohen's d_z."""
    if len(difference) < 2:
        return None, None, None
    mean, sd = float(difference.mean()), float(difference.std(ddof=1))
    if np.ptp(difference) == 0:  # scipy gives nan for equal values, and warns of lost digits for a constant difference
        sign = math.copysign(math.inf, mean) if mean else 0.0
        return sign, 0.0 if mean else 1.0, sign
    from scipy import stats  # takes a second or two

    result = stats.ttest_1samp(difference, 0.0)  # equals ttest_rel of the pairs
    return float(result.statistic), float(result.pvalue), mean / sd


def _signed_ranks(difference: np.ndarray) -> tuple[float, float, float]:
    """Wilcoxon's statistic (the smaller rank sum), its p-value, and the rank-biserial correlation."""
    nonzero = difference[difference != 0]
    if not len(nonzero):
        return 0.0, 1.0, 0.0
    from scipy import stats

    ranks = stats.rankdata(np.abs(nonzero))
    won, lost = float(ranks[nonzero > 0].sum()), float(ranks[nonzero < 0].sum())
    return min(won, lost), _p_of_ranks(nonzero, ranks, won), (won - lost) / (won + lost)


def _p_of_ranks(nonzero: np.ndarray, ranks: np.ndarray, won: float) -> float:
    """The p-value as in current scipy. Older versions give a wrong one for few users with ties."""
    if len(nonzero) <= _ENUMERATED:
        signs = (np.arange(2 ** len(nonzero))[:, None] >> np.arange(len(nonzero))) & 1
        sums = signs @ ranks
        return min(1.0, 2 * float(min((sums <= won).mean(), (sums >= won).mean())))
    from scipy import stats

    if len(nonzero) <= 50 and len(np.unique(ranks)) == len(ranks):
        return float(stats.wilcoxon(nonzero, method="exact").pvalue)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return float(stats.wilcoxon(nonzero, method="asymptotic").pvalue)
        except ValueError:  # the method's name in older versions of scipy
            return float(stats.wilcoxon(nonzero, method="approx").pvalue)
