"""Contract tests of copies, checkpoints and resuming."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch

from recbole_diffusion import quick_start
from recbole_diffusion.testing.building import users_of
from recbole_diffusion.testing.model_case import ModelCase, Trained
from recbole_diffusion.training import checkpoint


class CheckpointTests(ModelCase):
    """Copies and saved models score the same; a resumed training equals an uninterrupted one."""

    def test_a_copy_scores_the_same_and_its_training_leaves_the_original(self, trained: Trained) -> None:
        """RecBole copies a model to count its floating point operations."""
        batch = users_of(trained.loaders)
        scores = trained.model.full_sort_predict(batch).clone()
        model_copy = copy.deepcopy(trained.model)
        assert torch.equal(model_copy.full_sort_predict(batch), scores)
        if self.is_closed_form():
            _change_buffers(model_copy)
        else:
            _train_one_step(model_copy, next(iter(trained.loaders[0])))
        assert not torch.equal(model_copy.full_sort_predict(batch), scores)
        assert torch.equal(trained.model.full_sort_predict(batch), scores)

    def test_a_saved_model_is_loaded_with_the_same_scores(self, trained: Trained) -> None:
        if "weights_only" in inspect.signature(torch.load).parameters:  # torch 1.12 has no such reader
            contents = torch.load(trained.result["checkpoint"], weights_only=True)
            assert contents["format"] == checkpoint.FORMAT
        loaded = quick_start.load(trained.result["checkpoint"])
        _assert_equal(loaded.model.state_dict(), trained.model.state_dict())
        batch = users_of(trained.loaders)
        assert torch.equal(loaded.model.full_sort_predict(batch), trained.model.full_sort_predict(batch))

    def test_resume_is_bit_for_bit(self, keys: dict[str, Any]) -> None:
        """1 + 1 epochs equal 2: weights, buffers, moments, losses, metrics; from the best and from the last file.

        A model in closed form has one epoch: a run that resumes after it has the same best file.
        """
        final = _best_checkpoint if self.is_closed_form() else _last_checkpoint
        decay = {"lr_decay_step": 1, "lr_decay_gamma": 0.5}
        common = {**keys, **decay, "save_last_every": 1, "stopping_step": 99}
        uninterrupted = quick_start.run(self.model, "board", config_dict={**common, "epochs": 2})
        first_epoch = quick_start.run(self.model, "board", config_dict={**common, "epochs": 1})
        for file in (first_epoch["checkpoint"], _last_checkpoint(first_epoch)):
            torch.rand(17)  # resuming must restore the random state
            resumed = quick_start.run(self.model, "board", config_dict={**common, "epochs": 2}, resume=file)
            assert resumed["test_result"] == uninterrupted["test_result"]
            assert resumed["best_valid_result"] == uninterrupted["best_valid_result"]
            expected, contents = (checkpoint.read(final(run)) for run in (uninterrupted, resumed))
            for key in ("state_dict", "optimizer", "random", "train_loss_dict"):
                _assert_equal(contents[key], expected[key])


def _train_one_step(model: Any, batch: Any) -> None:
    """Change the parameters along the signs of their gradients."""
    model.train()
    losses = model.calculate_loss(batch)
    torch.stack([*losses] if isinstance(losses, tuple) else [losses]).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0 if parameter.grad is None else 0.1 * parameter.grad.sign()
    model.eval()


def _change_buffers(model: Any) -> None:
    """Multiply each entry of the buffers by a random number."""
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer *= torch.rand_like(buffer)


def _best_checkpoint(result: dict[str, Any]) -> str:
    """Path of the checkpoint of a run's best epoch."""
    return str(result["checkpoint"])


def _last_checkpoint(result: dict[str, Any]) -> str:
    """Path of the checkpoint of a run's last epoch."""
    return str(result["checkpoint"]).replace(".pth", "-last.pth")


def _assert_equal(actual: Any, expected: Any) -> None:
    """Compare nested dicts, lists and tensors for exact equality."""
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key in expected:
            _assert_equal(actual[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected)
        for actual_entry, expected_entry in zip(actual, expected):
            _assert_equal(actual_entry, expected_entry)
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(actual, expected)
    else:
        assert actual == expected
