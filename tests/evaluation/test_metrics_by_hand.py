"""Every metric through the whole evaluation, beside an independent calculation from the files and known scores.

The model's scores are a table, so that each ranking is known. The data are ten users and twelve items in pre-split
files, with what is rare in them: a user with three candidates left, more positives than k, fewer positives than k, a
user without a test row, test pairs and training pairs written twice, items that nobody had in training.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from conftest import HEADER, write_inter
from recbole.model.abstract_recommender import GeneralRecommender, SequentialRecommender
from recbole.utils import InputType
from torch import nn

from recbole_diffusion import run
from recbole_diffusion.compat import repairs
from recbole_diffusion.evaluation import list_metrics

USERS, ITEMS = [f"u{number}" for number in range(10)], [f"i{number}" for number in range(12)]
KS = [1, 3, 5, 10]
OF_USERS = ["Recall", "MRR", "NDCG", "Hit", "Precision", "MAP", "AveragePopularity", "TailPercentage", "Novelty"]
OF_ALL = ["ItemCoverage", "GiniIndex", "ShannonEntropy", "GAUC"]
_DRAW = np.random.default_rng(5).permutation(len(USERS) * len(ITEMS)).reshape(len(USERS), len(ITEMS))
SCORES = {(user, item): _DRAW[row, place] / 10 for row, user in enumerate(USERS) for place, item in enumerate(ITEMS)}

Rows = list[tuple[str, str]]


def _rows() -> dict[str, Rows]:
    """(user, item) by split. u0 has 3 candidates at test, u9 no test row, i11 no training row."""
    draw = np.random.default_rng(7)
    train: Rows = [("u0", item) for item in ITEMS[:7]]
    valid: Rows = [("u0", ITEMS[7]), ("u0", ITEMS[8])]
    test: Rows = [("u0", ITEMS[9])]
    for number, user in enumerate(USERS[1:], start=1):
        had = [ITEMS[place] for place in draw.permutation(11)]
        train += [(user, item) for item in had[: 2 + number % 3]]
        valid += [(user, had[5])]
        if user != "u9":
            test += [(user, item) for item in [*had[6 : 6 + number % 5], ITEMS[11]]]
    return {"train": [*train, train[-1], train[-1]], "valid": valid, "test": [*test, test[1], test[1]]}


ROWS = _rows()


class _Table:
    """Scores by name; what ``predict`` was asked for is kept."""

    asked: list[tuple[int, int]]

    def fill(self: Any, dataset: Any) -> None:
        self.weight = nn.Parameter(torch.zeros(1))
        self.asked = []
        names = [dataset.field2id_token[field] for field in (dataset.uid_field, dataset.iid_field)]
        table = [[SCORES.get((user, item), 99.0) for item in names[1]] for user in names[0]]
        self.table = torch.tensor(table, dtype=torch.float32)

    def calculate_loss(self: Any, interaction: Any) -> torch.Tensor:
        return self.weight.square().sum()

    def full_sort_predict(self: Any, interaction: Any) -> torch.Tensor:
        return self.table[interaction[self.USER_ID]].clone()

    def predict(self: Any, interaction: Any) -> torch.Tensor:
        users, items = interaction[self.USER_ID], interaction[self.ITEM_ID]
        self.asked += zip(users.tolist(), items.tolist())
        return self.table[users, items]


class Known(_Table, GeneralRecommender):
    input_type = InputType.PAIRWISE
    last: Any = None

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.fill(dataset)
        type(self).last = self, dataset


class KnownOfSequences(_Table, SequentialRecommender):
    input_type = InputType.POINTWISE

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.fill(dataset)


SETTINGS: dict[str, Any] = {
    "data_path": "dataset",
    "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
    "show_progress": False,
    "state": "ERROR",
    "epochs": 1,
    "topk": KS,
    "metrics": [*OF_USERS, *OF_ALL],
    "valid_metric": "NDCG@10",
    "metric_decimal_place": 9,
    "tail_ratio": 0.25,
}


@pytest.fixture
def files(tmp_path):
    for part, rows in ROWS.items():
        write_inter(tmp_path / "dataset", "ten", [(*row, 1, place) for place, row in enumerate(rows)], HEADER)
        (tmp_path / "dataset" / "ten" / "ten.inter").rename(tmp_path / "dataset" / "ten" / f"ten.{part}.inter")
    return {**SETTINGS, "benchmark_filename": ["train", "valid", "test"]}


def of_run(settings: dict[str, Any], model: Any = Known, dataset: str = "ten", **more: Any) -> dict[str, Any]:
    return run(model, dataset, config_dict={**settings, **more}, saved=False)


# The calculation by hand, in names


def ranked(user: str, candidates: Any) -> list[str]:
    return sorted(candidates, key=lambda item: -SCORES[user, item])


def of_user(items: list[str], positives: set[str], k: int, train: Rows) -> dict[str, float]:
    """The metrics of one user, whose candidates are ``items``, best first."""
    top, had = items[:k], Counter(item for _, item in train)
    users = Counter(item for _, item in set(train))
    hits = [item in positives for item in top]
    places = [place for place, hit in enumerate(hits, start=1) if hit]
    ideal = sum(1 / math.log2(place + 1) for place in range(1, min(len(positives), k) + 1))
    return {
        "recall": len(places) / len(positives),
        "mrr": 1 / places[0] if places else 0.0,
        "ndcg": sum(1 / math.log2(place + 1) for place in places) / ideal,
        "hit": float(bool(places)),
        "precision": len(places) / k,
        "map": sum((n + 1) / place for n, place in enumerate(places)) / min(len(positives), k),
        "averagepopularity": np.mean([had[item] for item in top]),
        "tailpercentage": np.mean([in_tail(item, had) for item in top]),
        "novelty": np.mean([-math.log2(max(users[item], 1) / len(USERS)) for item in top]),
    }


def in_tail(item: str, had: Counter[str]) -> float:
    """How probable it is that the item is in the rarest quarter, where items that tie stand in any order."""
    rarer, alike = sum(had[other] < had[item] for other in ITEMS), sum(had[other] == had[item] for other in ITEMS)
    return min(max((3 - rarer) / alike, 0), 1)


def of_all(tops: list[list[str]]) -> dict[str, float]:
    """The metrics of all lists together: Gini as the mean absolute difference over twice the mean."""
    lists = Counter(item for top in tops for item in top)
    share = np.array([*lists.values()]) / sum(lists.values())
    numbers = np.array([lists[item] for item in ITEMS], dtype=float)
    gaps = np.abs(numbers[:, None] - numbers[None]).mean()
    return {
        "itemcoverage": len(lists) / len(ITEMS),
        "shannonentropy": -(share * np.log(share)).sum(),
        "giniindex": gaps / (2 * numbers.mean()),
    }


def auc_of(user: str, candidates: set[str], positives: set[str], scores: Any = SCORES) -> float:
    """Pairs of a positive and a negative in the right order; half of each tie."""
    pairs = [(scores[user, p], scores[user, n]) for p in positives for n in candidates - positives]
    return sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs) / len(pairs)


def by_hand(candidates: dict[str, set[str]], positives: dict[str, set[str]], train: Rows) -> dict[str, float]:
    """All metrics of users with ``candidates`` each."""
    lists = {user: ranked(user, items) for user, items in candidates.items()}
    result: dict[str, float] = {}
    for k in KS:
        users = [of_user(lists[user], positives[user], k, train) for user in lists]
        result.update({f"{name}@{k}": float(np.mean([each[name] for each in users])) for name in users[0]})
        result.update({f"{name}@{k}": value for name, value in of_all([each[:k] for each in lists.values()]).items()})
    weights = [len(positives[user]) for user in lists]
    result["gauc"] = np.average([auc_of(user, candidates[user], positives[user]) for user in lists], weights=weights)
    return result


def grouped(rows: Rows) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for user, item in rows:
        found[user].add(item)
    return found


def full_ranking() -> dict[str, float]:
    """The test split: the past is no candidate."""
    past, positives = grouped(ROWS["train"] + ROWS["valid"]), grouped(ROWS["test"])
    return by_hand({user: set(ITEMS) - past[user] for user in positives}, positives, ROWS["train"])


def same(found: dict[str, float], wanted: dict[str, float]) -> None:
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=2e-7), name


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
    monkeypatch.setattr("test_metrics_by_hand.SCORES", coarse)
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
    with pytest.raises(ValueError, match=f"tail_ratio={tail} is not allowed; allowed: a share"):
        of_run(files, tail_ratio=tail)


def test_the_metrics_are_repairs_that_go_again():
    from recbole.evaluator import metrics, register

    repairs.apply()
    assert register.metrics_dict["shannonentropy"] is list_metrics.ShannonEntropy
    assert set(register.smaller_metrics) == {"averagepopularity", "giniindex", "logloss", "mae", "rmse"}
    for name, metric in register.metrics_dict.items():
        assert metric.smaller == (name in register.smaller_metrics)
    repairs.undo()
    for name in ("ShannonEntropy", "GiniIndex", "ItemCoverage", "AveragePopularity", "TailPercentage"):
        assert register.metrics_dict[name.lower()] is getattr(metrics, name)
        assert register.metric_information[name.lower()] == getattr(metrics, name).metric_need
    for table in (register.metrics_dict, register.metric_information, register.metric_types):
        assert "novelty" not in table
