"""What is kept in id order (bases, clusters, prepared data, runs of a comparison) is not used for another order."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest

from recbole_diffusion import quick_start, run
from recbole_diffusion.experiment.compare import compare
from recbole_diffusion.experiment.jobs import fingerprint
from recbole_diffusion.pretraining import bases

IN_TIME = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}, "train_batch_size": 256}
BPR = {"epochs": 3, "embedding_size": 8, "learning_rate": 0.05}
MODELS = {
    "DDRM": {"base_model": "BPR", "base_config": BPR},
    "HDRM": {"preset": "quick", "base_config": {"epochs": 1}},
    "LDiffRec": {"steps": 2, "dims": [8], "in_dims": [8], "n_cate": 4, "pretrain": {"model": "BPR", "config": BPR}},
}
FILE = Path("dataset/board/board.inter")


def shuffle():
    header, *rows = FILE.read_text().splitlines()
    random.Random(3).shuffle(rows)
    FILE.write_text("\n".join([header, *rows]) + "\n")


@pytest.mark.parametrize("model", MODELS)
def test_a_base_is_trained_anew_in_another_order_of_lines(model, settings):
    """The split's hash is of names and stays the same; the run equals one that finds no kept base."""
    quick = {**settings, **IN_TIME, "epochs": 1, **MODELS[model]}
    first = run(model, "board", config_dict=quick, saved=False)
    shuffle()
    second = run(model, "board", config_dict=quick, saved=False)
    fresh = run(model, "board", config_dict={**quick, "checkpoint_dir": "elsewhere"}, saved=False)
    assert second["data"] == first["data"]
    assert second["test_result"] == fresh["test_result"]
    assert len(list(Path("saved/pretrain").glob("*.npz"))) == 2


def test_a_kept_base_says_whose_rows_it_holds(built, settings):
    """A file under the right name with the rows of another order (copied, renamed) is made anew."""
    config, _, _, loaders = built("LDiffRec", **IN_TIME, **MODELS["LDiffRec"])
    right = bases.embeddings(config, *loaders[:2])
    (file,) = Path("saved/pretrain").glob("*.npz")
    with np.load(file) as content:
        arrays = dict(content)
    np.savez(file, **{**arrays, "ids": "those of another order", "item": arrays["item"][::-1]})
    assert np.array_equal(bases.embeddings(config, *loaders[:2]).item, right.item)
    with np.load(file) as content:
        assert str(content["ids"]) == str(arrays["ids"])


def test_prepared_data_of_another_content_with_the_same_size_and_time_are_made_again(settings):
    quick = {**settings, **IN_TIME, "prepared_data": "kept"}

    def first_items():
        dataset, _ = quick_start.prepare(quick_start.configure("EASE", "board", config_dict=quick))
        return dataset.field2id_token["item_id"][1:4].tolist()

    before, state = first_items(), FILE.stat()
    shuffle()
    os.utime(FILE, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert FILE.stat().st_size == state.st_size
    rows = FILE.read_text().splitlines()[1:]
    expected = list(dict.fromkeys(row.split("\t")[1] for row in rows))[:3]  # in order of appearance
    assert first_items() == expected != before


def test_prepared_data_are_kept_apart_by_the_ids_that_a_checkpoint_gives(settings):
    """In order of appearance, and in that of a checkpoint. A renamed file is not taken for another."""
    quick = {**settings, **IN_TIME, "prepared_data": "kept", "epochs": 1, "embedding_size": 8}
    done = run("BPR", "board", config_dict=quick)
    shuffle()
    again = run("BPR", "board", config_dict=quick, saved=False)  # keeps the new order of appearance
    rest = run(resume=done["checkpoint"], saved=False)
    assert rest["test_result"] == done["test_result"] != again["test_result"]
    files = sorted(Path("kept").glob("*.prepared"), key=lambda file: file.stat().st_mtime_ns)
    assert len(files) == 3
    files[1].write_bytes(files[2].read_bytes())
    assert run("BPR", "board", config_dict=quick, saved=False)["test_result"] == again["test_result"]


def test_a_checkpoint_is_the_same_file_by_its_content(tmp_path):
    file = tmp_path / "base.pth"
    file.write_bytes(b"a" * 100)
    settings = {"base_checkpoint": str(file)}
    first, state = fingerprint.files_fingerprint(settings), file.stat()
    time.sleep(0.02)
    file.write_bytes(b"a" * 100)  # a copy, later
    assert fingerprint.files_fingerprint(settings) == first
    file.write_bytes(b"b" * 100)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert fingerprint.files_fingerprint(settings) != first


def test_a_comparison_runs_again_in_another_order_of_lines(settings):
    """The same folder: neither its runs nor its kept bases are those of the file as it is now."""
    keys = {key: value for key, value in {**settings, **IN_TIME, "epochs": 1}.items() if key != "state"}

    def scores(folder):
        files = compare(["DDRM"], ["board"], [1], folder, keys, {"DDRM": MODELS["DDRM"]}).folder.glob("runs/*.json")
        return {file.stem: json.loads(file.read_text())["test"] for file in files}

    before = scores("here")
    shuffle()
    after = scores("here")
    ((key, right),) = scores("elsewhere").items()
    assert {*after} == {*before, key}
    assert after[key] == right
