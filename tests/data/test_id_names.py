"""The names behind the ids: packed into checkpoints whatever they are, and compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import write_inter

from recbole_diffusion import quick_start, run
from recbole_diffusion.data import names
from recbole_diffusion.training import checkpoint

ODD = ["PAD", "a b", "c,d", "é", "名", "it's", "\\n", "[]", "0", "00", "NULL byte?", "x" * 300, "😀"]


@pytest.fixture
def odd(tmp_path, settings):
    rows = [(ODD[place % 7], item, 5, place) for place, item in enumerate(ODD * 3)]
    write_inter(tmp_path / "dataset", "odd", rows, "user_id:token item_id:token rating:float timestamp:float")
    config = quick_start.configure("BPR", "odd", config_dict={**settings, "topk": [1], "valid_metric": "NDCG@1"})
    return quick_start.prepare(config)


def test_names_of_all_kinds_come_back_in_id_order(odd, tmp_path):
    dataset = odd[0]
    dataset.field2id_token["tag"] = np.array(["[PAD]", '"', "a\nb", "", "'"])
    torch.save({"names": names.pack(dataset)}, tmp_path / "names.pth")
    vocabulary = names.unpack(torch.load(tmp_path / "names.pth", weights_only=True), "a file")
    assert vocabulary.names["item_id"].tolist() == dataset.field2id_token["item_id"][1:].tolist()
    assert vocabulary.names["item_id"].tolist() == ODD
    assert vocabulary.names["user_id"].tolist() == ODD[:7]
    assert vocabulary.names["tag"].tolist() == ['"', "a\nb", "", "'"]
    assert vocabulary.columns[:4] == ("user_id", "item_id", "rating", "timestamp")
    assert vocabulary.user_item_fingerprint == names.user_item_fingerprint(dataset)
    assert names.first_difference(vocabulary, dataset) is None


def test_another_order_is_another_hash_and_a_difference(odd):
    dataset = odd[0]
    vocabulary, before = names.unpack({"names": names.pack(dataset)}, "a file"), names.user_item_fingerprint(dataset)
    tokens = dataset.field2id_token["item_id"]
    dataset.field2id_token["item_id"] = np.concatenate([tokens[:1], tokens[:0:-1]])
    assert names.user_item_fingerprint(dataset) != before
    assert names.first_difference(vocabulary, dataset) == "item_id"
    dataset.field2id_token["item_id"] = np.concatenate([tokens, ["one more"]])
    assert names.first_difference(vocabulary, dataset) is None
    dataset.field2id_token["item_id"] = tokens[:-1]
    assert names.first_difference(vocabulary, dataset) == "item_id"


def test_neither_joined_names_nor_fields_are_taken_for_each_other(odd):
    dataset = odd[0]
    hashes = set()
    for tokens in (["[PAD]", "ab", "c"], ["[PAD]", "a", "bc"], ["[PAD]", 'ab", "c'], ["[PAD]", "ab\nc"]):
        dataset.field2id_token["item_id"] = np.array(tokens)
        hashes.add(names.user_item_fingerprint(dataset))
    assert len(hashes) == 4


def test_names_take_few_bytes(odd):
    dataset = odd[0]
    dataset.field2id_token["item_id"] = np.array(
        ["[PAD]", *(f"B{number * 7919 % 10**9:09d}" for number in range(100_000))]
    )
    packed = sum(group["names"].numel() for group in names.pack(dataset)["groups"])
    assert 100_000 < packed < 700_000  # 25.6 MB are an embedding of 64 for as many items


@pytest.mark.parametrize("model", ["BPR", "EASE", "DiffRec", "SASRec"])
def test_each_checkpoint_has_names_and_split(model, settings):
    quick = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO"}, "epochs": 1, "train_batch_size": 256}
    quick |= {"hidden_size": 8, "n_layers": 1, "dims": [8], "steps": 2}
    result = run(model, "board", config_dict={**settings, **quick})
    state = checkpoint.read(result["checkpoint"], trust=True)
    vocabulary = names.unpack(state, "")
    assert sorted(vocabulary.names["item_id"]) == sorted(f"i{item}" for item in range(40))
    assert sorted(vocabulary.names["user_id"]) == sorted(f"u{user}" for user in range(64))
    assert state["data"] == {key: value for key, value in result["data"].items() if key != "account"}
    if model != "EASE":  # RecBole keeps matrices of scipy in its other parameters
        torch.load(result["checkpoint"], weights_only=True)


def test_what_recbole_wrote_has_none():
    assert names.unpack({"state_dict": {}}, "") is None
    assert names.unpack({"names": None}, "") is None
    assert names.unpack([1], "") is None
