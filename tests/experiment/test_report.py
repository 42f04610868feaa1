"""Reports of comparisons whose numbers are known, whole, half finished and broken."""

from __future__ import annotations

import csv
import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from recbole_diffusion import registry
from recbole_diffusion.experiment import report
from recbole_diffusion.experiment.jobs.store import Store, UserMetrics
from recbole_diffusion.experiment.report import captions, labels, pages, points, reading, records, tables
from recbole_diffusion.experiment.report.analysis import AGAINST_REFERENCE, ALL_PAIRS, analyse
from recbole_diffusion.experiment.report.significance import paired

USERS = np.array([f"u{place:02d}" for place in range(40)])
METRICS = ["recall@10", "ndcg@10"]
SPLIT = "0123456789abcdef" * 4
BEYOND = {"itemcoverage@10": 0.25, "giniindex@10": 0.9, "novelty@10": 2.0}

pytestmark = pytest.mark.usefixtures("no_plots")


def users_of(level, seed):
    """Two metrics of 40 users whose means are level and level / 2; seeds differ in who is served well."""
    noise = np.random.default_rng([seed, round(1000 * level)]).normal(0, 0.02, len(USERS))
    ndcg = level + noise - noise.mean()
    return UserMetrics(USERS, {"recall@10": ndcg / 2, "ndcg@10": ndcg})


def finished(label, seed, level, epochs=3, **more):
    """The record of a finished run; seed s is (s - 2) / 100 above the level."""
    timing = {
        "epochs": epochs,
        "best_epoch": 1,
        "train_s_per_epoch": 2.0 if epochs else 0.0,
        "valid_s_per_epoch": 0.5,
        "test_users_per_s": 1000.0 * seed,
        "denoiser_calls_per_user": 4,
        "parameters": 1234567,
        "peak_memory_mib": 500.0 + seed,
        "peak_gpu_memory_mib": None,
        "total_s": 10.0 * seed,
    }
    score = level + (seed - 2) / 100
    return {
        "label": label,
        "seed": seed,
        "trial": None,
        "status": "finished",
        "test": {"recall@10": score / 2, "ndcg@10": score, **BEYOND},
        "valid_score": score,
        "timing": timing,
        "epochs": [{"epoch": e + 1, "train_s": 2.0, "score": score + e / 10} for e in range(epochs)],
        "data": {"split_sha256": SPLIT},
        "host": "here",
        **more,
    }


LEVELS = {"EASE": 0.40, "DDRM:BPR": 0.39, "Item_KNN|x": 0.30}


def plan(seeds, models=tuple(LEVELS), **more):
    entries = [
        {
            "label": label,
            "model": label.partition(":")[0],
            "settings": {},
            "runs": {"tiny": [f"{place}-{seed}" for seed in seeds]},
        }
        for place, label in enumerate(models)
    ]
    counts = {"users": 40, "items": 1682, "train": 80808, "valid": 9, "test": 9}
    return {
        "models": entries,
        "datasets": {"tiny": {**counts, "evaluated_users": 40, "split_sha256": SPLIT}},
        "seeds": list(seeds),
        "metrics": [*METRICS, *BEYOND],
        "main_metric": "ndcg@10",
        "mode": "full",
        "tune": 0,
        "notes": ["mind the 5% & the $"],
        "environment": {"torch": "2.0", "cpu_count": 2},
        "command": "recbole-diffusion compare",
        "threads": 1,
        "workers": None,
        **more,
    }


def made(folder="study", seeds=(1, 2, 3), without=(), models=tuple(LEVELS), **more):
    """A comparison of three models; ``without``: (label, seed) that are not there."""
    store = Store(folder)
    for place, label in enumerate(models):
        for seed in seeds:
            if (label, seed) not in without:
                level = LEVELS[label]
                run = finished(label, seed, level, epochs=0 if label == "EASE" else 3)
                store.finish(f"{place}-{seed}", run, users_of(level + (seed - 2) / 100, seed))
    store.write_plan(plan(seeds, models, **more))
    return store


def read_csv(file):
    with open(file, newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def found_in(folder="study", metric=None, **options):
    return analyse(reading.read(folder, metric), "tiny", **options)


def test_numbers_of_a_model():
    made()
    ease, _, knn = reading.read("study").results["tiny"]
    assert ease.mean("ndcg@10") == pytest.approx(0.40)
    assert ease.sd("ndcg@10") == pytest.approx(0.01)  # .39 .40 .41
    assert ease.by_seed("ndcg@10") == pytest.approx({1: 0.39, 2: 0.40, 3: 0.41})
    assert ease.cost("total_s") == 20.0  # the mean of 10, 20, 30
    assert ease.cost("peak_memory_mib") == 503.0  # the largest
    assert ease.cost("peak_gpu_memory_mib") is None
    np.testing.assert_array_equal(ease.users.users, USERS)
    expected = np.mean([users_of(0.40 + (seed - 2) / 100, seed).metrics["ndcg@10"] for seed in (1, 2, 3)], axis=0)
    np.testing.assert_allclose(ease.users.metrics["ndcg@10"], expected)
    assert not knn.diffusion


@pytest.mark.parametrize(
    ("model", "expected"),
    [("DDRM", True), ("DiffRec", True), ("recbole:DiffRec", True), ("HGCF", False), ("LightGCN", False)],
)
def test_which_models_are_diffusion_models(model, expected):
    assert registry.is_diffusion(model) is expected


def test_a_base_that_another_run_trained_counts():
    store = Store("study")
    run = finished("EASE", 1, 0.4)
    run["timing"].update(total_s=70.0, pretrain_s=60.0)
    store.finish("0-1", run)
    store.write_plan(plan([1], ["EASE"]))
    found = found_in()
    assert points.accuracy_cost(found)[0]["seconds"] == 70.0
    assert "70" in [value.text for value in tables.cost(found).rows[0]]
    assert points.learning_curves(found)[0]["seconds"] == 62.0


def test_the_reference_is_the_best_unless_named():
    made()
    assert found_in().reference == "EASE"
    named = found_in(reference="Item_KNN|x")
    assert named.reference == "Item_KNN|x"
    assert [row["first"] for row in named.pairs if row["family"] == AGAINST_REFERENCE] == ["EASE", "DDRM:BPR"] * 2
    assert {row["second"] for row in named.pairs if row["family"] == AGAINST_REFERENCE} == {"Item_KNN|x"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"metric": "hit@10"},
            "Hit@10 was not measured on 'tiny', and the runs have kept no lists to compute it from; measured: Recall",
        ),
        ({"metric": "Gini@10"}, "metric='giniindex@10' is not allowed; allowed: recall@10 | ndcg@10"),
        ({"reference": "SASRec"}, "reference='SASRec' is not allowed; allowed: EASE | DDRM:BPR"),
        ({"columns": ["NDCG", "MAP@10"]}, "MAP@10 was not measured"),
        ({"topk": [20]}, "NDCG@20 was not measured"),
        ({"formats": ["gif"]}, "formats='gif' is not allowed; allowed: png | svg | pdf"),
    ],
)
def test_words_that_are_not_there(options, message):
    made()
    with pytest.raises(ValueError, match=r"(allowed: )|(was not measured)") as error:
        report.write("study", report.ReportOptions(**options))
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_pairs_and_their_corrections():
    made()
    found = found_in(resamples=500)
    family = [row for row in found.pairs if row["metric"] == "ndcg@10" and row["family"] == ALL_PAIRS]
    assert [(row["first"], row["second"]) for row in family] == [
        ("EASE", "DDRM:BPR"),
        ("EASE", "Item_KNN|x"),
        ("DDRM:BPR", "Item_KNN|x"),
    ]
    ease, ddrm, _ = (result.users.metrics["ndcg@10"] for result in found.results)
    alone = paired(ease, ddrm)
    assert (family[0]["p_wilcoxon"], family[0]["d_z"], family[0]["wins"]) == (alone.p_wilcoxon, alone.d_z, alone.wins)
    assert family[0]["users"] == 40
    # the two others are as clear as 40 users can be, so that the first has the largest p: unchanged by Holm
    assert family[0]["p_wilcoxon_holm"] == pytest.approx(max(row["p_wilcoxon_holm"] for row in family))
    smallest = min(row["p_wilcoxon"] for row in family)
    assert min(row["p_wilcoxon_holm"] for row in family) == pytest.approx(3 * smallest)
    against = [row for row in found.pairs if row["metric"] == "ndcg@10" and row["family"] == AGAINST_REFERENCE]
    assert [row["difference"] for row in against] == pytest.approx([-0.01, -0.10])
    assert min(row["p_wilcoxon_holm"] for row in against) == pytest.approx(2 * min(r["p_wilcoxon"] for r in against))
    for row in against:
        assert row["low"] < row["difference"] < row["high"]


def test_over_seeds():
    store = made()
    run = finished("DDRM:BPR", 3, 0.36)  # .38 .39 .37 against .39 .40 .41
    store.finish("1-3", run, users_of(0.37, 3))
    found = found_in(resamples=0)
    row = found.against_reference("DDRM:BPR", "ndcg@10")
    mean, sd = -0.02, ((0.01**2 + 0.01**2 + 0.02**2) / 2) ** 0.5  # of -.01, -.01, -.04
    assert (row["seeds"], row["t_seeds"], row["low"]) == (3, pytest.approx(mean / (sd / 3**0.5)), None)
    assert 0.1 < row["p_seeds"] < 0.3
    assert row["p_seeds_holm"] == row["p_seeds"]  # the only one that varies
    assert found.against_reference("Item_KNN|x", "ndcg@10")["p_seeds"] is None
    assert "have 2 degrees of freedom" in captions.over_seeds(found)


def test_intervals_hold_the_mean_over_users():
    made()
    low, high = found_in(resamples=500).intervals["EASE", "ndcg@10"]
    users = reading.read("study").results["tiny"][0].users.metrics["ndcg@10"]
    error = 1.96 * users.std() / np.sqrt(len(users))
    assert (low, high) == pytest.approx((0.40 - error, 0.40 + error), abs=error / 4)


def test_one_seed_has_no_deviation_and_no_test_over_seeds():
    made(seeds=(7,))
    found = found_in(resamples=100)
    assert found.results[0].sd("ndcg@10") is None
    assert found.pairs[0]["p_seeds"] is None
    assert found.pairs[0]["p_seeds_holm"] is None
    assert found.pairs[0]["p_wilcoxon"] is not None
    assert tables.accuracy(found).rows[0][-1].text == "0.4500"
    assert "One seed (7)." in captions.caption(reading.read("study"), found)
    assert captions.over_seeds(found) == ""


def test_one_model_has_nobody_to_be_compared_with():
    made(models=("EASE",))
    report.write("study")
    assert not Path("study/report/significance.csv").exists()
    assert "**" not in Path("study/report/results.md").read_text()
    assert "†" not in Path("study/report/results.md").read_text()


def test_identical_models_do_not_differ():
    store = Store("study")
    for place, label in enumerate(("EASE", "DDRM:BPR")):
        for seed in (1, 2):
            store.finish(f"{place}-{seed}", finished(label, seed, 0.4), users_of(0.4, seed))
    store.write_plan(plan((1, 2), ("EASE", "DDRM:BPR")))
    found = found_in(resamples=100)
    row = found.against_reference("DDRM:BPR", "ndcg@10")
    assert (row["p_wilcoxon"], row["p_t"], row["p_seeds"], row["ties"], row["low"]) == (1.0, 1.0, None, 40, 0.0)
    assert not found.differs("DDRM:BPR", "ndcg@10")
    assert [value.place for value in tables.accuracy(found).rows[0][1:]] == [0, 0]  # nobody is better


def test_one_user():
    store = Store("study")
    for place, label in enumerate(("EASE", "DDRM:BPR")):
        store.finish(
            f"{place}-1",
            finished(label, 1, 0.4),
            UserMetrics(np.array(["a"]), {"ndcg@10": np.array([0.5 - place / 5])}),
        )
    store.write_plan(plan((1,), ("EASE", "DDRM:BPR")))
    report.write("study")
    rows = read_csv("study/report/significance.csv")
    assert [row["p_t"] for row in rows] == ["", "", "", ""]
    assert read_csv("study/report/results.csv")[0]["ndcg@10_low"] == ""


@pytest.mark.parametrize(
    ("users", "values", "message"),
    [
        (["a", "b"], [0.1, np.nan], "EASE: ndcg@10 of a user is not finite in runs/0-1.npz"),
        (["a", "a"], [0.1, 0.2], "EASE: a user is listed twice in runs/0-1.npz"),
    ],
)
def test_damaged_users_are_refused(users, values, message):
    store = Store("study")
    store.finish("0-1", finished("EASE", 1, 0.4), UserMetrics(np.array(users), {"ndcg@10": np.array(values)}))
    store.write_plan(plan((1,), ("EASE",)))
    with pytest.raises(ValueError, match="run it again") as error:
        report.write("study")
    assert str(error.value).startswith(message)


def test_users_without_a_metric_are_left_out_of_its_mean_and_tests():
    """Only half of the users have cold targets; one more has no value in one model."""
    store, draw = Store("study"), np.random.default_rng(5)
    names, values = np.array([f"u{number}" for number in range(40)]), {}
    for place, label in enumerate(("EASE", "DDRM:BPR")):
        cold = np.where(np.arange(40) % 2 == 0, draw.random(40), np.nan)
        cold[: 2 * place] = np.nan
        run = finished(label, 1, 0.4)
        run["test"]["recallcold@10"] = float(np.nanmean(cold))
        values[label] = cold
        store.finish(f"{place}-1", run, UserMetrics(names, {"ndcg@10": draw.random(40), "recallcold@10": cold}))
    store.write_plan(plan((1,), ("EASE", "DDRM:BPR")))
    report.write("study")
    rows = {(row["metric"], row["family"]): row for row in read_csv("study/report/significance.csv")}
    row = rows["recallcold@10", "all pairs"]
    both = ~np.isnan(values["EASE"]) & ~np.isnan(values["DDRM:BPR"])
    assert (row["users"], rows["ndcg@10", "all pairs"]["users"]) == (str(both.sum()), "40")
    difference = values["EASE"][both] - values["DDRM:BPR"][both]
    assert float(row["difference"]) == pytest.approx(difference.mean())
    assert float(row["p_t"]) == pytest.approx(stats.ttest_1samp(difference, 0).pvalue, abs=1e-6)
    result = read_csv("study/report/results.csv")[0]
    assert float(result["recallcold@10_low"]) < float(result["recallcold@10"]) < float(result["recallcold@10_high"])


def test_users_that_only_some_models_have_are_left_out_and_said():
    store = made()
    run = users_of(0.30, 1)
    fewer = UserMetrics(run.users[::-1][:30], {name: values[::-1][:30] for name, values in run.metrics.items()})
    store.finish("2-1", finished("Item_KNN|x", 1, 0.30), fewer)
    found = found_in(resamples=100)
    assert found.users == 30
    assert any("over the 30 of 40" in note for note in found.notes)
    row = found.against_reference("Item_KNN|x", "ndcg@10")
    parts = [users_of(0.30 + (s - 2) / 100, s).metrics["ndcg@10"] for s in (2, 3)]
    mean = np.mean([run.metrics["ndcg@10"][10:], *(part[10:] for part in parts)], axis=0)
    ease = np.mean([users_of(0.40 + (s - 2) / 100, s).metrics["ndcg@10"][10:] for s in (1, 2, 3)], axis=0)
    expected = paired(mean, ease)
    assert (row["difference"], row["d_z"], row["wins"]) == pytest.approx(
        (expected.difference, expected.d_z, expected.wins)
    )


def test_without_users_there_are_means_and_tests_over_seeds_only():
    store = Store("study")
    for place, (label, level) in enumerate({"EASE": 0.4, "DDRM:BPR": 0.3}.items()):
        for seed in (1, 2):
            run = finished(label, seed, level)
            run["test"]["ndcg@10"] += 0.001 * seed * place
            store.finish(f"{place}-{seed}", run)
    store.write_plan(plan((1, 2), ("EASE", "DDRM:BPR")))
    found = found_in()
    row = found.against_reference("DDRM:BPR", "ndcg@10")
    assert row["p_wilcoxon"] is None
    assert row["difference"] == pytest.approx(-0.0985)
    assert 0 < row["p_seeds"] < 0.01
    assert "†" not in captions.marks(found)
    assert len(report.write("study")) > 5


def test_a_half_finished_comparison():
    store = made(without=[("DDRM:BPR", 3), *(("Item_KNN|x", seed) for seed in (1, 2, 3))])
    store.fail("2-1", {"seed": 1, "trial": None, "status": "failed", "error": "out of memory", "key": "2-1"})
    store.fail("2-2", {"seed": 2, "trial": None, "status": "failed", "error": "out of memory", "key": "2-2"})
    report.write("study")
    text = Path("study/report/results.md").read_text()
    assert "- DDRM:BPR: 2 of 3 runs finished (seed 3: not run yet)" in text
    assert "- Item_KNN|x: 0 of 3 runs finished (seeds 1, 2: out of memory; seed 3: not run yet)" in text
    rows = tables.accuracy(found_in(resamples=0)).rows
    assert [row[1].text for row in rows] == ["3/3", "2/3", "0/3"]
    assert rows[2][2].text == tables.DASH
    failures = read_csv("study/report/failures.csv")
    assert [(row["model"], row["seed"], row["error"]) for row in failures] == [
        ("Item_KNN|x", "1", "out of memory"),
        ("Item_KNN|x", "2", "out of memory"),
    ]
    assert found_in(resamples=0).against_reference("DDRM:BPR", "ndcg@10")["seeds"] == 2
    assert "Item_KNN|x: 0 of 3" in report.summary(store.folder)


def test_a_reference_that_has_not_finished_is_said():
    made(without=[("EASE", seed) for seed in (1, 2, 3)])
    found = found_in(reference="EASE", resamples=0)
    assert found.reference == "DDRM:BPR"
    assert "EASE has no finished run: models are compared with DDRM:BPR" in found.notes


def test_a_comparison_without_any_result():
    made(without=[(label, seed) for label in LEVELS for seed in (1, 2, 3)])
    names = {file.name for file in report.write("study")}
    assert names == {"index.html", "results.csv", "results.json", "results.md", "results.tex"}
    assert captions.verdict(found_in()) == ""


def test_when_the_missing_are_there_what_told_of_them_goes():
    store = made(without=[("EASE", 1)])
    store.fail("0-1", {"seed": 1, "status": "failed", "error": "no"})
    report.write("study")
    kept = Path("study/report/mine.csv")
    kept.write_text("a file of the user's")
    assert Path("study/report/failures.csv").exists()
    store.finish("0-1", finished("EASE", 1, 0.4), users_of(0.39, 1))
    report.write("study")
    assert not Path("study/report/failures.csv").exists()
    assert kept.exists()


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_a_folder_that_is_none(name):
    Path("empty").mkdir()
    with pytest.raises(ValueError, match=f"'{name}' is not the folder of a comparison") as error:
        report.write(name)
    assert "\n" not in str(error.value)
    assert not Path("nothing").exists()
    assert not list(Path("empty").iterdir())


def test_another_split_is_said():
    store = made()
    store.finish("1-2", finished("DDRM:BPR", 2, 0.39, data={"split_sha256": "f" * 64}), users_of(0.39, 2))
    assert any(note.startswith("DDRM:BPR was run on another split") for note in found_in(resamples=0).notes)


def cells(line):
    return [cell.strip() for cell in line.replace(r"\|", "/").strip("|").split("|")]


def test_markdown():
    made()
    found = found_in(resamples=0)
    lines = tables.markdown(tables.accuracy(found)).splitlines()
    assert cells(lines[0]) == ["model", "Recall@10", "NDCG@10"]
    assert cells(lines[2]) == ["EASE", "**0.2000 ± 0.0050**", "**0.4000 ± 0.0100**"]
    marked = "†" if found.differs("DDRM:BPR", "ndcg@10") else ""
    assert cells(lines[3]) == ["DDRM:BPR", "<u>0.1950 ± 0.0050</u>" + marked, "<u>0.3900 ± 0.0100</u>" + marked]
    assert cells(lines[4]) == ["Item_KNN/x", "0.1500 ± 0.0050†", "0.3000 ± 0.0100†"]
    assert len({len(cells(line)) for line in lines}) == 1


def test_marks_follow_the_corrected_p(monkeypatch):
    made()
    found = found_in(resamples=0)
    row = found.against_reference("DDRM:BPR", "ndcg@10")
    for p, differs in ((0.0499, True), (0.05, False), (None, False)):
        row.update(p_wilcoxon=0.001, p_wilcoxon_bh=0.001, p_t_holm=0.001, p_wilcoxon_holm=p)
        assert found.differs("DDRM:BPR", "ndcg@10") is differs


def test_metrics_without_a_better_direction_are_not_ranked():
    store = made()
    for place, label in enumerate(LEVELS):
        for seed in (1, 2, 3):
            run = finished(label, seed, LEVELS[label])
            run["test"].update({"itemcoverage@10": 0.2 + place / 10 + seed / 1000, "giniindex@10": 0.9 - place / 10})
            store.finish(f"{place}-{seed}", run)
    table = tables.beyond(found_in())
    assert table.columns == ["model", "Coverage@10", "Gini@10 ↓", "Novelty@10"]
    assert [[value.place for value in row[1:]] for row in table.rows] == [[0, 0, 0], [2, 0, 0], [1, 0, 0]]
    assert table.rows[1][1].text == "0.3020 ± 0.0010"  # two digits of the deviation
    assert table.rows[1][2].text == "0.8000"  # the seeds do not differ


def test_errors_are_better_when_low():
    store = Store("study")
    for place, label in enumerate(("EASE", "DDRM:BPR")):
        store.finish(f"{place}-1", {**finished(label, 1, 0.4), "test": {"rmse": 1.0 + place}})
    store.write_plan(plan((1,), ("EASE", "DDRM:BPR"), metrics=["rmse@10"], main_metric="RMSE"))
    found = found_in()
    assert found.reference == "EASE"
    assert tables.accuracy(found).columns == ["model", "RMSE ↓"]
    assert [row[1].place for row in tables.accuracy(found).rows] == [1, 2]
    assert "100.0 % higher" in captions.verdict(found)


def test_cost():
    made()
    table = tables.cost(found_in(resamples=0))
    row = dict(zip(table.columns, (value.text for value in table.rows[1])))
    assert row == {
        "model": "DDRM:BPR",
        "NDCG@10": "0.3900",
        "parameters": "1,234,567",
        "epochs": "3",
        "s per epoch": "2",
        "s in all": "20",
        "test users/s": "2,000",
        "network calls per user": "4",
        "peak MiB": "503",
        "peak GPU MiB": "–",
    }
    assert table.rows[0][table.columns.index("s per epoch")].text == "–"  # EASE does not train by epochs


def test_latex_is_balanced_and_escaped():
    made(notes=["50% of a_b & c#d cost $2 {x} ~ ^ \\ <1"])
    text = pages.latex(reading.read("study"), [found_in(resamples=0)])
    for environment in ("table", "tabular"):
        assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") == 4
    for part in text.split(r"\begin{tabular}")[1:]:
        body = part.split(r"\end{tabular}")[0]
        columns = body[1 : body.index("}")]
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len(rows) in (2, 4)  # the table of the data has one row
        assert {line.replace(r"\&", "").count("&") for line in rows} == {len(columns) - 1}
        assert [body.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert r"Item\_KNN\textbar{}x" in text
    assert r"\textbf{0.4000 $\pm$ 0.0100}" in text
    assert r"\underline{0.3900 $\pm$ 0.0100}" in text
    escaped = r"50\% of a\_b \& c\#d cost \$2 \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{} \textless{}1"
    assert escaped in text
    bare = text.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")
    assert text.replace(r"\$", "").count("$") % 2 == 0


def test_caption_says_what_was_done():
    made(workers=2, environment={"torch": "2.0", "cpu_count": 2, "platform": "Linux"})
    text = captions.caption(reading.read("study"), found_in(resamples=0))
    for part in (
        "tiny: 40 users, 1,682 items, 80,808 / 9 / 9 rows (train / valid / test), split 0123456789ab, 40 users tested, "
        "full ranking.",
        "over 3 seeds (1, 2, 3)",
        "† differs from EASE (Wilcoxon's signed-rank test over 40 users, p < .05 after Holm's correction for 2 compar",
        "1 thread per run, 2 runs at a time, 2 CPU cores, Linux, torch 2.0.",
    ):
        assert part in text
    assert "Tuned" not in text


@pytest.mark.parametrize("mode", ["uni100", {"valid": "full", "test": "uni100"}])
def test_sampled_ranking_is_said(mode):
    made(mode=mode)
    assert "sampled items only (uni100)" in captions.caption(reading.read("study"), found_in(resamples=0))


def test_who_is_best_in_a_sentence():
    made()
    found = found_in(resamples=0)
    p = captions.p_text(found.against_reference("DDRM:BPR", "ndcg@10")["p_wilcoxon_holm"])
    assert captions.verdict(found) == (
        f"Best at NDCG@10: EASE (0.4000); best diffusion model: DDRM:BPR (0.3900), 2.5 % lower ({p})."
    )
    other = captions.verdict(found_in(reference="Item_KNN|x", resamples=0))
    assert other.endswith("2.5 % lower.")  # the test of the two is not among those against the reference
    made("other", models=("DDRM:BPR", "Item_KNN|x"))
    assert captions.verdict(found_in("other", resamples=0)).startswith(
        "Best at NDCG@10: DDRM:BPR (0.3900), a diffusion model; best without diffusion: Item_KNN|x (0.3000), 23.1 %"
    )
    made("third", models=("EASE", "Item_KNN|x"))
    assert captions.verdict(found_in("third", resamples=0)) == "Best at NDCG@10: EASE (0.4000)."


def test_which_yardsticks_a_diffusion_model_beats(monkeypatch):
    """Means differ from that of DDRM by -0.01, 0.0015 (its standard error is 0.0026), 0.19."""
    levels = {"EASE": 0.40, "DDRM:BPR": 0.39, "ItemMean:BPR": 0.3885, "Pop": 0.2, "DiffRec": 0.5, "LightGCN": 0.6}
    monkeypatch.setattr(sys.modules[__name__], "LEVELS", levels)
    made(models=tuple(levels))
    assert captions.beside_yardsticks(found_in(resamples=0)) == (
        "Beside models without training (EASE, ItemMean:BPR, Pop), at NDCG@10: DDRM:BPR does not significantly beat "
        "EASE, ItemMean:BPR; DiffRec beats every yardstick."
    )
    made("none", models=("DDRM:BPR", "LightGCN"))
    assert captions.beside_yardsticks(found_in("none", resamples=0)) == ""


@pytest.mark.parametrize("model", ["Pop", "ItemKNN", "EASE", "recbole:EASE", "Transitions", "ItemMean"])
def test_yardsticks_are_those_of_recbole_and_of_the_cards(model):
    assert registry.is_yardstick(model)
    others = ("DiffRec", "TEASE", "recbole:DiffRec", "LightGCN", "no:X")
    assert not any(registry.is_yardstick(other) for other in others)


def test_p_in_words():
    assert [captions.p_text(p) for p in (0.0004, 0.012, 1.0)] == ["p < .001", "p = .012", "p = 1.000"]


def tuned(trials=(3, 3)):
    """EASE and DDRM:BPR, tuned with three trials planned; the second trial of DDRM failed."""
    store = made(models=("EASE", "DDRM:BPR"), tune=3, search="random")
    content = store.plan()
    for place, entry in enumerate(content["models"]):
        keys = [f"t{place}{number}" for number in range(3)]
        entry.update(trials={"tiny": keys}, best={"tiny": {"rate": 0.1}})
        for number, key in list(enumerate(keys))[: trials[place]]:
            trial = {"key": key, "trial": number, "seed": 1, "settings": {"rate": number / 10, "same": 1}}
            if (place, number) == (1, 1):
                store.fail(key, {**trial, "status": "failed", "error": "nan"})
            else:
                timing = {"epochs": 2, "total_s": 5.0}
                score = [0.2, 0.4, 0.3][number]
                store.finish(key, {**trial, "status": "finished", "test": None, "valid_score": score, "timing": timing})
    store.write_plan(content)


def test_tuning_is_in_the_tables():
    tuned()
    comparison, found = reading.read("study"), found_in(resamples=0)
    assert "equal budget: 3 trials each (random)" in captions.caption(comparison, found)
    assert [row[1].text for row in tables.accuracy(found).rows] == ["3", "3"]
    assert [row[tables.cost(found).columns.index(tables.TUNING)].text for row in tables.cost(found).rows] == [
        "15",
        "10",
    ]
    assert "trials that failed: DDRM:BPR 1 of 3" in found.notes
    rows = [row for row in points.tuning(found) if row["model"] == "DDRM:BPR"]
    assert [(row["score"], row["best_so_far"]) for row in rows] == [(0.2, 0.2), (None, 0.2), (0.3, 0.3)]
    report.write("study")
    trials = read_csv("study/report/trials.csv")
    assert len(trials) == 6
    assert json.loads(trials[4]["settings"]) == {"rate": 0.1}
    assert (trials[4]["status"], trials[4]["error"], trials[4]["valid_score"]) == ("failed", "nan", "")
    assert read_csv("study/report/failures.csv")[0]["trial"] == "1"


def test_a_budget_that_was_not_equal_is_said():
    tuned(trials=(2, 3))
    text = captions.caption(reading.read("study"), found_in(resamples=0))
    assert "equal budget" not in text
    assert "budget: 3 trials each (random); the table tells how many each had" in text
    assert "trials run so far: EASE 2 of 3" in found_in(resamples=0).notes


def test_files_for_programs():
    made()
    report.write("study")
    rows = read_csv("study/report/results.csv")
    assert [row["model"] for row in rows] == list(LEVELS)
    assert [row["diffusion"] for row in rows] == ["0", "1", "0"]
    assert float(rows[1]["ndcg@10"]) == pytest.approx(0.39)
    assert float(rows[1]["ndcg@10_sd"]) == pytest.approx(0.01)
    assert float(rows[1]["ndcg@10_low"]) < 0.39 < float(rows[1]["ndcg@10_high"])
    assert (rows[1]["seeds"], rows[1]["total_s"], rows[1]["peak_gpu_memory_mib"]) == ("3", "20.0", "")
    seeds = read_csv("study/report/per_seed.csv")
    assert [(row["model"], row["seed"]) for row in seeds[:4]] == [
        ("EASE", "1"), ("EASE", "2"), ("EASE", "3"), ("DDRM:BPR", "1"),
    ]  # fmt: skip
    assert float(seeds[0]["ndcg@10"]) == pytest.approx(0.39)
    assert len(read_csv("study/report/significance.csv")) == 2 * (2 + 3)
    assert [row["parameters"] for row in read_csv("study/report/cost.csv")] == ["1234567.0"] * 3
    content = json.loads(Path("study/report/results.json").read_text())
    models = content["results"]["tiny"]["models"]
    assert models[2]["metrics"]["ndcg@10"]["mean"] == pytest.approx(0.30)
    assert content["results"]["tiny"]["reference"] == "EASE"
    assert content["seeds"] == [1, 2, 3]
    assert not list(Path("study/report").glob(".*"))


def test_two_data_sets():
    store = made()
    content = store.plan()
    content["datasets"]["a/b c"] = {}
    for entry in content["models"]:
        entry["runs"]["a/b c"] = entry["runs"]["tiny"]
    store.write_plan(content)
    names = {file.name for file in report.write("study")}
    assert "accuracy-a_b_c.csv" in names
    assert "accuracy-tiny.csv" in names
    assert [row["dataset"] for row in read_csv("study/report/results.csv")] == ["tiny"] * 3 + ["a/b c"] * 3
    text = Path("study/report/results.md").read_text()
    assert text.index("## tiny") < text.index("## a/b c")
    assert text.count("mind the 5% & the $") == 2


def test_summary_for_the_terminal():
    text = report.summary(made().folder)
    line = next(line for line in text.splitlines() if line.startswith("EASE"))
    assert line.split() == ["EASE", "0.2000", "±", "0.0050*", "0.4000", "±", "0.0100*"]
    assert "Note: mind the 5% & the $" in text
    assert "Best at NDCG@10: EASE" in text


def test_learning_curves_are_means_of_what_all_seeds_reached():
    store = made(models=("EASE", "DDRM:BPR"))
    store.finish("1-1", finished("DDRM:BPR", 1, 0.39, epochs=2))
    rows = [row for row in points.learning_curves(found_in()) if row["model"] == "DDRM:BPR"]
    means = [row for row in rows if row["seed"] == points.MEAN]
    assert {row["metric"] for row in rows} == {"ndcg@10"}
    assert [row["epoch"] for row in means] == [1, 2]
    assert [row["seconds"] for row in means] == [2.0, 4.0]
    assert [row["score"] for row in means] == pytest.approx([0.39, 0.49])
    assert [(row["low"], row["high"]) for row in means] == [pytest.approx((0.38, 0.40)), pytest.approx((0.48, 0.50))]
    assert [row["epoch"] for row in rows if row["seed"] == 2] == [1, 2, 3]


def test_points_of_coverage_and_cost():
    made()
    found = found_in(resamples=0)
    assert points.accuracy_coverage(found)[0]["coverage"] == 0.25
    assert points.accuracy_cost(found)[2]["test_users_per_s"] == 2000.0
    assert [row["model"] for row in points.accuracy(found)] == list(LEVELS)


def test_names_of_points_lie_free():
    spots = [(100.0, 100.0), (120.0, 104.0), (100.0, 108.0), (390.0, 100.0)]
    sizes = [(60.0, 10.0)] * 4
    within = labels.Box(0, 0, 400, 300)
    centres = labels.place(spots, sizes, within, mark=4)
    boxes = [labels.Box(x - 30, y - 5, x + 30, y + 5) for x, y in centres]
    marks = [labels.Box(x - 4, y - 4, x + 4, y + 4) for x, y in spots]
    for place, box in enumerate(boxes):
        assert box.overlap(within) == pytest.approx(box.area)
        assert not any(box.overlap(other) for other in [*boxes[:place], *marks])
    assert centres[3][0] < 390  # there is no room to the right


@pytest.mark.usefixtures("drawn")
def test_plots(monkeypatch):
    image = pytest.importorskip("matplotlib.image")
    tuned()
    files = report.write("study")
    for name in points.PLOTS:
        png, svg, pdf = (Path(f"study/report/{name}-tiny.{suffix}") for suffix in ("png", "svg", "pdf"))
        assert {*(file.absolute() for file in (png, svg, pdf, png.with_suffix(".csv")))} <= set(files)
        assert pdf.read_bytes().startswith(b"%PDF")
        assert png.read_bytes().startswith(b"\x89PNG")
        assert b"dc:date" not in svg.read_bytes()
        assert f"![{name.replace('_', ' ')}]({name}-tiny.png)" in Path("study/report/results.md").read_text()
    height, width = image.imread("study/report/accuracy_cost-tiny.png").shape[:2]
    assert (width, height) == (11 * 200, 4.8 * 200)  # 200 dots per inch
    first = {file.name: file.read_bytes() for file in files}
    one, two = (report.write("study", report.ReportOptions(formats=["svg"], out=out)) for out in ("one", "two"))
    assert {file.name: file.read_bytes() for file in one} == {file.name: file.read_bytes() for file in two}
    monkeypatch.setattr(points, "PLOTS", {"accuracy": points.PLOTS["accuracy"]})
    drawn = {file.name: file.read_bytes() for file in report.write("study") if file.name.startswith("accuracy-tiny")}
    assert len(drawn) == 4
    assert drawn == {name: first[name] for name in drawn}  # the same bytes


@pytest.mark.usefixtures("drawn")
def test_without_matplotlib(monkeypatch, caplog):
    monkeypatch.delitem(sys.modules, "recbole_diffusion.experiment.report.plot", raising=False)
    monkeypatch.delattr(report, "plot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    made()
    with caplog.at_level(logging.WARNING):
        files = report.write("study")
    assert [record.message for record in caplog.records] == ["no plots without matplotlib: pip install matplotlib"]
    assert {file.suffix for file in files} == {".csv", ".html", ".json", ".md", ".tex"}
    assert "### Plots" not in Path("study/report/results.md").read_text()


def test_csv_of_rows_with_different_columns():
    rows = [{"a": 1, "b": None}, {"a": True, "c": "x,y"}]
    assert records.to_csv(rows).decode() == 'a,b,c\n1,,\n1,,"x,y"\n'
