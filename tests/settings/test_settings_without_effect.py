"""Settings that do nothing, or nothing sensible, are said or refused; those of RecBole's models too."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbole_diffusion import cli, run
from recbole_diffusion.quick_start import configure


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [("BPR", "n_layers", 3), ("BPR", "loss_type", "CE"), ("Pop", "embedding_size", 8), ("DiffRec", "hidden_size", 8)],
)
def test_a_key_of_other_models_is_said(model, key, value, settings):
    notes = configure(model, "board", config_dict={**settings, key: value}).notes
    assert f"key {key!r} is other models' and has no effect on {model}" in notes


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("LightGCN", {"n_layers": 1, "embedding_size": 8, "reg_weight": 0.1}),
        ("SASRec", {"n_heads": 1, "hidden_size": 8, "train_neg_sample_args": None, "loss_type": "CE"}),
        ("DDRM", {"base_model": "BPR", "base_config": {"embedding_size": 4}}),
        ("BPR", {"tail_ratio": 0.2, "transform": None, "weight_decay": 0.1}),
    ],
)
def test_a_models_own_keys_and_recboles_have_an_effect(model, keys, settings):
    order = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO"}} if model == "SASRec" else {}
    notes = configure(model, "board", config_dict={**settings, **order, **keys}).notes
    assert not [note for note in notes if "no effect" in note]


@pytest.mark.parametrize(
    ("model", "key", "value", "allowed"),
    [
        ("BPR", "embedding_size", 0, "int >= 1"),
        ("BPR", "embedding_size", 64.5, "int >= 1"),
        ("LightGCN", "n_layers", -1, r"int in \[0, 1000\]"),
        ("ItemKNN", "k", 0, "int >= 1"),
        ("SASRec", "hidden_act", "relux", r"gelu \| relu \| swish \| tanh \| sigmoid"),
        ("NeuMF", "dropout_prob", 2, r"float in \[0, 1\]"),
        ("BPR", "split_seed", -5, r"int in \[0, 4294967295\] or null"),
        ("BPR", "tail_ratio", "a", r"float in \(0, inf\) or null"),
    ],
)
def test_values_that_give_a_model_of_nothing_are_refused(model, key, value, allowed, settings):
    """Embeddings of width 0, or no neighbours, score all items alike: RecBole reports metrics of them."""
    with pytest.raises(ValueError, match=rf"^{key}={value!r} is not allowed; allowed: {allowed}$"):
        configure(model, "board", config_dict={**settings, key: value})


def test_a_whole_number_that_comes_as_a_float_is_one(settings):
    assert configure("BPR", "board", config_dict={**settings, "embedding_size": 8.0})["embedding_size"] == 8


def test_an_untrained_model_is_said_to_be_one(settings):
    note = "epochs=0: nothing is trained, results are those of an untrained model"
    assert note in run("BPR", "board", config_dict={**settings, "epochs": 0}, saved=False)["warnings"]
    assert note not in configure("Pop", "board", config_dict={**settings, "epochs": 0}).notes


def test_a_mode_for_one_split_holds_for_the_other_and_is_said(settings):
    config = configure("BPR", "board", config_dict={**settings, "eval_args": {"mode": {"valid": "uni10"}}})
    assert config["eval_args"]["mode"] == {"valid": "uni10", "test": "uni10"}
    assert "eval_args.mode names valid only: uni10 holds for test too" in config.notes
    both = {"eval_args": {"mode": {"valid": "uni10", "test": "full"}}}
    assert not [note for note in configure("BPR", "board", config_dict={**settings, **both}).notes if "only" in note]


def test_labels_in_validation_and_draws_in_test_are_refused(settings):
    mode = {"valid": "labeled", "test": "uni5"}
    keys = {"metrics": ["AUC"], "valid_metric": "AUC", "eval_args": {"mode": mode}}
    with pytest.raises(
        ValueError, match=r"^eval_args.mode=.* is not allowed: .* allowed: labeled for both, or for test"
    ):
        configure("BPR", "board", config_dict={**settings, **keys})


def test_a_hint_names_no_key_without_effect(settings):
    (note,) = [
        n for n in configure("BPR", "board", config_dict={**settings, "eval_neg_sample_args": {}}).notes if "eval_" in n
    ]
    assert "valid_neg_sample_args" not in note


@pytest.mark.parametrize("words", [["doctor", "--foo=2"], ["models", "--foo=1"], ["models", "--dataset=x"]])
def test_commands_without_settings_take_none(words, capsys):
    assert cli.main(words) == 2
    assert (
        capsys.readouterr().err == f"recbole-diffusion: {words[1].partition('=')[0]} is not an option of {words[0]}\n"
    )


def test_lightgcn_from_another_split_is_a_base_of_this_graph(settings):
    """RecBole keeps the embeddings over the graph of the checkpoint's split beside its weights."""
    keys = {**settings, "embedding_size": 4}
    base = run("LightGCN", "board", config_dict={**keys, "epochs": 1, "split_seed": 3})["checkpoint"]
    result = run("DDRM", "board", config_dict={**settings, "epochs": 1, "base_checkpoint": base}, saved=False)
    assert any("was trained on another split" in note for note in result["warnings"])
    assert Path(base).is_file()
