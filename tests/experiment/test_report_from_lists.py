"""Reports with metrics that the runs did not measure: from their kept lists, against numpy and against a training."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL

from recbole_diffusion import run
from recbole_diffusion.cli import main
from recbole_diffusion.evaluation.list_evaluation import RankedLists
from recbole_diffusion.evaluation.metric_names import metric_key, paper_name
from recbole_diffusion.evaluation.ranked_lists import ListsOfSplit
from recbole_diffusion.evaluation.split_data import SplitData
from recbole_diffusion.experiment import report
from recbole_diffusion.experiment.compare import compare
from recbole_diffusion.experiment.jobs.store import Store, UserMetrics
from recbole_diffusion.experiment.report import captions, data_tables, reading, selection, tables
from recbole_diffusion.experiment.report.analysis import analyse

N_USERS, N_ITEMS, LENGTH = 12, 31, 20
MODELS = ("First", "Second")


pytestmark = pytest.mark.usefixtures("no_plots")


def split():
    generator = np.random.default_rng(5)
    train = [(user, item) for user in range(1, N_USERS + 1) for item in generator.permutation(15)[: user + 1] + 1]
    targets = [(user, item) for user in range(1, N_USERS + 1) for item in (16 + user, 5 + user % 4)]
    names = np.array([f"u{n}" for n in range(N_USERS + 1)]), np.array([f"i{n}" for n in range(N_ITEMS)])
    return SplitData(N_USERS + 1, N_ITEMS, np.array(train), np.array(targets), None, *names)


def lists_of(model, seed, of_split):
    generator = np.random.default_rng([model, seed])
    items = np.array([generator.permutation(N_ITEMS - 1)[:LENGTH] + 1 for _ in range(N_USERS)])
    tested = {(user, item) for user, item in of_split.targets.tolist()}
    users = np.arange(1, N_USERS + 1)
    hits = np.array([[(user, item) in tested for item in row] for user, row in zip(users, items)])
    return RankedLists(users, items, hits, np.full(N_USERS, 2))


def recall(lists, k):
    return lists.hits[:, :k].sum(axis=1) / lists.n_positives


def made(without=(), tested=True):
    """Two models with two seeds that measured Recall@5; ``without``: (model, seed) that kept no lists."""
    store, of_split = Store("study"), split()
    for place, label in enumerate(MODELS):
        for seed in (1, 2):
            lists = lists_of(place, seed, of_split)
            values = recall(lists, 5)
            record = {
                "label": label, "seed": seed, "status": "finished", "trial": None, "timing": {"total_s": 1.0},
                "test": {"recall@5": round(values.mean(), 6)} if tested else None, "valid_score": 0.1, "epochs": [],
                "settings": {"metric_decimal_place": 6, "data_path": "/home/me"}, "data": {"split_sha256": "a" * 64},
            }  # fmt: skip
            kept = None if (label, seed) in without else ListsOfSplit(lists, of_split)
            users = UserMetrics(of_split.user_names[1:][::-1], {"recall@5": values[::-1]})
            store.finish(f"{place}{seed}", record, users, kept)
    models = [
        {"label": label, "model": label, "diffusion": bool(place), "runs": {"tiny": [f"{place}1", f"{place}2"]}}
        for place, label in enumerate(MODELS)
    ]
    counts = {"users": N_USERS, "items": N_ITEMS - 1, "train": 90, "valid": 0, "test": 24, "protocol": "by hand"}
    plan = {"models": models, "datasets": {"tiny": {**counts, "split_sha256": "a" * 64}}, "seeds": [1, 2]}
    store.write_plan({**plan, "metrics": ["recall@5"], "main_metric": "recall@5", "settings": {}})
    return of_split


def test_another_cut_off_and_metric_by_hand():
    of_split = made()
    comparison = reading.read("study", "NDCG@15", columns=["Recall@15", "NDCG@15", "Coverage@15"])
    first = comparison.results["tiny"][0]
    by_seed = {seed: lists_of(0, seed, of_split) for seed in (1, 2)}
    assert first.by_seed("recall@15") == {
        seed: pytest.approx(recall(lists, 15).mean(), abs=1e-6) for seed, lists in by_seed.items()
    }
    gains = [
        (lists.hits[:, :15] / np.log2(np.arange(2, 17))).sum(axis=1) / (1 + 1 / np.log2(3))
        for lists in by_seed.values()
    ]
    assert first.mean("ndcg@15") == pytest.approx(np.mean(gains), abs=1e-6)
    covered = [len({*lists.items[:, :15].ravel()}) / (N_ITEMS - 1) for lists in by_seed.values()]
    assert first.mean("itemcoverage@15") == pytest.approx(np.mean(covered), abs=1e-6)
    assert first.users.users.tolist() == sorted(of_split.user_names[1:])
    order = np.argsort(of_split.user_names[1:])
    expected = np.mean([recall(lists, 15) for lists in by_seed.values()], axis=0)[order]
    np.testing.assert_allclose(first.users.metrics["recall@15"], expected)
    measured = np.mean([recall(lists, 5) for lists in by_seed.values()], axis=0)[order]
    np.testing.assert_allclose(first.users.metrics["recall@5"], measured)
    analysis = analyse(comparison, "tiny", resamples=100)
    assert (analysis.main, analysis.accuracy, analysis.beyond) == (
        "ndcg@15",
        ["ndcg@15", "recall@15"],
        ["itemcoverage@15"],
    )
    assert analysis.against_reference(*{"First", "Second"} - {analysis.reference}, "recall@15")["users"] == N_USERS


def test_metrics_that_some_users_do_not_have():
    """Recall of the tail: users without a target in the tail are left out of means and tests."""
    of_split = made()
    comparison = reading.read("study", columns=["Recall-tail@15"])
    values = comparison.results["tiny"][0].users.metrics["recalltail@15"]
    assert 0 < np.isnan(values).sum() < N_USERS or not np.isnan(values).any()
    rows = [row for row in analyse(comparison, "tiny", resamples=50).pairs if row["metric"] == "recalltail@15"]
    assert {row["users"] for row in rows} == {int((~np.isnan(values)).sum())}
    assert of_split.item_counts.sum() == len(of_split.train)


def test_groups_by_hand():
    of_split = made()
    comparison = reading.read("study")
    table = data_tables.groups(comparison, analyse(comparison, "tiny", resamples=0))
    lengths = of_split.user_counts[1:]
    shortest = np.sort(lengths)[3]  # a third of twelve users
    in_group = lengths <= shortest
    column = table.columns.index("short history")
    assert table.rows[0][column].text == f"{in_group.sum()} users, {lengths[in_group].min()}–{shortest}"
    rows = {row[0].text: row for row in table.rows}
    for place, label in enumerate(MODELS):
        expected = np.mean([recall(lists_of(place, seed, of_split), 5)[in_group].mean() for seed in (1, 2)])
        assert float(rows[label][column].text) == pytest.approx(expected, abs=6e-5)
    assert "### Groups of users and items" in Path(report.write("study")[-2]).with_name("results.md").read_text()


def test_table_of_the_data():
    of_split = made()
    table = data_tables.datasets(reading.read("study"))
    row = dict(zip(table.columns, (value.text for value in table.rows[0])))
    assert row["density"] == f"{100 * 114 / (12 * 30):.3g} %"
    assert row["median history"] == f"{np.median(of_split.user_counts[1:]):g}"
    assert (row["protocol"], row["split"], row["users tested"]) == ("by hand", "a" * 12, tables.DASH)


def test_out_columns_and_users_on_the_command_line(capsys):
    of_split = made()
    words = ["report", "study", "--topk=1,15", "--metric=Recall@15", "--out=a/b", "--per-user", "--formats=pdf"]
    assert main([*words, "--columns=Recall,NDCG@20"]) == 0
    output = capsys.readouterr().out
    assert "Recall@15" in output
    assert "a/b/index.html" in output
    assert not Path("study/report").exists()
    content = json.loads(Path("a/b/results.json").read_text())["results"]["tiny"]["models"][0]["metrics"]
    assert [*content] == ["recall@15", "recall@1", "ndcg@20"]
    with open("a/b/per_user-tiny.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [*rows[0]] == ["model", "seed", "user", "recall@15", "recall@1", "ndcg@20"]
    assert len(rows) == 2 * 2 * N_USERS
    expected = dict(zip(of_split.user_names[1:], recall(lists_of(1, 2, of_split), 15)))
    of_run = {row["user"]: float(row["recall@15"]) for row in rows if (row["model"], row["seed"]) == ("Second", "2")}
    assert of_run == pytest.approx(expected)
    assert main(["report", "study", "--out=a/b"]) == 0
    assert not Path("a/b/per_user-tiny.csv").exists()  # it was of another report


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--topk=0"], "--topk=0 is not allowed; allowed: whole numbers from 1, such as 1,5,50"),
        (["--topk=5;10"], "--topk=5;10 is not allowed"),
        (["--topk=21"], "topk=21 is more than the 20 items of the kept lists; --keep-lists=21"),
        (["--metric=GAUC@5"], "it needs the scores of all candidates"),
        (["--metric=Recal@15"], "metrics='recal' is not allowed; allowed: "),
        (["--formats=gif"], "formats='gif' is not allowed; allowed: png | svg | pdf"),
    ],
)
def test_wrong_words_are_one_line(words, message, capsys):
    made()
    assert main(["report", "study", *words]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not Path("study/report").exists()


def test_folders_without_lists_still_work_and_a_run_without_is_a_dash():
    made(without=[(label, seed) for label in MODELS for seed in (1, 2)])
    comparison = reading.read("study")
    assert comparison.splits == {}
    assert data_tables.groups(comparison, analyse(comparison, "tiny", resamples=0)) is None
    with pytest.raises(ValueError, match="Recall@15 was not measured on 'tiny', and the runs have kept no lists"):
        reading.read("study", "Recall@15")
    made(without=[("Second", 1), ("Second", 2)])
    for file in Path("study/lists").glob("1*"):
        file.unlink()
    analysis = analyse(reading.read("study", "Recall@15"), "tiny", resamples=0)
    assert [row[1].text for row in tables.accuracy(analysis, ["recall@15"]).rows][1] == tables.DASH
    assert captions.verdict(analysis).startswith("Best at Recall@15: First")


@pytest.mark.parametrize(
    ("options", "main_metric", "columns"),
    [
        ({}, "ndcg@10", None),
        ({"metric": "Recall@50"}, "recall@50", None),
        ({"metric": "MAP"}, "map@10", None),
        ({"topk": [1, 50]}, "ndcg@1", ["recall@1", "recall@50", "ndcg@1", "ndcg@50", "gauc"]),
        ({"topk": [50], "metric": "recall"}, "recall@50", ["recall@50", "ndcg@50", "gauc"]),
        ({"columns": ["Coverage", "Hit@3"]}, "ndcg@10", ["itemcoverage@10", "itemcoverage@20", "hit@3"]),
        ({"columns": ["GAUC", "NDCG"], "topk": [5]}, "ndcg@5", ["gauc", "ndcg@5"]),
    ],
)
def test_selection(options, main_metric, columns):
    plan = {"metrics": ["recall@10", "recall@20", "ndcg@10", "ndcg@20", "gauc"], "main_metric": "NDCG@10"}
    assert selection.select(plan, **options) == (main_metric, columns)


def test_names_as_papers_write_them():
    names = ("recall@10", "ndcg@5", "hit@1", "map@10", "precision@10", "itemcoverage@10", "giniindex@10", "rmse")
    papers = ["Recall@10", "NDCG@5", "Hit@1", "MAP@10", "Precision@10", "Coverage@10", "Gini@10", "RMSE"]
    assert [paper_name(name) for name in names] == papers
    assert [metric_key(name) for name in papers] == list(names)
    from recbole_diffusion.compat import repairs
    from recbole_diffusion.settings.recbole_config import metrics_dict

    repairs.apply()
    assert [metric_key(paper_name(name)) for name in metrics_dict] == list(metrics_dict)
    assert len({paper_name(name) for name in metrics_dict}) == len(metrics_dict)


def test_equal_to_a_training_with_these_cut_offs(checkerboard):
    common = {key: value for key, value in {**SMALL, "epochs": 1, "steps": 3, "dims": [8]}.items() if key != "state"}
    store = compare(["DiffRec"], ["board"], [3], "here", common)
    columns = ["Recall", "NDCG", "MRR", "Gini", "Novelty"]
    (model,) = reading.read(store.folder, topk=[3, 30], columns=columns).results["board"]
    metrics = {"topk": [3, 10, 30], "metrics": ["Recall", "NDCG", "MRR", "GiniIndex", "Novelty"]}
    settings = {**model.runs[0]["settings"], "seed": 3, "show_progress": False, **metrics}
    trained = run("DiffRec", "board", config_dict=settings, saved=False)
    for metric in ("recall@3", "recall@30", "ndcg@3", "ndcg@30", "mrr@30", "giniindex@30", "novelty@3"):
        assert model.runs[0]["test"][metric] == trained["test_result"][metric], metric
    expected = dict(zip(trained["per_user"].users, trained["per_user"].metrics["ndcg@30"]))
    assert dict(zip(model.users.users, model.users.metrics["ndcg@30"])) == expected
