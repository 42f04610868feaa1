"""Checkpoints on another split than their own: resuming is refused, loading is noted."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import pytest
import torch

import recbole_diffusion
from recbole_diffusion import load, quick_start, run
from recbole_diffusion.compat import repairs
from recbole_diffusion.data import provenance
from recbole_diffusion.training import checkpoint

QUICK = {"steps": 2, "dims": [8], "epochs": 1}


@pytest.fixture
def done(settings):
    return run("DiffRec", "board", config_dict={**settings, **QUICK})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"seed": 1}, r"seed=2020, now 1; its test rows may have been trained on; leave seed out to resume"),
        ({"split_seed": 5}, r"split_seed=None, now 5; .*leave split_seed out to resume, or start a new run"),
        (
            {"eval_args": {"split": {"RS": [0.5, 0.2, 0.3]}}},
            r"eval_args.split=\{'RS': \[0.8, 0.1, 0.1\]\}, now \{'RS': \[0.5, 0.2, 0.3\]\}",
        ),
        ({"user_inter_num_interval": "[16,inf)"}, r"user_inter_num_interval='\[0,inf\)', now '\[16,inf\)'"),
    ],
    ids=["seed", "split_seed", "shares", "filter"],
)
def test_a_resume_on_another_split_is_refused_and_a_load_noted(change, why, done, settings, caplog):
    """The hashes of the two splits are named, and the setting that makes the difference."""
    trained = done["data"]["split_sha256"]
    with pytest.raises(
        ValueError, match=rf"was trained on another split \({trained[:12]}, now [0-9a-f]{{12}}\): {why}"
    ) as e:
        run(resume=done["checkpoint"], config_dict=change)
    assert "\n" not in str(e.value)
    assert len(list(Path("saved").glob("*.pth"))) == 1  # nothing was written
    loaded = load(done["checkpoint"], config_dict=change)
    (note,) = [note for note in loaded.config.notes if "another split" in note]
    assert note.endswith("the test rows may have been trained on")
    assert note in caplog.text


def test_test_rows_that_were_trained_on_are_what_this_is_about(done, settings):
    """Most test pairs of the other split are train pairs of the first."""
    from recbole_diffusion.data import pipeline

    def named(loader, dataset):
        users, items = pipeline.pairs(loader).T
        tokens = dataset.field2id_token
        return {*zip(tokens["user_id"][users].tolist(), tokens["item_id"][items].tolist())}

    first, other = load(done["checkpoint"]), load(done["checkpoint"], config_dict={"seed": 1})
    seen = named(first.train_data, first.dataset) & named(other.test_data, other.dataset)
    assert len(seen) > 0.6 * len(named(other.test_data, other.dataset))


def test_shuffled_lines_give_another_random_split(done):
    file = Path("dataset/board/board.inter")
    header, *rows = file.read_text().splitlines()
    random.Random(1).shuffle(rows)
    file.write_text("\n".join([header, *rows]) + "\n")
    with pytest.raises(ValueError, match=r"the data's files are not those of then; .* put the files back to resume"):
        run(resume=done["checkpoint"])
    (note,) = load(done["checkpoint"]).config.notes
    assert "was trained on another split" in note


def test_the_same_split_by_its_own_seed_is_the_same_whatever_the_seed(settings):
    first = run("DiffRec", "board", config_dict={**settings, **QUICK, "split_seed": 7})
    rest = run(resume=first["checkpoint"], config_dict={"seed": 1, "epochs": 2})
    assert rest["data"] == first["data"]
    assert rest["warnings"] == []
    assert len(rest["epochs"]) == 2
    with pytest.raises(ValueError, match=r"split_seed=7, now 8; "):
        run(resume=first["checkpoint"], config_dict={"split_seed": 8, "seed": 3})


def test_a_load_with_other_settings_of_training_has_no_notes(done):
    assert load(done["checkpoint"], config_dict={"epochs": 9, "topk": [3], "valid_metric": "NDCG@3"}).config.notes == []


@pytest.mark.parametrize("lacks", [("names", "data"), ("data",)], ids=["both", "the hash"])
def test_a_checkpoint_of_before_is_used_and_noted(lacks, done):
    state = checkpoint.read(done["checkpoint"])
    torch.save({key: value for key, value in state.items() if key not in lacks}, "old.pth")
    torch.save({**state, "data": None}, "none.pth")
    text = "holds no names: its rows are taken in id order, which cannot be checked"
    if "names" not in lacks:
        text = "holds no hash of its split"
        assert text in run(resume="none.pth")["warnings"][0]
    (note,) = load("old.pth").config.notes
    assert note.startswith(f"checkpoint 'old.pth' {text}")
    result = run(resume="old.pth")
    assert text in result["warnings"][0]
    assert result["test_result"] == done["test_result"]


def test_recboles_own_checkpoint_is_used_and_noted(settings, monkeypatch, numpy_restored):
    monkeypatch.setattr("sys.argv", ["script.py"])
    repairs.apply()
    theirs = repairs.quick_start_module()
    theirs.run_recbole(model="BPR", dataset="board", config_dict={**settings, "epochs": 1})
    (file,) = Path("saved").glob("BPR-*.pth")
    notes = load(file, trust=True).config.notes
    assert notes == [
        f"checkpoint {str(file)!r} holds no names: its rows are taken in id order, which cannot be checked"
    ]
    assert run(resume=file, trust=True, config_dict={"epochs": 2, "show_progress": False})["warnings"] == notes


def test_a_trainer_under_enable_compares_too(settings, monkeypatch, numpy_restored):
    """RecBole's own way: config, data, model and trainer by hand, and trainer.resume_checkpoint."""
    monkeypatch.setattr("sys.argv", ["script.py"])
    recbole_diffusion.enable()
    theirs = repairs.quick_start_module()
    theirs.run_recbole(model="DiffRec", dataset="board", config_dict={**settings, **QUICK})
    (file,) = Path("saved").glob("DiffRec-*.pth")
    state = checkpoint.read(file)
    assert state["data"]["users"] == 64
    assert state["names"] is not None
    from recbole.config import Config
    from recbole.utils import get_model, get_trainer, init_seed

    def resumed(**change):
        config = Config(model="DiffRec", dataset="board", config_dict={**settings, **QUICK, "epochs": 2, **change})
        init_seed(config["seed"], True)
        loaders = theirs.data_preparation(config, theirs.create_dataset(config))
        net = get_model("DiffRec")(config, loaders[0]._dataset).to(config["device"])
        trainer = get_trainer(config["MODEL_TYPE"], "DiffRec")(config, net)
        trainer.resume_checkpoint(file)
        return trainer.fit(loaders[0], loaders[1], saved=False, verbose=False)

    assert resumed()[0] > 0
    with pytest.raises(ValueError, match=r"was trained on another split .* seed=2020, now 4"):
        resumed(seed=4)
    file_of_data = Path("dataset/board/board.inter")
    header, *rows = file_of_data.read_text().splitlines()
    file_of_data.write_text("\n".join([header, *rows[::-1]]) + "\n")
    with pytest.raises(ValueError, match="numbers the names of 'user_id' otherwise than the data set does"):
        resumed()


def test_a_base_of_another_split_is_noted(settings, caplog):
    base = run("BPR", "board", config_dict={**settings, "epochs": 1, "embedding_size": 4})
    keys = {**settings, **QUICK, "in_dims": [8], "n_cate": 2, "pretrain": base["checkpoint"]}
    assert run("LDiffRec", "board", config_dict=keys, saved=False)["warnings"] == []
    result = run("LDiffRec", "board", config_dict={**keys, "seed": 1}, saved=False)
    (note,) = result["warnings"]
    assert (
        note
        == f"pretrain={base['checkpoint']!r} was trained on another split; it may have seen rows of this test split"
    )
    assert note in caplog.text
    manifest = (Path(result["folder"]) / "manifest.json").read_text()
    assert "was trained on another split" in manifest
    assert run("LDiffRec", "board", config_dict={**keys, "seed": 1, "split_seed": 2020}, saved=False)["warnings"] == []


def test_rows_without_names_are_noted(settings):
    import numpy as np

    table = np.random.default_rng(0).normal(size=(40, 3))
    np.savez("named.npz", item=table, item_token=[f"i{item}" for item in range(40)])
    np.savez("bare.npz", item=table)
    keys = {**settings, **QUICK, "in_dims": [8], "n_cate": 2}
    assert run("LDiffRec", "board", config_dict={**keys, "pretrain": "named.npz"}, saved=False)["warnings"] == []
    (note,) = run("LDiffRec", "board", config_dict={**keys, "pretrain": "bare.npz"}, saved=False)["warnings"]
    assert "pretrain='bare.npz' has no item_token" in note
    assert "unchecked" in note


def test_a_note_is_said_once(caplog):
    class Settings:
        notes: list[str] = []

    with caplog.at_level(logging.WARNING):
        provenance.warn(Settings, "said")
        provenance.warn(Settings, "said")
    assert Settings.notes == ["said"]
    assert caplog.text.count("said") == 1


def test_the_split_is_described_where_nobody_else_does(settings):
    _, loaders = quick_start.prepare(quick_start.configure("BPR", "board", config_dict=settings))
    assert provenance.record(loaders[0])["data"] is None
    assert provenance.record(loaders[0])["names"]["user_field"] == "user_id"
    assert provenance.record(None) == {"names": None, "data": None, "columns": None}
