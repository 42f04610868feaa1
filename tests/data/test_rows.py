"""No row is lost in silence: rows in files = rows in splits + rows in the account; every warning is kept."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import HEADER, SMALL, write_inter
from recbole.utils.case_study import full_sort_topk

from recbole_diffusion import quick_start
from recbole_diffusion.data import pipeline
from recbole_diffusion.data.account import Account, account_of, one_line, warnings_noted

LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}
BY_TIME = {"split": {"TS": [0.8, 0.1, 0.1]}, "order": "TO", "mode": "full"}
#: FM learns from labels unless it is given negatives.
RANKING_FM = {"metrics": ["NDCG"], "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}
QUICK = {"hidden_size": 8, "n_heads": 2, "n_layers": 1, "inner_size": 8}


@pytest.fixture
def shop(tmp_path):
    """25 users with 1 to 12 rows, a few pairs twice, 30 items; 8 items have no line in .item."""
    draw = np.random.default_rng(5)
    rows, time = [], 1_600_000_000
    for user in range(25):
        for item in draw.integers(0, 30, size=1 + user % 12):
            time += int(draw.integers(1, 90))
            rows.append((f"u{user}", f"i{item}", int(draw.integers(1, 6)), time))
    write_inter(tmp_path / "dataset", "shop", rows, HEADER)
    folder = tmp_path / "dataset" / "shop"
    (folder / "shop.item").write_text("item_id:token\tprice:float\n" + "".join(f"i{n}\t{n}\n" for n in range(22)))
    (folder / "shop.link").write_text("item_id:token\tentity_id:token\n" + "".join(f"i{n}\te{n}\n" for n in range(20)))
    triples = "".join(f"e{n}\tr{n % 2}\te{(7 * n + 1) % 20}\n" for n in range(20))
    (folder / "shop.kg").write_text("head_id:token\trelation_id:token\ttail_id:token\n" + triples)
    return rows


def made(model, name="shop", **more):
    config = quick_start.configure(model, name, config_dict={**SMALL, **more})
    return config, *quick_start.prepare(config)


def dropped(described, requested=None):
    return sum(each["rows"] for each in described["account"]["dropped"] if requested in (None, each["requested"]))


COLUMNS = {"inter": ["user_id", "item_id", "rating", "timestamp"]}
FILTERS = {
    "none": {},
    "values": {"val_interval": {"rating": "[3,inf)"}},
    "repeats": {"rm_dup_inter": "last"},
    "counts": {"user_inter_num_interval": "[4,inf)", "item_inter_num_interval": "[2,inf)"},
    "items": {"load_col": {**COLUMNS, "item": ["item_id", "price"]}},
    "all": {
        "rm_dup_inter": "first",
        "val_interval": {"rating": "[2,inf)", "price": "[3,inf)"},
        "user_inter_num_interval": "[2,inf)",
        "load_col": {**COLUMNS, "item": ["item_id", "price"]},
    },
}
KINDS = {
    "DiffRec": {},
    "EASE": {"eval_args": LEAVE_ONE_OUT},
    "Pop": {"eval_args": BY_TIME},
    "FM": {**RANKING_FM, "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "mode": "full"}},
    "SASRec": {**QUICK, "eval_args": LEAVE_ONE_OUT},
    "CDDRec": {**QUICK, "eval_args": BY_TIME},
    "GRU4Rec": {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "mode": "full"}},
}


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("model", KINDS)
def test_rows_of_the_file_are_in_a_split_or_in_the_account(model, filters, shop):
    config, dataset, loaders = made(model, **{**KINDS[model], **FILTERS[filters]})
    found = pipeline.describe(dataset, loaders)
    assert found["account"]["files"]["shop.inter"] == len(shop)
    assert found["train"] + found["valid"] + found["test"] + dropped(found) == len(shop)
    for each in found["account"]["dropped"]:
        line = f"{each['rows']} rows were dropped: {each['reason']}"
        assert (line in config.notes) == (not each["requested"])


def test_what_each_filter_dropped(shop):
    """Counted by hand from the file, filter by filter in RecBole's order."""
    keys = FILTERS["all"]
    config, dataset, _ = made("DiffRec", **keys)
    pairs = {(user, item): (rating, int(item[1:])) for user, item, rating, _ in reversed(shop)}  # the first of each
    high = {pair: number for pair, (rating, number) in pairs.items() if rating >= 2}
    lined = {pair: number for pair, number in high.items() if number < 22}
    dear = {pair: number for pair, number in lined.items() if number >= 3}
    count = {user: sum(u == user for u, _ in dear) for user, _ in dear}
    last = [pair for pair in dear if count[pair[0]] >= 2]
    rows = [each.rows for each in dataset.account.dropped]
    sizes = [len(shop), len(pairs), len(high), len(lined), len(dear), len(last)]
    assert rows == [one - two for one, two in zip(sizes, sizes[1:]) if one > two]
    assert [each.requested for each in dataset.account.dropped] == [True, True, False, True, True]
    assert any("their item_id has no line in shop.item (filter_inter_by_user_or_item: False" in n for n in config.notes)


def test_rows_without_a_line_that_are_kept_are_counted(shop):
    config, _, loaders = made("BPR", **FILTERS["items"], filter_inter_by_user_or_item=False)
    without = sum(int(item[1:]) >= 22 for _, item, *_ in shop)
    assert any(
        note.startswith(f"{without} rows are kept whose item_id has no line in shop.item") for note in config.notes
    )
    assert sum(len(loader._dataset) for loader in loaders) == len(shop)


@pytest.mark.parametrize("model", ["EASE", "SASRec"])
def test_items_that_have_a_line_only_are_counted(model, tmp_path):
    rows = [(f"u{n % 6}", f"i{n % 10}", 5, n) for n in range(40)]
    write_inter(tmp_path / "dataset", "few", rows, HEADER)
    lines = "".join(f"i{n}\t1\n" for n in range(13))
    (tmp_path / "dataset" / "few" / "few.item").write_text("item_id:token\tprice:float\n" + lines)
    keys = {"load_col": {**COLUMNS, "item": ["item_id", "price"]}, **KINDS[model]}
    note = "3 of 13 items have no interaction, only a line in few.item, and are ranked;"
    config, dataset, _ = made(model, "few", **keys)
    assert any(line.startswith(note) for line in config.notes)
    assert dataset.item_num == 14
    config, dataset, _ = made(model, "few", **keys, item_inter_num_interval="[1,inf)")
    assert not any("have no interaction" in line for line in config.notes)
    assert dataset.item_num == 11


def test_items_that_the_knowledge_graph_lacks_are_counted(shop):
    load = {**COLUMNS, "kg": ["head_id", "relation_id", "tail_id"], "link": ["item_id", "entity_id"]}
    config, _, loaders = made("CKE", load_col=load)
    unlinked = sum(int(item[1:]) >= 20 for _, item, *_ in shop)
    assert any(note.startswith(f"{unlinked} rows were dropped: shop.link has no entity") for note in config.notes)
    assert sum(len(loader._dataset) for loader in loaders) + unlinked == len(shop)


def test_a_filter_that_leaves_nothing_names_itself(shop):
    with pytest.raises(
        ValueError, match=r"no row of shop\.inter is left: 157 by val_interval=.*; widen these settings"
    ):
        made("BPR", val_interval={"rating": "[9,inf)"})


@pytest.mark.parametrize(
    ("interval", "kept"), [("[1,2];[4,inf)", "abd"), ("[4,inf);[1,2]", "abd"), ("(0,inf)", "abcd")]
)
def test_lines_of_items_are_kept_by_the_intervals_whatever_their_order(interval, kept, tmp_path):
    """Rows: a 1, b 2, c 3, d 4, e none. RecBole compares lines with the lower end of the first interval only."""
    rows = [(f"u{n}", item, 1, n) for item, count in zip("abcd", range(1, 5)) for n in range(count)]
    write_inter(tmp_path / "dataset", "few", rows, HEADER)
    lines = "".join(f"{item}\t1\n" for item in "abcde")
    (tmp_path / "dataset" / "few" / "few.item").write_text("item_id:token\tprice:float\n" + lines)
    load = {**COLUMNS, "item": ["item_id", "price"]}
    config = quick_start.configure(
        "BPR", "few", config_dict={**SMALL, "load_col": load, "item_inter_num_interval": interval}
    )
    dataset = pipeline.create_dataset(config)
    assert sorted(dataset.field2id_token["item_id"][1:]) == sorted(kept)


def test_users_that_leave_one_out_does_not_test_are_counted(shop):
    """User n has 1 + n % 12 rows: three have one, two have two."""
    assert (
        "3 of 25 users are not tested: leave-one-out needs 2 interactions of a user"
        in made("EASE", eval_args=LEAVE_ONE_OUT)[0].notes
    )
    notes = made("SASRec", eval_args=LEAVE_ONE_OUT, **QUICK)[0].notes
    assert "5 of 25 users are not tested: leave-one-out needs 3 interactions of a user" in notes
    assert "3 rows were dropped: a user's only interaction makes no sequence" in notes


def test_users_that_are_new_after_the_boundary_are_counted(shop):
    """The users come one after the other in time: those of the test split are in no other."""
    config, _, loaders = made("DiffRec", eval_args=BY_TIME)
    users = [set(pipeline.pairs(loader)[:, 0]) for loader in loaders]
    cold = len(users[2] - users[0])
    assert cold > 0
    assert f"{cold} of {len(users[2])} test users have no row in train" in config.notes


TWICE = "test pairs are also in train and not masked; set rm_dup_inter: first"


@pytest.mark.parametrize("model", ["DiffRec", "EASE", "Pop", "ItemKNN", "SLIMElastic", "FM", "CKE"])
def test_repeated_pairs_are_reported_for_every_kind_of_model(model, tmp_path, shop):
    first = [(f"u{u}", f"i{(u + n) % 20}", 5, 100 * u + n) for u in range(20) for n in range(8)]
    again = [(user, item, 5, time + 10_000) for user, item, _, time in first[::8]]
    write_inter(tmp_path / "dataset", "shop", first + again, HEADER)
    graph = {"kg": ["head_id", "relation_id", "tail_id"], "link": ["item_id", "entity_id"]} if model == "CKE" else {}
    more = RANKING_FM if model == "FM" else {"metrics": ["NDCG"]}
    keys = {"load_col": {**COLUMNS, **graph}, **more, "eval_args": LEAVE_ONE_OUT}
    assert f"20 of 20 {TWICE}" in made(model, **keys)[0].notes
    assert not any(TWICE in note for note in made(model, **keys, rm_dup_inter="first")[0].notes)


def test_values_that_are_predicted_have_no_repeated_pairs(shop):
    """No ranking, nothing masked: a row may come again."""
    keys = {"threshold": {"rating": 3}, "metrics": ["AUC"], "valid_metric": "AUC"}
    config = made("FM", **keys, eval_args={**LEAVE_ONE_OUT, "mode": "labeled"})[0]
    assert not any(TWICE in note for note in config.notes)


@pytest.mark.parametrize("model", ["DiffRec", "EASE", "Pop", "SASRec", "CDDRec", "CKE", "FM"])
def test_threshold_is_explained_where_labels_do_nothing(model, shop):
    more = {"metrics": ["AUC"], "valid_metric": "AUC"} if model == "FM" else {}
    config = quick_start.configure(model, "shop", config_dict={**SMALL, "threshold": {"rating": 4}, **more})
    assert any("every row stays a positive" in note for note in config.notes) == (model != "FM")


def test_what_recbole_prints_while_loading_is_a_warning_of_the_run(shop, capfd):
    keys = {**SMALL, "load_col": {"inter": ["user_id", "item_id"]}, "rm_dup_inter": "first"}
    keys |= {"unused_col": {"inter": ["nothing"]}, "epochs": 1, "steps": 2, "dims": [8], "state": "ERROR"}
    result = quick_start.run("DiffRec", "shop", config_dict=keys, saved=False)
    assert any("Timestamp field has not been loaded" in note for note in result["warnings"])
    assert any("Field [nothing] is not in [inter_feat]" in note for note in result["warnings"])
    assert "Timestamp field" not in capfd.readouterr().err


@pytest.mark.parametrize("keep", [{"prepared_data": "kept"}, {"save_dataset": True}])
def test_warnings_and_counts_travel_with_data_that_are_kept(keep, shop):
    keys = {**FILTERS["all"], **keep, "normalize_field": ["rating", "item_id"]}
    first, second = (made("DiffRec", **keys) for _ in range(2))
    assert list(Path("kept" if "prepared_data" in keep else "saved").glob("shop*"))
    said = [note for note in second[0].notes if not note.startswith("the data set is read from ")]
    assert sorted(first[0].notes) == sorted(said)
    assert any("item_id is not a FLOAT/FLOAT_SEQ feat" in note for note in first[0].notes)
    assert pipeline.describe(*first[1:]) == pipeline.describe(*second[1:])


def test_warnings_are_one_short_line_and_come_once():
    account = Account()
    with warnings_noted(account.note):
        for _ in range(2):
            logging.getLogger().warning("In inter_feat, line %s,\n removed.", list(range(5000)))
        logging.getLogger().info("nothing")
    assert account.notes == ["In inter_feat, line [0, 1, 2, 3, 4, ... (5000 in all)], removed."]
    assert one_line("\x1b[33mred\x1b[0m  x\ny") == "red x y"
    assert len(one_line("y" * 5000)) < 500


def test_the_log_is_as_before_after_a_block_of_noted_warnings(caplog):
    root = logging.getLogger()
    before = root.level, list(root.filters)
    with pytest.raises(KeyError), warnings_noted(lambda line: None):
        raise KeyError
    assert (root.level, list(root.filters)) == before
    root.warning("heard")
    assert "heard" in caplog.text


@pytest.mark.parametrize("model", ["CKE", "CFKG"])
def test_loaders_of_knowledge_graph_models_are_saved(model, shop):
    """The run that saves, the run that loads and one that does neither are the same."""
    load = {**COLUMNS, "kg": ["head_id", "relation_id", "tail_id"], "link": ["item_id", "entity_id"]}
    keys = {**SMALL, "load_col": load, "epochs": 2}
    plain = quick_start.run(model, "shop", config_dict={**keys, "checkpoint_dir": "other"}, saved=False)
    saving = quick_start.run(model, "shop", config_dict={**keys, "save_dataloaders": True}, saved=False)
    file = next(Path("saved").glob("*dataloader.pth"))
    loading = quick_start.run(model, "shop", config_dict={**keys, "dataloaders_save_path": str(file)}, saved=False)
    assert plain["best_valid_score"] == saving["best_valid_score"] == loading["best_valid_score"]
    losses = [[epoch["train_loss"] for epoch in result["epochs"]] for result in (plain, saving, loading)]
    assert losses[0] == losses[1] == losses[2]


def test_top_k_of_users_without_a_test_row(shop):
    """What RecBole's case study says to a user whom leave-one-out leaves in train: best items without the known one."""
    config, dataset, loaders = made("EASE", eval_args=LEAVE_ONE_OUT)
    model = quick_start.build_model(config, loaders)
    users = dataset.token2id("user_id", ["u11", "u0", "u12"])  # twelve rows, one, one
    scores, items = full_sort_topk(users, model, loaders[2], k=5, device="cpu")
    assert scores.shape == (3, 5)
    for user, row in zip(("u0", "u12"), items[1:]):
        known = {dataset.token2id("item_id", item) for name, item, *_ in shop if name == user}
        assert len(known) == 1
        assert not known & set(row.tolist())
        assert torch.isfinite(scores).all()


def test_an_account_is_made_where_there_is_none():
    class Plain:
        pass

    plain = Plain()
    account_of(plain).record_dropped("x", 0, True)
    account_of(plain).record_dropped("y", 2, False)
    assert account_of(plain).plain()["dropped"] == [{"reason": "y", "rows": 2, "requested": False}]
    assert account_of(plain).notes == ["2 rows were dropped: y"]
