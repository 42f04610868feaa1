"""Ablation in training: a DiffRec trained again without its parts, and the page that shows it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import SMALL, leave_out_plots, undraw

from recbole_diffusion import cli, run
from recbole_diffusion.experiment import study
from recbole_diffusion.experiment.compare import comparison
from recbole_diffusion.testing import write_board

#: Its models are trained once.
pytestmark = [pytest.mark.xdist_group("retrain"), pytest.mark.usefixtures("no_plots")]

OWN = {"steps": 5, "dims": [16], "epochs": 3, "learning_rate": 0.01, "noise_scale": 0.1}
BUDGET = {"epochs": 2}
PAGE = "# DiffRec\n\nbefore\n<!-- ablate DiffRec -->\nOUTDATED\n<!-- /ablate DiffRec -->\nafter\n"


def quiet(text):
    pass


@pytest.fixture(scope="module")
def settings_of_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    settings = {**SMALL, "data_path": str(write_board(folder / "dataset")), **OWN}
    return settings | {"checkpoint_dir": str(folder / "saved"), "output_dir": str(folder / "outputs")}


@pytest.fixture(scope="module")
def checkpoint(settings_of_run):
    return run("DiffRec", "board", config_dict=settings_of_run)["checkpoint"]


@pytest.fixture(scope="module")
def ablated(checkpoint, tmp_path_factory):
    """An ablation with two seeds of trainings, in its folder."""
    folder = tmp_path_factory.mktemp("ablated") / "study"
    with pytest.MonkeyPatch.context() as monkeypatch:
        undraw(monkeypatch)
        leave_out_plots(monkeypatch)
        return study.ablate(checkpoint, folder=folder, train=True, seeds=[1, 2], budget=BUDGET, progress=quiet)


def test_the_trainings_are_runs_of_the_checkpoints_settings_on_its_split(ablated, settings_of_run):
    rows = {row.label: row for row in ablated.rows}
    assert [row.label for row in ablated.rows if row.seeds] == [
        "retrained",
        "retrained with no diffusion",
        "retrained with loss weights 1",
    ]
    split = {"split_seed": settings_of_run.get("seed", 2020), **BUDGET}
    for label, keys in (
        ("retrained", {}),
        ("retrained with no diffusion", {"noise_scale": 0, "inference_steps": 1}),
        ("retrained with loss weights 1", {"reweight": False, "timestep_sampling": "uniform"}),
    ):
        tests = [
            run("DiffRec", "board", config_dict={**settings_of_run, **split, **keys, "seed": seed}, saved=False)
            for seed in (1, 2)
        ]
        values = [result["test_result"][ablated.metric] for result in tests]
        assert rows[label].value == pytest.approx(sum(values) / 2, abs=1e-6)
        assert rows[label].sd == pytest.approx(abs(values[0] - values[1]) / 2**0.5, abs=1e-5)
    assert rows["retrained with no diffusion"].nfe == 1
    assert rows["retrained with no diffusion"].difference == pytest.approx(
        rows["retrained with no diffusion"].value - rows["retrained"].value, abs=1e-6
    )
    assert (rows["retrained"].overlap, rows["retrained"].difference) == (1.0, None)
    assert 0 < rows["retrained with no diffusion"].overlap < 1


def test_budget_settings_and_references_are_named(ablated):
    text = ablated.text()
    assert "Retrained: 2 seed(s) (1, 2), epochs 2, eval_step 1" in text
    assert "Settings: no diffusion: noise_scale 0, inference_steps 1; loss weights 1: reweight False" in text
    assert "against full chain, for retrained models against retrained" in text
    assert ablated.failed == 0
    assert "| retrained with no diffusion |" in (ablated.folder / "study.md").read_text()


def test_the_page_of_the_study_has_its_table_and_links(ablated):
    page = (ablated.folder / "report" / "index.html").read_text()
    assert "<h2>Ablation: DiffRec on board</h2>" in page
    assert '<th scope="row">retrained with no diffusion</th>' in page
    assert '<a href="../study.csv">study.csv</a>' in page
    assert '<a href="../train/report/index.html">' in page
    assert (ablated.folder / "train" / "report" / "index.html").is_file()


def test_no_training_is_made_twice(ablated, checkpoint, monkeypatch):
    monkeypatch.setattr(comparison, "run_one", lambda job: 1 / 0)
    shutil.copytree(ablated.folder, "here")
    again = study.ablate(checkpoint, folder="here", train=True, seeds=[1, 2], budget=BUDGET, progress=quiet)
    assert [row._replace(metrics={}) for row in again.rows] == [row._replace(metrics={}) for row in ablated.rows]
    assert again.failed == 0
    keys = [model["runs"]["board"] for model in json.loads(Path("here/train/comparison.json").read_text())["models"]]
    assert len({key for of_model in keys for key in of_model}) == 6


def test_a_variant_that_is_the_checkpoints_own_is_left_out(settings_of_run):
    result = run("DiffRec", "board", config_dict={**settings_of_run, "noise_scale": 0, "inference_steps": 1})
    ablated = study.ablate(result["checkpoint"], folder="here", train=True, seeds=[1], budget=BUDGET, progress=quiet)
    assert [row.label for row in ablated.rows if row.seeds] == ["retrained", "retrained with loss weights 1"]
    assert "Left out: no diffusion: the checkpoint's own settings." in ablated.notes


def test_the_block_of_a_page_is_written_and_nothing_else(checkpoint, capsys):
    Path("page.md").write_text(PAGE)
    assert cli.main(["ablate", checkpoint, "--folder=here", "--page=page.md"]) == 0
    text = Path("page.md").read_text()
    assert text.startswith("# DiffRec\n\nbefore\n<!-- ablate DiffRec -->\n```\nrecbole-diffusion ablate ")
    assert text.endswith("<!-- /ablate DiffRec -->\nafter\n")
    assert "| no call |" in text
    assert "OUTDATED" not in text
    assert cli.main(["ablate", checkpoint, "--folder=here", "--page=page.md"]) == 0
    assert Path("page.md").read_text() == text
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--page=none.md"], "page 'none.md' cannot be read"),
        (["--page=other.md"], "page 'other.md' does not have one block of DiffRec; write the lines"),
        (["--train", "--split=valid"], "split='valid' is not allowed with train"),
        (["--seeds=3"], "--seeds has no effect without --train"),
        (["--train", "--epochs=many"], "--epochs=many is not allowed"),
    ],
)
def test_arguments_that_cannot_be(checkpoint, words, message, capsys):
    Path("other.md").write_text("# no block\n")
    assert cli.main(["ablate", checkpoint, "--folder=here", *words]) == 2
    assert message in capsys.readouterr().err
    assert Path("other.md").read_text() == "# no block\n"


def test_a_model_whose_card_names_none(settings):
    result = run("EASE", "board", config_dict=settings)
    with pytest.raises(ValueError, match="EASE cannot be ablated in training: its card has no 'ablation'"):
        study.ablate(result["checkpoint"], folder="here", train=True, progress=quiet)
