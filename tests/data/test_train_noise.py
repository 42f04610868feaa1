"""Noise in the training split: which pairs are added, and that validation and test stay as they are."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import HEADER, SMALL, write_inter

from recbole_diffusion import quick_start, run

CLEAN = {**SMALL, "val_interval": {"rating": "[4,inf)"}}


@pytest.fixture
def ratings(tmp_path):
    """20 users with 10 of 30 items each, half of them rated 5 and half 2."""
    rng = np.random.default_rng(3)
    rows = [
        (f"u{user}", f"i{item}", 5 if place % 2 else 2, 1000 * user + place)
        for user in range(20)
        for place, item in enumerate(rng.permutation(30)[:10])
    ]
    write_inter(tmp_path / "dataset", "rated", rows, HEADER)
    return {(user, item): (rating, time) for user, item, rating, time in rows}


def parts(**settings):
    """The rows of train, valid and test as {(user, item): (rating, time)}, and the settings."""
    config = quick_start.configure("EASE", "rated", config_dict={**CLEAN, **settings})
    dataset, loaders = quick_start.prepare(config)
    result = []
    for loader in loaders:
        rows = loader._dataset.inter_feat
        users, items = (dataset.id2token(field, rows[field].numpy()) for field in ("user_id", "item_id"))
        values = zip(rows["rating"].tolist(), rows["timestamp"].tolist())
        result.append({(str(u), str(i)): v for u, i, v in zip(users, items, values)})
        assert len(result[-1]) == len(rows)  # no pair twice
    return result, config


def test_natural_noise_is_what_val_interval_filters_out(ratings):
    clean, _ = parts()
    noisy, config = parts(train_noise="natural", train_noise_ratio=0.5)
    assert noisy[1:] == clean[1:]
    added = {pair: values for pair, values in noisy[0].items() if pair not in clean[0]}
    assert len(added) == round(0.5 * len(clean[0]))
    assert {ratings[pair][0] for pair in added} == {2}
    assert added == {pair: ratings[pair] for pair in added}  # with their own ratings and times
    assert all(noisy[0][pair] == values for pair, values in clean[0].items())
    (note,) = [note for note in config.notes if "train noise" in note]
    assert f"{len(added)} natural interactions are added to {len(clean[0])} of train (ratio 0.5)" in note


@pytest.mark.parametrize("reverse", [False, True])
def test_of_a_pair_that_was_removed_twice_the_later_row_is_added(reverse, ratings, tmp_path):
    pairs = [pair for pair, (rating, _) in ratings.items() if rating == 2]
    rows = [(*pair, *values) for pair, values in ratings.items()] + [(*pair, 1, 10**6) for pair in pairs[:40]]
    write_inter(tmp_path / "dataset", "rated", rows[::-1] if reverse else rows, HEADER)
    clean, noisy = parts()[0][0], parts(train_noise="natural", train_noise_ratio=50)[0][0]
    added = {pair: values for pair, values in noisy.items() if pair not in clean}
    twice = [pair for pair in pairs[:40] if pair in added]  # without an item that all dislike
    assert len(twice) > 30
    assert {added[pair] for pair in twice} == {(1.0, 1e6)}


def test_a_data_set_that_makes_its_own_rows_has_no_noise(ratings):
    """RecBole's DIEN adds a sequence of negative items to each row."""
    more = {
        **SMALL,
        "threshold": {"rating": 3},
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "labeled"},
        "metrics": ["AUC"],
        "valid_metric": "AUC",
        "train_noise": "random",
    }
    rows = []
    for ratio in (0.0, 0.2):
        config = quick_start.configure("DIEN", "rated", config_dict={**more, "train_noise_ratio": ratio})
        if ratio:
            line = "train_noise='random' is not possible for DIEN: its data set, DIENDataset, makes its training rows"
            with pytest.raises(ValueError, match=line):
                quick_start.prepare(config)
        else:
            rows.append(len(quick_start.prepare(config)[1][0]._dataset))
    assert rows == [20 * 7]


def test_random_noise_is_of_pairs_that_occur_nowhere(ratings):
    clean, _ = parts()
    noisy, _ = parts(train_noise="random", train_noise_ratio=0.4)
    assert noisy[1:] == clean[1:]
    added = {*noisy[0]} - {*clean[0]}
    assert len(added) == round(0.4 * len(clean[0]))
    assert not added & {*clean[1], *clean[2]}


@pytest.mark.parametrize("kind", ["random", "natural"])
def test_a_larger_ratio_has_the_pairs_of_a_smaller_one_and_a_seed_of_its_own(kind, ratings):
    small, large = (parts(train_noise=kind, train_noise_ratio=ratio)[0][0] for ratio in (0.2, 0.6))
    assert {*small} < {*large}
    other, _ = parts(train_noise=kind, train_noise_ratio=0.2, train_noise_seed=9)
    assert {*other[0]} != {*small}
    assert {*parts(train_noise=kind, train_noise_ratio=0.2, train_noise_seed=9)[0][0]} == {*other[0]}


@pytest.mark.parametrize("kind", ["random", "natural"])
def test_the_order_of_the_lines_does_not_matter(kind, ratings, tmp_path):
    settings = {"train_noise": kind, "train_noise_ratio": 0.3, "eval_args": {"split": {"LS": "valid_and_test"}}}
    settings["eval_args"] |= {"order": "TO", "mode": "full"}
    before, _ = parts(**settings)
    rows = [(user, item, *values) for (user, item), values in reversed(ratings.items())]
    write_inter(tmp_path / "dataset", "rated", rows, HEADER)
    after, _ = parts(**settings)
    assert [{*part} for part in after] == [{*part} for part in before]


def test_more_than_there_is(ratings):
    clean, _ = parts()
    noisy, config = parts(train_noise="natural", train_noise_ratio=50)
    usable = {pair for pair, (rating, _) in ratings.items() if rating == 2}
    assert {*noisy[0]} - {*clean[0]} <= usable
    assert any("were asked for, but no more are left" in note for note in config.notes)
    with pytest.raises(ValueError, match="train_noise_ratio is too large: only"):
        parts(train_noise="random", train_noise_ratio=50)


def test_the_model_is_trained_on_it_and_the_split_has_another_hash(ratings):
    own = {**CLEAN, "topk": [3], "valid_metric": "NDCG@3"}
    clean = run("EASE", "rated", config_dict=own, saved=False)
    noisy = run("EASE", "rated", config_dict={**own, "train_noise": "random", "train_noise_ratio": 1.0}, saved=False)
    assert noisy["data"]["train"] == 2 * clean["data"]["train"]
    assert noisy["data"]["test"] == clean["data"]["test"]
    assert noisy["data"]["split_sha256"] != clean["data"]["split_sha256"]
    assert noisy["test_result"] != clean["test_result"]


def test_prepared_data_are_of_one_noise(ratings, tmp_path):
    settings = {"prepared_data": str(tmp_path / "prepared")}
    clean, _ = parts(**settings)
    noisy, _ = parts(**settings, train_noise="natural", train_noise_ratio=0.5)
    again, config = parts(**settings, train_noise="natural", train_noise_ratio=0.5)
    assert [*clean[0]] != [*noisy[0]] == [*again[0]]
    assert any("train noise" in note for note in config.notes)


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("SASRec", {"train_noise": "random", "fit_on": "train+valid"}, "needs fit_on: train for sequential models"),
        (
            "SASRec",
            {"train_noise": "random", "benchmark_filename": ["train", "valid", "test"]},
            "needs benchmark_filename: null for sequential models",
        ),
        ("EASE", {"train_noise": "natural", "val_interval": None}, "and val_interval is not set"),
        ("EASE", {"train_noise": "loud"}, "train_noise='loud' is not allowed; allowed: random | natural"),
    ],
)
def test_settings_that_cannot_be(model, settings, message, ratings):
    with pytest.raises(ValueError, match=message):
        quick_start.configure(model, "rated", config_dict={**CLEAN, **settings})


# -- sequences -----------------------------------------------------------------------------------------------------

LAST_OUT = {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}}


def sequences(model="SASRec", **settings):
    """Per split, {user: [(history, target)]} by names, in the order of the rows; and the settings."""
    config = quick_start.configure(model, "rated", config_dict={**CLEAN, **LAST_OUT, **settings})
    dataset, loaders = quick_start.prepare(config)
    result = []
    for loader in loaders:
        rows, split = loader._dataset.inter_feat, {}
        names = dataset.field2id_token["item_id"]
        columns = (rows[name].tolist() for name in ("user_id", "item_id_list", "item_length", "item_id"))
        for user, items, length, target in zip(*columns):
            history = tuple(str(names[item]) for item in items[:length])
            assert not any(items[length:])
            split.setdefault(str(dataset.id2token("user_id", user)), []).append((history, str(names[target])))
        result.append(split)
    return result, config, loaders


def whole(rows):
    """The sequence of which a user's training rows are made; checks that each row is a prefix of it."""
    first, *_ = rows
    sequence = [first[0][0], *(target for _, target in rows)]
    for place, (history, target) in enumerate(rows, 1):
        assert history == tuple(sequence[max(0, place - 50) : place])
        assert target == sequence[place]
    return sequence


@pytest.mark.parametrize("kind", ["random", "natural"])
def test_noise_lies_among_the_items_of_a_training_sequence(kind, ratings):
    clean, _, _ = sequences()
    noisy, config, loaders = sequences(train_noise=kind, train_noise_ratio=0.5)
    assert noisy[1:] == clean[1:]  # histories and targets
    n_clean = n_added = n_inside = 0
    for user, rows in clean[0].items():
        before, after = whole(rows), whole(noisy[0][user])
        added = [item for item in after if item not in before]
        assert [item for item in after if item in before] == before
        assert len(after) == len(set(after)) == len(before) + len(added)
        n_clean, n_added = n_clean + len(before), n_added + len(added)
        for item in added:
            place = after.index(item)
            n_inside += place < len(after) - 1
            if kind == "random":
                assert ratings.get((user, item), (2, 0))[0] == 2  # in no part of the split
                assert after[0] in before  # after the interaction whose user it has
                continue
            rating, time = ratings[user, item]
            assert rating == 2
            assert all(ratings[user, other][1] < time for other in after[:place])
            assert all(ratings[user, other][1] > time for other in after[place + 1 :])
    assert {*noisy[0]} == {*clean[0]}
    assert n_added == round(0.5 * n_clean)
    assert n_inside > 0
    (note,) = [note for note in config.notes if "train noise" in note]
    assert f"{n_added} {kind} interactions are added to {n_clean} of train (ratio 0.5)" in note
    times = loaders[0]._dataset.inter_feat
    for row, length in enumerate(times["item_length"].tolist()):
        past = [*times["timestamp_list"][row][:length].tolist(), float(times["timestamp"][row])]
        assert past == sorted(past)


def test_noise_of_general_and_sequential_models_is_the_same(ratings):
    """Where the clean training interactions are the same."""
    general, _ = parts(**LAST_OUT, train_noise="random", train_noise_ratio=0.5)
    noisy, _, _ = sequences(train_noise="random", train_noise_ratio=0.5)
    assert {*general[0]} == {(user, item) for user, rows in noisy[0].items() for item in whole(rows)}


def test_noise_in_models_with_one_row_per_user(ratings):
    """CDDRec's only training row of a user is the longest one of the noisy rows."""
    prefixes, _, _ = sequences(train_noise="random", train_noise_ratio=0.5)
    longest, _, _ = sequences("CDDRec", train_noise="random", train_noise_ratio=0.5, MAX_ITEM_LIST_LENGTH=50)
    assert longest[0] == {user: [rows[-1]] for user, rows in prefixes[0].items()}


def test_a_sequential_model_is_trained_on_noise(ratings):
    own = {**CLEAN, **LAST_OUT, "topk": [3], "valid_metric": "NDCG@3", "train_neg_sample_args": None, "loss_type": "CE"}
    clean = run("Transitions", "rated", config_dict=own, saved=False)
    noisy = run("Transitions", "rated", config_dict={**own, "train_noise": "random"}, saved=False)
    assert noisy["data"]["train"] == round(1.1 * clean["data"]["train"])
    assert noisy["data"]["test"] == clean["data"]["test"]
    assert noisy["data"]["split_sha256"] != clean["data"]["split_sha256"]
    assert noisy["test_result"] != clean["test_result"]
