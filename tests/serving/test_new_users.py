"""New users: a known user's own history gives exactly the user's scores; unknown items; models that cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from served_models import ServedModels

from recbole_diffusion import recommend
from recbole_diffusion.data.time_order import RANK_FIELD
from recbole_diffusion.model.histories import Histories
from recbole_diffusion.quick_start import Loaded

pytestmark = pytest.mark.xdist_group("new users")  # its models are trained once


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> ServedModels:
    return ServedModels(tmp_path_factory.mktemp("serving"))


def own_history(loaded: Loaded) -> dict[str, list[str]]:
    """What the model is given of each user: the train rows in order of time, or the test row's sequence."""
    part = loaded.test_data._dataset if loaded.test_data.is_sequential else loaded.train_data._dataset
    rows, names = part.inter_feat, loaded.dataset.field2id_token
    if loaded.test_data.is_sequential:
        sequences = [row[:n].numpy() for row, n in zip(rows["item_id_list"], rows["item_length"])]
        users = names["user_id"][rows["user_id"].numpy()]
        return {user: names["item_id"][ids].tolist() for user, ids in zip(users, sequences)}
    frame = pd.DataFrame({field: rows[field].numpy() for field in ("user_id", "item_id")})
    frame["time"] = rows[RANK_FIELD if RANK_FIELD in rows else "timestamp"].numpy()
    grouped = frame.sort_values("time", kind="stable").groupby("user_id")["item_id"]
    return {names["user_id"][user]: names["item_id"][items.to_numpy()].tolist() for user, items in grouped}


LOO = {"split": {"LS": "valid_and_test"}, "order": "TO"}
ATTENTION = {"MAX_ITEM_LIST_LENGTH": 8, "hidden_size": 16, "inner_size": 32, "n_heads": 2, "train_batch_size": 128}
ABLE: list[tuple[str, dict[str, Any]]] = [
    ("DiffRec", {}),
    ("DiffRec", {"sampling_noise": True}),
    ("TDiffRec", {}),
    ("LDiffRec", {"n_cate": 1}),
    ("LTDiffRec", {"n_cate": 1}),
    ("GiffCF", {}),
    ("FlowCF", {}),
    ("SGFCF", {}),
    ("BSPM", {"item_graph": "sparse"}),
    ("GFCF", {"row_weights": "recency"}),
    ("TurboCF", {}),
    ("TEASE", {}),
    ("EASE", {}),
    ("ItemKNN", {}),
    ("Pop", {}),
    ("MultiVAE", {}),
    ("MultiDAE", {}),
    ("SASRec", {**ATTENTION, "eval_args": LOO}),
    ("BERT4Rec", {**ATTENTION, "eval_args": LOO}),
    ("CDDRec", {}),
    ("DiffuRec", {"MAX_ITEM_LIST_LENGTH": 8, "hidden_size": 16, "n_heads": 2}),
    ("FMRec", {"MAX_ITEM_LIST_LENGTH": 8, "hidden_size": 16, "n_heads": 2}),
    ("ADRec", {"MAX_ITEM_LIST_LENGTH": 8, "hidden_size": 16, "n_heads": 2, "pretrain": None}),
    ("DreamRec", {"hidden_size": 16}),
    ("PreferDiff", {"hidden_size": 16}),
]


@pytest.mark.parametrize(("model", "settings"), ABLE, ids=[f"{name}-{'-'.join(keys)}" for name, keys in ABLE])
def test_a_known_users_history_gives_the_users_scores(make: ServedModels, model: str, settings: dict[str, Any]) -> None:
    loaded = make(model, **settings)
    histories = own_history(loaded)
    histories = {user: histories[user] for user in sorted(histories)[:10]}
    known = recommend(loaded, list(histories), k=40, exclude=None)
    new = recommend(loaded, histories=histories, k=40, exclude=None)
    assert len(known) == 400
    pd.testing.assert_frame_equal(new, known, check_exact=True)


@pytest.mark.parametrize(
    ("model", "settings"),
    [("BPR", {}), ("LightGCN", {}), ("CDAE", {}), ("ItemKNN", {"knn_method": "user"}), ("FPMC", {"eval_args": LOO})],
)
def test_models_with_an_embedding_per_user_say_so(make: ServedModels, model: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="scores by an embedding of each user") as error:
        recommend(make(model, **settings), histories={"new": ["i1", "i2"]})
    assert "\n" not in str(error.value)


def test_rows_of_ease_by_hand(make: ServedModels) -> None:
    loaded = make("EASE")
    frame = recommend(loaded, histories={"new": ["i1", "i3", "unknown", "i3"]}, k=5)
    row = np.zeros(loaded.dataset.item_num, dtype=np.float32)
    row[[loaded.dataset.token2id("item_id", item) for item in ("i1", "i3")]] = 1
    scores = np.asarray(row @ loaded.model.item_similarity).ravel()
    scores[[0, *np.flatnonzero(row)]] = -np.inf
    order = np.argsort(-scores)[:5]
    assert frame["item"].tolist() == loaded.dataset.id2token("item_id", order).tolist()
    assert np.allclose(frame["score"], scores[order], rtol=1e-5)
    note = "1 items of the histories (1 of 4 rows) are unknown to the model and left out, e.g. 'unknown'"
    assert frame.attrs["notes"] == ["left out of each list: the items of its history", note]


def test_an_empty_history_is_named(make: ServedModels) -> None:
    frame = recommend(make("DiffRec"), histories={"a": [], "b": ["i1"], "c": ["?"]}, k=2)
    assert frame["user"].tolist() == ["a", "a", "b", "b", "c", "c"]
    assert "2 users have no known item, and are scored from an empty row, e.g. 'a', 'c'" in frame.attrs["notes"]
    frame = recommend(make("CDDRec"), histories={"a": [], "b": ["i1"]}, k=2)
    assert frame["user"].tolist() == ["b", "b"]
    assert "1 users have no known item, and are left out, e.g. 'a'" in frame.attrs["notes"]


def test_files_and_frames_are_ordered_by_time(make: ServedModels, tmp_path: Path) -> None:
    loaded = make("CDDRec")
    expected = recommend(loaded, histories={"x": ["i1", "i2", "i3"], "y": ["i5"]}, k=3)
    rows = [
        ("2024-03-01 10:00", "i3", "x"),
        ("2024-01-31", "i1", "x"),
        ("2024-02-01", "i5", "y"),
        ("2024-02-02", "i2", "x"),
    ]
    frame = pd.DataFrame(rows, columns=["date", "item_id", "user"])
    for separator, name in ((",", "visits.csv"), ("\t", "visits.tsv"), (";", "visits.txt")):
        frame.to_csv(tmp_path / name, sep=separator, index=False)
        pd.testing.assert_frame_equal(recommend(loaded, histories=tmp_path / name, k=3), expected)
    numbers = frame.assign(date=[30, 10, 25, 20])
    pd.testing.assert_frame_equal(recommend(loaded, histories=numbers, k=3), expected)
    wanted = recommend(loaded, ["y"], histories=numbers, k=3)
    assert wanted["item"].tolist() == expected[expected["user"] == "y"]["item"].tolist()
    with pytest.raises(ValueError, match=r"row 2, column 'date': 'soon' is no time"):
        recommend(loaded, histories=frame.assign(date=["2024-01-01", "soon", "2024-01-01", "2024-01-01"]))
    with pytest.raises(ValueError, match=r"has no column of items: it has a, user"):
        recommend(loaded, histories=pd.DataFrame({"a": [1], "user": [2]}))
    with pytest.raises(ValueError, match="histories, row 2: no user"):
        recommend(loaded, histories=numbers.assign(user=["x", None, "y", "x"]))
    with pytest.raises(ValueError, match="1 of 1 users have no history"):
        recommend(loaded, ["z"], histories=numbers)


def test_noise_of_a_new_user_depends_on_the_name_alone(make: ServedModels) -> None:
    loaded = make("DiffRec", sampling_noise=True)
    items = ["i1", "i4", "i7"]
    together = recommend(loaded, histories={"ann": items, "bob": items, "cid": ["i2"]}, k=40, exclude=None)
    alone = recommend(loaded, histories={"bob": items}, k=40, exclude=None)
    bob, ann = (together[together["user"] == name].set_index("item")["score"] for name in ("bob", "ann"))
    assert np.allclose(bob.sort_index(), alone.set_index("item")["score"].sort_index(), atol=1e-6)
    assert not np.allclose(bob.sort_index(), ann.sort_index(), atol=1e-3)


def test_sequences_are_cut_to_the_last_items() -> None:
    histories = Histories(torch.tensor([1, 2, 3, 4, 5]), torch.tensor([0, 4, 4, 5]), torch.tensor([7, 8, 9]))
    items, lengths = histories.sequences(3)
    assert items.tolist() == [[2, 3, 4], [0, 0, 0], [5, 0, 0]]
    assert lengths.tolist() == [3, 0, 1]
    part = histories.select(1, 3)
    assert (part.items.tolist(), part.offsets.tolist(), part.seeds.tolist()) == ([5], [0, 0, 1], [8, 9])
    assert histories.row_index().tolist() == [0, 0, 0, 0, 2]
