"""The model card: counts, metrics with intervals by hand, settings, and a folder that is gone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served_models import ServedModels

from recbole_diffusion import cli
from recbole_diffusion.registry import get_model
from recbole_diffusion.serving import recbole_histories

pytestmark = pytest.mark.xdist_group("model card")  # its models are trained once


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> ServedModels:
    return ServedModels(tmp_path_factory.mktemp("serving"))


def card(capsys: Any, *words: str) -> str:
    assert cli.main(["card", *words]) == 0
    return str(capsys.readouterr().out)


def test_the_card_of_a_run(make: ServedModels, capsys: Any) -> None:
    result = make.result("DiffRec", save_per_user=True, learning_rate=0.02)
    text, data = card(capsys, result["checkpoint"]), result["data"]
    rows = data["train"] + data["valid"] + data["test"]
    assert text.startswith("# DiffRec on board\n")
    assert f"- 64 users, 40 items, {rows:,} interactions; density {rows / (64 * 40):.3%}" in text
    assert data["split_sha256"] in text
    values = result["per_user"].metrics["recall@10"]
    half = 1.959964 * values.std(ddof=1) / np.sqrt(len(values))
    valid, test = result["best_valid_result"]["recall@10"], result["test_result"]["recall@10"]
    assert f"| recall@10 | {valid:.4f} | {test:.4f} ± {half:.4f} |" in text
    assert "learning_rate: 0.02" in text
    assert "data_path" not in text
    assert "Diffusion Recommender Model. SIGIR 2023" in text
    assert "tests/model/test_parity_diffrec.py" in text
    assert "new users are scored from their items" in text
    assert "load(checkpoint)" in text


def test_intervals_of_metrics_that_some_users_do_not_have(make: ServedModels, capsys: Any) -> None:
    result = make.result("DiffRec", save_per_user=True, metrics=["NDCG", "RecallTail"], learning_rate=0.03)
    values = result["per_user"].metrics["recalltail@10"]
    present = values[~np.isnan(values)]
    assert 1 < len(present) < len(values)
    half = 1.959964 * present.std(ddof=1) / np.sqrt(len(present))
    lines = card(capsys, result["checkpoint"]).splitlines()
    row = next(line for line in lines if line.startswith("| recalltail@10 "))
    assert row.endswith(f"| {result['test_result']['recalltail@10']:.4f} ± {half:.4f} |")


def test_evaluate_measures_the_intervals(make: ServedModels, capsys: Any) -> None:
    result = make.result("DiffRec")
    assert "`card --evaluate` measures them again" in card(capsys, result["checkpoint"])
    text = card(capsys, result["checkpoint"], "--evaluate")
    values = result["per_user"].metrics["ndcg@10"]
    half = 1.959964 * values.std(ddof=1) / np.sqrt(len(values))
    row = next(line for line in text.splitlines() if line.startswith("| ndcg@10 "))
    assert row.endswith(f"| {result['test_result']['ndcg@10']:.4f} ± {half:.4f} |")
    assert f"| {result['best_valid_result']['ndcg@10']:.4f} ±" in row
    assert "Measured when the card was made." in text


def test_a_folder_that_is_gone_is_said(make: ServedModels, capsys: Any, tmp_path: Path) -> None:
    result = make.result("LightGCN")
    file = tmp_path / "model.pth"
    shutil.copy(result["checkpoint"], file)
    assert cli.main(["card", str(file), "--out=card.md"]) == 0
    text = Path("card.md").read_text(encoding="utf-8")
    assert "the run's folder is gone, and with it cost, versions and warnings" in text
    assert "No test metrics: the run has none, or its folder is gone." in text
    assert f"| recall@10 | {result['best_valid_result']['recall@10']:.4f} | - |" in text
    assert "LightGCN is RecBole's, or your own: it has no card." in text
    assert "new users cannot be scored" in text


def test_a_model_of_all_rows(make: ServedModels, capsys: Any) -> None:
    text = card(capsys, make.result("DiffRec", fit_on="all")["checkpoint"])
    assert "None: the model was trained on all rows." in text
    assert "nothing was held out" in text
    assert "trained on train + valid + test; without validation" in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DiffRec", True),
        ("CDDRec", True),
        ("DDRM", False),
        ("EASE", True),
        ("MultiVAE", True),
        ("CDAE", False),
        ("BPR", False),
        ("SASRec", None),
        ("Pop", True),
    ],
)
def test_classes_that_score_new_users(name: str, expected: Any) -> None:
    assert recbole_histories.scores_new_users(get_model(name)) is expected


def test_wrong_arguments_end_with_one_line(make: ServedModels, capsys: Any) -> None:
    checkpoint = make.result("DiffRec")["checkpoint"]
    for words, message in (
        (["missing.pth"], "checkpoint 'missing.pth' does not exist"),
        ([checkpoint, "--out=missing/card.md"], "allowed: a file in an existing folder"),
        ([checkpoint, "--data_path=x"], "--data_path is not an option of card without --evaluate"),
    ):
        assert cli.main(["card", *words]) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
