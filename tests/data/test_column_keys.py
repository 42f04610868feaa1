"""Settings that name columns: refused with key and way out, or without effect and said."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import SMALL, write_inter

from recbole_diffusion import quick_start
from recbole_diffusion.data import pipeline
from recbole_diffusion.data.pairs import sequence_pairs

HEADER = "user_id:token item_id:token rating:float timestamp:float"
LEAVE_ONE_OUT = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}}
#: Six users with five of nine items each, in the order of the lines.
ROWS = [(f"u{u}", f"i{(2 * u + n) % 9}", n + 1, 100 * u + n) for u in range(6) for n in range(5)]


@pytest.fixture(autouse=True)
def _shop(tmp_path):
    write_inter(tmp_path / "dataset", "shop", ROWS, HEADER)


def made(model="BPR", **more):
    config = quick_start.configure(model, "shop", config_dict={**SMALL, "topk": 1, "valid_metric": "NDCG@1", **more})
    return config, *quick_start.prepare(config)


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"alias_of_item_id": ["itemid"]}, "alias_of_item_id names the column 'itemid', which no file of 'shop' has"),
        ({"alias_of_item_id": ["rating"]}, "alias_of_item_id names the column 'rating' of type float, and takes token"),
        ({"unused_col": {"inter": ["item_id"]}}, "unused_col.inter leaves out 'item_id', which ITEM_ID_FIELD needs"),
        (
            {"unused_col": {"item": ["price"]}},
            "names columns of shop.item, which is not loaded; take item out of unused",
        ),
        ({"seq_len": {"tags": 3}}, "seq_len names the column 'tags', which no file of 'shop' has"),
        (
            {"seq_len": {"rating": 3}},
            "seq_len names the column 'rating' of type float, and takes token_seq or float_seq",
        ),
        ({"normalize_field": ["ratng"]}, r"normalize_field names the column 'ratng', .* \(did you mean rating\?\)"),
        (
            {"numerical_features": ["price"]},
            "numerical_features names the column 'price', which is not loaded; loaded: ",
        ),
        ({"preload_weight": {"item_id": "v"}}, "preload_weight names the column 'v', which is not loaded"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_its_key(model, keys, line):
    with pytest.raises(ValueError, match=line) as caught:
        made(model, **LEAVE_ONE_OUT, **keys)
    assert "\n" not in str(caught.value)


def test_an_alias_that_is_not_loaded_does_nothing():
    config, dataset, _ = made(alias_of_item_id=["timestamp"], load_col={"inter": ["user_id", "item_id"]})
    assert dataset.item_num == 10
    assert config.notes == []


def test_a_filter_loads_its_column_where_load_col_names_none_of_the_interactions():
    _, dataset, _ = made(load_col={"inter": ["user_id"]}, val_interval={"rating": "[3,inf)"})
    _, without, _ = made(load_col={}, val_interval={"rating": "[3,inf)"})
    assert len(dataset.inter_feat) == len(without.inter_feat) == sum(row[2] >= 3 for row in ROWS) == 18


def test_names_that_a_filter_does_not_meet_are_said():
    config, dataset, _ = made(val_interval={"user_id": ["u0", "u1", "U2", "nobody"]})
    assert len(dataset.inter_feat) == 10
    assert "2 of 4 names of val_interval.user_id are in no row, e.g. 'U2'" in config.notes


@pytest.mark.parametrize("keep", [True, False])
def test_a_filter_of_items_says_what_it_does_to_their_rows(keep, tmp_path):
    lines = "item_id:token\tprice:float\n" + "".join(f"i{n}\t{n}\n" for n in range(9))
    (tmp_path / "dataset" / "shop" / "shop.item").write_text(lines)
    cheap = sum(row[1] in ("i0", "i1") for row in ROWS)
    config, dataset, _ = made(val_interval={"price": "[2,inf)"}, filter_inter_by_user_or_item=not keep)
    assert len(dataset.inter_feat) == len(ROWS) - (0 if keep else cheap)
    said = (
        "val_interval={'price': '[2,inf)'} drops lines (2 of shop.item), and filter_inter_by_user_or_item: False keeps "
        f"their {cheap} rows of shop.inter"
    )
    assert (said in config.notes) == keep


@pytest.mark.parametrize("model", ["SASRec", "CDDRec"])
def test_sequences_of_one_item_count_their_interactions_once(model):
    """With MAX_ITEM_LIST_LENGTH: 1 every row is of length 1, and each looked like the first of its user."""
    found = {}
    for length in (1, 4):
        _, dataset, loaders = made(model, **LEAVE_ONE_OUT, MAX_ITEM_LIST_LENGTH=length, train_neg_sample_args=None)
        found[length] = pipeline.describe(dataset, loaders)
    assert found[1] == found[4]
    assert (found[1]["train"], found[1]["account"]["dropped"]) == (18, [])
    assert found[1]["split_sha256"] == pipeline.describe(*made("BPR", **LEAVE_ONE_OUT)[1:])["split_sha256"]


def test_first_items_of_users_without_a_row_in_train_are_counted():
    rows = [row for row in ROWS if row[0] < "u4"] + [(f"v{u}", f"i{n}", 1, 900 + n) for u in range(2) for n in range(2)]
    write_inter_again(rows)
    keys = {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none", "mode": "full"}}
    for length in (1, 4):
        _, dataset, loaders = made("SASRec", **keys, MAX_ITEM_LIST_LENGTH=length, train_neg_sample_args=None)
        counts = pipeline.describe(dataset, loaders)
        dropped = [entry["rows"] for entry in counts["account"]["dropped"]]
        assert dropped == [2]  # v0 and v1 have one row each, which is not in train
        assert counts["train"] + counts["valid"] + counts["test"] == len(rows) - 2


def write_inter_again(rows):
    write_inter(Path("dataset"), "shop", rows, HEADER)


def test_files_of_sequences_count_the_interactions_of_one_file(tmp_path):
    users = {user: [row[1] for row in ROWS if row[0] == user] for user in {row[0] for row in ROWS}}
    places = {"train": lambda n: range(1, n - 2), "valid": lambda n: [n - 2], "test": lambda n: [n - 1]}
    for part, of in places.items():
        rows = [(user, " ".join(items[:k]), items[k]) for user, items in users.items() for k in of(len(items))]
        text = "".join("\t".join(row) + "\n" for row in rows)
        header = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
        (tmp_path / "dataset" / "shop" / f"shop.{part}.inter").write_text(header + text)
    one = made("SASRec", **LEAVE_ONE_OUT, train_neg_sample_args=None)[1:]
    _, *three = made("SASRec", benchmark_filename=[*places], load_col=None, train_neg_sample_args=None)
    assert pipeline.describe(*one) | {"account": 0} == pipeline.describe(*three) | {"account": 0}
    assert len(sequence_pairs(three[1][0]._dataset)) == 18


def test_a_part_that_stands_for_two_is_said(tmp_path):
    for part, chosen in (("train", ROWS[:20]), ("test", ROWS[20:])):
        text = "".join("\t".join(map(str, row)) + "\n" for row in chosen)
        (tmp_path / "dataset" / "shop" / f"shop.{part}.inter").write_text("\t".join(HEADER.split()) + "\n" + text)
    config, _, _ = made(benchmark_filename=["train", "test", "test"], eval_args={"group_by": "none"})
    assert "eval_args.group_by='none' has no effect: the files of benchmark_filename are the split" in config.notes
    assert any(
        note.endswith("one file for valid and test: the rows that are tested choose the epoch") for note in config.notes
    )
    assert "10 of 10 test pairs are also in valid and not masked; leave them out of one of the files" in config.notes


@pytest.mark.parametrize("model", ["BPR", "DiffRec", "Pop"])
def test_a_user_who_has_every_item_is_named(model):
    write_inter_again([*ROWS, *((("all"), f"i{n}", 1, 900 + n) for n in range(9))])
    line = r"the user 'all' of 'shop' has all 9 items \(1 such users\): .* user_inter_num_interval: '\[0,9\)'"
    with pytest.raises(ValueError, match=line):
        made(model)
    _, dataset, _ = made(model, user_inter_num_interval="[0,9)")
    assert dataset.user_num == 7


def test_decimal_times_that_float64_does_not_tell_apart_are_in_exact_order():
    order = [3, 0, 4, 2, 1]
    rows = [(f"u{u}", f"i{(2 * u + n) % 9}", 1, f"1600000000.{order[n]:09d}") for u in range(6) for n in range(5)]
    write_inter_again(rows)
    config, dataset, loaders = made(**LEAVE_ONE_OUT)
    tested = {tuple(pair) for pair in pipeline.pairs(loaders[2]).tolist()}
    names = dataset.field2id_token
    assert {(names["user_id"][u], names["item_id"][i]) for u, i in tested} == {
        (f"u{u}", f"i{(2 * u + order.index(4)) % 9}") for u in range(6)
    }
    assert any("float64 cannot tell the times of shop.inter" in note for note in config.notes)


def test_saved_loaders_with_other_sizes_of_batches_are_not_used():
    made(**LEAVE_ONE_OUT, save_dataloaders=True, train_batch_size=16, eval_users_per_batch=6)
    config, _, loaders = made(**LEAVE_ONE_OUT, train_batch_size=3, eval_users_per_batch=2)
    assert [sum(1 for _ in loader) for loader in loaders] == [6, 3, 3]
    assert any("was saved with other eval_users_per_batch, train_batch_size" in note for note in config.notes)


OWN = {"USER_ID_FIELD": "uid", "ITEM_ID_FIELD": "sku", "RATING_FIELD": "stars", "TIME_FIELD": "when"}


@pytest.mark.parametrize("model", ["BPR", "DiffRec", "EASE", "TDiffRec", "SASRec", "DiffuRec"])
@pytest.mark.parametrize(
    ("keys", "left"),
    [
        ({}, 30),
        ({"val_interval": {"stars": "[2,inf)"}}, 24),
        ({"val_interval": {"stars": [1, 4]}}, 24),
        ({"threshold": {"stars": 3}}, 30),
        ({"threshold": {"stars": 3}, "val_interval": {"stars": "[2,inf)"}}, 24),
    ],
)
def test_columns_of_ones_own_need_no_load_col(model, keys, left, tmp_path):
    """ROWS under other names of columns, and load_col as RecBole has it."""
    write_inter(tmp_path / "dataset", "own", ROWS, "uid:token sku:token stars:float when:float")
    small = {key: value for key, value in SMALL.items() if key != "load_col"}
    settings = {**small, "topk": 1, "valid_metric": "NDCG@1", **LEAVE_ONE_OUT, **OWN, **keys}
    config = quick_start.configure(model, "own", config_dict=settings)
    dataset, loaders = quick_start.prepare(config)
    counts = pipeline.describe(dataset, loaders)
    assert counts["train"] + counts["valid"] + counts["test"] == left
    assert counts["users"] == 6
    assert [note for note in config.notes if "threshold only makes" not in note] == []
    if "threshold" in keys:
        labels = {row[:2]: float(row[2] >= 3) for row in ROWS}
        rows = dataset.inter_feat
        users, items = (dataset.field2id_token[field][rows[field].numpy()] for field in ("uid", "sku"))
        assert [labels[pair] for pair in zip(users, items)] == rows["label"].tolist()
        assert any("use val_interval: {stars: '[3,inf)'}" in note for note in config.notes)
