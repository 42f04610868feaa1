"""Epochs count from 1 in everything that people read; RecBole's callback and checkpoints keep its index."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

from recbole_diffusion import run
from recbole_diffusion.training import checkpoint, epochs
from recbole_diffusion.training.run_log import LOG
from recbole_diffusion.training.run_result import result_table
from recbole_diffusion.training.trainer import Training


def test_a_run_counts_its_epochs_from_one(settings, monkeypatch):
    calls, steps = [], []
    monkeypatch.setattr(Training, "_improves", lambda self, score: len(self.epochs_done) < 2)  # the second is the best
    monkeypatch.setattr(Training, "_add_train_loss_to_tensorboard", lambda self, step, losses: steps.append(step))
    more = {"epochs": 3, "state": "INFO", "stopping_step": 9}
    result = run("BPR", "board", config_dict={**settings, **more}, callback=lambda *values: calls.append(values[0]))
    assert [row["epoch"] for row in result["epochs"]] == [1, 2, 3]
    assert result["timing"]["best_epoch"] == 2
    assert "3 epochs (best: 2)" in result_table(result)
    assert calls == [0, 1, 2]  # RecBole's index
    assert steps == [1, 2, 3]
    folder = Path(result["folder"])
    assert [row["epoch"] for row in json.loads((folder / "epochs.json").read_text())] == [1, 2, 3]
    assert json.loads((folder / "manifest.json").read_text())["timing"]["best_epoch"] == 2
    state = checkpoint.read(result["checkpoint"])
    assert (state["epoch"], [row["epoch"] for row in state["epochs_done"]]) == (1, [1, 2])
    log = folder / LOG
    numbers = re.findall(r"epoch (\d+) (training|evaluating)", log.read_text())
    assert numbers == [(str(number), what) for number in (1, 2, 3) for what in ("training", "evaluating")]
    assert "best eval result in epoch 2" in log.read_text()


def test_a_resumed_run_finds_its_best_epoch_and_goes_on_counting(settings, monkeypatch):
    monkeypatch.setattr(Training, "_improves", lambda self, score: not self.epochs_done)  # the first is the best
    more = {**settings, "epochs": 2, "save_last_every": 1, "state": "INFO", "stopping_step": 9}
    half = run("BPR", "board", config_dict=more)
    rest = run(resume=half["checkpoint"].replace(".pth", "-last.pth"), config_dict={"epochs": 3})
    assert [row["epoch"] for row in rest["epochs"]] == [1, 2, 3]
    assert rest["timing"]["best_epoch"] == 1
    assert rest["test_result"] == half["test_result"]  # of the first epoch's weights
    log = Path(rest["folder"]) / LOG
    assert "Resume after epoch 2 of" in log.read_text()
    assert "epoch 3 training" in log.read_text()


def test_the_progress_bar_shows_the_number_and_code_gets_the_index():
    index = epochs.Index(4)
    assert f"Train {index:>5}" == "Train     5"
    assert (index + 1, index % 2, index == 4, str(index)) == (5, 0, True, "4")


def test_loops_of_recboles_own_are_logged_from_one(settings):
    """S3Rec, NCL and RaCT keep RecBole's loop, whose lines count from 0."""
    own = {"pretrain_epochs": 1, "train_stage": "actor_pretrain", "save_step": 1, "epochs": 2, "state": "INFO"}
    log = Path(run("RaCT", "board", config_dict={**settings, **own})["folder"]) / LOG
    numbers = re.findall(r"epoch (\d+) training", log.read_text())
    assert numbers
    assert "0" not in numbers


def test_only_epochs_are_renumbered(caplog):
    class Trainer:
        logger = logging.getLogger("test_epochs")

    trainer = Trainer()
    before = trainer.logger
    with caplog.at_level("INFO"), epochs.logged_from_one(trainer):
        trainer.logger.info("\x1b[1;32mepoch 9 training\x1b[0m [time: 0.5s, train loss: 9.0000]")
        trainer.logger.info("best eval result in epoch 0")
    assert [record.getMessage() for record in caplog.records] == [
        "\x1b[1;32mepoch 10 training\x1b[0m [time: 0.5s, train loss: 9.0000]",
        "best eval result in epoch 1",
    ]
    assert trainer.logger is before
