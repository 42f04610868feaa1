"""What a comparison will run: words to models, one protocol, one split."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import HEADER, write_inter

from recbole_diffusion.experiment.compare import plan
from recbole_diffusion.experiment.compare.model_entries import parse_entries
from recbole_diffusion.experiment.defaults import LEAVE_ONE_OUT, RANDOM


def split(settings, *words, dataset="board", **more):
    entries = parse_entries(words)
    common = {**plan.make_protocol(entries, {**settings, **more}).settings, "prepared_data": "kept"}
    return plan.prepare_split({each.label: plan.configure_model(each, dataset, common) for each in entries}, dataset)


def test_words_name_models_bases_presets_and_files():
    Path("mine.yaml").write_text("steps: 7\nmodel: DiffRec\nseed: 9\ntopk: [3]\ndata_path: elsewhere\n")
    words = ["LightGCN", "recbole:DiffRec", "DDRM:BPR", "DiffuRec@quick", "DiffRec@mine.yaml"]
    words += ["recbole_diffusion.model.general_recommender.hgcf:HGCF"]
    found = {each.label: (each.model, each.settings) for each in parse_entries(words)}
    assert found == {
        "LightGCN": ("LightGCN", {}),
        "recbole:DiffRec": ("recbole:DiffRec", {}),
        "DDRM:BPR": ("DDRM", {"base_model": "BPR"}),
        "DiffuRec@quick": ("DiffuRec", {"preset": "quick"}),
        "DiffRec@mine": ("DiffRec", {"steps": 7}),  # what the comparison decides is not the file's to say
        words[-1]: (words[-1], {}),
    }


def test_settings_by_label_win_over_a_files():
    Path("mine.yaml").write_text("steps: 7\nnoise_scale: 0.5\n")
    (entry,) = parse_entries(["DiffRec@mine.yaml"], {"DiffRec@mine": {"steps": 3}})
    assert entry.settings == {"steps": 3, "noise_scale": 0.5}


@pytest.mark.parametrize(
    ("words", "own", "message"),
    [
        (["LightGNC"], {}, "did you mean LightGCN"),
        (["DDRM:LightGNC"], {}, "did you mean LightGCN"),
        (["EASE:BPR"], {}, "names a base, but EASE takes none"),
        (["EASE", "EASE"], {}, "'EASE' is listed twice"),
        (["EASE"], {"EASY": {}}, "did you mean EASE"),
        ([" "], {}, "models is empty"),
        (["EASE@gone.yaml"], {}, "cannot be read"),
    ],
)
def test_wrong_words_are_one_line(words, own, message):
    with pytest.raises(ValueError, match=message) as error:
        parse_entries(words, own)
    assert "\n" not in str(error.value)


def test_a_file_of_another_model_is_refused():
    Path("mine.yaml").write_text("model: EASE\n")
    with pytest.raises(ValueError, match="is a file of EASE, not of DiffRec"):
        parse_entries(["DiffRec@mine.yaml"])


def test_general_models_alone_keep_a_random_split():
    found = plan.make_protocol(parse_entries(["EASE", "DiffRec"]), {})
    assert found.settings["eval_args"] == RANDOM
    assert "mask_history" not in found.settings
    assert found.notes == []


def test_with_a_sequential_model_all_are_left_one_out_in_time_and_masked():
    found = plan.make_protocol(parse_entries(["EASE", "SASRec"]), {})
    assert found.settings["eval_args"] == LEAVE_ONE_OUT
    assert found.settings["mask_history"] is True
    assert any("sequential ones read the validation item" in note for note in found.notes)


def test_what_is_given_wins_and_parts_are_completed():
    found = plan.make_protocol(
        parse_entries(["EASE", "SASRec"]), {"eval_args": {"mode": "uni50"}, "mask_history": False}
    )
    assert found.settings["eval_args"] == {**LEAVE_ONE_OUT, "mode": "uni50"}
    assert any(note.startswith("SAMPLED METRICS") for note in found.notes)
    assert any("mask_history: False" in note for note in found.notes)


def test_seed_is_no_key_of_a_comparison():
    with pytest.raises(ValueError, match="allowed: seeds"):
        plan.make_protocol(parse_entries(["EASE"]), {"seed": 3})


def test_all_models_have_one_split_and_it_is_said(settings):
    found = split(settings, "EASE", "Pop", "DiffRec", "TDiffRec", "BPR")
    assert found.counts["evaluated_users"] == 64
    assert found.statement.startswith("board: 64 users (64 tested), 40 items,")
    assert "split 0.8:0.1:0.1 at random per user, ranked against all items" in found.statement
    assert found.statement.endswith(f"split {found.counts['split_sha256'][:12]}, the same for all")
    assert len(list(Path("kept").glob("*.prepared"))) == 2  # with the times, and without


def test_mixed_kinds_have_one_split(settings):
    found = split(settings, "EASE", "GRU4Rec", "CDDRec")
    assert "leave-one-out in time" in found.statement
    assert found.counts["test"] == found.counts["valid"] == 64


def test_users_that_one_kind_cannot_test_are_refused_with_the_way_out(settings):
    """With three rows a user has a training row of its own in general models and none in sequences."""
    rows = [
        (f"u{user}", f"i{(user + item) % 20}", 5.0, 10 * user + item)
        for user in range(20)
        for item in range(3 + 5 * (user % 2))
    ]
    write_inter(Path("dataset"), "short", rows, HEADER)
    with pytest.raises(ValueError, match="would not be compared on the same split") as error:
        split(settings, "EASE", "GRU4Rec", dataset="short")
    assert "--user_inter_num_interval='[5,inf)'" in str(error.value)
    found = split(settings, "EASE", "GRU4Rec", dataset="short", user_inter_num_interval="[5,inf)")
    assert found.counts["users"] == 10


@pytest.mark.parametrize(
    "key", ["eval_args", "topk", "valid_metric", "mask_history", "user_inter_num_interval", "seed", "repeatable"]
)
def test_what_is_measured_is_nobodys_own(key):
    with pytest.raises(ValueError, match=f"BPR.{key} is not allowed: {key} is the same for all models"):
        parse_entries(["EASE", "BPR"], {"BPR": {key: 1}})
    Path("mine.yaml").write_text(f"{key}: 1\nembedding_size: 8\n")
    assert parse_entries(["BPR@mine.yaml"])[0].settings == {"embedding_size": 8}


def test_a_models_own_data_settings_are_noticed(settings):
    entries = parse_entries(["EASE", "BPR"], {"BPR": {"filter_inter_by_user_or_item": False}})
    common = {**plan.make_protocol(entries, settings).settings, "prepared_data": "kept"}
    configs = {each.label: plan.configure_model(each, "board", common) for each in entries}
    configs["BPR"]["user_inter_num_interval"] = "[15,inf)"
    with pytest.raises(ValueError, match="EASE and BPR would not be compared on the same split"):
        plan.prepare_split(configs, "board")


def test_eval_args_must_be_a_mapping():
    with pytest.raises(ValueError, match="eval_args='full' is not allowed"):
        plan.make_protocol(parse_entries(["EASE"]), {"eval_args": "full"})
