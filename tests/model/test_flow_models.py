"""``process: flow`` on DiffRec's rows and latents: it learns, its keys do what they say, Euler's chain is folded."""

from __future__ import annotations

import pytest
import torch

from recbole_diffusion import registry
from recbole_diffusion.diffusion import AffineSolver, LinearFlow, OdeSolver
from recbole_diffusion.model.networks.denoiser import RowMLP
from recbole_diffusion.testing import quick, users_of
from recbole_diffusion.training.trainer import trainer_class

FLOW = {"process": "flow"}
STEPS = {"steps": 4, "dims": [16]}
USERS = torch.arange(1, 9)


def preferred(built, name, **settings):
    """Train on the checkerboard: how many of 64 users have an item of their parity first, and the model."""
    config, model, dataset, loaders = built(name, **settings)
    trainer = trainer_class(registry.get_trainer(config["MODEL_TYPE"], name, name))(config, model)
    trainer.fit(*loaders[:2], saved=False, verbose=False)
    model.eval()
    asked = users_of(loaders, 64)
    unseen = model.full_sort_predict(asked)[:, 1:].masked_fill(model.history.rows(asked["user_id"]) > 0, -torch.inf)
    items = torch.tensor([int(token[1:]) for token in dataset.field2id_token["item_id"][1:]])
    users = torch.tensor([int(token[1:]) for token in dataset.field2id_token["user_id"][asked["user_id"]]])
    return int((items[unseen.argmax(dim=1)] % 2 == users % 2).sum()), model


@pytest.mark.parametrize(
    ("name", "more", "nfe"),
    [
        ("DiffRec", {}, 5),
        ("DiffRec", {"prediction_type": "v", "timestep_sampling": "uniform"}, 5),
        ("DiffRec", {"solver": "heun"}, 9),
        ("TDiffRec", {"prediction_type": "v", "solver": "midpoint", "inference_steps": 2}, 4),
        ("LDiffRec", {"n_cate": 1}, 5),
    ],
    ids=str,
)
def test_a_flow_learns_the_checkerboard(name, more, nfe, built):
    right, model = preferred(built, name, **{**quick(name), "stopping_step": 60, **FLOW, **more})
    assert right >= 62
    assert model.nfe == nfe


@pytest.mark.parametrize("prediction_type", ["x0", "v"])
def test_eulers_steps_are_folded_and_equal_the_plain_loop(prediction_type, built, monkeypatch):
    _, model, *_ = built("DiffRec", **STEPS, **FLOW, prediction_type=prediction_type)
    diffusion, calls = model.double().eval().diffusion, []
    chain = RowMLP.chain
    monkeypatch.setattr(RowMLP, "chain", lambda net, x, steps: calls.append(len(steps)) or chain(net, x, steps))
    rows = torch.rand(8, 40, dtype=torch.float64)
    with torch.no_grad():
        folded = diffusion.denoise(rows)
        assert calls == [4]
        plain = diffusion.denoise(rows, callback=lambda t, out, x: None)
        diffusion.solver = OdeSolver(diffusion.process.grid(4), "euler", diffusion.process.velocity)
        ode = diffusion.denoise(rows)
    assert calls == [4]
    torch.testing.assert_close(folded, plain, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ode, plain, rtol=1e-12, atol=1e-12)
    assert (plain - rows).abs().max() > 1e-3


def test_an_affine_network_is_solved_exactly_up_to_the_order(built):
    """With no activation the velocity is affine in x; twice the steps bring the result that much nearer."""
    results = {}
    for solver in ("euler", "midpoint", "heun"):
        for steps in (16, 32, 1024):
            keys = {"mlp_act_func": "none", "prediction_type": "v", "t_max": 1.0, "time_scale": 1e-9}
            _, model, *_ = built("DiffRec", dims=[16], steps=steps, solver=solver, **FLOW, **keys)
            rows = torch.linspace(-1, 1, 320, dtype=torch.float64).view(8, 40)
            with torch.no_grad():
                results[solver, steps] = model.double().eval().diffusion.denoise(rows)
    exact = results["heun", 1024]
    torch.testing.assert_close(results["midpoint", 1024], exact, rtol=1e-5, atol=1e-6)
    for solver, order in (("euler", 1), ("midpoint", 2), ("heun", 2)):
        errors = [float((results[solver, steps] - exact).abs().max()) for steps in (16, 32)]
        assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.2)


@pytest.mark.parametrize(
    "more", [{"sampling_steps": 3}, {"solver": "heun", "sampling_steps": 4}, {"norm": True}], ids=str
)
def test_scores_do_not_depend_on_the_batch(more, built):
    _, model, *_ = built("DiffRec", **STEPS, **FLOW, **more)
    model.eval()
    whole = model.full_sort_predict({"user_id": USERS})
    torch.testing.assert_close(model.full_sort_predict({"user_id": USERS[[4, 1]]}), whole[[4, 1]], rtol=1e-4, atol=1e-5)
    assert torch.equal(model.full_sort_predict({"user_id": USERS}), whole)


def test_the_keys_of_a_flow_reach_its_parts(built):
    keys = {"t_max": 0.3, "source_std": 2.0, "time_scale": 50.0, "prediction_type": "v", "solver": "midpoint"}
    _, model, *_ = built("DiffRec", **STEPS, **FLOW, **keys, inference_steps=3, sampling_steps=2)
    diffusion = model.diffusion
    flow = diffusion.process
    assert isinstance(flow, LinearFlow)
    assert (flow.t_max, flow.source_std, flow.time_scale, flow.prediction_type) == (0.3, 2.0, 50.0, "v")
    assert diffusion.denoiser.time_scale == 50.0
    assert diffusion.solver.grid == pytest.approx([0.225, 0.15, 0.075, 0.0])
    assert (diffusion.sampling_steps, diffusion.timesteps.end, diffusion.timesteps.steps) == (2, 0.3, 4)
    _, model, *_ = built("DiffRec", **STEPS, time_scale=3.0)
    assert model.diffusion.denoiser.time_scale == model.diffusion.process.time_scale == 3.0


def test_without_noise_a_flow_is_the_identity_too(built):
    _, model, *_ = built("DiffRec", **STEPS, **FLOW, noise_scale=0)
    assert isinstance(model.diffusion.solver, AffineSolver)
    assert [step[1:] for step in model.diffusion.reverse] == [(0.0, 1.0, 0.0)] * 4


def test_the_loss_is_that_of_flow_matching(built):
    _, model, *_ = built("DiffRec", **STEPS, **FLOW, prediction_type="v", dropout_prob=0.0)
    rows, noise = model.history.rows(USERS), torch.randn(8, 40)
    t = torch.full((8,), 0.25, dtype=torch.float64)
    loss = model.diffusion.row_loss(rows, t, noise).loss
    out = model.diffusion.denoiser(0.75 * rows + 0.25 * noise, t)
    torch.testing.assert_close(loss, (out - (noise - rows)).square().mean(dim=1).double())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"prediction_type": "eps"}, r"prediction_type='eps' is not allowed with process='flow'; allowed: x0 \| v"),
        ({"sampling_noise": True}, "sampling_noise=True is not allowed with process='flow'"),
        ({"solver": "rk4"}, r"solver='rk4' is not allowed; allowed: euler \| midpoint \| heun"),
        ({"process": "flwo"}, r"process='flwo' is not allowed; allowed: gaussian \| flow"),
        ({"inference_steps": 9}, "inference_steps=9 is more than steps=4; allowed: at most steps"),
        ({"t_max": 0}, "t_max=0 is not allowed"),
    ],
    ids=str,
)
def test_slips_are_named(keys, message, built):
    with pytest.raises(ValueError, match=message):
        built("DiffRec", **{**STEPS, **FLOW, **keys})
