"""``evaluate``: a checkpoint's numbers are the run's; a list's are the model's; what is left out is counted."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, write_inter
from recbole.data.interaction import Interaction
from scipy import stats

import recbole_diffusion
from recbole_diffusion import cli, evaluate, load, run
from recbole_diffusion.data import pipeline
from recbole_diffusion.evaluation.per_user import UserMetrics
from recbole_diffusion.experiment.evaluate.entry import BOOTSTRAP_USERS, Entry
from recbole_diffusion.testing import write_board

pytestmark = pytest.mark.xdist_group("evaluate")  # its models are trained once

METRICS = ["Recall", "NDCG", "MAP", "ItemCoverage", "Novelty", "RecallTail", "Serendipity", "ILD", "RecallLowActivity"]
QUICK = {"epochs": 1, "steps": 3, "dims": [8], "metrics": METRICS, "topk": [5, 10], "valid_metric": "NDCG@10"}


class Made:
    """A trained DiffRec on the checkerboard: its folder, result, and lists of 20 items that its scores give."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = {**SMALL, **QUICK, "data_path": str(folder / "dataset"), "seed": 4}
        self.result = run("DiffRec", "board", config_dict=self.settings)
        self.checkpoint = str(Path(self.result["checkpoint"]).absolute())
        self.loaded = load(self.checkpoint)
        self.lists = self.ranked(20)

    def ranked(self, k: int) -> pd.DataFrame:
        loaded = self.loaded
        train, valid, test = (pipeline.pairs(loader) for loader in loaded[3:])
        users = np.unique(test[:, 0])
        scores = loaded.model.full_sort_predict(Interaction({"user_id": torch.from_numpy(users)}))
        table = scores.detach().reshape(len(users), -1).double().numpy().copy()
        user_names, item_names = (loaded.dataset.field2id_token[field] for field in ("user_id", "item_id"))
        rows = []
        for row, user in enumerate(users):
            table[row, 0] = -np.inf
            for pairs in (train, valid):
                table[row, pairs[pairs[:, 0] == user, 1]] = -np.inf
            best = [item for item in np.argsort(-table[row]) if np.isfinite(table[row, item])][:k]
            rows += [(user_names[user], item_names[item], table[row, item]) for item in best]
        return pd.DataFrame(rows, columns=["user_id", "item_id", "score"])

    @property
    def past(self) -> pd.DataFrame:
        names = [self.loaded.dataset.field2id_token[field] for field in ("user_id", "item_id")]
        pairs = np.concatenate([pipeline.pairs(loader) for loader in self.loaded[3:5]])
        return pd.DataFrame({"user_id": names[0][pairs[:, 0]], "item_id": names[1][pairs[:, 1]]})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    import os

    folder, before = tmp_path_factory.mktemp("evaluate"), Path.cwd()
    os.chdir(folder)
    try:
        write_board(folder / "dataset")
        return Made(folder)
    finally:
        os.chdir(before)


def same_users(first, second):
    """The values of the users are equal, whatever their order."""
    frames = [
        evaluation.per_user.drop(columns="entry").sort_values("user", ignore_index=True)
        for evaluation in (first, second)
    ]
    pd.testing.assert_frame_equal(*frames, check_exact=True)


# A checkpoint


def test_a_checkpoint_has_the_numbers_of_its_run(made):
    evaluation = evaluate(made.checkpoint)
    np.testing.assert_equal(evaluation.metrics, made.result["test_result"])
    frame = evaluation.per_user.set_index("user")
    for metric, values in made.result["per_user"].metrics.items():
        np.testing.assert_array_equal(frame.loc[made.result["per_user"].users, metric], values)
    assert evaluation.data["split_sha256"] == made.result["data"]["split_sha256"]
    assert "all items but those of the user in train and valid" in evaluation.table()


def test_the_validation_split_has_the_numbers_of_the_best_epoch(made):
    evaluation = evaluate(made.checkpoint, split="valid")
    np.testing.assert_equal(evaluation.metrics, made.result["best_valid_result"])
    assert evaluation.masked.endswith("those of the user in train")


def test_other_metrics_and_cut_offs_are_those_of_a_run_with_them(made):
    changed = {"metrics": ["Hit", "GAUC"], "topk": [3, 20], "valid_metric": "GAUC"}
    expected = run("DiffRec", "board", config_dict={**made.settings, **changed}, saved=False)
    evaluation = evaluate(made.checkpoint, metrics=["Hit", "GAUC"], topk=[3, 20])
    assert evaluation.metrics == expected["test_result"]
    assert [*evaluation.metrics] == ["hit@3", "hit@20", "gauc"]


def test_the_training_split_ranks_its_items_among_all(made):
    """With a cut-off of all items each training item is in the list, and no item is masked."""
    evaluation = evaluate(made.checkpoint, split="train", metrics=["Recall", "NDCG"], topk=[5, 40])
    assert evaluation.metrics["recall@40"] == 1.0
    assert 0 < evaluation.metrics["recall@5"] < 1
    train = pipeline.pairs(made.loaded.train_data)
    users = np.unique(train[:, 0])
    scores = made.loaded.model.full_sort_predict(Interaction({"user_id": torch.from_numpy(users)})).reshape(
        len(users), -1
    )
    scores[:, 0] = -torch.inf
    had = {user: {*train[train[:, 0] == user, 1]} for user in users}
    top = scores.argsort(1, descending=True)[:, :5].tolist()
    recall = np.mean([len(had[user] & {*items}) / len(had[user]) for user, items in zip(users, top)])
    assert evaluation.metrics["recall@5"] == pytest.approx(recall, abs=1e-4)
    assert evaluation.masked == "ranked among all items"


def test_a_sequential_checkpoint_and_its_lists_have_the_numbers_of_its_run(made):
    args = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}
    settings = {
        **made.settings,
        "eval_args": args,
        "train_neg_sample_args": None,
        "mask_history": True,
        "repeatable": True,
    }
    small = {"hidden_size": 8, "embedding_size": 8, "dims": None, "steps": None}
    settings = {key: value for key, value in {**settings, **small}.items() if value is not None or "neg" in key}
    result = run("GRU4Rec", "board", config_dict=settings)
    evaluation = evaluate(result["checkpoint"])
    np.testing.assert_equal(evaluation.metrics, result["test_result"])
    valid = evaluate(result["checkpoint"], split="valid", metrics=["NDCG"], topk=[10])
    assert valid.metrics["ndcg@10"] == result["best_valid_result"]["ndcg@10"]
    loaded = load(result["checkpoint"])
    rows = []
    for batch, (row_seen, item_seen), _, _ in loaded.test_data:
        scores = loaded.model.full_sort_predict(batch).detach().reshape(len(batch), -1)
        scores[:, 0], scores[row_seen, item_seen] = -torch.inf, -torch.inf
        for user, values in zip(batch["user_id"].tolist(), scores):
            rows += [(user, item, rank) for rank, item in enumerate(values.topk(12)[1].tolist())]
    names = [loaded.dataset.field2id_token[field] for field in ("user_id", "item_id")]
    frame = pd.DataFrame(
        [(names[0][user], names[1][item], rank) for user, item, rank in rows], columns=["u", "i", "rank"]
    )
    lists = evaluate(frame, like=result["checkpoint"])
    np.testing.assert_equal(lists.metrics, result["test_result"])
    assert lists.entries[0].counts["seen_rows"] == 0


# Lists


def test_the_models_own_lists_have_its_numbers(made, tmp_path):
    made.lists.sample(frac=1, random_state=1).to_csv("top.csv", index=False)
    ours = evaluate(made.checkpoint, topk=[5, 10, 20])
    theirs = evaluate("top.csv", like=made.checkpoint, topk=[5, 10, 20])
    np.testing.assert_equal(theirs.metrics, ours.metrics)
    same_users(ours, theirs)
    assert theirs.intervals == {("top.csv", metric): value for (_, metric), value in ours.intervals.items()}


def test_the_split_of_the_settings_is_that_of_the_run(made):
    by_settings = evaluate(made.lists, "board", config_dict=made.settings)
    np.testing.assert_equal(by_settings.metrics, made.result["test_result"])
    other = evaluate(made.lists, "board", config_dict={**made.settings, "seed": 5})
    assert other.data["split_sha256"] != by_settings.data["split_sha256"]
    assert other.entries[0].counts["seen_rows"] > 0


@pytest.mark.parametrize("name", ["top.tsv", "top.csv.gz", "top.jsonl", "lists.jsonl", "lists.json", "top.parquet"])
def test_formats_and_names_of_columns(name, made):
    frame = made.lists.rename(columns={"user_id": "UserID", "item_id": "item"})
    frame["rank"] = frame.groupby("UserID").cumcount() + 1
    frame = frame.drop(columns="score").sample(frac=1, random_state=2)
    if name.startswith("lists"):
        grouped = frame.sort_values("rank").groupby("UserID")["item"].agg(list)
        objects = [{"user": user, "items": items} for user, items in [("nobody", []), *grouped.items()]]
        lines = "\n".join(map(json.dumps, objects))
        Path(name).write_text(json.dumps(objects) if name.endswith(".json") else lines)
    elif name.endswith(".jsonl"):
        frame.to_json(name, orient="records", lines=True)
    elif name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
        frame.to_parquet(name)
    else:
        frame.to_csv(name, index=False, sep="\t" if "tsv" in name else ",")
    np.testing.assert_equal(evaluate(name, like=made.checkpoint).metrics, made.result["test_result"])


def test_what_is_left_out_is_counted_and_said(made):
    lists, users = made.lists, made.lists.user_id.unique()
    seen = made.past[made.past.user_id == users[0]].head(2).assign(score=9.0)
    strange = pd.DataFrame(
        {"user_id": ["nobody", users[1], users[1]], "item_id": [lists.item_id[0], "x1", "x2"], "score": 9.0}
    )
    damaged = pd.concat([lists[lists.user_id != users[2]], seen, strange, lists[lists.user_id == users[3]].head(4)])
    evaluation = evaluate(damaged, like=made.checkpoint)
    counts = evaluation.entries[0].counts
    assert counts == {
        "rows": len(damaged),
        "tied_rows": 1 + 1 + 4,  # two seen items, two unknown ones, four rows written twice
        "unknown_users": 1,
        "users_without_targets": 0,
        "unknown_items": 2,
        "unknown_item_rows": 2,
        "repeated_rows": 4,
        "seen_rows": 2,
        "users_without_list": 1,
        "short_lists": 0,
    }
    text = evaluation.table()
    for part in (
        "'nobody'",
        "'x1', 'x2'",
        repr(str(users[2])),
        "they count as 0",
        "--keep-seen: kept",
        "order of the file",
    ):
        assert part in text, part
    frame, whole = (
        evaluation.per_user.set_index("user"),
        evaluate(lists, like=made.checkpoint).per_user.set_index("user"),
    )
    assert frame.loc[users[2], "recall@10"] == 0
    assert np.isnan(frame.loc[users[2], "ild@10"])
    others = [user for user in users if user != users[2]]
    pd.testing.assert_frame_equal(frame.loc[others].drop(columns="entry"), whole.loc[others].drop(columns="entry"))


def test_options_keep_seen_items_and_leave_out_users(made):
    lists, users = made.lists, made.lists.user_id.unique()
    seen = made.past.groupby("user_id").head(1).assign(score=9.0)
    kept = evaluate(pd.concat([lists, seen]), like=made.checkpoint, keep_seen=True, metrics=["Precision"], topk=[1])
    assert kept.metrics["precision@1"] == 0.0  # the first item of each list is one of the past
    some = lists[lists.user_id.isin(users[:10])]
    zero, drop = (evaluate(some, like=made.checkpoint, missing=missing) for missing in ("zero", "drop"))
    assert zero.metrics["recall@10"] == pytest.approx(drop.metrics["recall@10"] * 10 / len(users), abs=1e-4)
    assert (len(zero.per_user), len(drop.per_user)) == (len(users), 10)


def test_short_lists_end_in_misses(made):
    first = made.lists.groupby("user_id").head(3)
    evaluation = evaluate(first, like=made.checkpoint, metrics=["Recall", "NDCG", "Precision"], topk=[3, 10])
    assert evaluation.metrics["recall@3"] == evaluation.metrics["recall@10"]
    assert evaluation.metrics["precision@10"] == pytest.approx(evaluation.metrics["precision@3"] * 0.3, abs=1e-4)
    assert "64 lists have fewer than 10 items (the shortest 3)" in evaluation.table()


def test_rows_in_order_need_neither_score_nor_rank(made):
    ordered = evaluate(made.lists.drop(columns="score"), like=made.checkpoint)
    np.testing.assert_equal(ordered.metrics, made.result["test_result"])
    assert "the order of its rows" in ordered.table()


def test_a_score_that_is_named_decides_beside_a_rank(made):
    ranked = made.lists.assign(rank=made.lists.groupby("user_id").cumcount(ascending=False))
    by_score = evaluate(ranked, like=made.checkpoint, columns={"score": "score"})
    np.testing.assert_equal(by_score.metrics, made.result["test_result"])
    assert "ordered by rank=rank" in evaluate(ranked, like=made.checkpoint).table()


def test_intervals_of_many_users_are_normal():
    values = np.random.default_rng(3).random(BOOTSTRAP_USERS + 1)
    values[::7] = np.nan
    users = UserMetrics(np.arange(len(values)).astype(str), {"recallcold@10": values})
    entry = Entry("a", "a.csv", "lists", {}, users, [], {})
    present = values[~np.isnan(values)]
    half = stats.norm.ppf(0.975) * present.std(ddof=1) / np.sqrt(len(present))
    bounds = entry.intervals()["recallcold@10"]
    assert bounds == pytest.approx((present.mean() - half, present.mean() + half), abs=1e-12)
    assert entry.n_values("recallcold@10") == len(present)
    assert entry.n_values("giniindex@10") is None


# Several entries


def test_entries_are_compared_user_by_user(made, tmp_path):
    made.lists.to_csv("ours.csv", index=False)
    worse = made.lists.assign(score=-made.lists.score)
    worse.to_csv("worse.csv", index=False)
    evaluation = evaluate(["ours.csv", "worse.csv", made.checkpoint], reference="ours.csv")
    model = Path(made.checkpoint).name
    row = evaluation.analysis.against_reference(model, "ndcg@10")
    assert (row["difference"], row["ties"], row["p_wilcoxon"]) == (0.0, 64, 1.0)
    row = evaluation.analysis.against_reference("worse.csv", "ndcg@10")
    frame = evaluation.per_user.pivot(index="user", columns="entry", values="ndcg@10")
    assert row["difference"] == pytest.approx((frame["worse.csv"] - frame["ours.csv"]).mean())
    assert row["losses"] == (frame["worse.csv"].round(9) < frame["ours.csv"].round(9)).sum() > 0
    tail = evaluation.analysis.against_reference("worse.csv", "recalltail@10")
    assert tail["users"] == evaluation.per_user.groupby("entry")["recalltail@10"].count()["ours.csv"] < 64
    files = [file.name for file in evaluation.write("out")]
    assert files == ["evaluation.json", "per_user.csv", "comparisons.csv"]
    content = json.loads(Path("out/evaluation.json").read_text())
    assert [entry["label"] for entry in content["entries"]] == ["ours.csv", "worse.csv", model]
    with open("out/per_user.csv", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 3 * 64


def test_a_metric_that_no_user_has_is_a_dash(made):
    evaluation = evaluate({"a": made.lists, "b": made.lists}, like=made.checkpoint, metrics=["NDCG", "ILD"], topk=[1])
    assert np.isnan(evaluation.metrics["a"]["ild@1"])
    assert "nan" not in evaluation.table()
    assert "\u2013" in evaluation.table()
    assert json.loads(json.dumps(evaluation.plain(), allow_nan=False))["entries"][0]["metrics"]["ild@1"] is None


def test_entries_with_other_splits_are_refused(made):
    other = run("Pop", "board", config_dict={**made.settings, "seed": 5})
    with pytest.raises(ValueError, match="their numbers do not compare"):
        evaluate([made.checkpoint, other["checkpoint"]])


# Errors and the command line


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"who": ["a"], "item": ["b"]}, "the frame has no column that is known to hold users; it has who, item"),
        ({"user": ["a"], "item": ["b"]}, r"no user of the lists has targets in the test split of 'board': .*'a'"),
        ({"user": ["u0"], "item": ["b"], "score": ["x"]}, "column 'score' holds 'x' in row 1, which is no number"),
        ({"user": ["u0"], "item": ["b"]}, "no item of the lists is in 'board'"),
    ],
)
def test_tables_that_are_no_lists_are_refused(frame, message, made):
    table = pd.DataFrame(frame)
    if "user" in table and table.user[0] == "u0":
        table["user"] = made.lists.user_id[0]
    with pytest.raises(ValueError, match=message):
        evaluate(table, like=made.checkpoint)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["top.csv"], "lists need the split"),
        (["missing.csv", "--dataset=board"], "file 'missing.csv' does not exist"),
        (["missing.pth"], "checkpoint 'missing.pth' does not exist"),
        (["top.csv", "--dataset=board", "--split=dev"], "split='dev' is not allowed; allowed: train | valid | test"),
        (["top.csv", "--dataset=board", "--out=x.txt"], "out='x.txt' is not allowed"),
        (["top.csv", "--dataset=board", "--topk=a"], "--topk=a is not allowed"),
        (["top.csv", "--dataset=board", "--metrics=[Recal]"], "metrics='Recal' is not allowed"),
        (["top.csv", "--dataset=board", "--metrics=GAUC"], "it needs the scores of all candidates"),
        (["top.csv", "--dataset=board", "--item=sku"], "has no column 'sku'; it has user_id, item_id, score"),
        (["top.csv", "--dataset=board", "--eval_args={'mode': 'uni20'}"], "lists are evaluated among all items"),
        (["top.csv", "top.csv", "--dataset=board", "--reference=x"], "reference='x' is not allowed"),
        (["top.csv", "top.csv", "--dataset=board", "--metric=MRR@3"], "metric='MRR@3' is not measured"),
    ],
)
def test_errors_are_one_line(words, message, made, capsys):
    made.lists.to_csv("top.csv", index=False)
    settings = [f"--data_path={made.folder / 'dataset'}", "--state=ERROR"]
    assert cli.main(["evaluate", *words, *settings]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_the_command_prints_the_table_and_writes_the_files(made, capsys):
    made.lists.to_csv("top.csv", index=False)
    words = ["evaluate", "top.csv", f"--like={made.checkpoint}", "--topk=5,10", "--metrics=Recall,ILD", "--out=a.json"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "columns user=user_id, item=item_id; ordered by score=score, the highest first" in out
    assert "ILD: distance by co-occurrence in the training split." in out
    content = json.loads(Path("a.json").read_text())
    entry = content["entries"][0]
    assert [*entry["metrics"]] == ["recall@5", "recall@10", "ild@5", "ild@10"]
    assert f"{entry['metrics']['recall@10']:.4f}" in out
    low, high = entry["intervals"]["recall@10"]
    assert low < entry["metrics"]["recall@10"] < high
    assert cli.main(["evaluate", made.checkpoint, "--out=b.npz"]) == 0
    with np.load("b.npz") as arrays:
        assert arrays["recall@10"].shape == arrays["user"].shape == (64,)


def test_evaluate_is_a_public_name():
    assert "evaluate" in recbole_diffusion.__all__
    assert callable(recbole_diffusion.evaluate)


def test_targets_that_are_of_the_past_are_counted(tmp_path):
    """A user who comes back to an item: the list without past items cannot hold it."""
    rows = [(f"u{user}", f"i{(user + place) % 9}", 100 * user + place) for user in range(8) for place in range(6)]
    rows += [(f"u{user}", f"i{user % 9}", 100 * user + 50) for user in range(3)]  # three users come back at the end
    write_inter(tmp_path / "dataset", "again", rows, "user_id:token item_id:token timestamp:float")
    settings = {"data_path": str(tmp_path / "dataset"), "load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
    settings["eval_args"] = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}
    lists = pd.DataFrame({"user": [f"u{user}" for user in range(8)], "item": ["i8"] * 8, "rank": [1] * 8})
    result = evaluate(lists, "again", topk=3, metrics=["Recall"], config_dict={**settings, "state": "ERROR"})
    (entry,) = result.entries
    assert any(note.startswith("3 of 8 targets are also of their user's past") for note in entry.notes)
