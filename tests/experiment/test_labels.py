"""Modes and metrics that go together, and labels: checked before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import HEADER, write_inter

from recbole_diffusion import quick_start, run

LABELED = {"split": {"RS": [0.8, 0.1, 0.1]}, "mode": "labeled"}
OF_VALUES = {"metrics": ["AUC", "MAE"], "valid_metric": "AUC", "eval_args": LABELED}
MODELS = ("DiffRec", "BPR", "DDRM", "EASE", "FM", "CFKG", "SASRec", "DiffuRec")


def settings_of(model: str, mode: Any) -> dict[str, Any]:
    sequential = model in {"SASRec", "DiffuRec"}
    split = {"split": {"LS": "valid_and_test"}, "order": "TO"} if sequential else {"split": {"RS": [0.8, 0.1, 0.1]}}
    return {"eval_args": {**split, "mode": mode}, "threshold": {"rating": 3}}


@pytest.mark.parametrize("model", MODELS)
def test_modes_that_the_metrics_do_not_go_with_are_refused_at_once(model, tmp_path):
    """There is no data set at all: nothing is read before."""
    base = {"data_path": str(tmp_path), "metrics": ["Recall", "MRR"], "valid_metric": "MRR@10"}
    for mode in ("labeled", {"valid": "labeled", "test": "full"}, {"valid": "full", "test": "labeled"}):
        with pytest.raises(ValueError, match=r"mode='labeled' does not go .* AUC, LogLoss, MAE, RMSE"):
            quick_start.configure(model, "none", config_dict={**base, **settings_of(model, mode)})
    for metric in ("AUC", "LogLoss", "MAE", "RMSE"):
        of_values = {**base, **settings_of(model, "full"), "metrics": [metric], "valid_metric": metric}
        with pytest.raises(ValueError, match=r"mode='full' does not go .* mode labeled"):
            quick_start.configure(model, "none", config_dict=of_values)
    quick_start.configure(model, "none", config_dict={**base, **settings_of(model, "uni10")})


def test_labels_without_a_column_are_refused_and_a_column_is_loaded(settings, tmp_path):
    for model in ("FM", "BPR"):
        with pytest.raises(
            ValueError, match=r"there is no column 'label'; board.inter has .*set threshold, e\.g\. \{rating"
        ):
            quick_start.configure(model, "board", config_dict={**settings, **OF_VALUES})
        with pytest.raises(ValueError, match="there is no column 'label'; set threshold"):
            quick_start.configure(model, "not-there-yet", config_dict={**settings, **OF_VALUES})
    rows = [(f"u{n % 8}", f"i{n % 13}", n % 3 % 2) for n in range(104)]
    write_inter(tmp_path / "dataset", "liked", rows, "user_id:token item_id:token label:float")
    less = {**settings, **OF_VALUES, "load_col": {"inter": ["user_id", "item_id"]}}
    config = quick_start.configure("FM", "liked", config_dict=less)
    assert config["load_col"] == {"inter": ["user_id", "item_id", "label"]}
    dataset, _ = quick_start.prepare(config)
    assert float(dataset.inter_feat["label"].sum()) == sum(row[2] for row in rows)


@pytest.mark.parametrize("model", ["FM", "BPR"])
def test_the_threshold_is_loaded_and_labels_what_reaches_it(model, tmp_path):
    rows = [(f"u{n % 8}", f"i{n * 7 % 31}", 1 + n % 5, 1000 + n) for n in range(104)]
    write_inter(tmp_path / "dataset", "rated", rows, HEADER)
    keys = {**OF_VALUES, "threshold": {"rating": 4}, "epochs": 2, "show_progress": False, "state": "ERROR"}
    result = run(model, "rated", config_dict=keys, saved=False)
    assert 0 <= result["test_result"]["mae"] <= 1
    dataset, _ = quick_start.prepare(quick_start.configure(model, "rated", config_dict=keys))
    labels = np.array([row[2] >= 4 for row in rows])
    assert float(dataset.inter_feat["label"].sum()) == labels.sum()
    own = Path(result["folder"]) / "config.yaml"
    assert run(config_file_list=[own], saved=False)["test_result"] == result["test_result"]
