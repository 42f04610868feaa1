"""Each test of the contract suite that reads scores fails for a model with the fault that it is there for."""

from __future__ import annotations

import copy

import pytest
import torch

from recbole_diffusion import quick_start
from recbole_diffusion.compat import repairs
from recbole_diffusion.testing import SETTINGS, ContractTests, quick, write_board
from recbole_diffusion.testing.contract import Trained

pytestmark = pytest.mark.xdist_group("contract can fail")  # its models are trained once


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    write_board(folder / "dataset")
    places = {"data_path": str(folder / "dataset"), "checkpoint_dir": str(folder), "output_dir": str(folder)}
    result = quick_start.run("DiffRec", "board", config_dict={**SETTINGS, **places, **quick("DiffRec")})
    config, model, dataset, *loaders = quick_start.load(result["checkpoint"])
    return Trained(result, config, model, dataset, tuple(loaders))


@pytest.fixture
def trained(sound):
    """With a model of the test's own, to spoil."""
    repairs.apply()  # which the test before has taken back
    return sound._replace(model=copy.deepcopy(sound.model))


def spoil(trained, monkeypatch, name, change):
    """Let a method return something else."""
    original = getattr(trained.model, name)
    monkeypatch.setattr(trained.model, name, lambda *args: change(original(*args)))


def padding_first(scores):
    scores[:, 0] = scores[:, 1:].max() + 1
    return scores


def suite_of(trained, monkeypatch):
    suite = type("TestSuite", (ContractTests,), {"model": "DiffRec"})()
    return {
        "learns": lambda: suite.test_the_checkerboard_is_learnt(trained),
        "predict": lambda: suite.test_scores_have_the_right_shape_and_predict_is_their_gather(trained),
        "padding": lambda: suite.test_the_padding_item_is_never_recommended(trained),
        "twice": lambda: suite.test_two_evaluations_agree_and_leave_the_random_state(trained),
        "sampled": lambda: suite.test_sampled_evaluation_ranks_as_the_full_scores("uni20", trained, monkeypatch),
        "copy": lambda: suite.test_a_copy_scores_the_same_and_its_training_leaves_the_original(trained),
        "saved": lambda: suite.test_a_saved_model_is_loaded_with_the_same_scores(trained),
        "falls": lambda: suite.test_the_loss_is_finite_and_falls(trained),
    }


def test_a_sound_model_passes(trained, monkeypatch):
    for test in suite_of(trained, monkeypatch).values():
        test()


@pytest.mark.parametrize(
    ("method", "change", "failing"),
    [
        ("full_sort_predict", lambda scores: -scores, {"learns", "twice", "padding"}),
        ("full_sort_predict", padding_first, {"padding"}),
        ("predict", lambda scores: scores + 1, {"predict"}),
        ("full_sort_predict", lambda scores: scores + 0.1 * torch.rand_like(scores), {"predict", "copy", "saved"}),
    ],
    ids=["reversed", "padding", "predict", "noise"],
)
def test_wrong_scores_are_found(method, change, failing, trained, monkeypatch):
    spoil(trained, monkeypatch, method, change)
    for name in failing:
        with pytest.raises(AssertionError):
            suite_of(trained, monkeypatch)[name]()


def test_a_wrong_ranking_of_sampled_candidates_is_found(trained, monkeypatch):
    """``predict``, which sampled evaluation asks, disagrees with the full scores."""
    kind = type(trained.model)
    original = kind.predict
    monkeypatch.setattr(kind, "predict", lambda self, interaction: -original(self, interaction))
    with pytest.raises(AssertionError):
        suite_of(trained, monkeypatch)["sampled"]()


def test_a_copy_that_shares_weights_is_found(trained, monkeypatch):
    monkeypatch.setattr(type(trained.model), "__deepcopy__", lambda self, memo: copy.copy(self), raising=False)
    with pytest.raises(AssertionError):
        suite_of(trained, monkeypatch)["copy"]()


def test_a_loss_that_does_not_fall_is_found(trained, monkeypatch):
    rows = [{**row, "train_loss": 1.0} for row in trained.result["epochs"]]
    flat = trained._replace(result={**trained.result, "epochs": rows})
    with pytest.raises(AssertionError):
        suite_of(flat, monkeypatch)["falls"]()


def test_weights_that_were_not_saved_are_found(trained, monkeypatch):
    with torch.no_grad():
        next(trained.model.parameters()).add_(1.0)
    with pytest.raises(AssertionError):
        suite_of(trained, monkeypatch)["saved"]()
