"""Natural noise at its own time and on the scales of the columns, against pandas on six users."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, write_inter
from recbole.data.interaction import Interaction

from recbole_diffusion import quick_start
from recbole_diffusion.data import pipeline, time_order, train_noise

COLUMNS = ["user_id", "item_id", "rating", "timestamp", "shop"]
EVERY = {  # the ratio asks for more than there is, so that all ratings below 4 of known items are added
    **SMALL,
    "load_col": {"inter": COLUMNS},
    "val_interval": {"rating": "[4,inf)"},
    "train_noise": "natural",
    "train_noise_ratio": 50,
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
}
CLEAN = {**EVERY, "train_noise": None}
SCALES = pytest.mark.parametrize("normalised", [True, False])


@pytest.fixture
def frame(tmp_path):
    """Six users with ratings of twelve of fourteen items, 7 s apart, which float32 cannot tell; a shop for each row."""
    rng = np.random.default_rng(12)
    rows = [
        (f"u{user}", f"i{item}", int(rng.integers(1, 6)), 1_000_000_000 + 100 * user + 7 * place, f"s{user}{place}")
        for user in range(6)
        for place, item in enumerate(rng.permutation(14)[:12])
    ]
    rng.shuffle(rows)
    header = "user_id:token item_id:token rating:float timestamp:float shop:token"
    write_inter(tmp_path / "dataset", "shops", rows, header)
    table = pd.DataFrame(rows, columns=COLUMNS).sort_values(["user_id", "timestamp"], ignore_index=True)
    liked = table["rating"] >= 4
    table["part"] = np.where(liked, "train", "noise")
    for rows_of_user in table[liked].groupby("user_id").groups.values():
        table.loc[rows_of_user[-2:], "part"] = ["valid", "test"]
    assert table.loc[liked, "item_id"].nunique() == 14  # the data set has all items
    assert (table[liked].groupby("user_id").size() > 2).all()
    assert (table["part"] == "noise").sum() > 20
    return table


def scaled(values, column):
    """RecBole's normalisation by the column's range, clipped."""
    return ((values - column.min()) / (column.max() - column.min())).clip(0, 1)


def parts_of(model, **settings):
    """The three parts as frames with names of users, items and shops; the data set, and the loaders."""
    config = quick_start.configure(model, "shops", config_dict={**EVERY, **settings})
    dataset, loaders = quick_start.prepare(config)
    tables = []
    for loader in loaders:
        rows = loader._dataset.inter_feat
        table = pd.DataFrame({field: rows[field].tolist() for field in rows.columns})
        for field in ("user_id", "item_id", "shop"):
            table[field] = dataset.id2token(field, table[field].to_numpy())
        tables.append(table)
    assert not [name for name in dataset.field2type if name.startswith("(")]
    return tables, dataset, loaders


@SCALES
def test_numbers_are_on_the_scales_of_the_columns_and_the_donor_is_the_nearest_in_time(normalised, frame):
    (train, _, _), _, _ = parts_of("EASE", normalize_all=normalised)
    noise = frame[frame["part"] == "noise"]
    added = train.merge(noise, on=["user_id", "item_id"], suffixes=("", "_of_file"))
    assert len(added) == len(noise) == len(train) - (frame["part"] == "train").sum()
    liked = frame[frame["rating"] >= 4]
    for field in ("rating", "timestamp"):
        expected = added[f"{field}_of_file"]
        expected = scaled(expected, liked[field]) if normalised else expected
        np.testing.assert_allclose(added[field], expected.astype(np.float32), atol=1e-6)
    for row in added.itertuples():
        own = frame[(frame["user_id"] == row.user_id) & (frame["part"] == "train")]
        distance = (own["timestamp"] - row.timestamp_of_file).abs()
        assert row.shop in set(own["shop"][distance == distance.min()])


@SCALES
@pytest.mark.parametrize("order", ["TO", "RO"])
@pytest.mark.parametrize(("model", "more"), [("TDiffRec", {}), ("DiffRec", {"time-aware": True})])
def test_recency_weights_rank_noise_by_its_own_time(model, more, order, normalised, frame):
    quick = {"epochs": 1, "steps": 2, "dims": [8], "w_min": 0.2, "w_max": 0.8, "normalize_all": normalised}
    quick["eval_args"] = {**EVERY["eval_args"], "order": order}
    if order == "RO":
        quick["eval_args"].update(split={"RS": [1, 0, 0]}, group_by="none")
    config = quick_start.configure(model, "shops", config_dict={**EVERY, **quick, **more})
    dataset, loaders = quick_start.prepare(config)
    net = quick_start.build_model(config, loaders)
    in_train = frame[frame["part"].isin(["train", "noise"])] if order == "TO" else frame
    dense = net.history.rows(torch.arange(dataset.user_num)).numpy()
    for user, rows in in_train.groupby("user_id"):
        items = dataset.token2id("item_id", rows["item_id"].to_numpy())
        weights = dense[dataset.token2id("user_id", user), items - 1]
        np.testing.assert_allclose(weights, np.linspace(0.2, 0.8, len(rows)), rtol=1e-5)
    ranks = frame["timestamp"].rank(method="first") - 1
    expected = dict(zip(zip(frame["user_id"], frame["item_id"]), ranks))
    fields = ["time_rank", "timestamp"] if more else ["time_rank"]
    for table in (dataset.inter_feat, *(loader._dataset.inter_feat for loader in loaders)):
        names = [dataset.id2token(field, table[field].numpy()) for field in ("user_id", "item_id")]
        for field in fields:
            assert table[field].tolist() == [expected[pair] for pair in zip(*names)]


def test_a_noise_row_comes_after_the_rows_of_its_time():
    """Ranks by hand: times 10, 20, 20, 30, and noise at 20, 5 and 20."""

    class Data:
        config = {"time-aware": False, "keep_time_order": True, "TIME_FIELD": "timestamp", "LIST_SUFFIX": "_list"}
        exact_times = np.array([20.0, 10.0, 30.0, 20.0])
        inter_feat = Interaction({"time_rank": torch.tensor([1.0, 0.0, 3.0, 2.0])})

    added = time_order.insert_ranks(Data, [Data.inter_feat], np.array([20.0, 5.0, 20.0]))
    assert Data.inter_feat["time_rank"].tolist() == [2, 1, 6, 3]
    assert added["time_rank"].tolist() == [4, 0, 5]


@SCALES
@pytest.mark.parametrize("keep", [True, False])
def test_sequences_have_noise_between_its_neighbours_in_time(normalised, keep, frame):
    """The times of a user's rows are one value in RecBole's float32, unless they are normalised."""
    keys = {"normalize_all": normalised, "keep_time_order": keep}
    noisy, dataset, _ = parts_of("SASRec", **keys)
    clean, _, _ = parts_of("SASRec", **{**CLEAN, **keys})
    assert all(before.equals(after) for before, after in zip(clean[1:], noisy[1:]))
    names = dataset.field2id_token["item_id"]
    in_train = frame[frame["part"].isin(["train", "noise"])]
    for user, rows in in_train.groupby("user_id"):
        (last,) = noisy[0][(noisy[0]["user_id"] == user) & (noisy[0]["item_length"] == len(rows) - 1)].itertuples()
        sequence = [*names[last.item_id_list[: last.item_length]], last.item_id]
        times = [*last.timestamp_list[: last.item_length], last.timestamp]
        assert times == sorted(times)
        if keep or normalised:
            assert sequence == rows["item_id"].tolist()


def test_sequences_with_ranks_of_time_have_them_in_order(frame):
    tables, dataset, _ = parts_of("SASRec", **{"time-aware": True})
    rank = dict(zip(zip(frame["user_id"], frame["item_id"]), frame["timestamp"].rank() - 1))
    names = dataset.field2id_token["item_id"]
    for table in tables:
        for row in table.itertuples():
            history = [rank[row.user_id, names[item]] for item in row.item_id_list[: row.item_length]]
            expected = [*history, *[0] * (len(row.item_id_list) - len(history))]
            assert row.time_rank_list == row.timestamp_list == expected
            assert row.time_rank == row.timestamp == rank[row.user_id, row.item_id]


def test_labels_by_threshold_and_pairs_of_numerical_features(frame):
    more = {"threshold": {"rating": 4}, "normalize_all": False, "numerical_features": ["timestamp"]}
    (train, _, _), _, _ = parts_of("EASE", **more)
    added = train.merge(frame, on=["user_id", "item_id"], suffixes=("", "_of_file"))
    assert (added["label"] == (added["rating"] >= 4)).all()
    assert 0 < added["label"].mean() < 1
    assert [pair[1] for pair in added["timestamp"]] == [1.0] * len(added)
    own = np.array([pair[0] for pair in added["timestamp"]])
    np.testing.assert_array_equal(own, added["timestamp_of_file"].astype(np.float32))


def test_a_removed_row_without_a_rating_is_filled_before_it_gets_its_label(frame, tmp_path):
    """With the mean of the rows that stay, 4 or more, as RecBole fills those before it labels them."""
    rows = frame[COLUMNS].copy()
    unknown = rows["rating"] == 1
    rows["rating"] = rows["rating"].astype(object).where(~unknown, "")
    header = "user_id:token item_id:token rating:float timestamp:float shop:token"
    write_inter(tmp_path / "dataset", "shops", rows.to_numpy().tolist(), header)
    (train, _, _), _, _ = parts_of("EASE", threshold={"rating": 4}, normalize_all=False)
    added = train.merge(rows, on=["user_id", "item_id"], suffixes=("", "_of_file"))
    has_none = added["rating"] == ""
    assert 3 < has_none.sum() < len(added)
    assert (added["label"][has_none] == 1).all()
    assert (added["label"][~has_none] == (added["rating"][~has_none].astype(float) >= 4)).all()


def test_what_cannot_be_placed_is_refused_in_one_line(frame):
    buckets = {"numerical_features": ["rating"], "discretization": {"rating": {"method": "ED", "bucket": 2}}}
    with pytest.raises(ValueError, match="is not allowed with discretization of 'rating'"):
        parts_of("EASE", **buckets)
    config = quick_start.configure("SASRec", "shops", config_dict=EVERY)
    dataset = pipeline.create_dataset(config)
    dataset.removed_rows = dataset.removed_rows.drop(columns="(exact time)")
    with pytest.raises(ValueError, match="needs the exact times of all rows, but the data were saved without them"):
        pipeline.build(config, dataset)


def test_random_pairs_are_drawn_one_by_one():
    """The draws of a seed, against a loop over single pairs."""

    class Split:
        users = np.array([1, 1, 2, 3, 3, 3])
        item_order = np.arange(1, 200)
        known = np.unique(np.random.default_rng(1).integers(200, 800, 90))

        def rows_by_name(self):
            return np.arange(6)[::-1].copy()

        def code(self, users, items):
            return users * 200 + items

    split, rng = Split(), np.random.default_rng(8)
    taken, pairs = {*split.known.tolist()}, []
    while len(pairs) < 400:
        rows = split.rows_by_name()[rng.integers(0, 6, 4096)]
        for row, item in zip(rows.tolist(), split.item_order[rng.integers(0, 199, 4096)].tolist()):
            code = split.code(int(split.users[row]), item)
            if code not in taken:
                taken.add(code)
                pairs.append((row, item))
    drawn = train_noise._random_rows(split, 400, np.random.default_rng(8))
    assert [*zip(drawn.donors.tolist(), drawn.items.tolist())] == pairs[:400]
