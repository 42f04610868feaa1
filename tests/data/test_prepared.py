"""Data sets kept for several runs: the same numbers, made once, made again when anything that matters has changed."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import HEADER, write_inter

from recbole_diffusion import quick_start, run
from recbole_diffusion.data import pipeline, prepared, saved_data
from recbole_diffusion.support.atomic_folder import replace_files

QUICK = {"epochs": 2, "steps": 3, "dims": [8]}
SEQUENTIAL = {"train_neg_sample_args": None, "hidden_size": 8, "embedding_size": 8, "MAX_ITEM_LIST_LENGTH": 5}


def made(settings, model="DiffRec", **more):
    return run(model, "board", config_dict={**settings, **QUICK, **more}, saved=False)


@pytest.fixture
def calls(monkeypatch):
    seen = []
    original = pipeline.create_dataset
    monkeypatch.setattr(pipeline, "create_dataset", lambda config: seen.append(config["model"]) or original(config))
    return seen


SMALL_CDDREC = {"hidden_size": 8, "inner_size": 16, "n_layers": 1, "n_heads": 2}


@pytest.mark.parametrize(
    ("model", "more"), [("DiffRec", {}), ("BPR", {}), ("GRU4Rec", SEQUENTIAL), ("CDDRec", SMALL_CDDREC)]
)
def test_the_numbers_are_those_of_a_run_without(settings, calls, model, more):
    plain = made(settings, model, **more)
    first = made(settings, model, prepared_data="kept", **more)
    second = made(settings, model, prepared_data="kept", **more)
    assert plain["test_result"] == first["test_result"] == second["test_result"]
    assert plain["data"] == first["data"] == second["data"]
    assert [row["train_loss"] for row in plain["epochs"]] == [row["train_loss"] for row in second["epochs"]]
    assert len(calls) == 2  # without, and once with


def test_models_of_one_kind_share_a_file_and_others_have_their_own(settings, calls):
    for model in ("DiffRec", "EASE", "Pop", "BPR"):
        made(settings, model, prepared_data="kept")
    assert len(calls) == 1
    args = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}
    for model, length in (("GRU4Rec", 5), ("GRU4Rec", 4), ("CDDRec", 5), ("TDiffRec", 5)):
        made(settings, model, prepared_data="kept", eval_args=args, **{**SEQUENTIAL, "MAX_ITEM_LIST_LENGTH": length})
    assert len(calls) == 5
    assert len(list(Path("kept").glob("*.prepared"))) == 5


@pytest.mark.parametrize(
    "more",
    [
        {"split_seed": 3},
        {"eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}}},
        {"user_inter_num_interval": "[15,inf)"},
        {"keep_time_order": False, "eval_args": {"order": "TO"}},
        {"rm_dup_inter": "first"},
    ],
)
def test_what_changes_the_split_changes_the_key(settings, more):
    keys = [
        prepared.key(quick_start.configure("EASE", "board", config_dict={**settings, **each})) for each in ({}, more)
    ]
    assert keys[0] != keys[1]


def test_what_does_not_change_it_does_not(settings):
    for more in ({"learning_rate": 0.5}, {"eval_args": {"mode": "uni20"}}, {"topk": [1, 10]}, {"metrics": ["NDCG"]}):
        keys = [prepared.key(quick_start.configure("BPR", "board", config_dict={**settings, **m})) for m in ({}, more)]
        assert keys[0] == keys[1], more


def test_seeds_share_a_split_by_its_own_seed_only(settings):
    one, two = (made(settings, seed=seed) for seed in (1, 2))
    assert one["data"]["split_sha256"] != two["data"]["split_sha256"]  # RecBole's way
    one, two = (made(settings, seed=seed, split_seed=7, prepared_data="kept") for seed in (1, 2))
    assert one["data"] == two["data"]
    assert one["test_result"] != two["test_result"]
    assert made(settings, seed=1, split_seed=7)["test_result"] == one["test_result"]


def test_changed_data_are_read_again(settings):
    before = made(settings, prepared_data="kept")["data"]
    time.sleep(0.02)
    rows = [(f"u{user}", f"i{item}", 5.0, 1000 + item) for user in range(40) for item in range(user % 2, 24, 2)]
    write_inter(Path("dataset"), "board", rows, HEADER)
    assert made(settings, prepared_data="kept")["data"]["users"] == 40 != before["users"]


def test_a_damaged_file_is_made_again(settings):
    before = made(settings, prepared_data="kept")
    (file,) = Path("kept").glob("*.prepared")
    file.write_bytes(file.read_bytes()[:100])
    assert made(settings, prepared_data="kept")["test_result"] == before["test_result"]
    assert file.stat().st_size > 1000


def test_two_at_once_make_it_once(settings, calls):
    config = [quick_start.configure("EASE", "board", config_dict=settings) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda each: prepared.load(each, Path("kept").absolute()), config))
    assert len(calls) == 1
    assert all(np.array_equal(*(parts[0].inter_feat["item_id"] for _, parts in found)) for _ in range(1))


def test_models_with_data_of_their_own_are_left_alone(settings):
    assert prepared.can_prepare(quick_start.configure("EASE", "board", config_dict=settings))
    for more in ({"save_dataset": True}, {"dataset_save_path": "x"}):
        assert not prepared.can_prepare(quick_start.configure("EASE", "board", config_dict={**settings, **more}))
    own = {**settings, "metrics": ["AUC"], "valid_metric": "AUC"}
    assert not prepared.can_prepare(quick_start.configure("DIEN", "board", config_dict=own))


def test_the_settings_of_one_run_are_not_anothers(settings):
    made(settings, prepared_data="kept")
    dataset, parts = prepared.load(
        quick_start.configure("EASE", "board", config_dict={**settings, "topk": [3], "valid_metric": "NDCG@3"}),
        Path("kept"),
    )
    assert all(each.config["topk"] == [3] for each in (dataset, *parts))


def test_what_cannot_be_kept_is_said(settings, monkeypatch):
    original = pipeline.create_dataset

    def create(config):
        dataset = original(config)
        dataset.of_another_version = object()
        return dataset

    monkeypatch.setattr(pipeline, "create_dataset", create)
    config = quick_start.configure("EASE", "board", config_dict={**settings, "prepared_data": "kept"})
    quick_start.prepare(config)
    assert not [*Path("kept").glob("*.prepared")]
    notes = [note for note in config.notes if "prepared_data" in note]
    assert notes == ["prepared_data keeps nothing: this version cannot store builtins.object of a data set"]


def test_files_that_are_replaced_after_the_key_was_made_are_not_kept_under_it(settings, monkeypatch):
    original = prepared.key

    def key(config):
        value = original(config)
        (file,) = Path(config["data_path"]).glob("board.inter")
        with replace_files(file.parent) as stage:
            (stage / file.name).write_text(file.read_text())
        return value

    monkeypatch.setattr(prepared, "key", key)
    config = quick_start.configure("EASE", "board", config_dict=settings)
    with pytest.raises(ValueError, match=r"was changed while it was read \(board.inter\)"):
        prepared.load(config, Path("kept"))
    assert not [*Path("kept").glob("*.prepared")]


def test_files_that_are_replaced_while_they_are_read_are_named(settings, monkeypatch):
    config = quick_start.configure("EASE", "board", config_dict=settings)
    original = saved_data.dataset

    def dataset(config):
        loaded = original(config)
        (file,) = Path(config["data_path"]).glob("board.inter")
        with replace_files(file.parent) as stage:
            (stage / file.name).write_text(file.read_text())
        return loaded

    monkeypatch.setattr(saved_data, "dataset", dataset)
    with pytest.raises(ValueError, match=r"was changed while it was read \(board.inter\)"):
        pipeline.create_dataset(config)
