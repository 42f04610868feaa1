"""Settings: RecBole's own files keep working, precedence, what is written down."""

from __future__ import annotations

import pytest
from conftest import write_inter
from counting_model import Counting

from recbole_diffusion import quick_start, registry, run


def test_recboles_own_diffrec_file_keeps_working(settings):
    """Every key of RecBole's DiffRec.yaml is known, allowed, and in force."""
    file = registry.recbole_folder() / "properties" / "model" / "DiffRec.yaml"
    config = quick_start.configure("DiffRec", "board", config_file_list=[file], config_dict=settings)
    assert config.notes == []
    assert (config["noise_schedule"], config["steps"], config["dims_dnn"]) == ("linear", 5, [300])
    result = run("DiffRec", "board", config_file_list=[file], config_dict={**settings, "epochs": 1})
    loaded = quick_start.load(result["checkpoint"]).model
    assert [loaded.diffusion.denoiser.input.out_features, loaded.diffusion.denoiser.output.in_features] == [300, 300]
    assert len(loaded.diffusion.denoiser.hidden) == 0


def test_recboles_time_aware_weights(settings):
    more = {**settings, "epochs": 1, "steps": 2, "dims": [8], "time-aware": True, "w_min": 0.3, "w_max": 0.9}
    model = quick_start.load(run("DiffRec", "board", config_dict=more)["checkpoint"]).model
    values = model.history.values
    assert float(values.min()) == pytest.approx(0.3)
    assert float(values.max()) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("model", "more", "who"),
    [
        ("DiffRec", {"time-aware": True}, "time-aware=True"),
        ("DiffRec", {"row_weights": "recency"}, "row_weights='recency'"),
        ("LDiffRec", {"time-aware": True, "n_cate": 1}, "time-aware=True"),
        ("TDiffRec", {}, "model='TDiffRec'"),
        ("LTDiffRec", {"n_cate": 1}, "model='LTDiffRec'"),
    ],
)
def test_models_that_need_times_load_them_and_name_their_lack(model, more, who, settings, tmp_path):
    """Even where load_col leaves the column out; and where the file has none, one line says so."""
    whole = {**settings, **more, "epochs": 1}
    less = {**whole, "load_col": {"inter": ["user_id", "item_id"]}}
    results = [run(model, "board", config_dict=keys, saved=False) for keys in (less, whole)]
    assert results[0]["test_result"] == results[1]["test_result"]
    write_inter(tmp_path / "dataset", "timeless", [("a", "b"), ("c", "d")], "user_id:token item_id:token")
    lack = f"{who} needs the column 'timestamp', but .*timeless.inter has user_id, item_id"
    with pytest.raises(ValueError, match=lack):
        run(model, "timeless", config_dict=less)
    few = {"topk": [1], "valid_metric": "NDCG@1"}  # there are two items
    everything = {**less, **few, "load_col": None}  # every column that is there
    with pytest.raises(ValueError, match=lack):
        run(model, "timeless", config_dict={**everything, "eval_args": {"split": {"RS": [1, 0, 0]}}})


@pytest.mark.parametrize(("model", "better"), [("DiffRec", "TDiffRec"), ("LDiffRec", "LTDiffRec")])
def test_time_aware_is_the_other_model_and_says_so(model, better, settings, caplog):
    quick = {**settings, "epochs": 2, "steps": 2, "dims": [8], "n_cate": 1, "w_min": 0.3}
    old = run(model, "board", config_dict={**quick, "time-aware": True, "beta_fixed": True})
    assert f"use --model={better}" in caplog.text
    new = run(better, "board", config_dict={**quick, "beta_fixed": True})
    assert new["test_result"] == old["test_result"]
    key = run(model, "board", config_dict={**quick, "row_weights": "recency", "beta_fixed": True})
    assert key["test_result"] == old["test_result"]
    assert new["test_result"] != run(model, "board", config_dict={**quick, "beta_fixed": True})["test_result"]


@pytest.mark.parametrize(
    ("dims", "as_they_stand", "widths"),
    [
        ([200, 600], None, [600, 200, 600]),
        ([1000], None, [1000]),
        ([4, 5, 6], None, [6, 5, 4, 5, 6]),
        ([9], [7, 8], [7, 8]),
    ],
)
def test_dims_are_mirrored_and_dims_dnn_is_not(dims, as_they_stand, widths, built):
    _, model, _, _ = built("DiffRec", dims=dims, dims_dnn=as_they_stand)
    layers = [model.diffusion.denoiser.input, *model.diffusion.denoiser.hidden]
    assert [layer.out_features for layer in layers] == widths
    assert model.diffusion.denoiser.output.out_features == 40


def test_the_callers_dict_is_not_changed(settings):
    given = {**settings, "epochs": "3", "learning_rate": "1e-2"}
    before = dict(given)
    config = quick_start.configure("DiffRec", "board", config_dict=given)
    assert given == before
    assert (config["epochs"], config["learning_rate"]) == (3, 0.01)


def test_precedence_is_recboles(settings, tmp_path):
    (tmp_path / "a.yaml").write_text("steps: 7\nseed: 7\n")
    config = quick_start.configure(
        "DiffRec", "board", config_file_list=[tmp_path / "a.yaml"], config_dict={**settings, "seed": 8}
    )
    assert (config["steps"], config["seed"], config["uniform_prob"]) == (7, 8, 0.001)


def test_model_and_data_set_may_stand_in_a_file(settings, tmp_path):
    (tmp_path / "a.yaml").write_text("model: DiffRec\ndataset: board\n")
    config = quick_start.configure(config_file_list=[tmp_path / "a.yaml"], config_dict=settings)
    assert (config["model"], config["dataset"]) == ("DiffRec", "board")


def test_recboles_model_keeps_its_defaults_and_gets_the_common_keys(settings):
    config = quick_start.configure("recbole:DiffRec", "board", config_dict=settings)
    assert (config["noise_schedule"], config["steps"]) == ("linear", 5)
    assert config["keep_time_order"] is True
    assert config["test_input"] is None


def test_numbers_of_a_search_are_taken(settings):
    import numpy as np

    more = {**settings, "steps": np.int64(4), "learning_rate": np.float64(0.1), "embedding_size": 6.0}
    config = quick_start.configure("DiffRec", "board", config_dict=more)
    assert (config["steps"], config["learning_rate"], config["embedding_size"]) == (4, 0.1, 6)
    assert isinstance(config["embedding_size"], int)


@pytest.mark.parametrize("value", ["[5,100]", "(0,inf)", "[5,inf);[1,2]"])
def test_recboles_intervals_stay_strings(value, settings):
    more = {**settings, "user_inter_num_interval": value}
    assert quick_start.configure("BPR", "board", config_dict=more)["user_inter_num_interval"] == value


@pytest.mark.parametrize(
    "wrong",
    [
        {"user_inter_num_interval": "abc"},
        {"metrics": ["AUC", "Recall"]},
        {"eval_args": {"split": {"RS": [0.8, 0.2]}}},
        {"eval_args": {"split": {"LS": "foo"}}},
        {"topk": []},
    ],
    ids=str,
)
def test_more_slips_that_recbole_meets_late_or_never(wrong, settings):
    with pytest.raises(ValueError, match="allowed"):
        quick_start.configure("BPR", "board", config_dict={**settings, **wrong})


def test_a_softmax_sequential_model_runs_without_being_told_that_it_has_no_negatives(settings):
    assert quick_start.configure("SASRec", "board", config_dict=settings)["MODEL_INPUT_TYPE"].name == "POINTWISE"


def test_nested_settings_of_the_caller_are_not_changed(settings):
    negatives = {"distribution": "uniform", "sample_num": 1}
    quick_start.configure("BPR", "board", config_dict={**settings, "train_neg_sample_args": negatives})
    assert negatives == {"distribution": "uniform", "sample_num": 1}


def test_keys_that_an_own_model_reads_are_known(settings):
    config = quick_start.configure(Counting, "board", config_dict={**settings, "n_items_extra": 1})
    assert len(config.notes) == 1
