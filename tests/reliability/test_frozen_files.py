"""Files that version 0.1.0 wrote: later versions read the same values from them, or refuse them in one line.

``tests/frozen/formats_0.1.0`` holds a small file of each format: a run's folder and checkpoint (BPR, width 2), prepared
data, a pretrained base (LightGCN, width 2) and a comparison (EASE). Their data: user n of 8 has the items of its parity
among 12, in order of the items' numbers, at times 1000 + 10 * position + n.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.data.dataset import Dataset

from recbole_diffusion.data import names, stored_objects
from recbole_diffusion.experiment import runs
from recbole_diffusion.experiment.jobs.store import Store
from recbole_diffusion.pretraining import cache
from recbole_diffusion.support import json_files, npz_files
from recbole_diffusion.training import checkpoint, earlier_run

FOLDER = Path(__file__).parent.parent / "frozen" / "formats_0.1.0"
ITEMS = [f"i{number}" for number in (*range(0, 12, 2), *range(1, 12, 2))]
KEY = "7f48e996168b527812d6"


def test_a_checkpoint():
    state = checkpoint.read(FOLDER / "checkpoint.pth")
    assert (state["config"]["model"], state["config"]["dataset"], state["config"]["embedding_size"]) == (
        "BPR",
        "tiny",
        2,
    )
    assert float(state["state_dict"]["user_embedding.weight"].sum()) == pytest.approx(0.7717, abs=1e-4)
    assert state["state_dict"]["item_embedding.weight"][1].tolist() == pytest.approx([0.3072, -0.3071], abs=1e-4)
    vocabulary = names.unpack(state, "it")
    assert vocabulary is not None
    assert vocabulary.names["item_id"].tolist() == ITEMS
    assert vocabulary.names["user_id"].tolist() == [f"u{user}" for user in range(8)]


def test_a_run(tmp_path):
    found = runs.read(FOLDER)
    assert (found.status, found.model, found.dataset) == ("finished", "BPR", "tiny")
    assert found.test["ndcg@3"] == 0.125
    shutil.copytree(FOLDER, tmp_path / "run")
    (tmp_path / "run" / "checkpoint.pth").unlink()
    earlier = earlier_run.read(tmp_path / "run")
    assert (earlier.epochs, earlier.settings["embedding_size"]) == (1, 2)


def test_prepared_data():
    arrays = npz_files.read(FOLDER / "tiny.prepared")
    dataset, *parts = stored_objects.unpack(arrays, Dataset)
    rows = dataset.inter_feat
    tokens = {field: dataset.field2id_token[field][rows[field].numpy()] for field in ("user_id", "item_id")}
    pairs = list(zip(tokens["user_id"].tolist(), tokens["item_id"].tolist(), rows["timestamp"].tolist()))
    expected = [(f"u{u}", f"i{i}", 1000.0 + 10 * p + u) for u in range(8) for p, i in enumerate(range(u % 2, 12, 2))]
    assert sorted(pairs) == sorted(expected)
    assert [len(part) for part in parts] == [32, 8, 8]
    assert dataset.field2token_id["item_id"] == {"[PAD]": 0, **{item: id for id, item in enumerate(ITEMS, 1)}}
    assert dataset.account.files == {"tiny.inter": 48}
    assert isinstance(rows["item_id"], torch.Tensor)
    assert parts[0].field2id_token is dataset.field2id_token


def test_a_pretrained_base():
    base = cache._read_cache(FOLDER / "base.npz", "e3d1c0130808f9bcc1267fe92479e9a97af17d8de99750409c0cc1a66d181d2f")
    assert base is not None
    assert (base.embeddings.user.shape, base.embeddings.item.shape) == ((9, 2), (13, 2))
    assert float(base.embeddings.user.sum()) == pytest.approx(-0.82962924)
    assert sorted(base.weights) == ["item_embedding.weight", "user_embedding.weight"]


def test_a_comparison():
    store = Store(FOLDER / "comparison")
    assert store.plan()["seeds"] == [1]
    record, users, lists = store.record(KEY), store.users(KEY), store.lists(KEY)
    assert record is not None
    assert users is not None
    assert lists is not None
    assert record["test"]["ndcg@3"] == 1.0
    assert users.users.tolist() == [f"u{user}" for user in range(8)]
    assert np.array_equal(users.metrics["ndcg@3"], np.ones(8))
    assert lists.split.item_names is not None
    assert lists.split.item_names[1:].tolist() == ITEMS
    hits = {(user, item) for user, item in lists.split.targets.tolist()}
    assert {(int(user), int(row[0])) for user, row in zip(lists.lists.users, lists.lists.items)} == hits


def test_a_later_version_is_refused_in_one_line(tmp_path):
    state = checkpoint.read(FOLDER / "checkpoint.pth")
    torch.save({**state, "format": "recbole-diffusion/2"}, tmp_path / "later.pth")
    with pytest.raises(ValueError, match=r"later.pth' has format 'recbole-diffusion/2'; this version reads .*1'"):
        checkpoint.read(tmp_path / "later.pth")
    shutil.copytree(FOLDER / "comparison", tmp_path / "comparison")
    plan = json_files.read(tmp_path / "comparison" / "comparison.json")
    json_files.write(tmp_path / "comparison" / "comparison.json", {**plan, "format": 99})
    with pytest.raises(ValueError, match="has format 99; this version reads"):
        Store(tmp_path / "comparison").plan()
    arrays = npz_files.read(FOLDER / "tiny.prepared")
    content = {**json.loads(arrays["content"].tobytes()), "format": 99}
    with pytest.raises(ValueError, match="format 99; this version reads 1"):
        stored_objects.unpack({**arrays, "content": np.frombuffer(json.dumps(content).encode(), np.uint8)}, Dataset)
