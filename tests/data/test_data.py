"""Data sets and loaders: true order in time, rows per user, evaluation batches, clear errors."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import HEADER, SMALL, write_inter
from recbole.data.dataloader import FullSortEvalDataLoader

from recbole_diffusion import quick_start
from recbole_diffusion.compat import repairs
from recbole_diffusion.data import loaders, pipeline

LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}


@pytest.fixture
def raw_ml_100k(tmp_path):
    """RecBole's bundled ml-100k under another name, so that its yaml does not normalise the timestamps."""
    from recbole_diffusion.registry import recbole_folder

    source = recbole_folder() / "dataset_example" / "ml-100k" / "ml-100k.inter"
    (tmp_path / "dataset" / "raw").mkdir(parents=True)
    (tmp_path / "dataset" / "raw" / "raw.inter").write_bytes(source.read_bytes())
    return source


def held_out(model, **more):
    """The test item of each user under leave-one-out, by token."""
    settings = {**SMALL, "eval_args": LEAVE_ONE_OUT, **more}
    if model == "SASRec":
        settings.update(train_neg_sample_args=None, MAX_ITEM_LIST_LENGTH=5)
    config = quick_start.configure(model, "raw", config_dict=settings)
    dataset, (_, _, test) = quick_start.prepare(config)
    users, items = pipeline.pairs(test).T
    return dict(zip(dataset.field2id_token["user_id"][users], dataset.field2id_token["item_id"][items]))


def true_last(source):
    frame = pd.read_csv(source, sep="\t", dtype=str)
    frame.columns = [column.split(":")[0] for column in frame.columns]
    frame["timestamp"] = frame["timestamp"].astype(float)
    last = frame.sort_values("timestamp", kind="stable").groupby("user_id").last()
    return last["item_id"].to_dict()


@pytest.mark.parametrize("model", ["DiffRec", "BPR", "SASRec"])
def test_the_held_out_item_is_the_last_in_true_time(model, raw_ml_100k):
    assert held_out(model) == true_last(raw_ml_100k)


def test_recboles_float32_order_changes_149_of_943_held_out_items(raw_ml_100k):
    theirs, truth = held_out("BPR", keep_time_order=False), true_last(raw_ml_100k)
    assert sum(theirs[user] != truth[user] for user in truth) == 149


def test_random_order_is_recboles_own(settings, checkerboard, numpy_restored):
    """Without an order in time our runner draws the very split that RecBole draws."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import init_seed

    repairs.apply()
    config = quick_start.configure("BPR", "board", config_dict=settings)
    init_seed(config["seed"], True)
    _, ours = quick_start.prepare(config)
    their_config = Config("BPR", "board", config_dict=dict(settings))
    init_seed(their_config["seed"], True)
    theirs = data_preparation(their_config, create_dataset(their_config))
    for one, two in zip(ours, theirs):
        np.testing.assert_array_equal(pipeline.pairs(one), pipeline.pairs(two))


def test_time_is_loaded_where_the_order_needs_it(checkerboard):
    quick = {key: value for key, value in SMALL.items() if key != "load_col"}
    config = quick_start.configure("DiffRec", "board", config_dict={**quick, "eval_args": LEAVE_ONE_OUT})
    dataset, _ = quick_start.prepare(config)
    assert "timestamp" in dataset.inter_feat


def test_a_missing_time_column_is_named(tmp_path):
    write_inter(tmp_path / "dataset", "plain", [("a", "b"), ("a", "c"), ("d", "b")], "user_id:token item_id:token")
    quick = {key: value for key, value in SMALL.items() if key != "load_col"}
    config = quick_start.configure("DiffRec", "plain", config_dict={**quick, "eval_args": LEAVE_ONE_OUT})
    with pytest.raises(ValueError, match=r"'timestamp'.*has user_id, item_id.*TIME_FIELD"):
        quick_start.prepare(config)


@pytest.mark.parametrize("model", ["DiffRec", "MultiVAE"])
def test_user_wise_training_has_neither_the_padding_user_nor_empty_rows(model, built):
    _, _, dataset, (train, _, _) = built(model)
    rows = torch.cat([batch["user_id"] for batch in train])
    assert sorted(rows.tolist()) == sorted(set(train._dataset.inter_feat["user_id"].tolist()))
    _, _, _, (train, _, _) = built(model, train_padding_user=True)
    rows = torch.cat([batch["user_id"] for batch in train])
    assert sorted(rows.tolist()) == list(range(dataset.user_num))


def test_rows_are_shuffled_anew_and_repeatably(built):
    _, _, _, (train, _, _) = built("DiffRec")
    first, second = ([batch["user_id"].tolist() for batch in train] for _ in range(2))
    assert first != second
    _, _, _, (again, _, _) = built("DiffRec")
    assert [batch["user_id"].tolist() for batch in again] == first


def test_evaluation_batches_follow_the_memory_budget(built):
    _, _, dataset, (_, valid, _) = built("DiffRec")
    assert len(valid) == 1
    _, _, _, (_, valid, _) = built("DiffRec", eval_users_per_batch=10)
    assert valid.step == 10
    assert len(valid) == -(-valid.sample_size // 10)
    small = loaders.FLOATS_PER_SCORE * 4 * dataset.item_num * 3 / 2**20  # three users
    _, _, _, (_, valid, _) = built("DiffRec", eval_memory=small)
    assert valid.step == 3


def test_recboles_rule_scores_one_user_at_a_time_on_ml_1m():
    from recbole.data.dataloader import FullSortEvalDataLoader

    cpu = torch.device("cpu")
    config = {"eval_batch_size": 4096, "eval_users_per_batch": None, "eval_memory": None, "device": cpu}
    loader = SimpleNamespace(
        config=config, is_sequential=False, _dataset=SimpleNamespace(item_num=3707), set_batch_size=lambda size: None
    )
    FullSortEvalDataLoader._init_batch_size_and_step(loader)
    assert loader.step == 1
    assert loaders.users_per_batch(config, 3707) == 1024
    assert loaders.users_per_batch(config, 1_000_000) == 11
    assert loaders.users_per_batch({**config, "eval_memory": 512.0}, 1_000_000) == 22


def test_a_gpu_scores_as_many_users_as_a_quarter_of_its_free_memory_holds(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (40 * 2**30, 80 * 2**30))
    config = {"eval_users_per_batch": None, "eval_memory": None, "device": torch.device("cuda", 0)}
    assert loaders.users_per_batch(config, 3707) == 8192
    assert loaders.users_per_batch(config, 94_949) == 10 * 2**30 // (24 * 94_949) == 4711
    assert loaders.users_per_batch({**config, "eval_memory": 24.0}, 1_000_000) == 1


@pytest.mark.parametrize("users", [1, 7, 1000])
def test_metrics_do_not_depend_on_the_evaluation_batch(users, settings):
    quick = {**settings, "epochs": 1, "steps": 3, "dims": [16]}
    expected = quick_start.run("DiffRec", "board", config_dict=quick)["test_result"]
    result = quick_start.run("DiffRec", "board", config_dict={**quick, "eval_users_per_batch": users})
    assert result["test_result"] == pytest.approx(expected)


def test_models_that_score_pairs_keep_recboles_batch(built):
    _, _, _, (_, valid, _) = built("NeuMF", eval_batch_size=2 * 41)
    assert valid.step == 2


def test_repeated_pairs_in_test_are_reported(tmp_path):
    rows = [(f"u{u}", f"i{(u + i % 6) % 20}", 1.0, 100 * u + i) for u in range(20) for i in range(12)]
    write_inter(tmp_path / "dataset", "again", rows, HEADER)
    config = quick_start.configure("BPR", "again", config_dict=SMALL)
    quick_start.prepare(config)
    assert any("test pairs are also in train and not masked; set rm_dup_inter: first" in note for note in config.notes)
    config = quick_start.configure("BPR", "again", config_dict={**SMALL, "rm_dup_inter": "first"})
    quick_start.prepare(config)
    assert config.notes == []


def test_counts_and_hash_name_the_split(built):
    def described(**more):
        _, _, dataset, loaders = built("DiffRec", **more)
        return pipeline.describe(dataset, loaders)

    one, two, other = described(), described(), described(seed=7)
    assert one == two
    assert one["users"] == 64
    assert one["items"] == 40
    assert one["split_sha256"] != other["split_sha256"]
    assert one["train"] == other["train"]


def test_a_data_set_that_is_not_there(tmp_path):
    (tmp_path / "dataset" / "board2").mkdir(parents=True)
    config = quick_start.configure("DiffRec", "boards", config_dict=SMALL)
    with pytest.raises(ValueError, match=r"dataset='boards' is not in .*there: board2.*put the file boards\.inter"):
        quick_start.prepare(config)


def test_a_download_without_a_network_says_where_to_put_the_file(tmp_path, monkeypatch):
    config = quick_start.configure("DiffRec", "ml-1m", config_dict=SMALL)
    monkeypatch.setattr("recbole.data.dataset.dataset.decide_download", lambda url: True)

    def no_network(url, folder):
        raise OSError("Name or service not known")

    monkeypatch.setattr("recbole.data.dataset.dataset.download_url", no_network)
    with pytest.raises(ValueError, match=r"could not be downloaded.*put the file ml-1m\.inter"):
        quick_start.prepare(config)
    assert not Path("dataset/ml-1m").exists()


def test_saved_loaders_and_data_sets_give_the_same_run(settings):
    quick = {**settings, "epochs": 1, "steps": 3, "dims": [16]}
    plain = quick_start.run("DiffRec", "board", config_dict=quick)
    saving = quick_start.run("DiffRec", "board", config_dict={**quick, "save_dataset": True, "save_dataloaders": True})
    loading = quick_start.run("DiffRec", "board", config_dict=quick)
    assert plain["test_result"] == saving["test_result"] == loading["test_result"]
    assert plain["data"] == loading["data"]


def test_a_class_and_its_path_get_the_same_loader(built):
    model = "recbole_diffusion.model.general_recommender.diffrec:DiffRec"
    from recbole.model.general_recommender import MultiVAE

    for name in (model, MultiVAE, "MultiVAE", "recbole:DiffRec"):
        more = {"noise_schedule": "linear"} if name == "recbole:DiffRec" else {}
        assert type(built(name, **more)[3][0]) is loaders.UserLoader
    assert type(built("BPR")[3][0]).__name__ == "TrainDataLoader"


@pytest.mark.parametrize("order", ["RO", "TO"])
def test_equal_times_keep_the_order_of_the_file_where_a_model_weights_by_time(order, tmp_path, settings):
    rows = [("a", f"i{place}", 1.0, 1_000_000_000 + place // 3) for place in range(12)] + [("b", "none", 1.0, 5)]
    write_inter(tmp_path / "dataset", "ties", rows, HEADER)
    args = {"split": {"RS": [1, 0, 0]}, "order": order}
    config = quick_start.configure(
        "TDiffRec", "ties", config_dict={**settings, "eval_args": args, "w_min": 0.0, "w_max": 1.1}
    )
    dataset, loaders = quick_start.prepare(config)
    model = quick_start.build_model(config, loaders)
    weights = model.history.rows(torch.tensor([1]))[0]
    names = [str(token) for token in dataset.field2id_token["item_id"][1:]]
    expected = [0.0 if name == "none" else 0.1 * int(name[1:]) for name in names]
    torch.testing.assert_close(weights, torch.tensor(expected))


@pytest.mark.parametrize("split", [{"TS": [0.7, 0.1, 0.2]}, {"RS": [7, 1, 2]}, {"LS": "valid_and_test"}], ids=str)
@pytest.mark.usefixtures("raw_ml_100k")
def test_models_with_and_without_times_get_the_same_split(split):
    """RecBole cuts TS at a percentile of the times: ranks in their place would break ties across it otherwise."""
    hashes = set()
    for model in ("DiffRec", "TDiffRec"):
        more = {**SMALL, "eval_args": {"split": split, "order": "TO"}}
        config = quick_start.configure(model, "raw", config_dict=more)
        dataset, loaders = quick_start.prepare(config)
        hashes.add(pipeline.describe(dataset, loaders)["split_sha256"])
    assert len(hashes) == 1


def test_tokens_that_are_no_times_are_refused_where_they_order(tmp_path, settings):
    header = "user_id:token item_id:token timestamp:token"
    write_inter(tmp_path / "dataset", "tokens", [("a", "x", "monday"), ("b", "y", "tuesday")], header)
    more = {**settings, "load_col": None}
    with pytest.raises(ValueError, match=r"tokens\.inter: line 2, column 'timestamp': 'monday' is no time"):
        quick_start.prepare(quick_start.configure("TDiffRec", "tokens", config_dict=more))


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [7, 2, 2, 9], [], [5]])
def test_a_batch_of_users_is_that_of_recboles_loader(rows, settings):
    """Users, what is not ranked and the positives, also for rows out of order and repeated ones."""
    config = quick_start.configure("BPR", "board", config_dict=settings)
    _, (_, _, loader) = quick_start.prepare(config)
    found = loader.collate_fn(rows)
    if not rows:
        assert [len(part) for part in (*found[1], *found[2:])] == [0] * 4
        return
    expected = FullSortEvalDataLoader.collate_fn(loader, rows)
    assert torch.equal(found[0]["user_id"], expected[0]["user_id"])
    for one, other in ((found[1], expected[1]), (found[2:], expected[2:])):
        assert sorted(zip(*(part.tolist() for part in one))) == sorted(zip(*(part.tolist() for part in other)))
        assert all(part.dtype == torch.int64 for part in one)
    assert len(found[1][0])
    assert len(found[2])
