"""Transitions and ItemMean against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import write_inter

from recbole_diffusion import quick_start, run
from recbole_diffusion.testing import quick, users_of

SEQUENCES = {"a": "12345", "b": "2313", "c": "54321", "d": "1425"}
SETTINGS = {
    "data_path": "dataset",
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
    "topk": [2],
    "valid_metric": "MRR@2",
    "state": "ERROR",
}


@pytest.fixture
def sequences(tmp_path):
    rows = [(user, item, time) for user, items in SEQUENCES.items() for time, item in enumerate(items)]
    write_inter(tmp_path / "dataset", "tiny", rows, "user_id:token item_id:token timestamp:float")


def counts_by_hand(sequences, width):
    counts = {}
    for items in sequences:
        for place, item in enumerate(items):
            for distance in range(1, min(place, width) + 1):
                pair = (items[place - distance], item)
                counts[pair] = counts.get(pair, 0) + 1 / distance
    return counts


@pytest.mark.parametrize("width", [50, 2])
def test_transitions_are_the_counts_of_a_loop(sequences, width):
    result = run("Transitions", "tiny", config_dict={**SETTINGS, "MAX_ITEM_LIST_LENGTH": width})
    loaded = quick_start.load(result["checkpoint"])
    train = [items[:-2] for items in SEQUENCES.values()]
    counts = counts_by_hand(train, width)
    rows = {i: sum(v for (a, _), v in counts.items() if a == i) for i in "12345"}
    columns = {j: sum(v for (_, b), v in counts.items() if b == j) for j in "12345"}
    (interaction, *_) = next(iter(loaded.test_data))
    scores = loaded.model.full_sort_predict(interaction)
    names = loaded.dataset.field2id_token
    for row, user in enumerate(names["user_id"][interaction["user_id"]]):
        history = SEQUENCES[user][:-1][-width:]
        for column in range(1, scores.shape[1]):
            item = names["item_id"][column]
            expected = sum(
                0.7**age * counts.get((past, item), 0.0) / math.sqrt((rows[past] or 1) * (columns[item] or 1))
                for age, past in enumerate(reversed(history))
            )
            assert float(scores[row, column]) == pytest.approx(expected, abs=1e-6)
    assert (scores[:, 0] == -torch.inf).all()
    assert result["timing"]["denoiser_calls_per_user"] == 0
    assert len(result["epochs"]) == 1


def test_scores_do_not_depend_on_the_blocks(built, monkeypatch):
    from recbole_diffusion.model.sequential_recommender import transitions

    _, model, _, loaders = built("Transitions", **quick("Transitions"))
    batch = users_of(loaders, 30)
    scores = model.full_sort_predict(batch)
    monkeypatch.setattr(transitions, "BLOCK", 7)
    assert torch.equal(model.full_sort_predict(batch), scores)
    assert torch.equal(model.predict(batch), scores.gather(1, batch["item_id"][:, None]).squeeze(1))


def test_the_mean_of_a_users_items_scores(built, shared_bases):
    _, model, _, loaders = built("ItemMean", **quick("ItemMean"), pretrain_dir=shared_bases)
    user, item = (table.numpy() for table in model.base())
    pairs = loaders[0]._dataset.inter_feat
    scores = model.full_sort_predict({"user_id": torch.arange(1, 5)})
    for row in range(4):
        items = pairs["item_id"][pairs["user_id"] == row + 1].numpy()
        np.testing.assert_allclose(scores[row, 1:], item[1:] @ item[items].mean(axis=0), rtol=1e-4, atol=1e-5)
    _, half, *_ = built("ItemMean", **quick("ItemMean"), pretrain_dir=shared_bases, mix=0.0)
    np.testing.assert_allclose(
        half.full_sort_predict({"user_id": torch.arange(1, 5)})[:, 1:], user[1:5] @ item[1:].T, rtol=1e-4, atol=1e-5
    )


def test_ddrm_without_calls_is_the_mean(built, shared_bases):
    own = {**quick("DDRM"), "pretrain_dir": shared_bases, "inference_steps": 0, "sampling_steps": 0}
    _, ddrm, *_ = built("DDRM", **own)
    _, mean, *_ = built("ItemMean", **quick("ItemMean"), pretrain_dir=shared_bases)
    users = {"user_id": torch.arange(1, 9)}
    torch.testing.assert_close(ddrm.eval().full_sort_predict(users), mean.full_sort_predict(users))
