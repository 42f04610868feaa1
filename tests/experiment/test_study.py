"""Studies of one checkpoint: steps, ablate and watch, on a DiffRec trained once."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL, leave_out_plots

from recbole_diffusion import cli, quick_start, run
from recbole_diffusion.experiment import report, study
from recbole_diffusion.experiment.evaluate import checkpoints
from recbole_diffusion.experiment.study.checkpoint_study import overlap
from recbole_diffusion.experiment.study.results import Row, StudyResult
from recbole_diffusion.testing import write_board

#: Its models are trained once.
pytestmark = [pytest.mark.xdist_group("study"), pytest.mark.usefixtures("no_plots")]

OWN = {"steps": 5, "dims": [16], "epochs": 8, "learning_rate": 0.01, "noise_scale": 0.1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Result of a run, and its settings."""
    folder = tmp_path_factory.mktemp("trained")
    settings = {**SMALL, "data_path": str(write_board(folder / "dataset")), **OWN}
    settings |= {"checkpoint_dir": str(folder / "saved"), "output_dir": str(folder / "outputs")}
    return run("DiffRec", "board", config_dict=settings)


def quiet(text):
    pass


def test_as_trained_has_the_numbers_of_the_run(trained):
    result = study.steps(trained["checkpoint"], ["full"], ["ancestral"], split="test", folder="here", progress=quiet)
    first, full = result.rows
    assert (first.label, first.nfe) == ("as trained", 5)
    assert first.metrics == trained["test_result"]
    assert full.metrics == first.metrics
    assert (full.overlap, full.difference, full.p) == (1.0, 0.0, 1.0)
    valid = study.steps(trained["checkpoint"], [1], ["ddim"], folder="there", progress=quiet)
    assert valid.rows[0].metrics == trained["best_valid_result"]


def test_each_number_of_steps_is_what_the_setting_gives(trained):
    result = study.steps(trained["checkpoint"], [2], ["ancestral"], split="test", folder="here", progress=quiet)
    loaded = quick_start.load(trained["checkpoint"], config_dict={"inference_steps": 2})
    assert result.rows[1].metrics == checkpoints.evaluate(loaded, "test").metrics
    assert (result.rows[1].label, result.rows[1].nfe) == ("ancestral 2", 2)


def test_nothing_is_evaluated_twice(trained, monkeypatch):
    study.steps(trained["checkpoint"], [1], ["ddim"], folder="here", progress=quiet)
    lines = []
    again = study.steps(trained["checkpoint"], [1, 3], ["ddim"], folder="here", progress=lines.append)
    assert lines == ["ddim 3 ..."]
    assert [row.label for row in again.rows] == ["as trained", "ddim 1", "ddim 3"]
    kept = json.loads(Path("here/comparison.json").read_text())
    assert [model["label"] for model in kept["models"]] == ["as trained", "ddim 1", "ddim 3"]
    lines.clear()
    study.steps(trained["checkpoint"], [1], ["ddim"], split="test", folder="here", progress=lines.append)
    assert lines == ["as trained ...", "ddim 1 ..."]  # another part of the split


def test_the_files_of_a_study(trained, drawn, monkeypatch):
    leave_out_plots(monkeypatch)  # of the report; the study's own figure is meant
    result = study.steps(trained["checkpoint"], [1, "full"], folder="here", progress=quiet)
    with open("here/study.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == ["as trained", "ancestral 1", "ancestral 5", "ddim 1", "ddim 5"]
    assert float(rows[1]["value"]) == result.rows[1].value
    assert "| ancestral 1 |" in Path("here/study.md").read_text()
    page = Path("here/report/index.html").read_text()
    assert "<h2>Steps: DiffRec on board</h2>" in page
    assert '<th scope="row">ancestral 1</th>' in page
    assert '<a href="../study.csv">' in page
    report.write(
        "here", report.ReportOptions(out="there")
    )  # written again, elsewhere: the table and its links are kept
    again = Path("there/index.html").read_text()
    assert "<h2>Steps: DiffRec on board</h2>" in again
    assert '<a href="../here/study.csv">' in again
    if "steps.svg" in {file.name for file in result.files}:
        assert 'alt="Steps: DiffRec on board: steps" src="data:image/svg+xml;base64,' in again
    if any(file.name == "steps.png" for file in result.files):
        assert Path("here/steps.png").read_bytes().startswith(b"\x89PNG")
        assert "network calls per user" in Path("here/steps.svg").read_text()


@pytest.mark.parametrize(
    ("steps", "solvers", "message"),
    [
        ([6], None, "steps=6 is more than the model was trained with; allowed: at most 5"),
        ([0], None, "steps=0 is not allowed; allowed: integers from 1, and full"),
        (None, ["heun"], "solvers='heun' is not allowed; allowed for this model: ancestral, ddim"),
    ],
)
def test_steps_that_cannot_be(trained, steps, solvers, message):
    with pytest.raises(ValueError, match=message):
        study.steps(trained["checkpoint"], steps, solvers, folder="here", progress=quiet)


def test_an_ablation_tells_what_the_network_reads(trained):
    result = study.ablate(trained["checkpoint"], folder="here", progress=quiet)
    rows = {row.label: row for row in result.rows}
    assert rows["full chain"].metrics == trained["test_result"]
    assert rows["no call"].nfe == 0
    assert rows["one call"].nfe == 1
    assert len({rows[label].value for label in ("full chain", "x_t = target", "x_t = 0", "x_t = noise")}) == 4
    assert rows["another user's condition"].metrics == rows["full chain"].metrics  # which is all that it has
    assert rows["x_t = 0"].nfe == 5
    assert "another seed" not in rows
    assert result.notes == ["Left out: no noise, another seed: the model draws no noise at inference."]


def test_a_model_that_draws_noise_has_the_variants_of_noise(trained):
    settings = {"sampling_steps": 5}
    result = study.ablate(trained["checkpoint"], folder="here", config_dict=settings, progress=quiet)
    rows = {row.label: row for row in result.rows}
    assert {"no noise", "another seed"} <= {*rows}
    loaded = quick_start.load(trained["checkpoint"], config_dict={**settings, "eval_seed": loaded_seed(trained) + 1})
    assert rows["another seed"].metrics == checkpoints.evaluate(loaded, "test").metrics
    assert result.notes == []


def loaded_seed(trained):
    return quick_start.configure(resume=trained["checkpoint"])["eval_seed"]


def test_a_model_without_a_chain_says_so(settings):
    own = {"hidden_size": 8, "n_heads": 2, "inner_size": 8, "steps": 2, "epochs": 1, "MAX_ITEM_LIST_LENGTH": 5}
    own["eval_args"] = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}
    result = run("CDDRec", "board", config_dict={**settings, **own})
    ablation = study.ablate(result["checkpoint"], folder="here", progress=quiet)
    assert [row.label for row in ablation.rows] == ["full chain"]
    assert ablation.notes[0] == "Left out: CDDRec calls its network once and has no x_t at inference."
    with pytest.raises(ValueError, match="CDDRec has no reverse process, so that there are no steps to vary"):
        study.steps(result["checkpoint"], folder="there", progress=quiet)
    with pytest.raises(ValueError, match="CDDRec has no reverse process to watch"):
        study.watch(result["checkpoint"], folder="there")


def test_the_last_step_of_a_trajectory_is_the_ranking_of_the_model(trained):
    trajectory, files = study.watch(trained["checkpoint"], ["u3", "u8"], folder="here")
    loaded = quick_start.load(trained["checkpoint"])
    names = loaded.dataset.field2id_token
    assert trajectory.ranks.shape == (6, 2)
    for interaction, history, row_of, item_of in loaded.test_data:
        scores = loaded.model.full_sort_predict(interaction)
        scores[history[0], history[1]] = -np.inf
        for row, user in enumerate(names["user_id"][interaction["user_id"]]):
            if user in ("u3", "u8"):
                ranks = [int((scores[row] >= scores[row, item]).sum()) for item in item_of[row_of == row]]
                place = ["u3", "u8"].index(user)
                assert trajectory.ranks[-1, place] == min(ranks)
                kept = [r["rank"] for r in trajectory.item_ranks if r["user"] == user and r["step"] == 5]
                assert sorted(kept) == sorted(ranks)
    assert (trajectory.overlap[-1] == 1).all()
    assert {file.name for file in files} >= {"trajectory.csv", "held_out.csv", "index.html"}
    page = Path("here/report/index.html").read_text()
    assert f'<th scope="row">u3</th><td>{trajectory.ranks[0, 0]}</td>' in page
    assert '<a href="../trajectory.csv">' in page
    assert "<script" not in page
    with open("here/trajectory.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 12
    with pytest.raises(ValueError, match="user 'nobody' has no held-out items in the test split"):
        study.watch(trained["checkpoint"], ["nobody"], folder="here")


def test_the_overlap_of_lists():
    first = np.array([[1, 2, 3], [4, 5, 0]])
    assert overlap(first, first, 3) == 1
    assert overlap(first, np.array([[3, 9, 8], [5, 4, 7]]), 3) == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert overlap(first, np.array([[1, 9, 8], [6, 4, 7]]), 1) == pytest.approx(0.5)


def row(label, value, nfe, difference=None, p=None):
    return Row(label, value, None, None, difference, None, None, p, 1.0, nfe, 1.0, {})


@pytest.mark.parametrize(
    ("rows", "cheapest"),
    [
        ([row("ddim 1", 0.1, 1, -0.2, 0.001), row("ddim 2", 0.29, 2, -0.01, 0.4)], "ddim 2"),
        ([row("ddim 1", 0.1, 1, -0.2, 0.001)], "as trained"),
        ([row("a 1", 0.29, 1, -0.01, 0.9), row("b 1", 0.31, 1, 0.01, 0.03)], "b 1"),
    ],
)
def test_the_cheapest_setting(rows, cheapest):
    result = StudyResult(Path(), "board", "ndcg@10", "as trained", [row("as trained", 0.3, 40), *rows], [], "", [])
    assert result.cheapest().label == cheapest


def test_the_commands(trained, capsys):
    assert cli.main(["steps", trained["checkpoint"], "--steps=1,full", "--solvers=ddim", "--folder=s"]) == 0
    out = capsys.readouterr().out
    assert "Cheapest setting that is not significantly worse than as trained:" in out
    assert "s/study.csv" in out
    assert cli.main(["ablate", trained["checkpoint"], "--folder=a", "--topk=3", "--metrics=Recall"]) == 0
    assert "recall@3" in capsys.readouterr().out
    assert cli.main(["watch", trained["checkpoint"], "--users=u1", "--folder=w"]) == 0
    assert "rank of the best held-out item" in capsys.readouterr().out
    assert cli.main(["steps", trained["checkpoint"], "--split=train"]) == 2
    assert "split='train' is not allowed; allowed: valid | test" in capsys.readouterr().err
    assert cli.main(["steps"]) == 2
