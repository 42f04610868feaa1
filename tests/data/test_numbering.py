"""Models loaded and resumed after their data's lines, columns or filters changed: each name keeps its own row."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import HEADER, write_inter
from recbole.utils.case_study import full_sort_topk

import recbole_diffusion
from recbole_diffusion import load, quick_start, run
from recbole_diffusion.compat import repairs
from recbole_diffusion.training import checkpoint

IN_TIME = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}, "train_batch_size": 256}
BPR = {"epochs": 1, "embedding_size": 4}
ATTENTION = {"hidden_size": 8, "n_heads": 2, "n_layers": 1}
KNOWLEDGE = {"kg": ["head_id", "relation_id", "tail_id"], "link": ["item_id", "entity_id"]}
MODELS = {
    "DiffRec": {"steps": 2, "dims": [8]},
    "TDiffRec": {"steps": 2, "dims": [8]},
    "LDiffRec": {"steps": 2, "dims": [8], "in_dims": [8], "n_cate": 2, "pretrain": {"model": "BPR", "config": BPR}},
    "DDRM": {"base_model": "BPR", "base_config": BPR},
    "HGCF": {"embedding_size": 8},
    "HDRM": {"preset": "quick", "base_config": {"epochs": 1}},
    "LightGCN": {"embedding_size": 8},
    "BPR": {"embedding_size": 8},
    "SASRec": {**ATTENTION, "inner_size": 8},
    "DiffuRec": {**ATTENTION, "steps": 2},
    "CDDRec": ATTENTION,
    "EASE": {},
    "ItemKNN": {},
    "MultiVAE": {},
}


def lines(name="board"):
    header, *rows = Path(f"dataset/{name}/{name}.inter").read_text().splitlines()
    return header, rows


def rewrite(rows, header=None, suffix="inter"):
    file = Path(f"dataset/board/board.{suffix}")
    file.write_text("\n".join([header or file.read_text().splitlines()[0], *rows]) + "\n")


def shuffle(suffix="inter", seed=3):
    """The same rows in another order, and the columns in the opposite one."""
    file = Path(f"dataset/board/board.{suffix}")
    header, *rows = ("\t".join(reversed(line.split("\t"))) for line in file.read_text().splitlines())
    random.Random(seed).shuffle(rows)
    file.write_text("\n".join([header, *rows]) + "\n")


def best(loaded, users=("u0", "u5", "u33")):
    """The names of the five best items of each user."""
    found = []
    for user in users:
        ids = loaded.dataset.token2id("user_id", [user])
        _, items = full_sort_topk(ids, loaded.model, loaded.test_data, k=5, device="cpu")
        found.append(loaded.dataset.id2token("item_id", items.numpy())[0].tolist())
    return found


@pytest.mark.parametrize("model", MODELS)
def test_each_name_keeps_its_row_when_the_lines_are_shuffled(model, settings):
    done = run(model, "board", config_dict={**settings, **IN_TIME, "epochs": 1, **MODELS[model]})
    before = load(done["checkpoint"], trust=True)
    expected, ids = best(before), before.dataset.field2id_token["item_id"].tolist()
    shuffle()
    fresh = quick_start.prepare(quick_start.configure("BPR", "board", config_dict={**settings, **IN_TIME}))[0]
    assert fresh.field2id_token["item_id"].tolist() != ids  # RecBole's ids of now are others
    after = load(done["checkpoint"], trust=True)
    assert best(after) == expected
    assert after.dataset.field2id_token["item_id"].tolist() == ids
    assert after.config.notes == before.config.notes
    again = run(resume=done["checkpoint"], trust=True, config_dict={"show_progress": False}, saved=False)
    assert again["test_result"] == done["test_result"]
    assert again["data"] == done["data"]


def test_a_resumed_training_goes_on_bit_for_bit_after_the_lines_were_sorted_by_time(settings):
    quick = {**settings, **IN_TIME, **MODELS["DiffRec"], "save_last_every": 1}
    whole = run("DiffRec", "board", config_dict={**quick, "epochs": 4})
    half = run("DiffRec", "board", config_dict={**quick, "epochs": 2})
    header, rows = lines()
    rewrite(sorted(rows, key=lambda row: float(row.split("\t")[3])), header)
    rest = run(resume=half["checkpoint"].replace(".pth", "-last.pth"), config_dict={"epochs": 4})
    assert rest["test_result"] == whole["test_result"]
    assert [row["train_loss"] for row in rest["epochs"]] == [row["train_loss"] for row in whole["epochs"]]


def write_graph():
    folder = Path("dataset/board")
    triples = [f"e{item}\tr{item % 3}\tgenre{item % 7}" for item in range(40)]
    (folder / "board.kg").write_text("\n".join(["head_id:token\trelation_id:token\ttail_id:token", *triples]) + "\n")
    pairs = [f"i{item}\te{item}" for item in range(40)]
    (folder / "board.link").write_text("\n".join(["item_id:token\tentity_id:token", *pairs]) + "\n")


@pytest.fixture
def graph(settings):
    write_graph()
    load_col = {"load_col": {**settings["load_col"], **KNOWLEDGE}, "embedding_size": 8, "kg_embedding_size": 8}
    return {**settings, **IN_TIME, **load_col, "epochs": 1}


def entities(loaded):
    """The embedding of each entity and relation by name."""
    dataset, model = loaded.dataset, loaded.model
    table = model.entity_embedding.weight.detach().numpy()
    return {str(name): table[id].tolist() for id, name in enumerate(dataset.field2id_token["entity_id"])}


@pytest.mark.parametrize("reverse", [False, True])
def test_entities_and_relations_keep_their_rows(reverse, graph):
    done = run("CFKG" if not reverse else "CKE", "board", config_dict={**graph, "kg_reverse_r": reverse})
    before = load(done["checkpoint"])
    expected, rows, relations = best(before), entities(before), before.dataset.field2id_token["relation_id"].tolist()
    assert len(rows) == 1 + 40 + 7
    for suffix in ("inter", "kg", "link"):
        shuffle(suffix)
    after = load(done["checkpoint"])
    assert best(after) == expected
    assert entities(after) == rows
    assert after.dataset.field2id_token["relation_id"].tolist() == relations
    head = after.dataset.kg_feat["head_id"].numpy()
    tail = after.dataset.kg_feat["tail_id"].numpy()
    names = after.dataset.field2id_token["entity_id"]
    assert {(str(names[h]), str(names[t])) for h, t in zip(head, tail) if str(names[h])[0] == "e"} == {
        (f"e{item}", f"genre{item % 7}") for item in range(40)
    }


def test_an_entity_whose_item_is_gone_keeps_its_row_and_other_links_are_refused(graph):
    done = run("CFKG", "board", config_dict=graph)
    rows = entities(load(done["checkpoint"]))
    header, content = lines()
    rewrite([row for row in content if row.split("\t")[1] != "i7"], header)
    shuffle("link")
    loaded = load(done["checkpoint"])
    assert entities(loaded) == rows
    assert any(note.startswith("1 items of checkpoint") for note in loaded.config.notes)
    rewrite(content, header)
    rewrite([f"i{item}\te{(item + 1) % 40}" for item in range(40)], "item_id:token\tentity_id:token", "link")
    with pytest.raises(ValueError, match=r"was trained with other links of items to entities.*\.link file"):
        load(done["checkpoint"])


def test_new_entities_and_relations_are_refused(graph):
    done = run("CFKG", "board", config_dict=graph)
    file = Path("dataset/board/board.kg")
    before = file.read_text()
    file.write_text(before + "e1\tr1\tgenre99\n")
    with pytest.raises(ValueError, match=r"1 entities that checkpoint .* does not know, e\.g\. 'genre99'"):
        load(done["checkpoint"])
    file.write_text(before + "e1\tr9\tgenre1\n")
    with pytest.raises(ValueError, match=r"1 values of 'relation_id' that checkpoint .* does not know, e\.g\. 'r9'"):
        load(done["checkpoint"])


CONTEXT = {
    "metrics": ["AUC"],
    "valid_metric": "AUC",
    "threshold": {"rating": 3},
    "embedding_size": 4,
    "epochs": 2,
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "labeled"},
}


@pytest.fixture
def context(settings):
    header, rows = lines()
    draw = random.Random(0)
    rewrite([row.replace("\t5.0\t", f"\t{draw.randint(1, 5)}\t") for row in rows], header)
    items = [f"i{item}\tk{item % 4}\tt{item % 3} t{item % 5}\t{item / 7}" for item in range(40)]
    file = Path("dataset/board/board.item")
    file.write_text("\n".join(["item_id:token\tkind:token\ttags:token_seq\tprice:float", *items]) + "\n")
    more = {"load_col": {**settings["load_col"], "item": ["item_id", "kind", "tags", "price"]}}
    return {key: value for key, value in settings.items() if key != "topk"} | CONTEXT | more


def predictions(loaded):
    found, dataset = {}, loaded.dataset
    for batch in loaded.test_data:
        users, items = (dataset.id2token(key, batch[0][key].numpy()) for key in ("user_id", "item_id"))
        found.update({(str(u), str(i)): float(p) for u, i, p in zip(users, items, loaded.model.predict(batch[0]))})
    return found


def test_a_context_model_keeps_the_rows_of_values_and_the_tables_of_columns(context):
    done = run("FM", "board", config_dict=context)
    expected = predictions(load(done["checkpoint"]))
    assert len(expected) == 64
    assert len({*expected.values()}) > 60
    shuffle()
    shuffle("item")  # reverses the columns too, by which FM numbers its tables
    assert predictions(load(done["checkpoint"])) == pytest.approx(expected, abs=1e-6)
    file = Path("dataset/board/board.item")
    before = file.read_text()
    file.write_text(before.replace("\tk1\t", "\tk9\t"))
    with pytest.raises(ValueError, match=r"1 values of 'kind' that checkpoint .* e\.g\. 'k9'; .* by load_col"):
        load(done["checkpoint"])
    file.write_text(before.replace("kind:token", "genre:token"))
    load_col = {**context["load_col"], "item": ["item_id", "genre", "tags", "price"]}
    with pytest.raises(ValueError, match=r"has the column 'genre', which checkpoint .* was trained without"):
        load(done["checkpoint"], config_dict={"load_col": load_col})


def test_new_items_are_refused_with_the_way_out(settings):
    done = run("DiffRec", "board", config_dict={**settings, **IN_TIME, **MODELS["DiffRec"], "epochs": 1})
    header, rows = lines()
    rewrite(["u3\tnew1\t5\t7", "u3\tnew2\t5\t8", "u4\tnew3\t5\t9", *rows], header)
    message = r"has 3 items that checkpoint .* does not know, e\.g\. 'new1', 'new2'; take the files and filters"
    for call in (load, lambda file: run(resume=file)):
        with pytest.raises(ValueError, match=message) as error:
            call(done["checkpoint"])
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("model", ["DiffRec", "SASRec"])
def test_new_users_come_behind_where_the_model_has_no_table_of_users(model, settings):
    done = run(model, "board", config_dict={**settings, **IN_TIME, "epochs": 1, **MODELS[model]})
    expected = best(load(done["checkpoint"]))
    header, rows = lines()
    rewrite([*(f"new\ti{item}\t5\t{item}" for item in (2, 4, 6, 8)), *rows], header)
    loaded = load(done["checkpoint"])
    assert loaded.dataset.token2id("user_id", "new") == 65  # behind the 64 known ones, though first in the file
    assert best(loaded) == expected
    assert len(best(loaded, ["new"])[0]) == 5
    assert any("1 users of the data set are unknown to checkpoint" in n and "'new'" in n for n in loaded.config.notes)


@pytest.mark.parametrize("model", ["BPR", "EASE", "ItemKNN"])
def test_new_users_are_refused_where_it_has_one(model, settings):
    done = run(model, "board", config_dict={**settings, **IN_TIME, "epochs": 1, **MODELS[model]})
    header, rows = lines()
    rewrite([*(f"new\ti{item}\t5\t{item}" for item in (2, 4, 6, 8)), *rows], header)
    with pytest.raises(ValueError, match=r"does not fit the data, which have 1 users that it does not know, e\.g\. 'n"):
        load(done["checkpoint"], trust=True)


def test_names_that_are_gone_keep_their_ids(settings):
    done = run("BPR", "board", config_dict={**settings, **IN_TIME, "epochs": 1, "embedding_size": 4})
    weights = checkpoint.read(done["checkpoint"])["state_dict"]["item_embedding.weight"]
    before = load(done["checkpoint"]).dataset
    header, rows = lines()
    rewrite([row for row in rows if row.split("\t")[0] not in ("u0", "u1") and row.split("\t")[1] != "i9"], header)
    shuffle()
    loaded = load(done["checkpoint"])
    assert loaded.dataset.item_num == 41
    for name in ("i8", "i9", "i30"):
        assert loaded.dataset.token2id("item_id", name) == before.token2id("item_id", name)
    assert torch.equal(loaded.model.item_embedding.weight, weights)
    notes = "\n".join(loaded.config.notes)
    assert "2 users of checkpoint" in notes
    assert "1 items of checkpoint" in notes
    assert "they keep their ids, and can be recommended" in notes


def test_another_filter_with_as_many_items(settings, tmp_path):
    """20 items of rating 1 and 20 others of rating 2: the filter of then and that of now have 20 items each."""
    rows = [
        (f"u{u}", f"i{i + 20 * (r - 1)}", r, 100 * i + u)
        for r in (1, 2)
        for u in range(20)
        for i in range(u % 2, 20, 2)
    ]
    write_inter(tmp_path / "dataset", "two", rows, HEADER)
    quick = {**settings, **IN_TIME, **MODELS["DiffRec"], "epochs": 1, "val_interval": {"rating": "[1,1]"}}
    done = run("DiffRec", "two", config_dict=quick)
    assert done["data"]["items"] == 20
    with pytest.raises(ValueError, match=r"20 items that checkpoint .* does not know, e\.g\. 'i2"):
        load(done["checkpoint"], config_dict={"val_interval": {"rating": "[2,2]"}})
    with pytest.raises(ValueError, match="20 items that checkpoint"):
        run(resume=done["checkpoint"], config_dict={"val_interval": {"rating": "[2,2]"}})


@pytest.mark.parametrize("model", ["DDRM", "LDiffRec"])
def test_a_checkpoint_as_base_gives_its_order_to_the_run(model, settings):
    """The same numbers as before the lines were shuffled, since ids and rows in time are those of before."""
    base = run("LightGCN", "board", config_dict={**settings, **IN_TIME, "epochs": 1, "embedding_size": 8})
    key = "base_checkpoint" if model == "DDRM" else "pretrain"
    quick = {**settings, **IN_TIME, "epochs": 1, **MODELS[model], key: base["checkpoint"]}
    quick = {name: value for name, value in quick.items() if name not in ("base_model", "base_config")}
    first = run(model, "board", config_dict=quick, saved=False)
    shuffle()
    again = run(model, "board", config_dict=quick, saved=False)
    assert again["test_result"] == first["test_result"]
    assert again["warnings"] == first["warnings"] == []
    header, rows = lines()
    rewrite([*rows, "\t".join(reversed(["u0", "new", "5", "1"]))], header)
    with pytest.raises(ValueError, match=rf"1 items that {key}=.* does not know, e\.g\. 'new'"):
        run(model, "board", config_dict=quick, saved=False)


def test_a_base_in_another_order_than_the_resumed_checkpoint_is_refused(built, settings):
    """Both have names; the resumed checkpoint's win, and the base's are compared with them."""
    from recbole_diffusion.data import numbering
    from recbole_diffusion.pretraining import pretrained_files

    base = run("BPR", "board", config_dict={**settings, **IN_TIME, **BPR})
    shuffle()
    other = run("BPR", "board", config_dict={**settings, **IN_TIME, **BPR})
    config = quick_start.configure("LDiffRec", "board", config_dict={**settings, **IN_TIME, **MODELS["LDiffRec"]})
    numbering.use_vocabulary(config, checkpoint.read(other["checkpoint"]), "checkpoint 'resumed.pth'")
    _, loaders = quick_start.prepare(config)
    with pytest.raises(ValueError, match=r"pretrain='.*' numbers the names of 'user_id' otherwise than the data set"):
        pretrained_files.model(config, Path(base["checkpoint"]), loaders[0]._dataset, "pretrain")


def test_recboles_own_loader_takes_the_order_too(settings, monkeypatch, numpy_restored):
    monkeypatch.setattr("sys.argv", ["script.py"])
    done = run("DiffRec", "board", config_dict={**settings, **IN_TIME, **MODELS["DiffRec"], "epochs": 1})
    ids = load(done["checkpoint"]).dataset.field2id_token["item_id"].tolist()
    shuffle()
    recbole_diffusion.enable()
    theirs = repairs.quick_start_module().load_data_and_model(done["checkpoint"])
    assert theirs[2].field2id_token["item_id"].tolist() == ids
    assert theirs[2].field2token_id["item_id"]["i7"] == ids.index("i7")


def test_an_evaluation_of_another_runs_file_compares_the_names(built, settings):
    from recbole.trainer import Trainer

    from recbole_diffusion.training.trainer import trainer_class

    done = run("BPR", "board", config_dict={**settings, **IN_TIME, **BPR})
    config, model, _, loaders = built("BPR", **IN_TIME, **BPR)
    trainer = trainer_class(Trainer)(config, model)
    trainer._collect_of(loaders[0])
    assert trainer.evaluate(loaders[2], model_file=done["checkpoint"]) == done["test_result"]
    shuffle()
    config, model, _, loaders = built("BPR", **IN_TIME, **BPR)
    trainer = trainer_class(Trainer)(config, model)
    trainer._collect_of(loaders[0])
    with pytest.raises(ValueError, match="numbers the names of 'user_id' otherwise than the data set does"):
        trainer.evaluate(loaders[2], model_file=done["checkpoint"])


def test_columns_and_rows_of_features_follow_the_ids(context):
    """Every value of .inter and .item, by names, against the files."""
    done = run("FM", "board", config_dict={**context, "epochs": 1})
    shuffle()
    shuffle("item")
    dataset = load(done["checkpoint"]).dataset
    for item in (0, 7, 39):
        id = dataset.token2id("item_id", f"i{item}")
        row = dataset.item_feat[id]
        assert dataset.id2token("kind", int(row["kind"])) == f"k{item % 4}"
        tags = [str(each) for each in dataset.id2token("tags", row["tags"].numpy()) if each != "[PAD]"]
        assert tags == [f"t{item % 3}", f"t{item % 5}"]
        assert float(np.ravel(row["price"])[0]) == pytest.approx(item / 7)


def test_lists_of_pre_split_sequences_follow_the_ids(settings, tmp_path):
    """``item_id_list`` shares the ids of ``item_id``; both are renumbered."""
    folder = tmp_path / "dataset" / "split"
    folder.mkdir(parents=True)
    rows = [f"u{user}\t{' '.join(f'i{(user + k) % 9}' for k in range(3))}\ti{(user + 3) % 9}" for user in range(30)]
    header = "user_id:token\titem_id_list:token_seq\titem_id:token"

    def write(order):
        for name in ("train", "valid", "test"):
            (folder / f"split.{name}.inter").write_text("\n".join([header, *(rows[place] for place in order)]) + "\n")

    write(range(30))
    keys = {"load_col": {"inter": ["user_id", "item_id_list", "item_id"]}, "alias_of_item_id": ["item_id_list"]}
    keys |= {"benchmark_filename": ["train", "valid", "test"], "topk": [1], "valid_metric": "NDCG@1", **ATTENTION}
    done = run("CDDRec", "split", config_dict={**settings, **keys, "epochs": 1})
    expected = best(load(done["checkpoint"]), ["u3", "u8"])
    write(range(29, -1, -1))
    loaded = load(done["checkpoint"])
    assert best(loaded, ["u3", "u8"]) == expected
    feat, names = loaded.test_data._dataset.inter_feat, loaded.dataset.field2id_token
    found = {
        str(names["user_id"][feat["user_id"][row]]): [
            str(names["item_id"][id]) for id in feat["item_id_list"][row] if id
        ]
        for row in range(30)
    }
    assert found["u5"] == ["i5", "i6", "i7"]
    assert found["u29"] == ["i2", "i3", "i4"]
