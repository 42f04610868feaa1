"""The lists that a test keeps: the metrics do not change, the lists are those of a full sort, the files are small."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from recbole_diffusion import run
from recbole_diffusion.data import pipeline
from recbole_diffusion.evaluation import ranked_lists
from recbole_diffusion.evaluation.collect import lists_to_keep, top_items
from recbole_diffusion.evaluation.list_evaluation import RankedLists, evaluate_lists
from recbole_diffusion.evaluation.ranked_lists import ListsOfSplit, fingerprint
from recbole_diffusion.evaluation.split_data import SplitData
from recbole_diffusion.experiment.jobs.store import Store
from recbole_diffusion.quick_start import configure, prepare

QUICK = {"epochs": 1, "steps": 3, "dims": [8], "metrics": ["Recall", "NDCG", "ItemCoverage"]}


def ran(settings, model="DiffRec", **more):
    return run(model, "board", config_dict={**settings, **QUICK, **more}, saved=False)


@pytest.mark.parametrize("levels", [2, 7, 10**6])
@pytest.mark.parametrize(("k", "length"), [(10, 30), (10, 10), (20, 5), (1, 100), (0, 30), (37, 40), (40, 100)])
def test_lists_begin_with_the_items_of_the_metrics_and_are_sorted(levels, k, length):
    """With two levels nearly every score is tied, with a million none is."""
    generator = torch.Generator().manual_seed(levels)
    scores = torch.randint(0, levels, (50, 40), generator=generator).float()
    masked = torch.rand(50, 40, generator=generator) < torch.linspace(0, 1, 50)[:, None]
    scores[masked] = -torch.inf
    items = top_items(scores, k)
    lists = lists_to_keep(scores, items, length)
    assert lists.shape == (50, min(length, 40))
    assert torch.equal(lists[:, :k], items[:, : lists.shape[1]])
    for row, ranked in zip(scores, lists):
        n_candidates = int((row > -torch.inf).sum())
        real = ranked[: min(n_candidates, len(ranked))]
        assert (ranked[n_candidates:] == 0).all()
        assert len(set(real.tolist())) == len(real)
        assert torch.equal(row[real], row.sort(descending=True).values[: len(real)])


def test_other_keys_of_the_result_do_not_change(settings):
    without, with_lists = ran(settings), ran(settings, keep_lists=25)
    assert without["lists"] is None
    assert without["test_result"] == with_lists["test_result"]
    assert without["best_valid_result"] == with_lists["best_valid_result"]
    for metric, values in without["per_user"].metrics.items():
        np.testing.assert_array_equal(values, with_lists["per_user"].metrics[metric])
    assert "lists" not in with_lists.plain()


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("Pop", {}),  # many items are equally popular
        ("DiffRec", {"eval_users_per_batch": 7}),
        ("DiffRec", {"eval_args": {"mode": "uni20"}}),
        ("GRU4Rec", {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}}),
    ],
)
def test_lists_give_the_metrics_and_their_tables_the_split(settings, model, more):
    sequential = {"train_neg_sample_args": None, "hidden_size": 8, "embedding_size": 8} if model == "GRU4Rec" else {}
    result = ran(settings, model, keep_lists=30, **more, **sequential)
    lists, split = result["lists"]
    assert lists.items.shape == lists.hits.shape == (64, 30)
    names = split.user_names[lists.users]
    assert names.tolist() == result["per_user"].users.tolist()
    tested = {(user, item) for user, item in split.targets.tolist()}
    for user, items, hits, n_positives in zip(lists.users, lists.items, lists.hits, lists.n_positives):
        assert [bool(item) and (user, item) in tested for item in items] == hits.tolist()
        assert n_positives == sum(pair[0] == user for pair in tested)
    recall = lists.hits[:, :10].sum(axis=1) / lists.n_positives
    np.testing.assert_allclose(recall, result["per_user"].metrics["recall@10"])
    assert len({*lists.items[:, :10].ravel()} - {0}) / (len(split.item_names) - 1) == pytest.approx(
        result["test_result"]["itemcoverage@10"], abs=1e-6
    )


@pytest.mark.parametrize("model", ["Pop", "EASE"])
def test_lists_of_tied_scores_give_the_metrics_of_their_run(settings, model):
    """The checkerboard's items are alike, so that many scores are equal; ``topk`` orders these by k."""
    metrics = ["NDCG", "ItemCoverage", "GiniIndex", "Novelty", "TailPercentage"]
    result = ran(settings, model, keep_lists=30, metrics=metrics, metric_decimal_place=6)
    values, _ = evaluate_lists(
        *result["lists"][:1], metrics, [5, 10], result["lists"].split, {"metric_decimal_place": 6}
    )
    assert values == result["test_result"]


@pytest.mark.parametrize("model", ["DiffRec", "GRU4Rec"])
def test_other_cut_offs_and_metrics_from_the_lists_are_those_of_a_training_with_them(settings, model):
    args = {"split": {"LS": "valid_and_test"} if model == "GRU4Rec" else {"RS": [0.6, 0.2, 0.2]}, "order": "TO"}
    more = {"eval_args": {**args, "mode": "full"}, "metric_decimal_place": 6}
    if model == "GRU4Rec":
        more.update(train_neg_sample_args=None, hidden_size=8, embedding_size=8)
    result = ran(settings, model, keep_lists=30, **more)
    metrics = [*("Recall", "NDCG", "MRR", "Hit", "Precision", "MAP", "ItemCoverage", "AveragePopularity", "GiniIndex")]
    metrics += [*("TailPercentage", "Novelty", "ShannonEntropy", "ILD", "RecallTail", "RecallLowActivity")]
    other = ran(settings, model, **{**more, "metrics": metrics, "topk": [3, 10, 20]})
    values, users = evaluate_lists(*result["lists"][:1], metrics, [3, 10, 20], result["lists"].split, more)
    assert values == other["test_result"]
    assert result["lists"].split.user_names[users.users].tolist() == other["per_user"].users.tolist()
    for metric, expected in other["per_user"].metrics.items():
        np.testing.assert_array_equal(users.metrics[metric], expected)


def test_tables_count_all_training_interactions(settings):
    args = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}
    more = {"train_neg_sample_args": None, "hidden_size": 8, "embedding_size": 8}
    split = ran(settings, "GRU4Rec", keep_lists=5, eval_args=args, **more)["lists"].split
    general = ran(settings, keep_lists=5, eval_args=args)["lists"].split
    assert fingerprint(split) == fingerprint(general)
    _, loaders = prepare(configure("DiffRec", "board", config_dict={**settings, **QUICK, "eval_args": args}))
    train = pipeline.interactions(loaders[0])
    assert split.user_counts.sum() == split.item_counts.sum() == len(train)
    assert split.user_counts[train[0, 0]] == (train[:, 0] == train[0, 0]).sum()
    assert {*map(tuple, split.histories.tolist())} == {*map(tuple, train.tolist())}
    assert split.item_names[0] == split.user_names[0] == "[PAD]"


def test_values_have_no_lists(settings):
    more = {"metrics": ["RMSE"], "valid_metric": "RMSE", "eval_args": {"mode": "labeled"}, "keep_lists": 10}
    assert ran(settings, "FM", **more, threshold=None, LABEL_FIELD="rating", embedding_size=4)["lists"] is None


def made(n_items=300, rows=40, length=100):
    generator = np.random.default_rng(1)
    items = np.array([generator.permutation(n_items)[:length] for _ in range(rows)], dtype=np.int32)
    users = np.arange(1, rows + 1)
    lists = RankedLists(users, items, generator.random(items.shape) < 0.1, np.full(rows, 3))
    names = [np.array([f'{kind}"{n}é' for n in range(size)]) for kind, size in (("u", 41), ("i", n_items))]
    train = np.stack([generator.integers(1, 41, 500), generator.integers(1, n_items, 500)], axis=1)
    targets = np.stack([users, items[:, 0]], axis=1).astype(np.int64)
    return ListsOfSplit(lists, SplitData(41, n_items, train, targets, None, *names))


@pytest.mark.parametrize("n_items", [101, 255, 257, 70000])
def test_the_store_gives_back_what_it_kept(n_items):
    lists = made(n_items)
    store = Store("study")
    for key in ("a", "b"):
        store.finish(key, {"x": 1}, lists=lists)
    assert len(list((store.folder / "lists").glob("split-*.npz"))) == 1
    again = Store("study").lists("b")
    for before, after in zip(lists.lists[:4], again.lists):
        np.testing.assert_array_equal(before, after)
    assert fingerprint(again.split) == fingerprint(lists.split)
    assert store.lists("c") is None
    assert (store.folder / "lists" / "a.npz").stat().st_size < (2 if n_items < 65536 else 4) * 40 * 100 + 3000


def test_another_numbering_of_the_data_is_another_split():
    one, other = made().split, made()
    swapped = dataclasses.replace(other.split, item_names=other.split.item_names[::-1])
    assert fingerprint(one) == fingerprint(other.split) != fingerprint(swapped)


def test_damaged_lists_are_refused_in_one_line():
    store, lists = Store("study"), made()
    store.finish("a", {"x": 1}, lists=lists)
    file = store.folder / "lists" / "a.npz"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"lists/a.npz cannot be read .*; delete runs/a.json and lists/a.npz") as error:
        store.lists("a")
    assert "\n" not in str(error.value)
    store.finish("a", {"x": 1}, lists=lists)
    next((store.folder / "lists").glob("split-*")).unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        Store("study").lists("a")
    arrays = {**ranked_lists.pack(lists.lists, "x"), "format": np.array(9)}
    with pytest.raises(ValueError, match="it has format 9; this version reads 1"):
        ranked_lists.unpack(arrays)
