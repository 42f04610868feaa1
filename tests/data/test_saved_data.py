"""save_dataset and save_dataloaders: read again where they fit, and never in silence."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
from enum import Enum
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import HEADER, write_inter
from recbole.data.dataset.dataset import Dataset

from recbole_diffusion import load, quick_start, run
from recbole_diffusion.compat import repairs
from recbole_diffusion.data import saved_objects, saved_records

QUICK = {"steps": 2, "dims": [8], "epochs": 1}
DATASET, LOADERS = Path("saved/board-Dataset.pth"), Path("saved/board-for-DiffRec-dataloader.pth")
READ = [f"the data set is read from {DATASET}", f"the splits are read from {LOADERS}"]


def made(settings, model="DiffRec", **more):
    return run(model, "board", config_dict={**settings, **QUICK, **more}, saved=False)


@pytest.fixture
def saved(settings):
    return made(settings, save_dataset=True, save_dataloaders=True)


def test_what_fits_is_read_and_said_and_gives_the_same_numbers(saved, settings):
    assert saved["warnings"] == []
    again = made(settings)
    assert again["warnings"] == READ
    assert again["test_result"] == saved["test_result"] == made(settings, checkpoint_dir="x")["test_result"]
    assert again["data"] == saved["data"]
    manifest = Path(again["folder"], "manifest.json").read_text()
    assert READ[0] in manifest


def other_file(settings):
    rows = [(f"u{user}", f"i{item}", 5.0, 1000 + item) for user in range(40) for item in range(user % 2, 24, 2)]
    write_inter(Path("dataset"), "board", rows, HEADER)
    return {}, "files"


def same_size_and_time(settings):
    """Two users change their names: the file has its old size, and gets its old time."""
    file = Path("dataset/board/board.inter")
    before, state = file.read_text(), file.stat()
    file.write_text(before.replace("u11\t", "u_\t").replace("u12\t", "u11\t").replace("u_\t", "u12\t"))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert file.stat().st_size == state.st_size
    return {}, "files"


def shuffled(settings):
    file = Path("dataset/board/board.inter")
    header, *rows = file.read_text().splitlines()
    random.Random(1).shuffle(rows)
    file.write_text("\n".join([header, *rows]) + "\n")
    return {}, "files"


def elsewhere(settings):
    rows = [(f"u{user}", f"i{item}", 5.0, 1000 + item) for user in range(40) for item in range(user % 2, 24, 2)]
    write_inter(Path("elsewhere"), "board", rows, HEADER)
    return {"data_path": "elsewhere"}, "files"


@pytest.mark.parametrize(
    ("model", "change"),
    [
        ("DiffRec", other_file),
        ("DiffRec", same_size_and_time),
        ("DiffRec", shuffled),
        ("DiffRec", elsewhere),
        ("DiffRec", lambda settings: ({"rm_dup_inter": "first"}, "rm_dup_inter")),
        ("TDiffRec", lambda settings: ({"load_col": None}, "load_col, needs_time")),
    ],
    ids=["file", "same size and time", "order of lines", "data_path", "filter", "model with times"],
)
def test_what_does_not_fit_is_not_used_and_said(model, change, saved, settings):
    more, why = change(settings)
    result = made(settings, model, **more)
    assert f"{DATASET} is not used: it was saved with other {why}" in result["warnings"]
    fresh = made(settings, model, checkpoint_dir="x", **more)
    assert result["data"] == fresh["data"]
    assert result["test_result"] == fresh["test_result"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"split_seed": 2}, "split_seed"),
        ({"seed": 3}, "seed"),
        ({"eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}}}, "eval_args.split"),
        ({"eval_args": {"mode": "uni20"}}, "eval_args.mode, test_neg_sample_args, valid_neg_sample_args"),
    ],
    ids=str,
)
def test_loaders_of_another_split_are_not_used_while_the_data_set_is(change, why, saved, settings):
    """The data set is split by the run's own settings: RecBole's keeps those of the run that saved it."""
    result = made(settings, **change)
    assert READ[0] in result["warnings"]
    assert f"{LOADERS} is not used: it was saved with other {why}" in result["warnings"]
    fresh = made(settings, checkpoint_dir="x", **change)
    assert result["data"] == fresh["data"]
    assert result["test_result"] == fresh["test_result"]


def test_a_file_that_is_named_is_used_or_refused(saved, settings):
    shutil.move("saved", "kept")
    keys = {"dataset_save_path": f"kept/{DATASET.name}", "dataloaders_save_path": f"kept/{LOADERS.name}"}
    again = made(settings, **keys)
    assert again["test_result"] == saved["test_result"]
    assert again["warnings"] == [note.replace("saved/", "kept/") for note in READ]
    with pytest.raises(
        ValueError, match=r"dataloaders_save_path='kept/.*' does not fit: .* other split_seed; leave it out"
    ):
        made(settings, split_seed=2, **keys)
    with pytest.raises(
        ValueError, match=r"dataset_save_path='kept/.*' does not fit: it was saved with other rm_dup_inter"
    ):
        made(settings, rm_dup_inter="first", **keys)
    with pytest.raises(ValueError, match=r"dataset_save_path='nowhere\.pth' does not exist; leave it out"):
        made(settings, dataset_save_path="nowhere.pth")
    other_file(settings)
    with pytest.raises(ValueError, match=r"dataset_save_path='kept/.*' does not fit: it was saved with other files;"):
        made(settings, **keys)


def test_a_file_that_is_named_serves_without_the_datas_files(saved, settings):
    shutil.move("saved", "kept")
    shutil.rmtree("dataset")
    keys = {"dataset_save_path": f"kept/{DATASET.name}", "dataloaders_save_path": f"kept/{LOADERS.name}"}
    again = made(settings, **keys)
    assert again["test_result"] == saved["test_result"]
    assert all("saved with other files, which are not there to compare" in note for note in again["warnings"])


def test_recboles_own_file_is_not_taken_unasked_and_named_with_a_note(settings, monkeypatch, numpy_restored):
    monkeypatch.setattr("sys.argv", ["script.py"])
    repairs.apply()
    keys = {**settings, "epochs": 1, "save_dataset": True, "save_dataloaders": True}
    repairs.quick_start_module().run_recbole(model="BPR", dataset="board", config_dict=keys)
    result = made(settings, "BPR")
    for file in (DATASET, "saved/board-for-BPR-dataloader.pth"):
        (note,) = [note for note in result["warnings"] if note.startswith(str(file))]
        assert "is not used: it has no record of what it was made of" in note
    named = made(settings, "BPR", dataset_save_path=str(DATASET))
    assert f"the data set is read from {DATASET}, which has no record of what it was made of" in named["warnings"]
    rows = {key: value for key, value in result["data"].items() if key != "account"}  # RecBole's file has none
    assert {key: named["data"][key] for key in rows} == rows


def test_recbole_reads_what_we_saved(saved, settings, monkeypatch, numpy_restored):
    with open(DATASET, "rb") as stream:
        dataset = pickle.load(stream)
    assert dataset.user_num == 65
    monkeypatch.setattr("sys.argv", ["script.py"])
    import recbole_diffusion

    recbole_diffusion.enable()
    theirs = repairs.quick_start_module().run_recbole(
        model="DiffRec", dataset="board", config_dict={**settings, **QUICK}, saved=False
    )
    assert 0 < theirs["test_result"]["recall@10"] <= 1


def test_a_damaged_or_cut_file_is_named(saved, settings):
    content = DATASET.read_bytes()
    DATASET.write_bytes(content[: len(content) // 2])
    (note,) = [note for note in made(settings)["warnings"] if str(DATASET) in note]
    assert "has no record" in note
    with pytest.raises(
        ValueError, match=r"dataset_save_path='saved/.*' cannot be read: it is no saved data, or damaged"
    ):
        made(settings, dataset_save_path=str(DATASET))


def test_a_flipped_bit_is_another_number_to_nobody(saved, settings):
    content = bytearray(DATASET.read_bytes())
    place = content.index(np.float64(5).tobytes())  # a rating
    content[place + 7] ^= 1
    DATASET.write_bytes(content)
    again = made(settings)
    damage = "is not used: it is damaged (its content differs from its checksum)"
    assert f"{DATASET} {damage}" in again["warnings"]
    assert again["test_result"] == saved["test_result"]
    with pytest.raises(ValueError, match=r"dataset_save_path='saved/.*' is damaged \(its content differs"):
        made(settings, dataset_save_path=str(DATASET))


@pytest.mark.parametrize("record", ["{", "{}", "[]", '{"content": 1, "ids": 2}', "[" * 10**5, None])
def test_a_damaged_record_ends_no_run_that_did_not_ask_for_the_file(record, saved, settings):
    mark = b"recbole-diffusion/saved/1"
    text = b"" if record is None else record.encode()
    length = len(text) if record is not None else 2**60
    DATASET.write_bytes(b"x" * 100 + text + length.to_bytes(8, "little") + mark)
    what = "the length of its record" if record is None else "its record"
    assert f"{DATASET} is not used: it is damaged ({what})" in made(settings)["warnings"]


def test_a_file_of_an_earlier_version_has_no_checksum_and_is_read(saved, settings):
    content = DATASET.read_bytes()
    record, _ = saved_records.read(DATASET)
    del record["sha256"]
    text = json.dumps(record).encode()
    length = int.from_bytes(content[-33:-25], "little")
    DATASET.write_bytes(content[: -33 - length] + text + len(text).to_bytes(8, "little") + content[-25:])
    assert READ[0] in made(settings)["warnings"]


def test_loading_takes_saved_data_in_its_own_order_only(saved, settings):
    """A checkpoint's ids are those of the saved data; of data saved in another order the file is not used."""
    done = run("DiffRec", "board", config_dict={**settings, **QUICK})
    loaded = load(done["checkpoint"])
    assert loaded.config.notes == READ
    expected = loaded.dataset.field2id_token["item_id"].tolist()
    shuffled(settings)
    shutil.rmtree("saved/pretrain", ignore_errors=True)
    made(settings, save_dataset=True)
    loaded = load(done["checkpoint"])
    assert loaded.dataset.field2id_token["item_id"].tolist() == expected
    assert f"{DATASET} is not used: it was saved with other names behind the ids" in loaded.config.notes
    with pytest.raises(ValueError, match=r"dataset_save_path='saved/.*' does not fit: .*names behind the ids"):
        load(done["checkpoint"], config_dict={"dataset_save_path": str(DATASET)})


def test_ids_of_a_checkpoint_are_not_saved_for_later_runs(settings):
    base = run("BPR", "board", config_dict={**settings, "epochs": 1, "embedding_size": 4})
    shuffled(settings)
    keys = {"in_dims": [8], "n_cate": 2, "pretrain": base["checkpoint"], "save_dataset": True}
    result = made(settings, "LDiffRec", **keys)
    assert f"save_dataset is left out: the ids are those of pretrain={base['checkpoint']!r}" in result["warnings"]
    assert not DATASET.exists()


def test_a_knowledge_graph_is_made_again_where_its_settings_change(settings):
    folder = Path("dataset/board")
    triples = [f"e{item}\tr{item % 3}\tg{item % 7}" for item in range(40)]
    (folder / "board.kg").write_text("\n".join(["head_id:token\trelation_id:token\ttail_id:token", *triples]) + "\n")
    links = [f"i{item}\te{item}" for item in range(40)]
    (folder / "board.link").write_text("\n".join(["item_id:token\tentity_id:token", *links]) + "\n")
    load_col = {**settings["load_col"], "kg": ["head_id", "relation_id", "tail_id"], "link": ["item_id", "entity_id"]}
    keys = {**settings, "load_col": load_col, "save_dataset": True}
    counts = []
    for reverse in (False, True):
        config = quick_start.configure("CFKG", "board", config_dict={**keys, "kg_reverse_r": reverse})
        counts.append(len(quick_start.prepare(config)[0].kg_feat))
    assert counts == [40, 80]


@pytest.mark.parametrize("key", ["dataset_save_path", "dataloaders_save_path"])
@pytest.mark.parametrize("content", [None, 5, [1, 2, 3]], ids=str)
def test_a_pickle_of_something_else_is_named(key, content, settings):
    Path("other.pth").write_bytes(pickle.dumps(content))
    config = quick_start.configure("BPR", "board", config_dict={**settings, key: "other.pth"})
    with pytest.raises(ValueError, match=rf"{key}='other.pth' cannot be read: it is no saved data, or damaged"):
        quick_start.prepare(config)


FEATURES = {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "price", "tags"]}}
IN_TIME = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}, "MAX_ITEM_LIST_LENGTH": 5}


def _assert_equal(ours: Any, theirs: Any, compared: dict[tuple[int, int], Any]) -> None:
    """Compare two unpickled objects with all that they hold, and enter what was compared."""
    if (id(ours), id(theirs)) in compared:
        return
    compared[id(ours), id(theirs)] = ours, theirs
    assert type(ours) is type(theirs)
    if isinstance(ours, pd.DataFrame):
        pd.testing.assert_frame_equal(ours, theirs)
    elif isinstance(ours, np.ndarray) and ours.dtype == object:
        assert ours.shape == theirs.shape
        _assert_equal([*ours.flat], [*theirs.flat], compared)
    elif isinstance(ours, (np.ndarray, torch.Tensor)):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    elif isinstance(ours, dict):
        assert [*map(str, ours)] == [*map(str, theirs)]
        _assert_equal([*ours.values()], [*theirs.values()], compared)
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs):
            _assert_equal(one, other, compared)
    elif type(ours) is MethodType:
        assert ours.__func__ is theirs.__func__
        _assert_equal(ours.__self__, theirs.__self__, compared)
    elif type(ours).__module__.startswith(("recbole", "torch.utils")) and not isinstance(ours, (type, Enum)):
        _assert_equal(vars(ours), vars(theirs), compared)
    else:
        assert ours == theirs or ours != ours


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("BPR", FEATURES),
        ("DiffRec", {}),
        ("SASRec", IN_TIME),
        ("DreamRec", IN_TIME),
        ("BPR", {"eval_args": {"mode": "uni20"}}),
    ],
    ids=["features", "users", "sequences", "user sequences", "negatives"],
)
def test_what_is_read_safely_equals_what_pickle_reads(model, more, settings):
    rows = [f"i{item}\t{item}.5\ta{item % 3} b{item % 2}" for item in range(40)]
    Path("dataset/board/board.item").write_text("item_id:token\tprice:float\ttags:token_seq\n" + "\n".join(rows) + "\n")
    keys = {**settings, "save_dataset": True, "save_dataloaders": True, **more}
    quick_start.prepare(quick_start.configure(model, "board", config_dict=keys))
    files = sorted(Path("saved").glob("*.pth"))
    assert len(files) == 2
    for file in files:
        compared: dict[tuple[int, int], Any] = {}
        _assert_equal(saved_objects.load(io.BytesIO(file.read_bytes()), ()), pickle.loads(file.read_bytes()), compared)
        assert len(compared) > 100


class OwnDataset(Dataset):
    """A data set class of another package."""


def test_a_data_set_class_of_another_package_is_read_in_a_run_that_uses_it(settings):
    dataset = OwnDataset(quick_start.configure("BPR", "board", config_dict=settings))
    content = pickle.dumps(dataset)
    with pytest.raises(saved_objects.CodeFound, match=r"it names '.*OwnDataset', which could run code"):
        saved_objects.load(io.BytesIO(content), ())
    assert saved_objects.load(io.BytesIO(content), {OwnDataset}).inter_num == dataset.inter_num
