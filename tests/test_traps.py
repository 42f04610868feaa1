"""RecBole's traps that no other test file covers; docs/recbole.md names the test of each.

Where a trap is only documented, its test shows that RecBole still has it, so that the page stays true.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import HEADER, SMALL, write_inter

from recbole_diffusion import compat, data, quick_start, run

QUICK = {"epochs": 1, "steps": 3, "dims": [16]}
LATEST = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}


def test_argv_is_not_read(settings, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest", "--epochs=77", "--cov=x", "--foo=1/0"])
    config = quick_start.configure("DiffRec", "board", config_dict=settings)
    assert config["epochs"] == 300
    assert config["cov"] is None


def test_strings_are_not_evaluated(settings):
    config = quick_start.configure("DiffRec", "board", config_dict={**settings, "wandb_project": "os.sys.exit(3)"})
    assert config["wandb_project"] == "os.sys.exit(3)"


def test_cuda_visible_devices_is_left_alone(settings, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    config = quick_start.configure("DiffRec", "board", config_dict={**settings, "gpu_id": "0"})
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert config["device"].type in {"cpu", "cuda"}


def test_use_gpu_false_and_an_empty_gpu_id_mean_the_cpu(settings, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for more in ({"use_gpu": False}, {"gpu_id": ""}):
        assert quick_start.configure("DiffRec", "board", config_dict={**settings, **more})["device"].type == "cpu"
    config = quick_start.configure("DiffRec", "board", config_dict={**settings, "gpu_id": "1"})
    assert config["device"] == torch.device("cuda", 1)
    with pytest.raises(ValueError, match=r"gpu_id='2' is not allowed; allowed: 0\.\.1"):
        quick_start.configure("DiffRec", "board", config_dict={**settings, "gpu_id": 2})


def test_valid_metric_is_checked_before_the_first_epoch(settings):
    with pytest.raises(ValueError, match="valid_metric='NDCG@7' is not measured"):
        quick_start.configure("DiffRec", "board", config_dict={**settings, "valid_metric": "NDCG@7"})


def test_argument_lists_of_recbole_are_not_changed(settings):
    from recbole.utils import dataset_arguments

    before = list(dataset_arguments)
    quick_start.configure("DiffRec", "ml-100k")
    assert dataset_arguments == before


def test_each_run_has_its_own_log_file_and_checkpoint(settings):
    one, two = (run("DiffRec", "board", config_dict={**settings, **QUICK, "state": "INFO"}) for _ in range(2))
    logs = sorted(Path("log/DiffRec").glob("*.log"))
    assert len(logs) == 2
    assert all("best" in log.read_text() or "training" in log.read_text() for log in logs)
    assert "\x1b" not in logs[0].read_text()
    assert one["checkpoint"] != two["checkpoint"]
    assert one["folder"] != two["folder"]


def test_the_same_seed_gives_the_same_result_in_one_process(settings):
    one, two = (run("DiffRec", "board", config_dict={**settings, **QUICK, "epochs": 3}) for _ in range(2))
    assert one["test_result"] == two["test_result"]
    other = run("DiffRec", "board", config_dict={**settings, **QUICK, "epochs": 3, "seed": 1})
    assert other["test_result"] != one["test_result"]


def test_evaluating_more_often_does_not_change_training(settings):
    quick = {**settings, **QUICK, "epochs": 4, "sampling_noise": True}
    often = run("DiffRec", "board", config_dict={**quick, "eval_step": 1, "save_last_every": 4})
    once = run("DiffRec", "board", config_dict={**quick, "eval_step": 4, "save_last_every": 4})
    one, two = (
        torch.load(each["checkpoint"].replace(".pth", "-last.pth"), weights_only=True)["state_dict"]
        for each in (often, once)
    )
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_flops_are_not_counted_so_that_a_model_without_predict_runs(settings, monkeypatch):
    """RecBole's run counts FLOPs first, which needs predict(), copies the model and draws from the random state."""
    from recbole.model.general_recommender.bpr import BPR

    def predict(self, interaction):
        raise AssertionError

    monkeypatch.setattr(BPR, "predict", predict)
    assert run("BPR", "board", config_dict={**settings, "epochs": 1})["test_result"]["recall@10"] >= 0


def test_input_at_test_is_train_only_unless_asked_for(built):
    _, model, dataset, (train, valid, test) = built("DiffRec", **QUICK, test_input="train+valid")
    fed = []
    model.denoiser.eval()
    original = model.denoise
    model.denoise = lambda rows, generator=None: fed.append(rows) or original(rows, generator)
    users = {"user_id": torch.arange(1, 65)}
    train_rows = model.history.rows(users["user_id"])
    for phase, loader in (("valid", valid), ("test", test)):
        model.begin_evaluation(phase, data.used_items(loader))
        model.full_sort_predict(users)
    assert torch.equal(fed[0], train_rows)
    expected = train_rows.clone()
    for user, item in data.pairs(valid):
        expected[user - 1, item - 1] = 1
    assert torch.equal(fed[1].gt(0), expected.gt(0) | rows_of(test, 65, 41))
    model.test_input = "train"
    model.begin_evaluation("test", data.used_items(test))
    model.full_sort_predict(users)
    assert torch.equal(fed[2], train_rows)


def rows_of(loader, users, items):
    out = torch.zeros(users, items, dtype=torch.bool)
    for user, item in data.pairs(loader):
        out[user, item] = True
    return out[1:, 1:]
