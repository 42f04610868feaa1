"""enable(): RecBole's unmodified entry points use our models; disable() takes it back."""

from __future__ import annotations

import random
import subprocess
import sys
import types

import pytest
import torch

import recbole_diffusion
from recbole_diffusion.compat import repairs
from recbole_diffusion.support import trusted_files

OURS = "recbole_diffusion.model.general_recommender.diffrec"
QUICK = {"epochs": 1, "steps": 3, "dims": [16]}


@pytest.fixture
def theirs(monkeypatch, numpy_restored):
    """RecBole's own quick_start, under enable(), with a command line that is nobody's."""
    monkeypatch.setattr(sys, "argv", ["script.py"])
    recbole_diffusion.enable()
    return repairs.quick_start_module()


def ours(model, settings, **more):
    """What our own runner gives, without a checkpoint."""
    return recbole_diffusion.run(model, "board", config_dict={**settings, **more}, saved=False)


def test_run_recbole_runs_ours_with_our_defaults(theirs, settings, monkeypatch):
    built = []
    original = theirs.get_trainer

    def get_trainer(kind, name):
        found = original(kind, name)

        def make(config, model):
            built.append((type(model).__module__, dict(config.final_config_dict)))
            return found(config, model)

        return make

    monkeypatch.setattr(theirs, "get_trainer", get_trainer)
    result = theirs.run_recbole(model="DiffRec", dataset="board", config_dict={**settings, **QUICK})
    assert result["test_result"] == ours("DiffRec", settings, **QUICK)["test_result"]
    (module, config), *_ = built
    assert module == OURS
    assert config["test_input"] == "train"
    assert config["dims"] == [16]
    assert config["noise_schedule"] == "linear-var"


@pytest.mark.parametrize("model", ["LightGCN", "BPR"])
def test_run_recbole_still_runs_recboles_models(model, theirs, settings):
    result = theirs.run_recbole(model=model, dataset="board", config_dict={**settings, "epochs": 1})
    assert result["test_result"] == ours(model, settings, epochs=1)["test_result"]


def test_load_data_and_model_and_case_study(theirs, settings):
    import numpy as np
    from recbole.utils.case_study import full_sort_topk

    result = recbole_diffusion.run("DiffRec", "board", config_dict={**settings, **QUICK})
    recbole_diffusion.enable()
    config, model, _, _, _, test = theirs.load_data_and_model(result["checkpoint"])
    assert type(model).__module__ == OURS
    assert config["dims"] == [16]
    state = torch.load(result["checkpoint"], weights_only=True)["state_dict"]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    model.eval()
    _, items = full_sort_topk(np.array([1, 2, 3]), model, test, k=5)
    assert items.shape == (3, 5)


def test_recboles_own_run_writes_a_file_that_our_loader_reads_safely(theirs, settings):
    theirs.run_recbole(model="DiffRec", dataset="board", config_dict={**settings, **QUICK})
    from pathlib import Path

    (file,) = Path("saved").glob("DiffRec-*.pth")
    trusted_files._trusted.clear()
    loaded = recbole_diffusion.load(file)
    assert loaded.config["dims"] == [16]


def test_hyper_tuning_objective(theirs, settings):
    result = theirs.objective_function(
        config_dict={**settings, **QUICK, "model": "DiffRec", "dataset": "board"}, saved=False
    )
    assert result["model"] == "DiffRec"
    expected = ours("DiffRec", settings, **QUICK)
    assert result["best_valid_score"] == expected["best_valid_score"]
    assert result["test_result"] == expected["test_result"]


def test_user_wise_loader_and_trainer_are_ours(theirs, settings):
    from recbole.config import Config
    from recbole.data.utils import get_dataloader
    from recbole.utils import get_model, get_trainer

    config = Config(model="DiffRec", dataset="board", config_dict=dict(settings))
    assert get_dataloader(config, "train").__module__ == "recbole_diffusion.data.loaders"
    assert get_trainer(config["MODEL_TYPE"], "DiffRec").__mro__[1].__name__ == "Training"
    assert get_model("DiffRec").__module__ == OURS
    config = Config(model="BPR", dataset="board", config_dict=dict(settings))
    assert get_dataloader(config, "train").__module__.startswith("recbole.")


def test_counting_flops_leaves_the_random_state(theirs):
    import logging

    class Drawing:
        """What get_flops gets as a model: it draws when it is asked."""

    def draws(*_):
        torch.rand(5)
        random.random()
        return 1

    def fails(*_):
        raise AssertionError

    for original, expected in ((draws, 1), (fails, "not counted: predict() is not implemented")):
        theirs.get_flops, kept = original, theirs.get_flops
        undo = repairs.flops_without_side_effects(theirs)
        before, python = torch.get_rng_state(), random.getstate()
        assert theirs.get_flops(Drawing(), None, None, logging, None) == expected
        assert torch.equal(torch.get_rng_state(), before)
        assert random.getstate() == python
        undo()
        theirs.get_flops = kept


def test_enable_twice_is_enable_once_and_disable_restores():
    import recbole.config.configurator
    import recbole.data.utils
    import recbole.trainer
    import recbole.utils.utils

    repairs.quick_start_module()
    owners = [recbole.utils, recbole.utils.utils, recbole.trainer, recbole.data.utils, recbole.config.configurator]
    owners += [recbole.config.configurator.Config, repairs.quick_start_module(), torch]

    def snapshot():
        return [{name: id(value) for name, value in list(vars(owner).items())} for owner in owners]

    before = snapshot()
    recbole_diffusion.enable()
    during = snapshot()
    recbole_diffusion.enable()
    assert snapshot() == during != before
    recbole_diffusion.disable()
    assert snapshot() == before
    from recbole.utils import get_model

    assert get_model("DiffRec").__module__ == "recbole.model.general_recommender.diffrec"


@pytest.mark.processes
def test_enable_does_not_import_ray():
    code = (
        "import sys, recbole_diffusion; recbole_diffusion.enable();"
        "from recbole.quick_start import run_recbole; assert 'ray' not in sys.modules;"
        "import recbole.quick_start.quick_start as q; q.tune.report(a=1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sampled_evaluation_under_enable(theirs, settings):
    """The negatives that our runner draws, for which the contract suite has an oracle; full evaluation differs."""
    sampled = {**QUICK, "eval_args": {"split": {"RS": [8, 1, 1]}, "mode": "uni20"}}
    result = theirs.run_recbole(model="DiffRec", dataset="board", config_dict={**settings, **sampled})
    assert result["test_result"] == ours("DiffRec", settings, **sampled)["test_result"]
    assert result["test_result"] != ours("DiffRec", settings, **QUICK)["test_result"]


def test_enable_does_not_change_our_own_runner(settings):
    from recbole_diffusion.quick_start import configure

    before = [configure(name, "board", config_dict=settings).plain() for name in ("DiffRec", "recbole:DiffRec")]
    recbole_diffusion.enable()
    after = [configure(name, "board", config_dict=settings).plain() for name in ("DiffRec", "recbole:DiffRec")]
    assert after == before
    assert before[1]["noise_schedule"] == "linear"


@pytest.mark.parametrize("takes", ["keywords", "a dict"])
def test_tune_report_suits_old_and_new_ray_also_when_ray_was_imported_before(takes, theirs, monkeypatch):
    reported = []

    def old(**metrics):
        reported.append(metrics)

    def new(metrics):
        reported.append(metrics)

    ray, tune = types.ModuleType("ray"), types.ModuleType("ray.tune")
    tune.report = old if takes == "keywords" else new
    ray.tune = tune
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.tune", tune)
    theirs.tune.report(**{"recall@10": 0.5})
    assert reported == [{"recall@10": 0.5}]


@pytest.mark.parametrize(("model", "length", "masked"), [("CDDRec", 20, True), ("DiffuRec", 50, False)])
def test_sequential_models_under_enable(model, length, masked, theirs, settings, monkeypatch):
    """Their own length against RecBole's files of data sets, the training rows of their data set, the past masked."""
    seen = []
    original = theirs.data_preparation

    def data_preparation(config, dataset):
        seen.append((config, original(config, dataset)))
        return seen[-1][1]

    monkeypatch.setattr(theirs, "data_preparation", data_preparation)
    small = {"hidden_size": 8, "n_heads": 2, "n_layers": 1, "epochs": 1, "eval_step": 1, "steps": 2}
    small["train_neg_sample_args"] = None
    result = theirs.run_recbole(model=model, dataset="board", config_dict={**settings, **small})
    assert result["test_result"] == ours(model, settings, **small)["test_result"]
    ((config, loaders),) = seen
    assert config["MAX_ITEM_LIST_LENGTH"] == length
    assert (loaders[2].seen_items is not None) == masked
    assert len(loaders[0]._dataset) == (64 if model == "CDDRec" else 797)
