"""Tables of the data: size and split of each data set, and recall by groups of users and of items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from recbole_diffusion.evaluation.groups import (
    ACTIVITY_QUANTILES,
    POPULARITY_SHARES,
    activity_groups,
    popularity_groups,
)
from recbole_diffusion.evaluation.split_data import SplitData
from recbole_diffusion.experiment.report.analysis import Analysis
from recbole_diffusion.experiment.report.from_lists import ITEM_GROUPS, USER_GROUPS
from recbole_diffusion.experiment.report.results import ComparisonResults
from recbole_diffusion.experiment.report.tables import DASH, Table, Value, sorted_results

DATA = (
    "Density: interactions over users times items. Median history: training interactions of a user. Split: the "
    "beginning of the hash of its users, items and pairs."
)
GROUPS = (
    "Users by the length of their training history, with the borders activity_quantiles, by default thirds. Items by "
    "popularity, with the borders popularity_shares, by default those with the first half of the training "
    "interactions, those up to 80 %, and the rest; recall is among the targets of the group. In the first row the size "
    "of each group, and the fewest and most training interactions in it."
)
_TITLES = dict(
    zip((*USER_GROUPS, *ITEM_GROUPS), ("short history", "medium", "long", "head items", "mid items", "tail items"))
)
_COLUMNS = [
    *("data set", "users", "items", "train", "valid", "test", "density", "median history", "users tested", "protocol"),
    "split",
]


def datasets(comparison: ComparisonResults) -> Table:
    """Return the size of each data set, its split, and how it was ranked."""
    rows = []
    for name in comparison.results:
        counts = (comparison.plan.get("datasets") or {}).get(name) or {}
        rows.append([Value(text) for text in (name, *_dataset_texts(counts, comparison.splits.get(name)))])
    return Table("data sets", _COLUMNS, rows)


def _dataset_texts(counts: Mapping[str, Any], split: Optional[SplitData]) -> list[str]:
    numbers = [counts.get(key) for key in ("users", "items", "train", "valid", "test")]
    texts = [DASH if number is None else f"{number:,}" for number in numbers]
    users, items, *rows = [number or 0 for number in numbers]
    known = users and items and None not in numbers
    texts.append(f"{100 * sum(rows) / (users * items):.3g} %" if known else DASH)
    lengths = np.empty(0) if split is None else split.user_counts[split.user_counts > 0]
    texts.append(f"{np.median(lengths):g}" if len(lengths) else DASH)
    tested = counts.get("evaluated_users")
    texts += [DASH if tested is None else f"{tested:,}", str(counts.get("protocol") or DASH)]
    return [*texts, str(counts.get("split_sha256") or DASH)[:12]]


class _Group(NamedTuple):
    """A group of users or items: the recall of which it is, and its size in words."""

    metric: str
    title: str
    size: str


def groups(comparison: ComparisonResults, analysis: Analysis) -> Optional[Table]:
    """Return the recall by groups at the main metric's cut-off; None if no run has kept its lists."""
    split, k = comparison.splits.get(analysis.dataset), analysis.main.partition("@")[2]
    if split is None:
        return None
    results = sorted_results(analysis)
    columns = [
        (group, values)
        for group in _groups(split, k, comparison.plan.get("settings") or {})
        for values in [[result.group_mean(group.metric) for result in results]]
        if any(value is not None for value in values)
    ]
    if not columns:
        return None
    rows = [[Value(f"Recall@{k} of"), *(Value(group.size) for group, _ in columns)]]
    places = [_places(values) for _, values in columns]
    for index, result in enumerate(results):
        entries = [(values[index], place[index]) for (_, values), place in zip(columns, places)]
        rows.append([Value(result.label), *(Value(DASH if v is None else f"{v:.4f}", place) for v, place in entries)])
    return Table("groups", ["model", *(group.title for group, _ in columns)], rows)


def _groups(split: SplitData, k: str, settings: Mapping[str, Any]) -> list[_Group]:
    tested = np.unique(split.targets[:, 0])
    of_users = activity_groups(split.user_counts, settings.get("activity_quantiles") or ACTIVITY_QUANTILES)
    of_items = popularity_groups(split.item_counts, settings.get("popularity_shares") or POPULARITY_SHARES)
    return [
        *(
            _Group(f"{name}@{k}", _TITLES[name], _size(split.user_counts[tested[of_users[tested] == group]], "users"))
            for group, name in enumerate(USER_GROUPS)
        ),
        *(
            _Group(f"{name}@{k}", _TITLES[name], _size(split.item_counts[1:][of_items[1:] == group], "items"))
            for group, name in enumerate(ITEM_GROUPS)
        ),
    ]


def _size(counts: np.ndarray, kind: str) -> str:
    """``310 users, 8–37``: the size of a group, and the fewest and most training interactions."""
    if not len(counts):
        return f"0 {kind}"
    low, high = int(counts.min()), int(counts.max())
    return f"{len(counts):,} {kind}, " + (f"{low:,}" if low == high else f"{low:,}–{high:,}")


def _places(values: Sequence[Optional[float]]) -> list[int]:
    """1 for the best of a column, 2 for the second, else 0; equal texts are equally good."""
    rounded = [None if value is None else round(value, 4) for value in values]
    order = sorted({value for value in rounded if value is not None}, reverse=True)
    ranks = {value: place for place, value in enumerate(order[:2], 1)} if len(order) > 1 else {}
    return [0 if value is None else ranks.get(value, 0) for value in rounded]
