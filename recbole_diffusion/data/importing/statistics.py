"""Counts of a data set: users, items, density, lengths, time span, ratings."""

from __future__ import annotations

import datetime
from typing import Any, Optional

import numpy as np
import pandas as pd

from recbole_diffusion.support.number_text import exact

#: Most different ratings that are counted one by one.
_MOST_RATINGS = 20


def describe(
    users: np.ndarray,
    items: np.ndarray,
    ratings: Optional[np.ndarray] = None,
    times: Optional[np.ndarray] = None,
    are_dates: Optional[bool] = None,
) -> dict[str, Any]:
    """Count interactions.

    Args:
        users: a code for each row, int (rows,); from 0, all used.
        items: the same for the items.
        ratings: float64 (rows,) or None.
        times: float64 (rows,) or None.
        are_dates: whether the times are seconds since 1970; None: if they are of that size.

    Returns:
        ``users``, ``items``, ``interactions``, ``pairs`` (distinct), ``density`` (distinct pairs / users / items),
        ``per_user`` and ``per_item`` (min, median, mean, max), ``ratings`` and ``time`` or None.
    """
    n_users, n_items = _distinct(users), _distinct(items)
    pairs = pd.Series(users.astype(np.int64) * (int(items.max(initial=0)) + 1) + items).nunique()
    return {
        "users": n_users,
        "items": n_items,
        "interactions": len(users),
        "pairs": int(pairs),
        "density": pairs / (n_users * n_items) if len(users) else 0.0,
        "per_user": _lengths(users),
        "per_item": _lengths(items),
        "ratings": None if ratings is None else _ratings(ratings),
        "time": None if times is None else _span(times, are_dates),
    }


def _distinct(codes: np.ndarray) -> int:
    return len(np.unique(codes))


def _lengths(codes: np.ndarray) -> dict[str, float]:
    counts = np.unique(codes, return_counts=True)[1]
    if not len(counts):
        return {"min": 0, "median": 0.0, "mean": 0.0, "max": 0}
    mean, median = float(counts.mean()), float(np.median(counts))
    return {"min": int(counts.min()), "median": median, "mean": mean, "max": int(counts.max())}


def _ratings(ratings: np.ndarray) -> dict[str, Any]:
    values, counts = np.unique(ratings[~np.isnan(ratings)], return_counts=True)
    if not len(values):
        return {"min": None, "mean": None, "max": None, "counts": None}
    few = len(values) <= _MOST_RATINGS
    listed = {exact(value): int(count) for value, count in zip(values, counts)} if few else None
    mean = float(np.average(values, weights=counts))
    return {"min": float(values[0]), "mean": mean, "max": float(values[-1]), "counts": listed}


def _span(times: np.ndarray, are_dates: Optional[bool]) -> dict[str, Any]:
    finite = times[np.isfinite(times)]
    if not len(finite):
        return {"first": None, "last": None, "first_date": None, "last_date": None, "distinct": 0}
    first, last = float(finite.min()), float(finite.max())
    are_dates = first >= 10**8 and last < 10**11 if are_dates is None else are_dates
    dates = [iso(first), iso(last)] if are_dates else [None, None]
    distinct = len(np.unique(finite))
    return {"first": first, "last": last, "first_date": dates[0], "last_date": dates[1], "distinct": distinct}


def iso(seconds: float) -> str:
    """Seconds since 1970 as an ISO 8601 date in UTC, to the second."""
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=int(np.floor(seconds)))
    return f"{moment.isoformat()}Z"


def lines(counts: dict[str, Any]) -> list[str]:
    """Format the counts, a line each."""
    result = [
        f"{counts['users']:,} users, {counts['items']:,} items, {counts['interactions']:,} interactions"
        + (f" of {counts['pairs']:,} distinct pairs" if counts["pairs"] != counts["interactions"] else "")
        + f", density {100 * counts['density']:.3g} %",
        *(f"per {kind}: {_listed_lengths(counts[f'per_{kind}'])}" for kind in ("user", "item")),
    ]
    time, ratings = counts["time"], counts["ratings"]
    if time is not None and time["first"] is not None:
        first, last = (time[f"{end}_date"] or f"{time[end]:.15g}" for end in ("first", "last"))
        result.append(f"time: {first} to {last}, {time['distinct']:,} distinct")
    if ratings is not None and ratings["min"] is not None:
        by_value = ratings["counts"] or {}
        listed = f" ({', '.join(f'{value}: {count:,}' for value, count in by_value.items())})" if by_value else ""
        result.append(f"rating: {ratings['min']:g} to {ratings['max']:g}, mean {ratings['mean']:.3g}{listed}")
    return result


def _listed_lengths(lengths: dict[str, float]) -> str:
    return f"min {lengths['min']:,}, median {lengths['median']:,g}, mean {lengths['mean']:,.1f}, max {lengths['max']:,}"
