"""Ten users and twelve items with known scores, and every metric of them by an independent calculation.

The data are in pre-split files, with what is rare in them: a user with three candidates left, more positives than k,
fewer positives than k, a user without a test row, test pairs and training pairs written twice, items that nobody had in
training. A model's scores are a table, so that each ranking is known.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from recbole.model.abstract_recommender import GeneralRecommender, SequentialRecommender
from recbole.utils import InputType
from torch import nn

from recbole_diffusion import run

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
