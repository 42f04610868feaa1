"""Evaluations of other kinds by hand: sequences, several answers of a user, labels; and what is said or refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from conftest import HEADER, write_inter
from metrics_by_hand import (
    ITEMS,
    OF_USERS,
    ROWS,
    SCORES,
    SETTINGS,
    USERS,
    Known,
    KnownOfSequences,
    by_hand,
    grouped,
    of_run,
    of_user,
    same,
)

from recbole_diffusion import quick_start, registry, run
from recbole_diffusion.training.trainer import Training, trainer_class

SEQUENCES = {user: [ITEMS[(5 * place + row) % 12] for place in range(4 + row)] for row, user in enumerate(USERS)}
SEQUENCES["u8"] = ["i2", *[ITEMS[place] for place in (5, 7, 9, 1, 3)], "i2"]  # the answer is an item that u8 had
SEQUENCES["u9"] = [item for item in ITEMS if item != "i4"]  # two candidates are left
TO = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}


@pytest.fixture
def sequences(tmp_path):
    rows = [(user, item, 1, place) for user, items in SEQUENCES.items() for place, item in enumerate(items)]
    write_inter(tmp_path / "dataset", "lists", rows, HEADER)
    more = {"train_neg_sample_args": None, "MAX_ITEM_LIST_LENGTH": 20, "eval_args": TO}
    return {**SETTINGS, **more}


def of_lists(settings: dict[str, Any], **more: Any) -> dict[str, Any]:
    return of_run(settings, KnownOfSequences, "lists", **more)


def answers(masked: bool, monkeypatch: Any) -> tuple[dict[str, set[str]], dict[str, set[str]], Any]:
    """Candidates, positives and training rows of leave-one-out."""
    train = [(user, item) for user, items in SEQUENCES.items() for item in items[:-2]]
    positives = {user: {items[-1]} for user, items in SEQUENCES.items()}
    past = {user: set(items[:-1]) if masked else set() for user, items in SEQUENCES.items()}
    if masked:  # an answer that is no candidate is behind all
        monkeypatch.setitem(SCORES, ("u8", "i2"), -1.0)
    return {user: set(ITEMS) - past[user] for user in SEQUENCES}, positives, train


@pytest.mark.parametrize("masked", [True, False])
def test_every_metric_of_sequences(masked, sequences, monkeypatch):
    result = of_lists(sequences, mask_history=masked)  # before the known scores change
    same(result["test_result"], by_hand(*answers(masked, monkeypatch)))


def test_an_answer_that_is_masked_is_no_hit_however_short_the_list(sequences):
    users = of_lists(sequences, mask_history=True, metrics=["Recall", "GAUC"], valid_metric="GAUC")
    recall = dict(zip(users["per_user"].users, users["per_user"].metrics["recall@10"]))
    assert recall["u8"] == 0
    assert recall["u9"] == 1
    assert 0 <= users["test_result"]["gauc"] <= 1


def test_several_answers_of_a_user_are_several_rows(sequences):
    """Means over answers, which is said; each user's metrics are the means over its own."""
    args = {"split": {"RS": [0.5, 0.2, 0.3]}, "order": "TO", "mode": "full"}
    result = of_lists(sequences, eval_args=args, metrics=OF_USERS)
    config = quick_start.configure(KnownOfSequences, "lists", config_dict={**sequences, "eval_args": args})
    dataset, (_, _, test) = quick_start.prepare(config)
    names = [dataset.field2id_token[field][test._dataset.inter_feat[field]] for field in ("user_id", "item_id")]
    rows = [*zip(*map(list, names))]
    assert len(rows) > len({user for user, _ in rows})
    lists = {user: sorted(ITEMS, key=lambda item: -SCORES[user, item]) for user in USERS}
    each = [(user, of_user(lists[user], {item}, 10, [])) for user, item in rows]
    for name in ("recall", "mrr", "ndcg"):
        wanted = np.mean([metrics[name] for _, metrics in each])
        assert result["test_result"][f"{name}@10"] == pytest.approx(wanted, abs=1e-8)
        for user, value in zip(result["per_user"].users, result["per_user"].metrics[f"{name}@10"]):
            assert value == pytest.approx(np.mean([metrics[name] for who, metrics in each if who == user]), abs=1e-8)
    said = f"the test split has {len(rows)} answers of {len(lists)} users: metrics are means over answers"
    assert [note for note in result["warnings"] if said in note]


def test_one_answer_of_each_user_is_not_worth_a_word(sequences):
    assert not [note for note in of_lists(sequences)["warnings"] if "answers" in note]


@pytest.fixture
def files(tmp_path):
    for part, rows in ROWS.items():
        write_inter(tmp_path / "dataset", "ten", [(*row, 1, place) for place, row in enumerate(rows)], HEADER)
        (tmp_path / "dataset" / "ten" / "ten.inter").rename(tmp_path / "dataset" / "ten" / f"ten.{part}.inter")
    return {**SETTINGS, "benchmark_filename": ["train", "valid", "test"]}


def test_where_items_repeat_all_items_are_candidates(files):
    positives = grouped(ROWS["test"])
    wanted = by_hand({user: set(ITEMS) for user in positives}, positives, ROWS["train"])
    same(of_run(files, repeatable=True)["test_result"], wanted)


def test_a_sampled_validation_leaves_the_full_test_alone(files):
    whole = of_run(files)["test_result"]
    assert of_run(files, eval_args={"mode": {"valid": "uni2", "test": "full"}})["test_result"] == whole


def test_more_negatives_than_items_are_said(files):
    notes = of_run(files, eval_args={"mode": "uni8"})["warnings"]
    past, tests = grouped(ROWS["train"] + ROWS["valid"] + ROWS["test"]), grouped(ROWS["test"])
    left = [12 - len(past[user]) for user in tests]
    few = sum(count < 8 for count in left)
    assert few > 0
    assert f"uni8: {few} of 9 users have fewer than 8 items to draw from (one has {min(left)})" in "".join(notes)
    assert "to draw from" not in "".join(of_run(files, eval_args={"mode": "uni1"})["warnings"])


def test_rows_of_an_evaluation_that_was_broken_off_are_forgotten(files):
    config = quick_start.configure(Known, "ten", config_dict={**files, "eval_users_per_batch": 2})
    _, loaders = quick_start.prepare(config)
    net = quick_start.build_model(config, loaders)
    trainer = trainer_class(registry.get_trainer(config["MODEL_TYPE"], Known, "Known"))(config, net)
    trainer.fit(loaders[0], saved=False)
    whole = trainer.evaluate(loaders[2], load_best_model=False)
    users = len(trainer.per_user.users)
    good, last = net.table.clone(), int(loaders[2].uid_list[-1])
    net.table[last, 1:] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        trainer.evaluate(loaders[2], load_best_model=False)
    net.table.copy_(good)
    assert trainer.evaluate(loaders[2], load_best_model=False) == whole
    assert len(trainer.per_user.users) == users == trainer.evaluation["users"]


def test_counts_of_a_trainer_with_a_loop_of_its_own(sequences, monkeypatch):
    """RecBole's own loop counts targets only, which a user's first item never is."""
    from recbole.trainer import Trainer

    class Looping(Trainer):
        def fit(self, *args: Any, **kwargs: Any) -> Any:
            return super().fit(*args, **kwargs)

    of_counts = {"metrics": ["Novelty", "AveragePopularity"], "valid_metric": "Novelty@10"}
    wanted = of_lists(sequences, **of_counts)["test_result"]
    monkeypatch.setattr("recbole_diffusion.registry.get_trainer", lambda *args: Looping)
    assert of_lists(sequences, **of_counts)["test_result"] == wanted


def test_lists_of_knowledge_aware_models(tmp_path, checkerboard):
    """RecBole asks their loader for what it has not."""
    names = [f"i{number}" for number in range(40)]
    for suffix, header, rows in (
        ("kg", "head_id:token relation_id:token tail_id:token", [(f"m{name}", "is", "even") for name in names]),
        ("link", "item_id:token entity_id:token", [(name, f"m{name}") for name in names]),
    ):
        lines = ["\t".join(header.split()), *map("\t".join, rows)]
        (checkerboard / "board" / f"board.{suffix}").write_text("\n".join(lines) + "\n")
    columns = {"kg": ["head_id", "relation_id", "tail_id"], "link": ["item_id", "entity_id"]}
    settings = {**SETTINGS, "topk": [10], "load_col": {"inter": ["user_id", "item_id"], **columns}}
    found = of_run(settings, "CFKG", "board", embedding_size=8)
    trained = of_run(settings, "BPR", "board", embedding_size=8)
    assert found["data"]["split_sha256"] == trained["data"]["split_sha256"]
    assert 0 < found["test_result"]["itemcoverage@10"] <= 1
    for name in ("averagepopularity@10", "novelty@10"):  # items of about the same popularity
        assert found["test_result"][name] == pytest.approx(trained["test_result"][name], rel=0.1)


# Values


def _labelled(tmp_path: Any, ratings: list[int]) -> dict[str, Any]:
    """Twelve users with five rows each; the last of each is the test split, the one before it valid."""
    rows = [(f"u{row % 10}", ITEMS[(row // 10 + row) % 12], ratings[row % len(ratings)], row) for row in range(50)]
    write_inter(tmp_path / "dataset", "rated", rows, HEADER)
    more = {"metrics": ["AUC", "LogLoss", "MAE", "RMSE"], "valid_metric": "AUC", "threshold": {"rating": 3}}
    return {**SETTINGS, **more, "eval_args": {**TO, "mode": "labeled"}, "rows": rows}


def _of_values(settings: dict[str, Any], model: Any = Known, **more: Any) -> dict[str, Any]:
    return run(model, "rated", config_dict={key: each for key, each in {**settings, **more}.items() if key != "rows"})


def test_every_metric_of_values(tmp_path, monkeypatch):
    settings = _labelled(tmp_path, [5, 1, 4, 2, 3, 1, 5])
    for number, pair in enumerate(sorted(SCORES)):  # probabilities, with ties and the ends
        monkeypatch.setitem(SCORES, pair, [0.0, 0.2, 0.5, 1.0][number % 4])
    last = {user: (user, item, rating) for user, item, rating, _ in settings["rows"]}
    scores = np.array([SCORES[user, item] for user, item, _ in last.values()])
    labels = np.array([rating >= 3 for *_, rating in last.values()], dtype=float)
    gaps = scores[labels == 1][:, None] - scores[labels == 0][None]
    assert (gaps == 0).any()
    assert {0.0, 1.0} <= {*scores}
    inside = np.clip(np.float64(np.float32(scores)), 1e-15, 1 - 1e-15)
    wanted = {
        "auc": ((gaps > 0) + 0.5 * (gaps == 0)).mean(),
        "logloss": -np.mean(labels * np.log(inside) + (1 - labels) * np.log(1 - inside)),
        "mae": np.abs(scores - labels).mean(),
        "rmse": math.sqrt(((scores - labels) ** 2).mean()),
    }
    result = _of_values(settings)
    same(result["test_result"], wanted)
    assert not [note for note in result["warnings"] if "clipped" in note]
    for batch in (1, 3):
        same(_of_values(settings, eval_batch_size=batch)["test_result"], wanted)


def test_scores_that_are_no_probabilities_are_said_where_logloss_clips_them(tmp_path):
    settings = _labelled(tmp_path, [5, 1, 4, 2, 3, 1, 5])
    notes = _of_values(settings)["warnings"]
    assert [note for note in notes if "LogLoss" in note] == [
        "LogLoss is of clipped scores: those of Known are no probabilities, they reach beyond 0 and 1"
    ]
    assert "LogLoss" not in "".join(_of_values(settings, metrics=["AUC", "RMSE"])["warnings"])


@pytest.mark.parametrize(("ratings", "label"), [([5], 1), ([1], 0)])
def test_auc_of_one_class_is_refused(ratings, label, tmp_path):
    with pytest.raises(ValueError, match=f"AUC needs rows of both classes, but all labels evaluated are {label}"):
        _of_values(_labelled(tmp_path, ratings))


def test_labels_of_more_than_two_classes_are_for_mae_and_rmse(tmp_path):
    settings = {**_labelled(tmp_path, [5, 1, 4, 2, 3]), "LABEL_FIELD": "rating", "threshold": None}
    with pytest.raises(ValueError, match="AUC and LogLoss need labels of 0 and 1, but 'rating' holds 2"):
        _of_values(settings)
    result = _of_values(settings, metrics=["MAE"], valid_metric="MAE")
    last = {user: abs(SCORES[user, item] - rating) for user, item, rating, _ in settings["rows"]}
    assert result["test_result"]["mae"] == pytest.approx(np.mean([*last.values()]), rel=1e-6)
    assert result["valid_score_bigger"] is False


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(value, tmp_path, monkeypatch):
    settings = _labelled(tmp_path, [5, 1, 4, 2, 3, 1, 5])
    user, item, *_ = settings["rows"][-1]
    monkeypatch.setitem(SCORES, (user, item), value)
    with pytest.raises(ValueError, match="not finite"):
        _of_values(settings)


# The choice of the best epoch


@pytest.mark.parametrize(
    ("metric", "bigger"), [("GiniIndex@10", False), ("AveragePopularity@1", False), ("ShannonEntropy@5", True)]
)
def test_which_metrics_are_better_when_smaller(metric, bigger, files):
    name = metric.split("@")[0]
    assert of_run(files, metrics=[name], valid_metric=metric)["valid_score_bigger"] is bigger


def test_a_validation_score_that_is_nan_is_refused(files, monkeypatch):
    monkeypatch.setattr(Training, "evaluate", lambda *args, **kwargs: {"ndcg@10": math.nan})
    with pytest.raises(ValueError, match="valid_metric='NDCG@10' is nan on the validation split"):
        of_run(files)
