"""Pre-split files: filters within each file or a note, lists in the ids of the items and of the length of the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import HEADER, SMALL, write_inter

from recbole_diffusion import quick_start
from recbole_diffusion.data import pipeline, prepared
from recbole_diffusion.data.pairs import sequence_pairs

PARTS = ("train", "valid", "test")
SPLIT = {"benchmark_filename": list(PARTS), "topk": [1], "valid_metric": "NDCG@1"}
LISTS = "user_id:token item_id_list:token_seq item_id:token"
QUICK = {"hidden_size": 8, "n_heads": 2, "n_layers": 1, "inner_size": 8, "epochs": 1}
ALL = {"load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}}


def write(folder, name, header, parts):
    (folder / name).mkdir(parents=True, exist_ok=True)
    for part, rows in parts.items():
        lines = ["\t".join(header.split()), *("\t".join(map(str, row)) for row in rows)]
        (folder / name / f"{name}.{part}.inter").write_text("\n".join(lines) + "\n")


def made(model, name, **more):
    load = {"load_col": {"inter": ["user_id", "item_id"]}}
    config = quick_start.configure(model, name, config_dict={**SMALL, **load, **SPLIT, **more})
    return config, *quick_start.prepare(config)


def names(dataset, ids, field="item_id"):
    return dataset.field2id_token[field][np.asarray(ids)].tolist()


@pytest.fixture
def plain(tmp_path):
    """Five users; a pair's rating is its item's number, but of (a, i5), which comes a second time in train."""
    train = [(u, f"i{n}", n, 100 * n + k) for k, u in enumerate("abcd") for n in range(1, 6)] + [("a", "i5", 9, 1)]
    train += [("e", "i9", 9, 5), ("e", "i0", 0, 6)]
    valid = [(u, f"i{n}", n, 700) for u, n in zip("abcd", (6, 2, 6, 6))]
    test = [(u, f"i{n}", n, 800) for u, n in zip("abcd", (7, 7, 3, 7))]
    parts = {"train": train, "valid": valid, "test": test}
    write(tmp_path / "dataset", "plain", HEADER, parts)
    return parts


@pytest.mark.parametrize("model", ["DiffRec", "BPR", "EASE", "FM"])
def test_values_are_filtered_in_each_file(model, plain):
    negatives = {"distribution": "uniform", "sample_num": 1}  # FM learns from labels otherwise
    ranking = {"metrics": ["NDCG"], "eval_args": {"mode": "full"}, "train_neg_sample_args": negatives}
    more = ranking if model == "FM" else {}
    config, dataset, loaders = made(model, "plain", **ALL, val_interval={"rating": "[3,inf)"}, **more)
    for part, loader in zip(PARTS, loaders):
        rows = loader._dataset.inter_feat
        found = sorted(zip(names(dataset, rows["user_id"], "user_id"), names(dataset, rows["item_id"])))
        assert found == sorted((user, item) for user, item, rating, _ in plain[part] if rating >= 3)
    account = pipeline.describe(dataset, loaders)["account"]
    assert account["files"] == {"plain.train.inter": 23, "plain.valid.inter": 4, "plain.test.inter": 4}
    assert account["dropped"] == [{"reason": "val_interval={'rating': '[3,inf)'}", "rows": 10, "requested": True}]
    assert not any("val_interval" in note for note in config.notes)


@pytest.mark.parametrize(("keep", "rating"), [("first", 9.0), ("last", 5.0)])
def test_repeated_pairs_are_dropped_within_a_file_in_order_of_time(keep, rating, plain):
    """The later line of (a, i5) is the earlier in time. (b, i2) is in train and in valid: that is the split's."""
    _, dataset, loaders = made("BPR", "plain", **ALL, rm_dup_inter=keep)
    assert [len(loader._dataset) for loader in loaders] == [22, 4, 4]
    rows = loaders[0]._dataset.inter_feat
    of_a = [names(dataset, rows["user_id"], "user_id")[n] == "a" for n in range(22)]
    kept = [r for r, a, i in zip(rows["rating"].tolist(), of_a, names(dataset, rows["item_id"])) if a and i == "i5"]
    assert kept == [rating]


@pytest.mark.parametrize("key", ["user_inter_num_interval", "item_inter_num_interval"])
def test_what_has_no_one_meaning_is_said(key, plain):
    config, _, loaders = made("DiffRec", "plain", **{key: "[5,inf)"})
    assert f"{key}='[5,inf)' has no effect on pre-split files: filter the rows before they are written" in config.notes
    assert [len(loader._dataset) for loader in loaders[1:]] == [4, 4]
    assert not any("no effect" in note for note in made("DiffRec", "plain", **{key: "[0,inf)"})[0].notes)


def test_a_split_of_the_settings_is_said_to_do_nothing(plain):
    args = {"split": {"TS": [0.8, 0.1, 0.1]}, "order": "TO", "mode": "full"}
    notes = made("BPR", "plain", eval_args=args)[0].notes
    assert (
        "eval_args.split={'TS': [0.8, 0.1, 0.1]} has no effect: the files of benchmark_filename are the split" in notes
    )
    assert not any("eval_args" in note for note in made("BPR", "plain", eval_args={"mode": "full"})[0].notes)


def test_a_file_for_each_part(plain):
    with pytest.raises(
        ValueError, match=r"benchmark_filename=\['train', 'test'\] is not allowed; allowed: list of 3 str"
    ):
        made("BPR", "plain", benchmark_filename=["train", "test"])


def test_an_empty_file_and_a_filter_that_leaves_nothing_are_named(plain):
    with pytest.raises(ValueError, match=r"no row of plain.inter is left: 31 by val_interval"):
        made("BPR", "plain", **ALL, val_interval={"rating": "[50,inf)"})


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_items_without_a_line_stay_and_are_counted(model, plain, tmp_path):
    (tmp_path / "dataset" / "plain" / "plain.item").write_text(
        "item_id:token\tsize:float\ni1\t3\ni2\t5\ni3\t4\ni4\t4\n"
    )
    columns = ["user_id", "item_id"]
    if model == "SASRec":
        parts = {part: [(u, "i1 i2", item) for u, item, *_ in rows] for part, rows in plain.items()}
        write(tmp_path / "dataset", "plain", LISTS, parts)
    more = QUICK if model == "SASRec" else {}
    config, _, loaders = made(model, "plain", load_col={"inter": columns, "item": ["item_id", "size"]}, **more)
    assert [len(loader._dataset) for loader in loaders] == [23, 4, 4]
    assert any(
        note.startswith("13 rows are kept whose item_id has no line in plain.item") and "no effect on pre-split" in note
        for note in config.notes
    )


def test_a_filter_on_items_reaches_the_rows(plain, tmp_path):
    lines = "".join(f"i{n}\t{n}\n" for n in range(10))
    (tmp_path / "dataset" / "plain" / "plain.item").write_text("item_id:token\tsize:float\n" + lines)
    load = {"inter": ["user_id", "item_id"], "item": ["item_id", "size"]}
    _, dataset, loaders = made("BPR", "plain", load_col=load, val_interval={"size": "[0,4]"})
    expected = [sum(int(item[1:]) <= 4 for _, item, *_ in rows) for rows in plain.values()]
    assert [len(loader._dataset) for loader in loaders] == expected
    assert sum(each.rows for each in dataset.account.dropped) == 31 - sum(expected)


def test_the_links_of_a_knowledge_graph_are_those_of_the_rows(plain, tmp_path):
    """RecBole keeps links of items that no file has, and fails with a KeyError. Items without a link are counted."""
    folder = tmp_path / "dataset" / "plain"
    links = "".join(f"i{n}\te{n}\n" for n in range(10) if n != 7) + "unknown\te7\n"
    (folder / "plain.link").write_text("item_id:token\tentity_id:token\n" + links)
    triples = "".join(f"e{n}\tr\te{(n + 1) % 10}\n" for n in range(10))
    (folder / "plain.kg").write_text("head_id:token\trelation_id:token\ttail_id:token\n" + triples)
    load = {
        "inter": ["user_id", "item_id"],
        "kg": ["head_id", "relation_id", "tail_id"],
        "link": ["item_id", "entity_id"],
    }
    config, _, loaders = made("CKE", "plain", load_col=load)
    expected = [sum(item != "i7" for _, item, *_ in rows) for rows in plain.values()]
    assert [len(loader._dataset) for loader in loaders] == expected
    assert any(f"{31 - sum(expected)} rows were dropped: plain.link has no entity" in note for note in config.notes)


def test_users_and_items_that_train_has_not(plain, tmp_path):
    test = [("new", "i1", 1, 9), ("a", "i8", 1, 9), ("b", "i2", 1, 9)]
    write(tmp_path / "dataset", "plain", HEADER, {"test": test})
    notes = made("DiffRec", "plain")[0].notes
    assert "1 of 3 test users have no row in train" in notes
    assert "1 of 3 test rows have an item without a row in train" in notes
    assert "1 of 3 test pairs are also in train and not masked; leave them out of one of the files" in notes


def test_threshold_makes_labels_of_pre_split_rows(plain):
    _, _, loaders = made("FM", "plain", **ALL, threshold={"rating": 4}, metrics=["AUC"], valid_metric="AUC")
    assert loaders[0]._dataset.inter_feat["label"].sum() == sum(rating >= 4 for *_, rating, _ in plain["train"])


@pytest.mark.parametrize("model", ["SASRec", "CDDRec", "DiffuRec", "GRU4Rec", "BERT4Rec"])
def test_plain_rows_and_a_sequential_model_are_one_line(model, plain):
    line = r"plain\.train\.inter needs the column item_id_list:token_seq: in pre-split files of a sequential model"
    with pytest.raises(ValueError, match=line):
        made(model, "plain", **QUICK)


CHAIN = {
    "train": [("s1", "a", "b"), ("s1", "a b", "c"), ("s2", "b c d", "e"), ("s3", "x y z a b", "c")],
    "valid": [("s4", "c d", "e")],
    "test": [("s5", "x y z a b c d", "e"), ("s6", "b c", "d")],
}
SEQUENTIAL = ["SASRec", "CDDRec", "DiffuRec", "GRU4Rec", "BERT4Rec"]


@pytest.fixture
def chain(tmp_path):
    write(tmp_path / "dataset", "chain", LISTS, CHAIN)
    return tmp_path / "dataset" / "chain"


@pytest.mark.parametrize("load", [{}, {"load_col": None}, {"load_col": {"inter": ["user_id", "item_id"]}}])
@pytest.mark.parametrize("model", SEQUENTIAL)
def test_items_in_lists_have_the_ids_of_the_items(model, load, chain):
    """Items that are in lists only (x, y, z, a) are items too."""
    keys = {key: value for key, value in {**SMALL, **SPLIT, **QUICK}.items() if key != "load_col"}
    config = quick_start.configure(model, "chain", config_dict={**keys, **load})
    dataset, loaders = quick_start.prepare(config)
    assert sorted(dataset.field2id_token["item_id"][1:]) == sorted("abcdexyz")
    rows = loaders[2]._dataset.inter_feat
    found = [names(dataset, items[:n]) for items, n in zip(rows["item_id_list"], rows["item_length"])]
    assert found == [items.split() for _, items, _ in CHAIN["test"]]
    assert config["alias_of_item_id"] == ["item_id_list"]
    again = quick_start.configure(config_dict=config.plain())
    assert again["alias_of_item_id"] == ["item_id_list"]


def test_names_of_ones_own_and_an_alias_that_was_given(tmp_path):
    header = "session:token seen:token thing_past:token_seq thing:token"
    rows = {part: [(u, "q", items, item) for u, items, item in rows] for part, rows in CHAIN.items()}
    write(tmp_path / "dataset", "own", header, rows)
    keys = {"USER_ID_FIELD": "session", "ITEM_ID_FIELD": "thing", "LIST_SUFFIX": "_past", "alias_of_item_id": ["seen"]}
    load = {"load_col": {"inter": ["session", "thing", "seen"]}}
    config, dataset, loaders = made("SASRec", "own", **QUICK, **keys, **load)
    assert config["alias_of_item_id"] == ["seen", "thing_past"]
    assert sorted(dataset.field2id_token["thing"][1:]) == sorted("abcdexyzq")
    assert dataset.token2id("seen", "q") == dataset.token2id("thing", "q")
    assert len(loaders[2]._dataset) == 2


@pytest.mark.parametrize("model", SEQUENTIAL)
def test_long_lists_keep_their_last_items(model, chain):
    keys = {**QUICK, "MAX_ITEM_LIST_LENGTH": 3, "mask_ratio": 0.5}
    config, dataset, loaders = made(model, "chain", **keys)
    for phase in (1, 2):
        rows = loaders[phase]._dataset.inter_feat
        found = [names(dataset, items[:n]) for items, n in zip(rows["item_id_list"], rows["item_length"])]
        assert found == [items.split()[-3:] for _, items, _ in CHAIN[PARTS[phase]]]
    assert sorted(dataset.field2id_token["item_id"][1:]) == sorted("abcdexyz")  # the candidates do not change
    assert any(note.startswith("2 of 7 sequences of the pre-split files are longer than") for note in config.notes)
    quick_start.run(model, "chain", config_dict={**SMALL, **SPLIT, **keys, "load_col": None}, saved=False)


def test_what_was_cut_off_is_still_masked(chain):
    """Of s5 the whole list, of s6 too; what stands in lists only is one interaction of train, also where it was cut."""
    keys = {**QUICK, "MAX_ITEM_LIST_LENGTH": 3, "mask_history": True}
    _, dataset, loaders = made("DiffuRec", "chain", **keys)
    interaction, (rows, items), _, _ = next(iter(loaders[2]))
    users = names(dataset, interaction["user_id"], "user_id")
    masked = {user: {*names(dataset, items[rows == row])} for row, user in enumerate(users)}
    assert masked == {"s5": set("xyzabcd"), "s6": set("bc")}
    pairs = sorted(
        zip(*(names(dataset, ids, f) for ids, f in zip(sequence_pairs(loaders[0]._dataset).T, ("user_id", "item_id"))))
    )
    expected = {"s1": "abc", "s2": "bcde", "s3": "xyzabc"}
    assert pairs == sorted((user, item) for user, items in expected.items() for item in items)
    longer = made("DiffuRec", "chain", **{**keys, "MAX_ITEM_LIST_LENGTH": 50})
    assert pipeline.describe(dataset, loaders) | {"account": 0} == pipeline.describe(*longer[1:]) | {"account": 0}


def test_prepared_data_keep_what_was_cut_off(chain):
    keys = {**QUICK, "MAX_ITEM_LIST_LENGTH": 3, "mask_history": True}

    def configured():
        return quick_start.configure("DiffuRec", "chain", config_dict={**SMALL, **SPLIT, **keys, "load_col": None})

    datasets = [prepared.load(configured(), Path("kept")) for _ in range(2)]
    assert len([*Path("kept").glob("*.prepared")]) == 1
    config = configured()
    plain = pipeline.create_dataset(config)
    expected = [plain, *pipeline.build(config, plain)]
    for dataset, parts in datasets:
        for one, other in zip((dataset, *parts), expected):
            assert one.whole_lists.items.tolist() == other.whole_lists.items.tolist()
            assert one.whole_lists.counts.tolist() == other.whole_lists.counts.tolist()
    assert expected[0].whole_lists.counts.max() > 3


def test_all_lists_are_cut_alike_and_have_one_length(tmp_path):
    header = "user_id:token item_id_list:token_seq rating_list:float_seq item_id:token rating:float"
    parts = {
        part: [(u, i, " ".join(str(n) for n in range(len(i.split()))), last, 9) for u, i, last in rows]
        for part, rows in CHAIN.items()
    }
    write(tmp_path / "dataset", "two", header, parts)
    load = {"load_col": {"inter": ["user_id", "item_id", "rating", "item_id_list", "rating_list"]}}
    rows = made("SASRec", "two", **QUICK, **load, MAX_ITEM_LIST_LENGTH=3)[2][2]._dataset.inter_feat
    assert rows["rating_list"].tolist() == [[4.0, 5.0, 6.0], [0.0, 1.0, 0.0]]
    assert rows["item_length"].tolist() == [3, 2]
    parts["valid"] = [("s4", "c d", "1", "e", 9)]
    write(tmp_path / "dataset", "two", header, parts)
    with pytest.raises(
        ValueError, match=r"two\.valid\.inter: line 2, column 'rating_list': holds 1 values and item_id_list 2 items"
    ):
        made("SASRec", "two", **QUICK, **load)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"seq_len": {"item_id_list": 3}}, r"seq_len={'item_id_list': 3} keeps the oldest .* MAX_ITEM_LIST_LENGTH: 3"),
        (
            {"load_col": None, "unload_col": {"inter": ["item_id_list"]}},
            r"unload_col\.inter leaves out 'item_id_list', which",
        ),
    ],
)
def test_settings_that_would_lose_items_are_refused(keys, line, chain):
    with pytest.raises(ValueError, match=line):
        made("SASRec", "chain", **QUICK, **keys)


def test_repeated_targets_of_sequences_are_not_repeated_rows(chain):
    config, _, loaders = made("SASRec", "chain", **QUICK, rm_dup_inter="first")
    assert [len(loader._dataset) for loader in loaders] == [4, 1, 2]
    assert any("rm_dup_inter='first' has no effect on files of sequences" in note for note in config.notes)


@pytest.mark.parametrize("model", ["SASRec", "DIN"])
def test_pre_split_sequences_are_those_of_one_file(model, tmp_path):
    """The same rows as one file of interactions and as files of sequences: the same tensors, the same widths."""
    draw = np.random.default_rng(1)
    users = {f"u{n}": [f"i{i}" for i in draw.permutation(12)[: 4 + n]] for n in range(6)}
    rows = [(u, i, 5, place) for u, items in users.items() for place, i in enumerate(items)]
    write_inter(tmp_path / "dataset", "same", rows, HEADER)
    places = {"train": lambda n: range(1, n - 2), "valid": lambda n: [n - 2], "test": lambda n: [n - 1]}
    parts = {
        part: [(u, " ".join(items[:k]), items[k]) for u, items in users.items() for k in of(len(items))]
        for part, of in places.items()
    }
    write(tmp_path / "dataset", "same", LISTS, parts)
    found = []
    for more in ({"benchmark_filename": None}, {}):
        columns = ["user_id", "item_id", *(["timestamp"] if more else [])]
        keys = {"MAX_ITEM_LIST_LENGTH": 6, "load_col": {"inter": columns}, "metrics": ["NDCG"]}
        keys["eval_args"] = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}
        _, dataset, loaders = made(model, "same", **{**keys, **more})
        assert all(loader._dataset.inter_feat["item_id_list"].shape[1] == 6 for loader in loaders)
        found.append([named_rows(dataset, loader._dataset.inter_feat) for loader in loaders])
    assert found[0] == found[1]


def named_rows(dataset, rows):
    users, lasts = names(dataset, rows["user_id"], "user_id"), names(dataset, rows["item_id"])
    lists = [tuple(names(dataset, items)) for items in rows["item_id_list"]]
    return sorted(zip(users, lasts, lists, rows["item_length"].tolist()))


def test_bert4rec_masks_at_least_one_item(chain):
    with pytest.raises(ValueError, match=r"mask_ratio=0\.2 of MAX_ITEM_LIST_LENGTH=3 is less than one item"):
        made("BERT4Rec", "chain", **QUICK, MAX_ITEM_LIST_LENGTH=3)
