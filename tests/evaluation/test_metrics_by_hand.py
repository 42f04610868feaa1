"""Every metric through the whole evaluation, beside an independent calculation from the files and known scores.

The model's scores are a table, so that each ranking is known. The data are ten users and twelve items in pre-split
files, with what is rare in them: a user with three candidates left, more positives than k, fewer positives than k, a
user without a test row, test pairs and training pairs written twice, items that nobody had in training.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from conftest import HEADER, write_inter
from metrics_by_hand import (
    ITEMS,
    KS,
    OF_ALL,
    OF_USERS,
    ROWS,
    SCORES,
    SETTINGS,
    Known,
    auc_of,
    by_hand,
    full_ranking,
    grouped,
    of_run,
    of_user,
    ranked,
    same,
)

from recbole_diffusion.compat import repairs
from recbole_diffusion.evaluation import list_metrics


@pytest.fixture
def files(tmp_path):
    for part, rows in ROWS.items():
        write_inter(tmp_path / "dataset", "ten", [(*row, 1, place) for place, row in enumerate(rows)], HEADER)
        (tmp_path / "dataset" / "ten" / "ten.inter").rename(tmp_path / "dataset" / "ten" / f"ten.{part}.inter")
    return {**SETTINGS, "benchmark_filename": ["train", "valid", "test"]}


# Full ranking


def test_every_metric_of_a_full_ranking(files):
    result = of_run(files)
    same(result["test_result"], full_ranking())
    sizes = {user: len(items) for user, items in grouped(ROWS["test"]).items()}
    assert (len(sizes), min(sizes.values()), max(sizes.values())) == (9, 1, 5)  # fewer and more than k
    assert result["test_result"]["tailpercentage@10"] > 0


def test_the_users_metrics_are_those_of_each_user_and_their_means_the_results(files):
    result = of_run(files)
    users = result["per_user"]
    past, positives = grouped(ROWS["train"] + ROWS["valid"]), grouped(ROWS["test"])
    assert set(users.users) == set(positives)
    assert set(users.metrics) == {f"{name.lower()}@{k}" for name in OF_USERS for k in KS}
    for place, user in enumerate(users.users):
        items = ranked(user, set(ITEMS) - past[user])
        for k in KS:
            for name, value in of_user(items, positives[user], k, ROWS["train"]).items():
                assert users.metrics[f"{name}@{k}"][place] == pytest.approx(value, abs=1e-7), (user, name, k)
    for name, values in users.metrics.items():
        assert values.mean() == pytest.approx(result["test_result"][name], abs=1e-8)


def test_a_list_ends_where_no_candidate_is_left(files):
    """u0 has three candidates. RecBole goes on with items that u0 had, and with the padding item."""
    users = of_run(files)["per_user"]
    place = users.users.tolist().index("u0")
    had = Counter(item for _, item in ROWS["train"])
    assert users.metrics["averagepopularity@10"][place] == pytest.approx(np.mean([had[item] for item in ITEMS[9:]]))
    assert users.metrics["averagepopularity@10"][place] == users.metrics["averagepopularity@3"][place]
    assert users.metrics["precision@10"][place] == pytest.approx(0.1)  # of k, as everywhere


@pytest.mark.parametrize("batch", [1, 2, 9])
def test_neither_batches_nor_companions_nor_order_change_a_metric(batch, files):
    whole = of_run(files)["test_result"]
    turned = of_run(files, eval_users_per_batch=batch, metrics=[*reversed(OF_ALL), *reversed(OF_USERS)])
    assert turned["test_result"] == whole
    for metric in [*OF_USERS, *OF_ALL][batch::3]:
        name = "GAUC" if metric == "GAUC" else f"{metric}@10"
        alone = of_run(files, metrics=[metric], valid_metric=name)["test_result"]
        assert alone == {key: value for key, value in whole.items() if key.split("@")[0] == metric.lower()}


def test_equal_scores_share_their_rank_in_gauc(files, monkeypatch):
    coarse = {pair: float(score // 3) for pair, score in SCORES.items()}
    monkeypatch.setattr("metrics_by_hand.SCORES", coarse)
    past, positives = grouped(ROWS["train"] + ROWS["valid"]), grouped(ROWS["test"])
    each = [auc_of(user, set(ITEMS) - past[user], positives[user], coarse) for user in positives]
    wanted = np.average(each, weights=[len(items) for items in positives.values()])
    assert wanted != pytest.approx(full_ranking()["gauc"], abs=1e-4)
    found = of_run(files, metrics=["GAUC"], valid_metric="GAUC")["test_result"]["gauc"]
    assert found == pytest.approx(wanted, abs=1e-9)


def test_rounding_is_by_decimals_and_gives_plain_numbers(files):
    found = of_run(files, metric_decimal_place=3)["test_result"]
    assert found == {name: round(value, 3) for name, value in full_ranking().items()}
    assert {type(value) for value in found.values()} == {float}


# Sampled


@pytest.mark.parametrize("mode", ["uni2", "uni5", "pop3"])
def test_every_metric_of_sampled_candidates(mode, files):
    """Candidates are the positives and what was drawn: with few draws the lists of ten end before the tenth place."""
    result = of_run(files, eval_args={"mode": {"valid": "full", "test": mode}})
    net, dataset = Known.last
    names = [dataset.field2id_token[field] for field in (dataset.uid_field, dataset.iid_field)]
    candidates = grouped([(names[0][user], names[1][item]) for user, item in net.asked])
    positives, past = grouped(ROWS["test"]), grouped(ROWS["train"] + ROWS["valid"])
    assert set(candidates) == set(positives)
    assert all(positives[user] <= items and not items & past[user] for user, items in candidates.items())
    assert any(len(items) < 10 for items in candidates.values())
    users_with_both = {user: items for user, items in candidates.items() if items - positives[user]}
    assert users_with_both == candidates
    same(result["test_result"], by_hand(candidates, positives, ROWS["train"]))


# The definitions, one by one


def of_lists(metric: str, lists: list[list[int]], k: int, **more: Any) -> float:
    """A metric of lists of item ids (0: none), five items."""
    settings = {"metric_decimal_place": 9, "topk": [k], "tail_ratio": None, **more.pop("settings", {})}
    struct = {"rec.items": torch.tensor(lists), "data.num_items": 6, "data.num_users": 17, **more}
    return getattr(list_metrics, metric)(settings).calculate_metric(struct)[f"{metric.lower()}@{k}"]


def test_coverage_reaches_one():
    assert of_lists("ItemCoverage", [[1, 2], [3, 4], [5, 0]], 2) == 1
    assert of_lists("ItemCoverage", [[1, 2], [3, 4], [5, 0]], 1) == 3 / 5


def test_gini_is_zero_for_equal_numbers_and_at_most_one_less_a_share():
    assert of_lists("GiniIndex", [[1, 2], [3, 4], [5, 0]], 2) == 0
    assert of_lists("GiniIndex", [[4], [4], [4]], 1) == pytest.approx(1 - 1 / 5)


def test_entropy_is_that_of_the_literature():
    """Natural logarithm, at most ln n; one item for everybody has none."""
    assert of_lists("ShannonEntropy", [[1, 2], [3, 4], [5, 0]], 2) == pytest.approx(math.log(5))
    assert of_lists("ShannonEntropy", [[4], [4], [4]], 1) == 0
    quarters = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert of_lists("ShannonEntropy", [[4], [4], [4], [1]], 1) == pytest.approx(quarters)


def test_novelty_counts_users():
    counts = {"data.item_users": Counter({1: 8, 2: 2})}  # 3: nobody's, as if one user had had it
    assert of_lists("Novelty", [[1, 2], [3, 1]], 1, **counts) == (1 + 4) / 2
    assert of_lists("Novelty", [[1, 2], [3, 1]], 2, **counts) == ((1 + 3) / 2 + (4 + 1) / 2) / 2
    assert of_lists("Novelty", [[1, 2], [3, 0]], 2, **counts) == ((1 + 3) / 2 + 4) / 2


def test_users_without_a_candidate_have_no_popularity():
    counts = {"data.count_items": Counter({1: 8, 2: 2})}
    assert of_lists("AveragePopularity", [[1, 2], [0, 0]], 2, **counts) == 5
    assert math.isnan(of_lists("AveragePopularity", [[0, 0]], 2, **counts))


@pytest.mark.parametrize(
    ("tail", "wanted"),
    [
        (0.2, [0, 0, 0, 0, 1]),  # item 5, which nobody had
        (0.4, [0, 0, 0.5, 0.5, 1]),  # items 3 and 4 tie for the second place
        (0.6, [0, 0, 1, 1, 1]),
        (1, [1, 1, 1, 1, 1]),
        (2, [0, 1, 1, 1, 1]),  # at most two interactions
        (None, [0, 0, 0, 0, 1]),  # a tenth of five: at least one item
    ],
)
def test_tail_items(tail, wanted):
    counts = {"data.count_items": Counter({1: 8, 2: 2, 3: 1, 4: 1}), "settings": {"tail_ratio": tail}}
    assert [of_lists("TailPercentage", [[item]], 1, **dict(counts)) for item in range(1, 6)] == wanted


@pytest.mark.parametrize("tail", [0, -1])
def test_a_tail_of_nothing_is_refused(tail, files):
    with pytest.raises(ValueError, match=f"tail_ratio={tail} is not allowed; allowed: float in"):
        of_run(files, tail_ratio=tail)


def test_the_metrics_are_repairs_that_go_again():
    from recbole.evaluator import metrics, register

    repairs.apply()
    assert register.metrics_dict["shannonentropy"] is list_metrics.ShannonEntropy
    assert set(register.smaller_metrics) == {"averagepopularity", "calibration", "giniindex", "logloss", "mae", "rmse"}
    for name, metric in register.metrics_dict.items():
        assert metric.smaller == (name in register.smaller_metrics)
    repairs.undo()
    for name in ("ShannonEntropy", "GiniIndex", "ItemCoverage", "AveragePopularity", "TailPercentage"):
        assert register.metrics_dict[name.lower()] is getattr(metrics, name)
        assert register.metric_information[name.lower()] == getattr(metrics, name).metric_need
    for table in (register.metrics_dict, register.metric_information, register.metric_types):
        assert not {"novelty", "ild", "calibration", "serendipity"} & {*table}
    assert "calibration" not in register.smaller_metrics
