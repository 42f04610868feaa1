"""Splits written as files: each way by hand, equal to RecBole's own where it has the same, and trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL, write_inter

from recbole_diffusion import cli, quick_start
from recbole_diffusion.data import pipeline
from recbole_diffusion.data.stored import describing, files, split_files, splitting
from recbole_diffusion.data.stored.splitting import Rows, Way, split

HEADER = "user_id:token item_id:token rating:float timestamp:float"
DRAW = np.random.default_rng(2)
#: Ten users with 4 to 13 of 15 items each; lines in random order, times all different.
LINES = [
    (f"u{user}", f"i{item}", 1 + item % 5, 10**9 + 1000 * place + user)
    for user in range(10)
    for place, item in enumerate(DRAW.permutation(15)[: 4 + user])
]
LINES = [LINES[place] for place in DRAW.permutation(len(LINES))]


@pytest.fixture
def shop(tmp_path):
    write_inter(tmp_path / "dataset", "shop", LINES, HEADER)
    return files.find("shop")


def part(name, dataset="shop"):
    lines = Path("dataset", dataset, f"{dataset}.{name}.inter").read_text().split("\n")[1:-1]
    return [tuple(line.split("\t")) for line in lines]


def pairs(rows):
    return {row[:2] for row in rows}


def by_user(parts):
    """Each user's rows in order of time, with the number of their part."""
    rows = [(row[0], float(row[3]), row[1], number) for number, name in enumerate(parts) for row in part(name)]
    users = {}
    for user, _, item, number in sorted(rows):
        users.setdefault(user, []).append((item, number))
    return users


PARTS = ["train", "valid", "test"]


def test_leave_one_out_takes_the_last_two(shop):
    split_files.write(shop, Way("leave-one-out"))
    for user, rows in by_user(PARTS).items():
        assert [number for _, number in rows] == [0] * (len(rows) - 2) + [1, 2], user
    assert sorted(row[:2] for name in PARTS for row in part(name)) == sorted(row[:2] for row in LINES)


@pytest.mark.parametrize("counts", [(1, [0]), (2, [0, 2]), (3, [0, 1, 2])])
def test_users_with_few_rows_follow_recboles_rule(counts):
    rows, expected = counts
    data = Rows(np.zeros(rows, dtype=int), np.arange(rows), np.arange(rows), None)
    assert split(data, Way("leave-one-out")).parts.tolist() == expected


@pytest.mark.parametrize(
    ("way", "eval_args"),
    [
        (Way("leave-one-out"), {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}),
        (Way("ratio"), {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "user", "mode": "full"}),
        (
            Way("ratio", (0.5, 0.2, 0.3)),
            {"split": {"RS": [0.5, 0.2, 0.3]}, "order": "TO", "group_by": "user", "mode": "full"},
        ),
    ],
)
def test_the_split_is_the_one_that_a_run_makes(way, eval_args, shop):
    split_files.write(shop, way)
    keys = {**SMALL, "topk": 2, "valid_metric": "NDCG@2", "load_col": {"inter": ["user_id", "item_id"]}}
    hashes = {}
    for name, more in (("run", {"eval_args": eval_args}), ("files", {"benchmark_filename": PARTS})):
        dataset, loaders = quick_start.prepare(quick_start.configure("BPR", "shop", config_dict={**keys, **more}))
        hashes[name] = pipeline.describe(dataset, loaders)["split_sha256"]
    assert hashes["run"] == hashes["files"]
    if way.by == "leave-one-out":
        for parts in (None, ["train-seq", "valid-seq", "test-seq"]):
            more = {"eval_args": eval_args} if parts is None else {"benchmark_filename": parts}
            config = quick_start.configure(
                "SASRec", "shop", config_dict={**keys, **more, "train_neg_sample_args": None}
            )
            dataset, loaders = quick_start.prepare(config)
            assert pipeline.describe(dataset, loaders)["split_sha256"] == hashes["run"]


@pytest.mark.parametrize(
    ("ratio", "parts"),
    [((0.8, 0.2, 0.0), [0] * 8 + [1] * 2), ((1.0, 0.0, 0.0), [0] * 10), ((0.8, 0.0, 0.2), [0] * 8 + [2] * 2)],
)
def test_a_share_of_0_has_no_row(ratio, parts):
    rows = Rows(np.arange(10) % 3, np.arange(10), np.arange(10), np.arange(10.0))
    assert split(rows, Way("time", ratio)).parts.tolist() == parts


def test_each_row_of_sequences_has_the_items_before_it(shop):
    split_files.write(shop, Way("leave-one-out"), max_length=3)
    history = {user: [item for item, _ in rows] for user, rows in by_user(PARTS).items()}
    for user, items in history.items():
        rows = {name: [row for row in part(f"{name}-seq") if row[0] == user] for name in PARTS}
        assert [(row[1], row[3]) for row in rows["test"]] == [(items[-1], " ".join(items[:-1]))]
        assert [(row[1], row[3]) for row in rows["valid"]] == [(items[-2], " ".join(items[:-2]))]
        expected = [(items[n], " ".join(items[max(0, n - 3) : n])) for n in range(1, len(items) - 2)]
        assert [(row[1], row[3]) for row in rows["train"]] == expected


def test_items_that_only_lists_hold_are_in_train(tmp_path):
    """In sequences a user's first item is never a target, but it is in the lists: here f, a target of test."""
    orders = {"u": "faxb", "v": "axf"}
    lines = [(user, item, 5, place) for user, items in orders.items() for place, item in enumerate(items)]
    write_inter(tmp_path / "dataset", "few", lines, HEADER)
    split_files.write(files.find("few"), Way("leave-one-out"))
    assert [row[1::2] for row in part("train-seq", "few")] == [("a", "f")]
    unseen = describing.describe(files.find("few"))["unseen"]
    assert unseen["few.valid-seq.inter"] == {"users": 1, "items": 1}  # v and x
    assert unseen["few.test-seq.inter"] == {"users": 1, "items": 1}  # v and b


def test_lists_of_train_hold_no_item_of_a_later_part(shop):
    split_files.write(shop, Way("ratio", random=True, seed=5))
    train, valid = pairs(part("train")), pairs(part("valid"))
    assert pairs(part("train-seq")) <= train
    for row in part("train-seq"):
        assert {(row[0], item) for item in row[3].split()} <= train
    for row in part("valid-seq"):
        assert {(row[0], item) for item in row[3].split()} <= train | valid


def test_a_split_by_time_leaves_no_row_of_train_after_one_of_test():
    times = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], [6, 1, 1, 2, 4])[DRAW.permutation(14)]
    data = Rows(np.arange(14) % 3, np.arange(14), np.argsort(times, kind="stable"), times)
    parts = split(data, Way("time", (0.6, 0.2, 0.2))).parts  # 10 rows, 2 and 2: the tenth is one of two with time 4
    assert parts.tolist() == [0 if time < 5 else 2 for time in times]
    parts = split(data, Way("time", valid_from=2.0, test_from=4.0)).parts
    assert parts.tolist() == [0 if time < 2 else 1 if time < 4 else 2 for time in times]


def test_cold_items_are_in_no_row_of_train(shop):
    written = split_files.write(shop, Way("cold-items", (0.6, 0.2, 0.2), seed=1))
    items = {name: {row[1] for row in part(name)} for name in PARTS}
    assert not items["train"] & (items["valid"] | items["test"])
    assert not items["valid"] & items["test"]
    assert [len(items[name]) for name in PARTS] == [9, 3, 3]
    kept = {row[0] for row in part("train")}
    assert pairs(row for name in PARTS for row in part(name)) == {row[:2] for row in LINES if row[0] in kept}
    assert all({*row[3].split()} <= items["train"] for name in PARTS for row in part(f"{name}-seq"))
    assert any("no item of valid and test is in train" in line for line in written.lines)


def test_cold_users_are_in_no_row_of_train(shop):
    written = split_files.write(shop, Way("cold-users", (0.6, 0.2, 0.2), seed=1))
    users = {name: {row[0] for row in part(name)} for name in PARTS}
    assert [len(users[name]) for name in PARTS] == [6, 2, 2]
    assert not users["train"] & (users["valid"] | users["test"])
    assert sum(len(part(name)) for name in PARTS) == len(LINES)
    assert any("sequential models score them from their earlier items" in line for line in written.lines)
    card = json.loads(Path("dataset/shop/shop.split.json").read_text())
    assert card["counts"]["test"]["users_not_in_train"] == 2
    assert card["split"]["seed"] == 1
    assert card["files"]["shop.train.inter"] == files.sha256(Path("dataset/shop/shop.train.inter"))


@pytest.mark.parametrize("by", ["cold-users", "cold-items"])
def test_the_seed_draws_the_split(by, shop):
    drawn = []
    for seed in (1, 1, 2):
        split_files.write(shop, Way(by, (0.6, 0.2, 0.2), seed=seed), overwrite=True)
        drawn.append(part("test"))
    assert drawn[0] == drawn[1] != drawn[2]


def test_names_with_spaces_need_another_separator(tmp_path):
    lines = [(f"u{u}", f"the item {(u + n) % 9}", 1, 10 * n) for u in range(6) for n in range(5)]
    write_inter(tmp_path / "dataset", "spaced", lines, HEADER)
    written = split_files.write(files.find("spaced"), Way("leave-one-out"))
    assert written.separator == "|"
    assert part("test-seq", "spaced")[0][3] == "|".join(f"the item {n}" for n in range(4))
    assert cli.main(["data", "check", "spaced"]) == 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--by=random"], r"--by=random is not allowed; allowed: ratio \| leave-one-out"),
        (["--by=ratio", "--ratio=0.5,0.1"], "three shares with the sum 1"),
        (["--by=ratio", "--ratio=0.5,0.2,0.1"], "three shares with the sum 1"),
        (["--by=ratio", "--ratio=a"], "--ratio=a is not allowed"),
        (["--by=ratio", "--form=lists"], "--form=lists is not allowed"),
        (["--by=time", "--order=random"], "--order is for --by=ratio"),
        (["--by=ratio", "--test-from=5"], "--valid-from and --test-from are for --by=time"),
    ],
)
def test_ways_that_are_not_right(words, line, shop, capsys):
    import re

    assert cli.main(["data", "split", "shop", *words]) == 2
    assert re.search(line, capsys.readouterr().err)
    assert not list(Path("dataset/shop").glob("*train*"))


def test_existing_parts_stay_and_a_label_writes_others(shop, capsys):
    words = ["data", "split", "shop", "--by=leave-one-out"]
    assert cli.main(words) == 0
    before = part("train")
    assert cli.main(["data", "split", "shop", "--by=cold-users"]) == 2
    assert "--overwrite replaces them, --label=WORD writes others" in capsys.readouterr().err
    assert cli.main(["data", "split", "shop", "--by=cold-users", "--label=cold"]) == 0
    assert "'--benchmark_filename=[cold-train,cold-valid,cold-test]'" in capsys.readouterr().out
    assert part("train") == before
    assert sum(len(part(f"cold-{name}")) for name in PARTS) == len(LINES)


@pytest.mark.parametrize(
    ("model", "parts"), [("DiffRec", "[train,valid,test]"), ("SASRec", "[train-seq,valid-seq,test-seq]")]
)
@pytest.mark.parametrize("by", ["leave-one-out", "cold-users"])
def test_models_train_on_the_files(model, parts, by, shop, capsys):
    assert cli.main(["data", "split", "shop", f"--by={by}"]) == 0
    capsys.readouterr()
    words = [
        "run",
        f"--model={model}",
        "--dataset=shop",
        f"--benchmark_filename={parts}",
        "--epochs=1",
        "--state=ERROR",
    ]
    words += ["--topk=2", "--valid_metric=NDCG@2", "--no-save", "--train_neg_sample_args=null"]
    assert cli.main(words) == 0
    assert "0 lost in loading" in capsys.readouterr().out


def test_an_example_of_recboles_is_copied_and_its_own_folder_stays(capsys):
    assert cli.main(["data", "split", "ml-100k", "--by=cold-users", "--form=general"]) == 0
    assert files.find("ml-100k").folder == Path("dataset/ml-100k")
    assert Path("dataset/ml-100k/ml-100k.item").is_file()
    assert not list(files.find("ml-100k", "recbole").folder.glob("*train*"))


def test_counts_follow_recboles_rule():
    from recbole.data.dataset import Dataset

    for total in (1, 2, 3, 4, 5, 9, 10, 11, 97):
        for ratio in ([0.8, 0.1, 0.1], [0.5, 0.2, 0.3], [0.9, 0.0, 0.1]):
            ends = Dataset._calcu_split_ids(None, total, ratio)
            expected = np.diff([0, *ends, total]).tolist()
            assert splitting.counts_of(total, ratio) == expected
