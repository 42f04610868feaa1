"""Lists of known users: equal to numpy's ranking of ``full_sort_predict``, and to what the run's test has ranked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from recbole.data.interaction import Interaction
from served_models import ServedModels

from recbole_diffusion import load, recommend, run
from recbole_diffusion.data import pipeline
from recbole_diffusion.quick_start import Loaded
from recbole_diffusion.testing import HEADER, write_inter

pytestmark = pytest.mark.xdist_group("recommend")  # its models are trained once


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> ServedModels:
    return ServedModels(tmp_path_factory.mktemp("serving"))


def token_lists(frame: pd.DataFrame) -> dict[str, list[str]]:
    return {str(user): rows["item"].tolist() for user, rows in frame.groupby("user", sort=False)}


def seen_by_hand(loaded: Loaded, splits: tuple[str, ...]) -> dict[str, set[str]]:
    """The items of each user in some splits, by name, from the frames of the loaders."""
    seen: dict[str, set[str]] = {}
    loaders = {"train": loaded.train_data, "valid": loaded.valid_data, "test": loaded.test_data}
    for name in splits:
        rows = loaders[name]._dataset.inter_feat
        users = loaded.dataset.id2token("user_id", rows["user_id"].numpy())
        items = loaded.dataset.id2token("item_id", rows["item_id"].numpy())
        for user, item in zip(users, items):
            seen.setdefault(str(user), set()).add(str(item))
    return seen


@pytest.mark.parametrize("exclude", [("train", "valid"), ("train", "valid", "test"), ()])
def test_ten_users_by_hand(make: ServedModels, exclude: tuple[str, ...]) -> None:
    loaded = make("DiffRec")
    frame = recommend(loaded, k=7, exclude=exclude)
    lists, seen = token_lists(frame), seen_by_hand(loaded, exclude)
    scores = loaded.model.full_sort_predict(Interaction({"user_id": torch.arange(1, 11)})).numpy()
    names = loaded.dataset.field2id_token["item_id"]
    for user_id, row in zip(range(1, 11), scores):
        user = loaded.dataset.id2token("user_id", user_id)
        order = [names[item] for item in np.argsort(-row) if item and names[item] not in seen.get(user, set())]
        assert lists[user] == order[:7]
    first = frame[frame["user"] == loaded.dataset.id2token("user_id", 1)]
    assert first["rank"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    expected = [scores[0][loaded.dataset.token2id("item_id", item)] for item in first["item"]]
    assert np.allclose(first["score"], expected, rtol=1e-6)


LOO = {"split": {"LS": "valid_and_test"}, "order": "TO"}
SEEN = ("train", "valid")
CONTEXT = {
    "eval_args": {"split": {"RS": [8, 1, 1]}, "mode": "full"},
    "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1},
    "metrics": ["Recall"],
    "valid_metric": "Recall@10",
    "train_batch_size": 128,
}
CASES: list[tuple[str, dict[str, Any], Any]] = [
    ("DiffRec", {}, SEEN),
    ("DiffRec", {"sampling_noise": True}, SEEN),
    ("TDiffRec", {"test_input": "train+valid"}, SEEN),
    ("LightGCN", {"train_batch_size": 128}, SEEN),
    ("EASE", {}, SEEN),
    ("MultiVAE", {}, SEEN),
    ("FM", CONTEXT, SEEN),
    ("CDDRec", {"mask_history": True}, SEEN),
    ("DiffuRec", {"MAX_ITEM_LIST_LENGTH": 8, "hidden_size": 16, "n_heads": 2}, None),
    ("FMRec", {"MAX_ITEM_LIST_LENGTH": 8, "hidden_size": 16, "n_heads": 2}, None),
    ("ADRec", {"MAX_ITEM_LIST_LENGTH": 8, "hidden_size": 16, "n_heads": 2, "pretrain": None}, None),
    ("PreferDiff", {"hidden_size": 16, "ddim_grid": "official"}, None),
    ("GRU4Rec", {"MAX_ITEM_LIST_LENGTH": 8, "hidden_size": 16, "train_batch_size": 128, "eval_args": LOO}, None),
]


@pytest.mark.parametrize(("model", "settings", "exclude"), CASES, ids=[case[0] for case in CASES])
def test_the_lists_have_the_recall_of_the_runs_test(
    make: ServedModels, model: str, settings: dict[str, Any], exclude: Any
) -> None:
    result, loaded = make.result(model, **settings), make(model, **settings)
    lists = token_lists(recommend(loaded, k=10, exclude=exclude))
    test = pd.DataFrame(pipeline.pairs(loaded.test_data), columns=["user", "item"])
    recalls = []
    for user, rows in test.groupby("user"):
        truth = {*loaded.dataset.id2token("item_id", rows["item"].to_numpy())}
        top = {*lists[loaded.dataset.id2token("user_id", user)]}
        recalls.append(len(truth & top) / len(truth))
    assert np.mean(recalls) == pytest.approx(result["test_result"]["recall@10"], abs=1e-6)
    assert len(recalls) > 30


def test_batches_and_order_of_users_change_nothing(make: ServedModels) -> None:
    loaded = make("ItemKNN")  # many equal scores
    whole = recommend(loaded, k=12)
    loaded.config["eval_users_per_batch"] = 5
    assert recommend(loaded, k=12).equals(whole)
    users = ["u9", "u3", "u60"]
    some = recommend(loaded, users, k=5)
    assert some["user"].unique().tolist() == users
    cut = {user: items[:5] for user, items in token_lists(whole).items() if user in users}
    assert token_lists(some) == cut


def test_a_user_without_test_row_is_scored_from_all_items_before(tmp_path: Path) -> None:
    """A user with two items has no test row: the sequence is that of train, with its target at the end."""
    rows = [(f"u{user}", f"i{item}", 5.0, 100 * item + user) for user in range(30) for item in range(2 + user % 9)]
    write_inter(tmp_path, "short", rows, HEADER)
    keys = {"MAX_ITEM_LIST_LENGTH": 3, "eval_args": LOO, "data_path": str(tmp_path), "epochs": 1, "state": "ERROR"}
    loaded = load(run("GRU4Rec", "short", config_dict=keys)["checkpoint"])
    # the user and the last three items before the test split: u0 has 2 items, u1 has 3, u2 has 4, u8 has 10
    sequences = {"u0": [0, 1], "u1": [0, 1], "u2": [0, 1, 2], "u8": [6, 7, 8]}
    lists = token_lists(recommend(loaded, list(sequences), k=4, exclude=None))
    for user, items in sequences.items():
        ids = [loaded.dataset.token2id("item_id", f"i{item}") for item in items]
        columns = {"item_id_list": torch.tensor([[*ids, 0, 0][:3]]), "item_length": torch.tensor([len(ids)])}
        with torch.no_grad():
            scores = loaded.model.full_sort_predict(Interaction(columns)).view(-1).numpy()
        order = [item for item in np.argsort(-scores) if item][:4]
        assert lists[user] == loaded.dataset.id2token("item_id", order).tolist(), user


def test_candidates_and_unknown_names(make: ServedModels) -> None:
    loaded = make("DiffRec")
    frame = recommend(loaded, "u1,u2", k=3, items=["i1", "i3", "i2"], exclude="none")
    assert {*frame["item"]} == {"i1", "i2", "i3"}
    assert len(frame) == 6
    with pytest.raises(ValueError, match="1 of 2 users are not in the model's data"):
        recommend(loaded, ["u1", "x"])
    left = recommend(loaded, ["u1", "x"], skip_unknown=True)
    assert left["user"].unique().tolist() == ["u1"]
    assert "1 of 2 users are not in the model's data and left out, e.g. 'x'" in left.attrs["notes"]
    for users in (["x"], "x,y"):
        with pytest.raises(ValueError, match="not in the model's data"):
            recommend(loaded, users, skip_unknown=True)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"k": 0}, "k=0 is not allowed; allowed: 1 to 40"),
        ({"k": 41}, "k=41 is not allowed; allowed: 1 to 40"),
        ({"k": True}, "k=True is not allowed"),
        ({"samples": 0}, "samples=0 is not allowed"),
        ({"exclude": "past"}, "exclude='past' is not allowed; allowed: some of train,valid,test, or none"),
        ({"users": []}, "no users are given"),
        ({"users": "missing.csv"}, "file 'missing.csv' does not exist"),
    ],
)
def test_wrong_arguments_are_one_line(make: ServedModels, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")) as error:
        recommend(make("DiffRec"), **keywords)
    assert "\n" not in str(error.value)


def test_the_random_state_of_the_caller_stays(make: ServedModels) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    loaded = make("DiffRec", sampling_noise=True)
    torch.manual_seed(5)
    recommend(loaded, k=2)
    assert torch.equal(torch.rand(3), expected)
