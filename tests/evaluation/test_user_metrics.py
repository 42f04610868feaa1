"""Metrics user by user: their means are RecBole's, their users the right ones; novelty by hand."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_diffusion import run
from recbole_diffusion.compat import repairs
from recbole_diffusion.evaluation import user_metrics

QUICK = {"epochs": 1, "steps": 3, "dims": [8]}
ALL = ["Recall", "NDCG", "MRR", "Hit", "Precision", "MAP", "ItemCoverage", "AveragePopularity", "GiniIndex", "Novelty"]


def ran(settings, model="DiffRec", **more):
    return run(model, "board", config_dict={**settings, **QUICK, "metrics": ALL, **more}, saved=False)


def test_the_means_are_the_results(settings):
    result = ran(settings)
    users = result["per_user"]
    names = {f"{name.lower()}@{k}" for name in ALL for k in (5, 10) if name not in ("ItemCoverage", "GiniIndex")}
    assert set(users.metrics) == names
    assert len(users.users) == len(set(users.users)) == 64
    for name, values in users.metrics.items():
        assert values.shape == (64,)
        assert abs(values.mean() - result["test_result"][name]) < 1e-6
    assert users.metrics["recall@10"].std() > 0


def test_each_vector_belongs_to_its_user(settings):
    """Recall and precision of one user give back how many items they were tested on."""
    leave_one = {"split": {"RS": [0.5, 0.2, 0.3]}, "order": "TO", "mode": "full"}
    general = ran(settings, "EASE", eval_args=leave_one)["per_user"]
    counts: Counter[str] = Counter()
    for line in (Path("dataset") / "board" / "board.inter").read_text().splitlines()[1:]:
        counts[line.split("\t")[0]] += 1
    hits = general.metrics["precision@10"] * 10
    sizes = np.divide(hits, general.metrics["recall@10"], out=np.zeros(64), where=hits > 0)
    expected = {user: count - int(count * 0.5) - int(count * 0.2) for user, count in counts.items()}
    known = [(round(size), expected[user]) for user, size in zip(general.users, sizes) if size]
    assert len(known) > 32
    assert all(abs(size - count) <= 1 for size, count in known)  # RecBole rounds the shares in its own way
    assert len({size for size, _ in known}) > 1


def test_sampled_evaluation_has_users_too(settings):
    result = ran(settings, eval_args={"mode": "uni20"})
    assert len(result["per_user"].users) == 64
    assert abs(result["per_user"].metrics["ndcg@10"].mean() - result["test_result"]["ndcg@10"]) < 1e-6


def test_sequential_models_and_general_ones_have_the_same_users(settings):
    args = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}
    one = ran(settings, eval_args=args)
    two = ran(settings, "GRU4Rec", eval_args=args, train_neg_sample_args=None, hidden_size=8, embedding_size=8)
    assert set(one["per_user"].users) == set(two["per_user"].users)
    assert one["data"] == two["data"]


def test_popularity_counts_the_first_items_of_sequences(settings):
    """RecBole counts targets only; for the same lists both kinds of model must report the same popularity."""
    args = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}
    more = {
        "metrics": ["NDCG", "AveragePopularity", "Novelty"],
        "topk": [40],
        "valid_metric": "NDCG@40",
        "eval_args": args,
    }
    more["repeatable"] = True  # nothing masked: with a cut-off of all items every model has the same list
    one = ran(settings, **more)["test_result"]
    two = ran(settings, "GRU4Rec", train_neg_sample_args=None, hidden_size=8, embedding_size=8, **more)["test_result"]
    masked = one["averagepopularity@40"]  # general models mask the past: their lists end with items that were masked
    assert two["averagepopularity@40"] == pytest.approx(masked, abs=1e-6)
    assert two["novelty@40"] == pytest.approx(one["novelty@40"], abs=1e-6)


def test_a_user_with_several_rows_gets_their_mean():
    users = [torch.tensor([3, 1]), torch.tensor([3])]
    found = user_metrics.collect(users, {"hit@1": np.array([1.0, 0.0, 0.0])})
    assert found.users.tolist() == [1, 3]
    assert found.metrics["hit@1"].tolist() == [0.0, 0.5]


def test_vectors_of_another_length_are_nobodys():
    assert user_metrics.collect([torch.tensor([1, 2])], {"auc": np.array([0.5])}) is None
    assert user_metrics.collect([torch.tensor([1, 2])], {}) is None


def test_the_metrics_are_their_own_again_afterwards():
    repairs.apply()
    from recbole.evaluator.evaluator import Evaluator

    evaluator = Evaluator({"metrics": ["Recall", "GiniIndex"], "metric_decimal_place": 4, "topk": [1]})
    with user_metrics.recorded(evaluator) as kept:
        evaluator.metric_class["recall"].topk_result("recall", np.array([[1.0], [0.0]]))
    assert kept["recall@1"].tolist() == [1.0, 0.0]
    assert all("topk_result" not in vars(each) for each in evaluator.metric_class.values())


def test_value_metrics_have_no_users(settings):
    labelled = {"metrics": ["MAE"], "valid_metric": "MAE", "eval_args": {"mode": "labeled"}, "threshold": {"rating": 3}}
    result = run("BPR", "board", config_dict={**settings, "epochs": 1, **labelled}, saved=False)
    assert result["per_user"] is None


def test_the_run_folder_keeps_them_when_asked(settings):
    result = ran(settings, save_per_user=True)
    with open(Path(result["folder"]) / "per_user.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 64
    assert [row["user"] for row in rows] == result["per_user"].users.tolist()
    assert np.mean([float(row["recall@10"]) for row in rows]) == pytest.approx(
        result["test_result"]["recall@10"], abs=1e-6
    )
    assert not (Path(ran(settings)["folder"]) / "per_user.csv").exists()


def test_a_run_without_test_leaves_the_test_split_alone(settings, monkeypatch):
    from recbole_diffusion.training.trainer import Training

    seen = []
    original = Training.evaluate
    monkeypatch.setattr(
        Training,
        "evaluate",
        lambda self, data, *a, **k: seen.append(data._sampler.phase) or original(self, data, *a, **k),
    )
    result = run("DiffRec", "board", config_dict={**settings, **QUICK}, saved=False, test=False)
    assert seen == ["valid"]
    assert result["test_result"] is None
    assert result["per_user"] is None
    assert result["best_valid_score"] > 0


def test_users_of_a_batch():
    rows = {"user": torch.tensor([4, 4, 2, 2, 2])}
    assert user_metrics.users_of(rows, "user", 2).tolist() == [4, 2]
    assert user_metrics.users_of(rows, "user", 5).tolist() == [4, 4, 2, 2, 2]
