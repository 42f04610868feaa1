"""Metrics of stored lists: equal to the run's; the file of the split; what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from metrics_by_hand import ITEMS, KS, ROWS, SCORES, SETTINGS, USERS, grouped, of_run
from test_further_metrics import NAMES, files  # noqa: F401

from recbole_diffusion.compat import repairs
from recbole_diffusion.data.item_categories import Categories
from recbole_diffusion.evaluation import list_evaluation
from recbole_diffusion.evaluation.list_evaluation import RankedLists, evaluate_lists
from recbole_diffusion.evaluation.split_data import SplitData

METRICS = [*SETTINGS["metrics"], *NAMES]


def split_and_lists():
    """The split and the lists of ``metrics_by_hand``, with ids in the order of the names."""
    user_id = {name: number for number, name in enumerate(USERS, start=1)}
    item_id = {name: number for number, name in enumerate(ITEMS, start=1)}
    pairs = {part: np.array([(user_id[u], item_id[i]) for u, i in rows]) for part, rows in ROWS.items()}
    from test_further_metrics import GENRES

    names = sorted({genre for text in GENRES.values() for genre in text.split()})
    coded = [(item_id[item], names.index(genre)) for item, text in GENRES.items() for genre in text.split()]
    categories = Categories(np.array(coded), np.array(names), "Genres")
    user_names, item_names = np.array(["[PAD]", *USERS]), np.array(["[PAD]", *ITEMS])
    data = SplitData(11, 13, pairs["train"], pairs["test"], categories, user_names, item_names)
    past, targets = grouped(ROWS["train"] + ROWS["valid"]), grouped(ROWS["test"])
    users = [user for user in USERS if user in targets]
    items = np.zeros((len(users), 12), dtype=np.int64)
    for row, user in enumerate(users):
        best = sorted(set(ITEMS) - past[user], key=lambda item: -SCORES[user, item])
        items[row, : len(best)] = [item_id[item] for item in best]
    hits = np.array(
        [[bool(item) and ITEMS[item - 1] in targets[user] for item in row] for user, row in zip(users, items)]
    )
    n_positives = np.array([len(targets[user]) for user in users])
    return data, RankedLists(np.array([user_id[user] for user in users]), items, hits, n_positives)


def test_the_metrics_of_the_lists_are_those_of_the_run(files, tmp_path):  # noqa: F811
    metrics = [metric for metric in METRICS if metric != "GAUC"]
    run = of_run({**files, "metrics": metrics})
    data, lists = split_and_lists()
    data.save(tmp_path / "split.npz")
    for split in (data, SplitData.load(tmp_path / "split.npz")):
        values, users = evaluate_lists(lists, metrics, KS, split, files)
        np.testing.assert_equal(values, run["test_result"])
        names = split.user_names[users.users].tolist()
        order = [names.index(name) for name in run["per_user"].users]
        for metric, expected in run["per_user"].metrics.items():
            np.testing.assert_array_equal(users.metrics[metric][order], expected, metric)


def test_targets_by_row_and_of_users_are_the_same():
    repairs.apply()
    data, lists = split_and_lists()
    row_of_user = {user: row for row, user in enumerate(lists.users)}
    targets = np.array(sorted({(row_of_user[user], item) for user, item in data.targets.tolist()}))
    both = [evaluate_lists(lists._replace(targets=rows), ["RecallCold"], [5], data)[0] for rows in (targets, None)]
    assert both[0] == both[1]
    twice = RankedLists(*(np.concatenate([array, array]) for array in lists[:4]))
    with pytest.raises(ValueError, match="needs the targets of each row"):
        evaluate_lists(twice, ["RecallCold"], [5], data)
    mean = evaluate_lists(twice, ["Recall"], [5], data)  # a user's rows are averaged
    assert mean[0] == evaluate_lists(lists, ["Recall"], [5], data)[0]
    assert len(mean[1].users) == len(lists.users)


def test_what_cannot_be_evaluated_is_refused(tmp_path):
    repairs.apply()
    data, lists = split_and_lists()
    for metrics, topk, message in (
        (["GAUC"], [5], "needs the scores of all candidates"),
        (["Recal"], [5], "metrics='Recal' is not allowed; allowed: AveragePopularity"),
        (["Recall"], [13], "topk=13 is more than the 12 items of the lists"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate_lists(lists, metrics, topk, data)
    with pytest.raises(ValueError, match="a row without a target"):
        evaluate_lists(lists._replace(n_positives=lists.n_positives * 0), ["Recall"], [5], data)
    (tmp_path / "split.npz").write_bytes(b"no npz")
    for name in ("split.npz", "missing.npz"):
        with pytest.raises(ValueError, match=f"{name}' cannot be read"):
            SplitData.load(tmp_path / name)


def test_the_split_is_read_without_torch():
    """A report reads it before it knows whether a metric is requested."""
    import subprocess
    import sys

    code = "import sys, recbole_diffusion.evaluation.split_data, recbole_diffusion.evaluation.list_evaluation; "
    code += "sys.exit(bool({'torch', 'pandas', 'scipy'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_struct_entries_are_tensors_as_in_a_run():
    repairs.apply()
    data, lists = split_and_lists()
    config = list_evaluation._Settings(metrics=["Recall"], topk=[3])
    struct = list_evaluation._struct(lists, data, config, list_evaluation._evaluator(config))
    assert struct.get("rec.items").shape == (9, 3)
    assert struct.get("rec.topk").shape == (9, 4)
    assert struct.get("rec.topk").dtype == torch.int32
