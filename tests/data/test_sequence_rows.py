"""Rows of sequences: the very rows that RecBole's own method makes, column by column."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import SMALL, write_inter
from recbole.data.dataset import SequentialDataset

from recbole_diffusion import quick_start
from recbole_diffusion.data import sequence_rows

HEADER = "user_id:token item_id:token rating:float timestamp:float tags:token_seq marks:float_seq"


def write_sequences(folder):
    """Users of 1 to 9 interactions, the last of them with one only, in mixed order, with lists in two columns."""
    rng, rows = np.random.default_rng(5), []
    for user, count in enumerate([1, 9, 2, 5, 6, 3, 1]):
        for _ in range(count):
            tags = " ".join(f"t{tag}" for tag in rng.permutation(6)[: rng.integers(1, 4)])
            marks = " ".join(f"{mark:.2f}" for mark in rng.random(rng.integers(1, 3)))
            rows.append((f"u{user}", f"i{rng.integers(12)}", rng.integers(1, 6), 100 + rng.integers(50), tags, marks))
    write_inter(folder, "lists", [rows[place] for place in rng.permutation(len(rows))], HEADER)


def rows_of(length, **more):
    columns = ["user_id", "item_id", "rating", "timestamp", "tags", "marks"]
    args = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}
    keys = {**SMALL, "eval_args": args, "load_col": {"inter": columns}, "train_neg_sample_args": None, **more}
    config = quick_start.configure("SASRec", "lists", config_dict={**keys, "MAX_ITEM_LIST_LENGTH": length})
    dataset, loaders = quick_start.prepare(config)
    return dataset, [loader._dataset.inter_feat for loader in loaders]


@pytest.mark.parametrize("chunk", [2**16, 3])
@pytest.mark.parametrize("length", [1, 4, 20])
@pytest.mark.parametrize("numerical", [[], ["rating"]], ids=str)
def test_the_rows_are_recboles_own(length, chunk, numerical, tmp_path, monkeypatch):
    write_sequences(tmp_path / "dataset")
    monkeypatch.setattr(sequence_rows, "_CHUNK", chunk)
    dataset, ours = rows_of(length, numerical_features=numerical)
    monkeypatch.setattr(sequence_rows, "augment", vars(SequentialDataset)["data_augmentation"])
    their_dataset, theirs = rows_of(length, numerical_features=numerical)
    assert [dataset.field2seqlen, dataset.field2type] == [their_dataset.field2seqlen, their_dataset.field2type]
    assert sum(map(len, ours)) == 20
    for part, expected in zip(ours, theirs):
        assert part.columns == expected.columns
        for name in expected.columns:
            assert part[name].dtype == expected[name].dtype, name
            assert torch.equal(part[name], expected[name]), name
