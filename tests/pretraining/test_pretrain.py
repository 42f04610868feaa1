"""Embeddings from another recommender: trained once, found in any model that has them, read from files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.model.general_recommender import BPR as BPR_MODEL

from recbole_diffusion import load, run
from recbole_diffusion.data import pipeline
from recbole_diffusion.model.embeddings.tables import embeddings_of
from recbole_diffusion.pretraining import bases, cache
from recbole_diffusion.training.trainer import Training

QUICK = {"steps": 3, "dims": [8], "in_dims": [8], "epochs": 1}
BPR = {"model": "BPR", "config": {"epochs": 2, "embedding_size": 4}}


def asked(built, source, **more):
    """What the model would get, and the train data set."""
    config, _, _, loaders = built("LDiffRec", **QUICK, n_cate=1, pretrain=source, **more)
    return bases.embeddings(config, *loaders[:2]), loaders[0]._dataset


@pytest.mark.parametrize("name", ["BPR", "LightGCN", "NGCF", "DGCF", "SGL", "NCL", "SpectralCF"])
def test_the_inner_products_are_the_models_scores(name, built):
    if name == "NCL":
        pytest.importorskip("faiss", reason="NCL needs it, and RecBole does not name it among its dependencies")
    _, model, dataset, _ = built(name, embedding_size=8, n_factors=2)
    found = embeddings_of(model, dataset)
    assert found.user.shape[0] == 65
    assert found.item.shape[0] == 41
    users = torch.arange(1, 65)
    own = model.full_sort_predict({"user_id": users}).view(64, 41)
    products = torch.from_numpy(found.user[1:] @ found.item.T)
    torch.testing.assert_close(products, own.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["MultiVAE", "NeuMF", "SimpleX", "DiffRec", "Pop"])
def test_models_without_such_embeddings_are_refused_by_name(name, built):
    _, model, dataset, _ = built(name)
    with pytest.raises(ValueError, match=f"model {name} does not score by the inner product"):
        embeddings_of(model, dataset)


def test_a_refused_model_is_refused_before_its_training(built):
    with pytest.raises(ValueError, match="model MultiVAE does not score"):
        asked(built, {"model": "MultiVAE", "config": {"epochs": 100_000}})


def test_trained_on_the_train_split_alone_and_kept(built, monkeypatch):
    first, dataset = asked(built, BPR)
    (file,) = Path("saved/pretrain").glob("BPR-board-*.npz")
    before = file.stat().st_mtime_ns
    monkeypatch.setattr(cache, "_train", None)
    again, _ = asked(built, BPR, eval_memory=7.0, show_progress=False)  # settings that do not matter
    assert np.array_equal(first.item, again.item)
    assert np.array_equal(first.user, again.user)
    assert file.stat().st_mtime_ns == before
    assert first.item.shape == (dataset.item_num, 4)


def test_runs_with_checkpoints_apart_share_the_base_of_one_folder(settings, tmp_path, monkeypatch):
    quick = {**settings, **QUICK, "n_cate": 2, "pretrain": BPR, "pretrain_dir": str(tmp_path / "bases")}
    first = run("LDiffRec", "board", config_dict={**quick, "checkpoint_dir": "one"})
    assert [file.suffix for file in sorted((tmp_path / "bases").iterdir())] == [".npz", ".lock"]
    assert not Path("one/pretrain").exists()
    monkeypatch.setattr(cache, "_train", None)
    again = run("LDiffRec", "board", config_dict={**quick, "checkpoint_dir": "two"})
    assert again["test_result"] == first["test_result"]
    alone = run("LDiffRec", "board", config_dict={**quick, "checkpoint_dir": "one", "pretrain_dir": "bases"})
    assert alone["test_result"] == first["test_result"]  # a relative one counts from the working folder


@pytest.mark.parametrize(
    "change", [{"seed": 5}, {"eval_args": {"split": {"RS": [7, 2, 1]}}}, {"pretrain": {**BPR, "config": {"epochs": 1}}}]
)
def test_another_split_seed_or_setting_is_another_file(change, built):
    asked(built, BPR)
    asked(built, **{"source": BPR, **({"source": change["pretrain"]} if "pretrain" in change else change)})
    assert len(list(Path("saved/pretrain").glob("*.npz"))) == 2


def test_another_seed_on_the_same_split_and_the_same_settings_on_other_rows_are_other_files(built, tmp_path):
    in_time = {"eval_args": {"split": {"RS": [8, 1, 1]}, "order": "TO"}}
    asked(built, BPR, **in_time)
    asked(built, BPR, **in_time, seed=5)
    assert len(list(Path("saved/pretrain").glob("*.npz"))) == 2
    file = tmp_path / "dataset" / "board" / "board.inter"
    header, *lines = file.read_text().splitlines()
    file.write_text("\n".join([header, *reversed(lines[:-1])]) + "\n")
    asked(built, BPR, **in_time)
    assert len(list(Path("saved/pretrain").glob("*.npz"))) == 3


def test_the_base_model_sees_train_and_is_chosen_on_valid(built, monkeypatch):
    seen = []
    fit = Training.fit
    monkeypatch.setattr(Training, "fit", lambda self, *loaders, **k: seen.extend(loaders) or fit(self, *loaders, **k))
    config, _, _, loaders = built("LDiffRec", **QUICK, n_cate=1, pretrain=BPR)
    bases.embeddings(config, *loaders[:2])
    assert len(seen) == 2
    for one, two in zip(seen, loaders):
        assert np.array_equal(pipeline.pairs(one), pipeline.pairs(two))
    assert len(pipeline.pairs(seen[0])) > len(pipeline.pairs(seen[1]))


def test_a_sequential_model_gives_its_items_and_is_refused_without_such_a_table(built):
    _, model, dataset, _ = built("BERT4Rec", hidden_size=8, n_heads=1, inner_size=8)  # one row more, of its mask
    found = embeddings_of(model, dataset)
    np.testing.assert_array_equal(found.item, model.item_embedding.weight[:41].detach().numpy())
    assert found.user.shape == (65, 0)
    model.item_embedding = torch.nn.Embedding(40, 8)
    with pytest.raises(ValueError, match="model BERT4Rec has no table item_embedding with a row for each item"):
        embeddings_of(model, dataset)
    _, model, dataset, _ = built("FPMC", embedding_size=8)
    with pytest.raises(ValueError, match="model FPMC has no table item_embedding with a row for each item"):
        embeddings_of(model, dataset)


class Cosine(BPR_MODEL):
    """Has the tables, and scores otherwise."""

    def full_sort_predict(self, interaction):
        user = self.user_embedding.weight[interaction[self.USER_ID]]
        return torch.nn.functional.normalize(user) @ torch.nn.functional.normalize(self.item_embedding.weight).t()


def test_tables_that_do_not_give_the_scores_are_refused(built):
    _, model, dataset, _ = built(Cosine, embedding_size=8)
    with pytest.raises(ValueError, match="model Cosine does not score by the inner product"):
        embeddings_of(model, dataset)


def test_a_damaged_file_is_made_anew(built, caplog):
    first, _ = asked(built, BPR)
    (file,) = Path("saved/pretrain").glob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    again, _ = asked(built, BPR)
    assert np.array_equal(first.item, again.item)
    assert "is made anew" in caplog.text


def test_a_run_does_not_depend_on_whether_the_embeddings_were_there(settings):
    quick = {**settings, **QUICK, "epochs": 2, "n_cate": 2, "pretrain": BPR}
    cold, warm = (run("LDiffRec", "board", config_dict=quick) for _ in range(2))
    assert len(list(Path("saved/pretrain").glob("*.npz"))) == 1
    assert cold["test_result"] == warm["test_result"]


_TWO = """
import sys, torch
torch.set_num_threads(1)
from recbole_diffusion import run
from recbole_diffusion.pretraining import cache
original = cache._train
def counted(*args):
    open(f"trained-{sys.argv[1]}", "w").close()
    return original(*args)
cache._train = counted
run("LDiffRec", "board", config_dict={SETTINGS}, saved=False)
"""


@pytest.mark.processes
def test_two_processes_that_want_the_same_train_it_once(settings):
    quick = {**settings, **QUICK, "n_cate": 2, "pretrain": {"model": "BPR", "config": {"epochs": 15}}}
    code = _TWO.replace("{SETTINGS}", repr(quick))
    both = [subprocess.Popen([sys.executable, "-c", code, str(n)], stderr=subprocess.PIPE) for n in range(2)]
    for each in both:
        _, errors = each.communicate(timeout=300)
        assert each.returncode == 0, errors
    assert len(list(Path().glob("trained-*"))) == 1
    assert len(list(Path("saved/pretrain").glob("*.npz"))) == 1


def tokens(dataset, field):
    return [str(token) for token in dataset.field2id_token[field][1:]]


def test_a_table_with_names_is_put_in_our_order(built):
    table = np.random.default_rng(0).normal(size=(45, 3))
    names = [f"i{each}" for each in range(45)]  # more than the data set has
    np.savez("e.npz", item=table, item_token=names)
    found, dataset = asked(built, "e.npz")
    expected = table[[names.index(token) for token in tokens(dataset, "item_id")]]
    np.testing.assert_allclose(found.item[1:], expected, rtol=1e-6)
    assert not found.item[0].any()


def test_a_table_without_names_is_taken_as_it_stands(built):
    table = np.random.default_rng(0).normal(size=(41, 3)).astype(np.float32)
    np.save("with_padding.npy", table)
    np.save("without.npy", table[1:])
    np.testing.assert_array_equal(asked(built, "with_padding.npy")[0].item, table)
    np.testing.assert_array_equal(asked(built, "without.npy")[0].item[1:], table[1:])
    np.savez("both.npz", item=table, user=np.ones((65, 3)))
    assert asked(built, "both.npz")[0].user.shape == (65, 3)


@pytest.mark.parametrize("name", ["BPR", "LightGCN"])
def test_a_checkpoint_gives_its_models_embeddings(name, built, settings):
    args = {"eval_args": {"split": {"RS": [8, 1, 1]}, "order": "TO"}}
    result = run(name, "board", config_dict={**settings, "epochs": 2, "embedding_size": 8, **args})
    found, _ = asked(built, result["checkpoint"], **args)
    model, dataset = load(result["checkpoint"])[1:3]
    np.testing.assert_array_equal(found.item, embeddings_of(model, dataset).item)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("none.npz", "pretrain='none.npz' does not exist"),
        ({"config": {}}, r"pretrain=.* is not allowed; allowed: \{model: NAME"),
        ({"model": "BPR", "setting": {}}, "pretrain.setting is not allowed; allowed: model, config"),
        ({"model": "BPR", "config": [1]}, r"pretrain.config=\[1\] is not allowed"),
        ({"model": "LDiffRec"}, "it needs pretrained embeddings itself"),
        ({"model": "BPR", "config": {"eval_args": {}}}, "the data and its split are the run's own"),
        ("half.npz", "'half.npz' cannot be read as numpy's arrays"),
        ({"model": "SASRec"}, "pretrain.model='SASRec' is not allowed; allowed: a general recommender"),
        ({"model": "BPRR"}, "model 'BPRR' is neither ours.*did you mean BPR"),
        ({"model": "BPR", "config": {"epochs": "many"}}, "epochs='many' is not allowed"),
        ("few.npy", "'few.npy' has 7 items, the data set 40; allowed: 40 rows"),
        ("flat.npy", "item must be a table of numbers"),
        ("nan.npy", "numbers that are not finite"),
        ("other.npz", "lacks 40 items of the data set, e.g. i"),
        ("wrong.npz", "holds weights; allowed: item, user, item_token"),
        ("text.pth", "cannot be read: it is no checkpoint"),
        ("weights.pth", "is not a checkpoint of a run"),
    ],
)
def test_what_does_not_fit_is_named(source, message, built):
    np.save("few.npy", np.ones((7, 3)))
    np.save("flat.npy", np.ones(40))
    np.save("nan.npy", np.full((40, 2), np.nan))
    np.savez("other.npz", item=np.ones((40, 3)), item_token=np.arange(40).astype(str))
    np.savez("wrong.npz", weights=np.ones((40, 3)))
    Path("text.pth").write_text("not a file of torch")
    torch.save({"a": 1}, "weights.pth")
    Path("half.npz").write_bytes(Path("other.npz").read_bytes()[:50])
    with pytest.raises(ValueError, match=message):
        asked(built, source)


def test_a_checkpoint_of_other_items_is_refused(built, settings):
    args = {"eval_args": {"split": {"RS": [8, 1, 1]}, "order": "TO"}}
    result = run("BPR", "board", config_dict={**settings, "epochs": 1, "item_inter_num_interval": "[25,inf)", **args})
    with pytest.raises(ValueError, match=r"the data set has \d+ items that pretrain=.* does not know, e\.g\. 'i"):
        asked(built, result["checkpoint"])


def test_an_unknown_key_of_the_base_model_is_named(built, caplog):
    asked(built, {"model": "BPR", "config": {"epochs": 1, "embeding_size": 4}})
    assert "pretrain.config: key 'embeding_size' is unknown to BPR" in caplog.text


def test_a_kept_file_is_read_where_one_may_not_write(built, monkeypatch):
    first, _ = asked(built, BPR)

    def fail(*args):
        raise PermissionError

    monkeypatch.setattr(cache, "FileLock", fail)
    assert np.array_equal(asked(built, BPR)[0].item, first.item)


def test_the_base_model_has_its_own_training_settings(built):
    config, *_ = built("LDiffRec", **QUICK, n_cate=1, learning_rate=0.5, topk=[3], valid_metric="NDCG@3", seed=9)
    base = bases.base_config(config, "LightGCN", {"embedding_size": 16})
    assert (base["learning_rate"], base["epochs"], base["train_batch_size"]) == (0.001, 300, 2048)
    assert (base["topk"], base["valid_metric"], base["seed"], base["embedding_size"]) == ([3], "NDCG@3", 9, 16)
    assert base.notes == []


def test_the_base_model_has_its_own_precision(built):
    """enable_amp is a key of training, so that the run's amp_dtype would have no effect on the base model, and warn."""
    config, *_ = built("LDiffRec", **QUICK, n_cate=1, enable_amp=True, amp_dtype="bfloat16")
    base = bases.base_config(config, "LightGCN", {})
    assert (base["enable_amp"], base["amp_dtype"]) == (False, None)
    own = bases.base_config(config, "LightGCN", {"enable_amp": True, "amp_dtype": "bfloat16"})
    assert (own["enable_amp"], own["amp_dtype"]) == (True, "bfloat16")


def test_enable_gives_recboles_quick_start_the_embeddings_too(settings, numpy_restored):
    import recbole_diffusion

    recbole_diffusion.enable()
    from recbole.quick_start import run_recbole

    quick = {**settings, **QUICK, "n_cate": 2, "pretrain": BPR}
    result = run_recbole(model="LDiffRec", dataset="board", config_dict=quick)
    assert result["test_result"] == run("LDiffRec", "board", config_dict=quick)["test_result"]
