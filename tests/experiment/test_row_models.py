"""The commands on the models of users' rows beside DiffRec's family: graph diffusion, discrete flow, closed forms."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import SMALL

import recbole_diffusion
from recbole_diffusion import distributed, quick_start, run
from recbole_diffusion.compat import repairs
from recbole_diffusion.experiment import study
from recbole_diffusion.experiment.compare import compare
from recbole_diffusion.experiment.evaluate import checkpoints
from recbole_diffusion.experiment.robustness import robustness
from recbole_diffusion.experiment.tune import tune
from recbole_diffusion.testing import quick, write_board

#: Its models are trained once.
pytestmark = [pytest.mark.xdist_group("row models"), pytest.mark.usefixtures("no_plots")]

#: Number of steps of the reverse process that ranks, by model.
TRAINED = {"GiffCF": 3, "FlowCF": 2}
CLOSED_FORM = ["SGFCF", "BSPM", "GFCF", "TurboCF", "TEASE"]
MODELS = [*TRAINED, *CLOSED_FORM]


def small(model: str) -> dict[str, Any]:
    return {**quick(model), "epochs": 2} if model in TRAINED else quick(model)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """``checkpoint(model)``: result of a run on the checkerboard; each model is trained once."""
    folder, done = tmp_path_factory.mktemp("rows"), {}
    data = str(write_board(folder / "dataset"))

    def result(model):
        if model not in done:
            places = {"checkpoint_dir": str(folder / "saved"), "output_dir": str(folder / "outputs")}
            done[model] = run(model, "board", config_dict={**SMALL, "data_path": data, **places, **small(model)})
        return done[model]

    return result


@pytest.mark.parametrize("model", MODELS)
def test_a_checkpoint_ranks_as_its_run_did(model, checkpoint):
    loaded = quick_start.load(checkpoint(model)["checkpoint"])
    assert checkpoints.evaluate(loaded, "test").metrics == checkpoint(model)["test_result"]


@pytest.mark.parametrize("model", MODELS)
def test_run_recbole_under_enable_gives_the_same(model, settings, numpy_restored):
    own = {**settings, **small(model)}
    recbole_diffusion.enable()
    theirs = repairs.quick_start_module().run_recbole(model=model, dataset="board", config_dict=own)
    assert theirs["test_result"] == run(model, "board", config_dict=own, saved=False)["test_result"]


@pytest.mark.parametrize(("model", "steps"), TRAINED.items())
def test_steps_and_ablation_of_a_reverse_process(model, steps, checkpoint):
    result = study.steps(checkpoint(model)["checkpoint"], [1, steps], split="test", folder="s", progress=str)
    trained, one, full = result.rows
    assert (trained.nfe, one.nfe, full.nfe) == (steps, 1, steps)
    assert trained.metrics == full.metrics == checkpoint(model)["test_result"]
    loaded = quick_start.load(checkpoint(model)["checkpoint"], config_dict={"inference_steps": 1})
    assert one.metrics == checkpoints.evaluate(loaded, "test").metrics
    ablation = study.ablate(checkpoint(model)["checkpoint"], folder="a", progress=str)
    rows = {row.label: row for row in ablation.rows}
    assert rows["full chain"].metrics == checkpoint(model)["test_result"]
    assert rows["one call"].metrics == one.metrics
    assert rows["no call"].nfe == 0
    assert {"x_t = noise", "x_t = 0", "another user's condition"} <= {*rows}


@pytest.mark.parametrize("model", CLOSED_FORM)
def test_a_closed_form_has_no_steps_and_is_not_trained_by_several_processes(model, checkpoint, settings):
    with pytest.raises(ValueError, match=rf"^{model} has no reverse process, so that there are no steps to vary$"):
        study.steps(checkpoint(model)["checkpoint"], [1], folder="s", progress=str)
    ablation = study.ablate(checkpoint(model)["checkpoint"], folder="a", progress=str)
    assert [row.label for row in ablation.rows] == ["full chain"]
    assert ablation.rows[0].nfe == 0
    with pytest.raises(ValueError, match=rf"^nproc is of no use to {model}, which is not trained by gradients"):
        distributed.run(model, "board", config_dict=settings, nproc=2)


def test_a_comparison_of_all(settings):
    own = {model: {**small(model), "epochs": 1} for model in MODELS}
    store = compare(MODELS, ["board"], [1], "here", settings, own)
    keys = {model["label"]: model["runs"]["board"][0] for model in store.plan()["models"]}
    assert set(keys) == set(MODELS)
    for model, key in keys.items():
        record = store.record(key)
        alone = run(model, "board", config_dict={**record["settings"], "seed": 1, "show_progress": False}, saved=False)
        assert record["test"] == alone["test_result"]


@pytest.mark.parametrize("model", ["FlowCF", "SGFCF", "TEASE"])
def test_noise_in_the_training_data_changes_what_is_fitted(model, settings):
    result = robustness([model], "board", ratios=[0, 1.0], seeds=[1], folder="here", settings={**settings, "epochs": 1})
    assert result.failed == 0
    assert result.row(model, 1.0)["mean"] < result.row(model, 0)["mean"]


@pytest.mark.parametrize("model", MODELS)
def test_a_search_over_the_models_own_space(model, settings):
    result = tune(
        model,
        "board",
        2,
        settings={**settings, "epochs": 1},
        executor="serial",
        scheduler="none",
        show=False,
        folder="t",
    )
    assert sorted(result.records) == [0, 1]
    assert result.records[1]["chosen"] != result.records[0]["chosen"]
