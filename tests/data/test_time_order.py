"""Order in time: exact times decide, whatever their unit; a column that holds no times is refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import HEADER, SMALL, write_inter
from recbole.data.interaction import Interaction
from recbole.utils import FeatureType

from recbole_diffusion import quick_start
from recbole_diffusion.data import pipeline, time_order

USERS, ITEMS, EACH = 12, 30, 10
UNITS = {
    "seconds": lambda place: 1_700_000_000 + place,
    "milliseconds": lambda place: 1_700_000_000_000 + 1000 * place,
    "dates": lambda place: 20230101 + place // 7,  # ties
}
SEQUENTIAL = ("SASRec", "CDDRec")


def rows_of(unit):
    """(user, item, rating, time), 12 users with 10 items each, all users at the same time, in random order of lines."""
    draw = np.random.default_rng(3)
    owners = draw.permutation(np.repeat(np.arange(USERS), EACH))
    items = {user: list(draw.permutation(ITEMS)) for user in range(USERS)}
    rows = [(f"u{user}", f"i{items[user].pop()}", 5.0, UNITS[unit](place)) for place, user in enumerate(owners)]
    return [rows[place] for place in draw.permutation(len(rows))]


def prepared(model, rows, tmp_path, split, **more):
    """The loaders, and the (user, item) names of each split; of sequences the next items."""
    write_inter(tmp_path / "dataset", "timed", rows, HEADER)
    few = {"hidden_size": 8, "n_heads": 2, "n_layers": 1, "inner_size": 8} if model in SEQUENTIAL else {}
    args = {"split": split, "order": "TO", "mode": "full", "group_by": more.pop("group_by", "user")}
    config = quick_start.configure(model, "timed", config_dict={**SMALL, **few, "eval_args": args, **more})
    dataset, loaders = quick_start.prepare(config)
    return config, dataset, loaders


def names(dataset, loader):
    users, items = pipeline.pairs(loader).T
    tokens = dataset.field2id_token
    return set(zip(tokens["user_id"][users].tolist(), tokens["item_id"][items].tolist()))


def in_time(rows):
    """Each user's rows in order of time, equal times in the order of the file."""
    frame = pd.DataFrame(rows, columns=["user", "item", "rating", "time"]).sort_values("time", kind="stable")
    return {user: list(zip(group["item"], group["time"])) for user, group in frame.groupby("user")}


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("model", ["DiffRec", "EASE", "FM", "SASRec", "CDDRec"])
def test_split_by_time_has_the_exact_boundary(model, unit, tmp_path):
    rows = rows_of(unit)
    negatives = {"distribution": "uniform", "sample_num": 1}  # FM learns from labels otherwise
    more = {"metrics": ["NDCG"], "train_neg_sample_args": negatives} if model == "FM" else {}
    _, dataset, loaders = prepared(model, rows, tmp_path, {"TS": [0.8, 0.1, 0.1]}, **more)
    sequences = in_time(rows)
    targets = {user: (items[1:] if model in SEQUENTIAL else items) for user, items in sequences.items()}
    boundary = np.percentile([time for items in targets.values() for _, time in items], 100 * (1 - 0.1))
    expected = [set(), set(), set()]
    for user, items in targets.items():
        early = [item for item, time in items if time <= boundary]
        cut = int(len(early) * (0.8 / (1 - 0.1)))
        late = [item for item, time in items if time > boundary]
        for part, chosen in zip(expected, (early[:cut], early[cut:], late)):
            part.update((user, item) for item in chosen)
    assert [names(dataset, loader) for loader in loaders[1:]] == expected[1:]
    if model != "CDDRec":  # one row per user, the last
        assert names(dataset, loaders[0]) == expected[0]


def test_the_float32_boundary_is_another_one(tmp_path):
    """keep_time_order: False is RecBole's: all the times within 128 s are one."""
    rows = rows_of("seconds")
    theirs = prepared("EASE", rows, tmp_path, {"TS": [0.8, 0.1, 0.1]}, keep_time_order=False)[2]
    ours = prepared("EASE", rows, tmp_path, {"TS": [0.8, 0.1, 0.1]})[2]
    assert len(ours[2]._dataset) == 12
    assert len(theirs[2]._dataset) != 12


@pytest.mark.parametrize("unit", ["seconds", "milliseconds"])
@pytest.mark.parametrize("model", ["DiffRec", "SASRec", "CDDRec"])
def test_a_user_is_in_exact_order(model, unit, tmp_path):
    """Leave-one-out, lines in random order: last item for test, the one before for validation, sequences in order."""
    rows = rows_of(unit)
    _, dataset, loaders = prepared(model, rows, tmp_path, {"LS": "valid_and_test"})
    sequences = {user: [item for item, _ in items] for user, items in in_time(rows).items()}
    for place, loader in ((-2, loaders[1]), (-1, loaders[2])):
        assert names(dataset, loader) == {(user, items[place]) for user, items in sequences.items()}
    if model in SEQUENTIAL:
        part, tokens = loaders[2]._dataset.inter_feat, dataset.field2id_token
        for user, items, length in zip(part["user_id"], part["item_id_list"], part["item_length"]):
            expected = sequences[tokens["user_id"][user]][:-1]
            assert tokens["item_id"][items[:length]].tolist() == expected


@pytest.mark.parametrize("model", ["EASE", "SASRec"])
@pytest.mark.parametrize("group_by", ["user", None])
def test_shares_in_time(model, group_by, tmp_path):
    """RS in order of time: the last tenth of each user, or of all rows."""
    rows = rows_of("seconds")
    _, dataset, loaders = prepared(model, rows, tmp_path, {"RS": [0.8, 0.1, 0.1]}, group_by=group_by)
    targets = {user: (items[1:] if model == "SASRec" else items) for user, items in in_time(rows).items()}
    if group_by is None:
        latest = sorted(((time, user, item) for user, items in targets.items() for item, time in items))
        expected = {(user, item) for _, user, item in latest[len(latest) - int(0.1 * len(latest)) :]}
    else:
        expected = {(user, items[-1][0]) for user, items in targets.items()}
    assert names(dataset, loaders[2]) == expected


def test_discretised_and_normalised_times_are_split_by_what_the_file_holds(tmp_path):
    rows = rows_of("seconds")
    plain = prepared("EASE", rows, tmp_path, {"TS": [0.8, 0.1, 0.1]})
    expected = names(plain[1], plain[2][2])
    for more in (
        {"normalize_all": True},
        {"numerical_features": ["timestamp"]},
        {"numerical_features": ["timestamp"], "discretization": {"timestamp": {"method": "ED", "bucket": 3}}},
    ):
        _, dataset, loaders = prepared("EASE", rows, tmp_path, {"TS": [0.8, 0.1, 0.1]}, **more)
        assert names(dataset, loaders[2]) == expected
        _, dataset, loaders = prepared("EASE", rows, tmp_path, {"LS": "valid_and_test"}, **more)
        assert names(dataset, loaders[2]) == {(user, items[-1][0]) for user, items in in_time(rows).items()}


def test_recboles_sort_is_stable():
    """Rows in exact order keep it where their float32 times tie; our order rests on it."""
    rows = Interaction(
        {"user": torch.tensor([2, 1] * 500), "time": torch.full((1000,), 1.7e9), "n": torch.arange(1000)}
    )
    rows.sort(by=["user", "time"])
    assert rows["n"].tolist() == [*range(1, 1000, 2), *range(0, 1000, 2)]


@pytest.mark.parametrize("keep", ["first", "last"])
def test_of_equal_times_the_first_line_comes_first(keep, tmp_path):
    """rm_dup_inter on 400 rows of one time: RecBole's sort leaves their order to the processor's quicksort."""
    rows = [(f"u{n % 20}", f"i{n % 10}", n, 1_000_000_000) for n in range(400)]
    write_inter(tmp_path / "dataset", "ties", rows, HEADER)
    args = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "mode": "full"}
    config = quick_start.configure("BPR", "ties", config_dict={**SMALL, "eval_args": args, "rm_dup_inter": keep})
    dataset = pipeline.create_dataset(config)
    kept = pd.DataFrame(rows, columns=["u", "i", "n", "t"]).drop_duplicates(["u", "i"], keep=keep)["n"]
    assert dataset.inter_feat["rating"].tolist() == kept.tolist()
    reason = f"rm_dup_inter={keep!r}"
    assert dataset.account.plain()["dropped"] == [{"reason": reason, "rows": 380, "requested": True}]


NO_TIMES = "user_id:token item_id:token rating:float timestamp:token"
ORDERED = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("SASRec", {}),
        ("CDDRec", {}),
        ("DiffRec", {"eval_args": ORDERED}),
        ("EASE", {"eval_args": {**ORDERED, "split": {"RS": [0.8, 0.1, 0.1]}}}),
        ("BPR", {"eval_args": {**ORDERED, "split": {"TS": [0.8, 0.1, 0.1]}}, "keep_time_order": False}),
        ("TDiffRec", {}),
        ("recbole:DiffRec", {"time-aware": True, "noise_schedule": "linear"}),
        ("BPR", {"rm_dup_inter": "last"}),
    ],
)
def test_a_column_that_is_no_time_is_refused(model, more, tmp_path):
    """Ids of words are in order of appearance, and words are not in order of time."""
    rows = [("a", "x", 1, "9pm"), ("a", "y", 1, "10pm"), ("a", "z", 1, "noon"), ("b", "x", 1, "8am")]
    write_inter(tmp_path / "dataset", "words", rows, NO_TIMES)
    config = quick_start.configure(model, "words", config_dict={**SMALL, **more})
    with pytest.raises(ValueError, match=r"'timestamp'(: '9pm' is no time| must be of type float)"):
        quick_start.prepare(config)


def test_ids_are_never_ordered():
    """What holds if the reader leaves a column of names."""
    dataset = SimpleNamespace(
        config=quick_start.configure("EASE", "some", config_dict={"eval_args": ORDERED}),
        time_field="timestamp",
        inter_feat=pd.DataFrame({"timestamp": ["9pm", "10pm"]}),
        field2type={"timestamp": FeatureType.TOKEN},
    )
    with pytest.raises(ValueError, match=r"must be of type float to order by, got timestamp:token in 'some'"):
        time_order.check_times(dataset)


def test_a_token_column_that_orders_nothing_is_a_feature_like_others(tmp_path):
    write_inter(tmp_path / "dataset", "words", [(f"u{n % 3}", f"i{n}", 1, "noon") for n in range(30)], NO_TIMES)
    dataset, _ = quick_start.prepare(quick_start.configure("BPR", "words", config_dict=SMALL))
    assert dataset.num("timestamp") == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_without_a_time_are_never_ordered(value):
    """RecBole would give them the mean. The reader drops them; this is what holds if one is left."""
    frame = pd.DataFrame({"timestamp": [1.0, value, 3.0]})
    config = quick_start.configure("SASRec", "some")
    dataset = SimpleNamespace(
        config=config, time_field="timestamp", inter_feat=frame, field2type={"timestamp": FeatureType.FLOAT}
    )
    with pytest.raises(ValueError, match=r"1 of 3 rows of 'some' have no time .*the first is row 2"):
        time_order.check_times(dataset)


@pytest.mark.parametrize("load", [{}, {"load_col": None}, {"load_col": {"inter": "*"}}])
@pytest.mark.parametrize(
    ("model", "more", "way_out"),
    [
        ("SASRec", {}, r"or take a general model with eval_args: {order: RO}$"),
        ("DiffRec", {"eval_args": ORDERED}, r"or set eval_args: {order: RO}$"),
        (
            "EASE",
            {"eval_args": {**ORDERED, "split": {"TS": [0.8, 0.1, 0.1]}}},
            r"or set eval_args: {split: {RS: .*order: RO}$",
        ),
        ("TDiffRec", {}, "or take a model that does without$"),
    ],
)
def test_a_missing_time_column_has_one_line(model, more, way_out, load, tmp_path):
    """The way out works: a sequential model refuses order RO, and split TS does too."""
    write_inter(tmp_path / "dataset", "plain", [("a", "b"), ("a", "c"), ("d", "b")], "user_id:token item_id:token")
    quick = {key: value for key, value in SMALL.items() if key != "load_col"}
    config = quick_start.configure(model, "plain", config_dict={**quick, **load, **more})
    with pytest.raises(ValueError, match=r"'timestamp', but .*plain\.inter has user_id, item_id; .*" + way_out):
        quick_start.prepare(config)


def test_unload_col_does_not_take_the_times_away_in_silence(tmp_path):
    write_inter(tmp_path / "dataset", "timed", rows_of("seconds"), HEADER)
    keys = {**SMALL, "load_col": None, "unload_col": {"inter": ["timestamp"]}}
    with pytest.raises(ValueError, match=r"unload_col\.inter leaves out 'timestamp', which"):
        quick_start.prepare(quick_start.configure("SASRec", "timed", config_dict=keys))


def test_recboles_time_aware_models_weight_by_the_exact_order(tmp_path):
    """They sort by the float32 column, after a random split too."""
    rows = rows_of("seconds")
    write_inter(tmp_path / "dataset", "timed", rows, HEADER)
    args = {"split": {"RS": [1, 0, 0]}, "order": "RO", "mode": "full"}
    more = {"time-aware": True, "noise_schedule": "linear", "eval_args": args, "w_min": 0.0, "w_max": 0.9}
    config = quick_start.configure("recbole:DiffRec", "timed", config_dict={**SMALL, **more})
    dataset, loaders = quick_start.prepare(config)
    net = quick_start.build_model(config, loaders)
    user = dataset.token2id("user_id", "u3")
    weights = dict(zip(net.history_item_id[user].tolist(), net.history_item_value[user].tolist()))
    order = [dataset.token2id("item_id", item) for item, _ in in_time(rows)["u3"]]
    assert [weights[item] for item in order] == pytest.approx(np.linspace(0.0, 0.9, EACH).tolist(), abs=1e-6)
