"""Hooks: their defaults, their older names, and misspelt ones."""

from __future__ import annotations

import pytest
import torch
from recbole.model.general_recommender.bpr import BPR
from torch import nn

from recbole_diffusion import registry, run
from recbole_diffusion.model import hooks
from recbole_diffusion.model.geometry.space import FLAT, Lorentz
from recbole_diffusion.model.hooks import Hooks


class Plain(nn.Module):
    """A model of somebody who does not know the hooks."""


class Older(nn.Module):
    averaged = False
    denoiser_calls = 5


class Own(Hooks, nn.Module):
    loss_reduction = "sum"
    nfe = 7

    def __init__(self):
        super().__init__()
        self.space = Lorentz(2.0)

    def parameter_groups(self):
        return [{"params": [], "lr": 3.0}]


def test_a_model_without_hooks_has_the_defaults():
    asked = hooks.of(Plain())
    assert asked.make_optimizer(0.1, 0.0) is None
    assert asked.parameter_groups() is None
    assert asked.end_epoch() is None
    assert asked.begin_evaluation("valid", lambda: None) is None
    assert asked.project() is None
    assert (asked.space, asked.loss_reduction, asked.nfe) == (FLAT, "mean", 1)


def test_older_names_count_with_and_without_the_mixin():
    for model in (Older(), type("Mixed", (Hooks, Older), {})()):
        assert (hooks.of(model).loss_reduction, hooks.of(model).nfe) == ("sum", 5)
        assert not hooks.averages(model)


def test_what_a_model_overrides_is_used():
    model = Own()
    assert hooks.of(model) is model
    assert (model.nfe, model.loss_reduction, model.space.curvature) == (7, "sum", 2.0)
    assert hooks.of(model).parameter_groups() == [{"params": [], "lr": 3.0}]
    model.loss_reduction = "average"
    with pytest.raises(ValueError, match=r"Own.loss_reduction='average' is not allowed; allowed: mean, sum"):
        hooks.averages(model)


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        ("on_epoch_end", "end_epoch"),
        ("epoch_end", "end_epoch"),
        ("end_epochs", "end_epoch"),
        ("on_train_epoch_end", "end_epoch"),
        ("after_epoch", "end_epoch"),
        ("parameters_groups", "parameter_groups"),
        ("param_groups", "parameter_groups"),
        ("begin_eval", "begin_evaluation"),
        ("on_evaluation_start", "begin_evaluation"),
        ("begin_evaluations", "begin_evaluation"),
        ("make_optimiser", "make_optimizer"),
        ("configure_optimizers", "make_optimizer"),
        ("loss_reductions", "loss_reduction"),
        ("from_states", "from_state"),
    ],
)
def test_a_misspelt_hook_is_refused(name, hook):
    kind = type("Slip", (BPR,), {name: lambda self: None, "__module__": "theirs"})
    with pytest.raises(ValueError, match=rf"^Slip.{name} looks like the hook {hook} and is none: [^\n]*$"):
        hooks.check(kind)
    hooks.check(type("Fine", (BPR,), {f"_{name}": lambda self: None, "__module__": "theirs"}))


@pytest.mark.parametrize("name", ["states", "tangent_space", "projected", "spaces_of", "loss", "forward", "evaluate"])
def test_other_names_are_left_alone(name):
    hooks.check(type("Fine", (BPR,), {name: lambda self: None, "__module__": "theirs"}))


def test_none_of_our_models_nor_of_recboles_is_refused():
    for name in [*(spec.name for spec in registry.ours()), "LightGCN", "SASRec", "NCL", "MultiVAE", "EASE"]:
        hooks.check(registry.get_model(name))


class Slip(BPR):
    def on_epoch_end(self):
        raise AssertionError("never called")


def test_it_is_refused_when_the_model_is_built_under_both_runners(settings):
    from recbole_diffusion.training.trainer import Training

    with pytest.raises(ValueError, match=r"Slip.on_epoch_end looks like the hook end_epoch"):
        run(Slip, "board", config_dict={**settings, "epochs": 1, "embedding_size": 4}, saved=False)
    with pytest.raises(ValueError, match=r"Slip.on_epoch_end looks like the hook end_epoch"):
        hooks.build(Slip, None, None)  # before anything is built
    with pytest.raises(ValueError, match=r"Slip.on_epoch_end looks like the hook end_epoch"):
        Training.__init__(object.__new__(Training), {}, Slip.__new__(Slip))


class Counted(BPR):
    """Calls in order."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.calls = []

    def make_optimizer(self, learning_rate, weight_decay):
        self.calls.append(("make_optimizer", learning_rate))
        return torch.optim.SGD(self.parameters(), learning_rate)

    def end_epoch(self):
        self.calls.append("end_epoch")

    def begin_evaluation(self, phase, valid_pairs):
        self.calls.append((phase, len(valid_pairs())))


def test_the_trainer_calls_them_in_order(built):
    from recbole_diffusion.training.trainer import trainer_class

    config, model, _, loaders = built(Counted, epochs=2, embedding_size=4, learning_rate=0.5)
    trainer = trainer_class(registry.get_trainer(config["MODEL_TYPE"], Counted, "Counted"))(config, model)
    trainer.fit(*loaders[:2], saved=False, verbose=False)
    trainer.evaluate(loaders[2], load_best_model=False)
    pairs = len(loaders[1]._dataset)
    valid = ("valid", pairs)
    assert model.calls == [("make_optimizer", 0.5), "end_epoch", valid, "end_epoch", valid, ("test", pairs)]
