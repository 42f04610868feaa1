"""Diversity, calibration, recall by groups, cold items and serendipity beside an independent calculation in names.

The ten users, twelve items and known scores are those of ``metrics_by_hand``; here the items have genres too.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from conftest import HEADER, write_inter
from metrics_by_hand import ITEMS, KS, ROWS, SETTINGS, USERS, grouped, of_run, ranked

from recbole_diffusion.evaluation import groups
from recbole_diffusion.evaluation.diversity_metrics import Calibration
from recbole_diffusion.evaluation.group_metrics import popularity_ranks
from recbole_diffusion.evaluation.split_data import SplitData

NAMES = [
    "TruncatedRecall",
    "RecallHead",
    "RecallMid",
    "RecallTail",
    "RecallCold",
    "RecallLowActivity",
    "RecallMediumActivity",
    "RecallHighActivity",
    "Serendipity",
    "ILD",
    "Calibration",
]
#: i3 has no genre, i10 no line.
GENRES = {
    "i0": "Action Drama",
    "i1": "Action",
    "i2": "Drama Comedy Children's",
    "i3": "",
    "i4": "Comedy",
    "i5": "Drama",
    "i6": "Action Comedy",
    "i7": "Drama",
    "i8": "War Drama",
    "i9": "Comedy",
    "i11": "War",
}
PAST, TRAIN, TARGETS = grouped(ROWS["train"] + ROWS["valid"]), grouped(ROWS["train"]), grouped(ROWS["test"])
HAD = Counter(item for _, item in ROWS["train"])


def genres(item: str) -> set[str]:
    return set(GENRES.get(item, "").split())


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "dataset" / "ten"
    for part, rows in ROWS.items():
        write_inter(tmp_path / "dataset", "ten", [(*row, 1, place) for place, row in enumerate(rows)], HEADER)
        (folder / "ten.inter").rename(folder / f"ten.{part}.inter")
    lines = [f"{item}\t1990\t{names}" for item, names in GENRES.items()]
    lines.append("i99\t1990\tWestern")  # an item that no row has
    (folder / "ten.item").write_text("\n".join(["item_id:token\tyear:token\tGenres:token_seq", *lines]) + "\n")
    more = {"metrics": [*NAMES, "NDCG", "ItemCoverage"], "benchmark_filename": ["train", "valid", "test"]}
    return {**SETTINGS, **more, "cold_max_interactions": 1}


def the_list(user: str) -> list[str]:
    return ranked(user, set(ITEMS) - PAST[user])


def item_group(item: str) -> str:
    """By the share of the training rows that more popular items have."""
    before = sum(count for other, count in HAD.items() if count > HAD[item]) / sum(HAD.values())
    return "tail" if not HAD[item] or before >= 0.8 else "head" if before < 0.5 else "mid"


def activity(user: str) -> str:
    rows = Counter(user for user, _ in ROWS["train"])
    lengths = sorted(rows.values())
    borders = [lengths[math.ceil(share * len(lengths)) - 1] for share in (0.333, 0.666)]
    return "low" if rows[user] <= borders[0] else "medium" if rows[user] <= borders[1] else "high"


def cosine(first: set[str], second: set[str]) -> float:
    return len(first & second) / math.sqrt(len(first) * len(second))


def mean_distance(sets: list[set[str]]) -> float:
    pairs = [1 - cosine(first, second) for first, second in combinations([s for s in sets if s], 2)]
    return float(np.mean(pairs)) if pairs else math.nan


def shares(items) -> dict[str, float]:
    with_genre = [item for item in items if genres(item)]
    result: Counter[str] = Counter()
    for item in with_genre:
        for genre in genres(item):
            result[genre] += 1 / len(genres(item)) / len(with_genre)
    return result


def divergence(user: str, top: list[str]) -> float:
    p, q = shares(TRAIN[user]), shares(top)
    if not p or not q:
        return math.nan
    return sum(share * math.log(share / (0.99 * q.get(genre, 0) + 0.01 * share)) for genre, share in p.items())


def popular(user: str, k: int) -> set[str]:
    """Items that fewer than k items that the user did not have in training are more popular than."""
    candidates = set(ITEMS) - TRAIN[user]
    return {item for item in candidates if sum(HAD[other] > HAD[item] for other in candidates) < k}


def ratio(hits: set[str], targets: set[str]) -> float:
    return len(hits) / len(targets) if targets else math.nan


def by_hand(user: str, k: int) -> dict[str, float]:
    top, targets = the_list(user)[:k], TARGETS[user]
    hits = set(top) & targets
    values = {"truncatedrecall": len(hits) / min(k, len(targets))}
    for group in ("head", "mid", "tail"):
        inside = {item for item in targets if item_group(item) == group}
        values[f"recall{group}"] = ratio(hits & inside, inside)
    cold = {item for item in targets if HAD[item] <= 1}
    values["recallcold"] = ratio(hits & cold, cold)
    for group in ("low", "medium", "high"):
        values[f"recall{group}activity"] = ratio(hits, targets) if activity(user) == group else math.nan
    values["serendipity"] = len(hits - popular(user, k)) / k
    values["ild"] = mean_distance([genres(item) for item in top])
    values["calibration"] = divergence(user, top)
    return values


def test_every_metric_of_every_user_and_the_means(files):
    result = of_run(files)
    users = result["per_user"]
    found: dict[str, list[float]] = {}
    for k in KS:
        for row, user in enumerate(users.users):
            for name, value in by_hand(user, k).items():
                actual = users.metrics[f"{name}@{k}"][row]
                assert actual == pytest.approx(value, abs=1e-9, nan_ok=True), (user, name, k)
                found.setdefault(f"{name}@{k}", []).append(value)
    for name, values in found.items():
        with_value = [value for value in values if not math.isnan(value)]
        mean = np.mean(with_value) if with_value else math.nan
        assert result["test_result"][name] == pytest.approx(mean, abs=1e-8, nan_ok=True), name
    assert math.isnan(result["test_result"]["ild@1"])
    for name in ("recallhead", "recalltail", "recallcold", "recalllowactivity", "recallhighactivity"):
        assert 0 < np.isnan(found[f"{name}@10"]).sum() < 9, name  # some users are in the group and some are not
    for name in [name.lower() for name in NAMES]:
        assert np.nanstd([value for k in KS for value in found[f"{name}@{k}"]]) > 0, name


def test_diversity_by_co_occurrence(files):
    had_by = {item: {user for user in USERS if item in TRAIN[user]} for item in ITEMS}
    users = of_run({**files, "metrics": ["ILD", "NDCG"], "ild_distance": "cooccurrence"})["per_user"]
    for row, user in enumerate(users.users):
        for k in (3, 10):
            expected = mean_distance([had_by[item] for item in the_list(user)[:k]])
            assert users.metrics[f"ild@{k}"][row] == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_without_categories_diversity_is_by_co_occurrence_and_calibration_is_refused(files, tmp_path):
    by_cooccurrence = of_run({**files, "metrics": ["ILD", "NDCG"], "ild_distance": "cooccurrence"})
    (tmp_path / "dataset" / "ten" / "ten.item").unlink()
    np.testing.assert_equal(
        of_run({**files, "metrics": ["ILD", "NDCG"]})["test_result"], by_cooccurrence["test_result"]
    )
    with pytest.raises(ValueError, match=r"Calibration needs categories of the items, a column of ten\.item"):
        of_run(files)
    with pytest.raises(ValueError, match="ild_distance: category needs categories"):
        of_run({**files, "metrics": ["ILD", "NDCG"], "ild_distance": "category"})


def test_the_categories_change_neither_data_nor_split(files, tmp_path):
    """RecBole would drop the rows of i10, which the .item file lacks, and count i99, which no row has."""
    with_file = of_run(files)
    (tmp_path / "dataset" / "ten" / "ten.item").unlink()
    without = of_run({**files, "metrics": ["NDCG", "ItemCoverage"]})
    assert with_file["data"] == without["data"]
    assert without["test_result"].items() <= with_file["test_result"].items()


@pytest.mark.parametrize(("field", "message"), [("genre", "has item_id:token"), ("year2", "Genres:token_seq")])
def test_a_column_that_does_not_exist_is_refused(field, message, files):
    with pytest.raises(ValueError, match=f"item_category_field='{field}' is not allowed.*{message}"):
        of_run({**files, "item_category_field": field})


def test_another_column_can_be_named(files):
    """Each item has one year, which is the same for all: all distances are 0."""
    result = of_run({**files, "metrics": ["ILD", "NDCG"], "item_category_field": "year"})
    assert result["test_result"]["ild@5"] == 0.0


def test_smaller_calibration_is_better(files):
    from recbole_diffusion.experiment.report.results import higher_is_better

    assert Calibration.smaller
    assert higher_is_better("calibration@10") is False
    assert of_run({**files, "valid_metric": "Calibration@10"})["valid_score_bigger"] is False


def test_groups_keep_equal_counts_together():
    counts = np.array([0, 4, 4, 2, 2, 2, 1, 1, 0])  # 16 interactions; the first entry is padding
    assert groups.popularity_groups(counts, [0.5, 0.8])[1:].tolist() == [0, 0, 1, 1, 1, 2, 2, 2]
    assert groups.popularity_groups(counts, [0.2, 0.9])[1:].tolist() == [0, 0, 1, 1, 1, 1, 1, 2]
    assert groups.activity_groups(np.array([0, 1, 1, 1, 5, 7, 9]), [0.333, 0.666]).tolist() == [0, 0, 0, 0, 1, 2, 2]
    with pytest.raises(ValueError, match=r"popularity_shares=.* two increasing shares"):
        groups.popularity_groups(counts, [0.8, 0.5])


def test_popularity_ranks_leave_out_the_users_history():
    pairs = np.array([(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (2, 3), (3, 3), (3, 4)])  # counts 3, 2, 2, 1, 0
    data = SplitData(4, 6, pairs)
    assert popularity_ranks(data, np.array([1, 1, 3, 3, 3]), np.array([3, 5, 2, 5, 4])).tolist() == [0, 2, 0, 1, 1]
