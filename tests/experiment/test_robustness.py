"""Robustness: one comparison per ratio, read as one table."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import SMALL

from recbole_diffusion import cli, run
from recbole_diffusion.experiment import figures
from recbole_diffusion.experiment import robustness as module
from recbole_diffusion.experiment.compare import comparison, yardsticks
from recbole_diffusion.experiment.robustness import robustness

pytestmark = pytest.mark.usefixtures("no_plots")

SETTINGS = {**SMALL, "epochs": 1, "topk": [5], "valid_metric": "NDCG@5"}
SETTINGS.pop("state")


@pytest.fixture
def done(checkerboard):
    return robustness(["Pop", "EASE"], "board", ratios=[0, 0.5], seeds=[1], folder="here", settings=SETTINGS)


def test_each_ratio_is_the_run_with_its_noise(done):
    assert [(row["model"], row["ratio"]) for row in done.rows] == [(m, r) for r in (0, 0.5) for m in ("Pop", "EASE")]
    noise = {"train_noise": "random", "train_noise_ratio": 0.5, "split_seed": 2020, "metrics": ["NDCG"]}
    alone = run("EASE", "board", config_dict={**SETTINGS, **noise, "metric_decimal_place": 6}, saved=False)
    noisy, clean = done.row("EASE", 0.5), done.row("EASE", 0)
    assert noisy["mean"] == alone["test_result"]["ndcg@5"]
    assert noisy["change"] == pytest.approx(100 * (noisy["mean"] / clean["mean"] - 1))
    assert noisy["change_low"] <= noisy["change"] <= noisy["change_high"]
    assert clean["change"] is None
    assert "random interactions are added to" in done.heads[1]
    assert "added" not in done.heads[0]


def test_files_and_a_second_call_that_runs_nothing(done, monkeypatch):
    with open("here/robustness.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 4
    assert "| EASE |" in Path("here/robustness.md").read_text()
    assert Path("here/ratio-0.5/report/index.html").is_file()
    page = Path("here/report/index.html").read_text()
    assert "<h2>Robustness of NDCG@5 on board to random noise</h2>" in page
    assert '<th scope="row">EASE</th>' in page
    assert '<a href="../robustness.csv">' in page
    assert '<a href="../ratio-0.5/report/index.html">' in page
    monkeypatch.setattr(comparison, "run_one", lambda job: 1 / 0)
    again = robustness(["Pop", "EASE"], "board", ratios=[0, 0.5], seeds=[1], folder="here", settings=SETTINGS)
    assert again.rows == done.rows
    assert again.failed == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise": "loud"}, "noise='loud' is not allowed; allowed: random | natural"),
        ({"ratios": [0, float("nan")]}, r"ratios=\[0, nan\] is not allowed; allowed: numbers from 0"),
        ({"noise": "natural", "below": float("nan")}, "below=nan is not allowed; allowed: a number"),
        ({"ratios": [-0.1]}, r"ratios=\[-0.1\] is not allowed; allowed: numbers from 0"),
        ({"below": 4}, "below=4 has no effect with noise='random'"),
    ],
)
def test_arguments_that_cannot_be(checkerboard, arguments, message):
    with pytest.raises(ValueError, match=message):
        robustness(["Pop"], "board", folder="here", settings=SETTINGS, **arguments)


def test_thresholds_and_ratios_keep_all_their_digits(monkeypatch):
    """In six digits 1234567 would be 1234570, and two ratios would share a folder."""
    called = []

    def noted(models, datasets, seeds, folder, settings, *rest):
        called.append((folder.name, settings["val_interval"]))
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "compare", noted)
    for ratio in (0.1234567, 0.1234568):
        with pytest.raises(KeyboardInterrupt):
            robustness(["Pop"], "board", noise="natural", below=1234567, ratios=[ratio], folder="here")
    assert called == [(f"ratio-{r}", {"rating": "[1234567.0,inf)"}) for r in (0.1234567, 0.1234568)]


def test_a_change_that_is_not_known_is_not_drawn_as_none():
    row = {"ratio": 0.1, "change": None, "change_low": None, "change_high": None}
    assert module._change_of(row, 0.0) == (None, None, None)
    assert module._change_of(row, 0.1) == (0.0, None, None)
    drawn = []
    axes = SimpleNamespace(errorbar=lambda *values, **_: drawn.append(values))
    figures.errorbars(axes, [1, 2, 3], [(0.5, 0.4, None), (None, None, None), (-2.0, None, -1.0)], {}, "a")
    assert drawn == [([1, 3], [0.5, -2.0], [[pytest.approx(0.1), 0.0], [0.0, 1.0]])]


def test_a_link_in_the_studys_folder_is_not_written_through(tmp_path):
    own = tmp_path.parent / f"{tmp_path.name}-own"
    own.write_text("of the user")
    Path("here").mkdir()
    Path("here/robustness.md").symlink_to(own)
    with pytest.raises(ValueError, match=r"'.*robustness.md' is a link to"):
        robustness(["Pop"], "board", folder="here")
    assert own.read_text() == "of the user"


def test_natural_noise_sets_the_interval_of_the_data(monkeypatch, checkerboard):
    calls = []

    def compare(models, datasets, seeds, folder, settings, *rest):
        calls.append((folder.name, settings))
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "compare", compare)
    with pytest.raises(KeyboardInterrupt):
        robustness(["Pop"], "board", "natural", [0.1], [1], "here", {"epochs": 1}, below=4)
    (call,) = calls
    assert call[0] == "ratio-0.1"
    assert call[1] == {
        "epochs": 1,
        "val_interval": {"rating": "[4,inf)"},
        "train_noise": "natural",
        "train_noise_ratio": 0.1,
    }


def test_the_command(checkerboard, capsys):
    words = ["--models=EASE", "--dataset=board", "--ratios=0,1", "--seeds=1", "--folder=there", "--data_path=dataset"]
    assert cli.main(["robustness", *words, "--epochs=1", "--topk=[5]", "--valid_metric=NDCG@5"]) == 0
    out = capsys.readouterr().out
    assert "change at 1" in out
    assert "there/robustness.csv" in out
    assert cli.main(["robustness", "--models=EASE"]) == 2
    assert "--dataset is not set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "result"),
    [
        (["DiffRec"], ["DiffRec", "Pop", "ItemKNN", "EASE"]),
        (["DDRM:BPR@quick", "EASE"], ["DDRM:BPR@quick", "EASE", "Pop", "ItemKNN", "ItemMean:BPR"]),
        (["DDRM"], ["DDRM", "Pop", "ItemKNN", "EASE", "ItemMean"]),
        (["DiffuRec", "SASRec"], ["DiffuRec", "SASRec", "Pop", "Transitions"]),
        (["SASRec"], ["SASRec", "Pop", "Transitions"]),
        (["LightGCN"], ["LightGCN", "Pop", "ItemKNN", "EASE"]),
        (["recbole:DiffRec"], ["recbole:DiffRec", "Pop", "ItemKNN", "EASE"]),
        (["NoSuchModel"], ["NoSuchModel"]),
    ],
)
def test_yardsticks_suit_the_models(words, result):
    assert yardsticks.add(words) == result
