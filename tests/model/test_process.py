"""``process_of``: the parts that each family's settings describe, and what counts as a network call."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import pytest
import torch

from recbole_diffusion.diffusion import AffineSolver, GaussianDiffusion, IdentityProcess, UniformTimesteps
from recbole_diffusion.diffusion.flow import LinearFlow
from recbole_diffusion.diffusion.timestep import LossSecondMomentTimesteps
from recbole_diffusion.model.networks.denoiser import RowMLP
from recbole_diffusion.model.process import make_parts, process_of
from recbole_diffusion.model.process_settings import ProcessSettings
from recbole_diffusion.training import run_cost

NOISE = {"noise_schedule": "linear", "noise_scale": 1.0, "noise_min": 0.01, "noise_max": 0.2, "beta_fixed": False}
PAIRS = {
    **NOISE,
    "steps": 4,
    "prediction_type": "x0",
    "infer_factor": 1.5,
    "inference_steps": None,
    "sampling_steps": None,
}
PAIRS |= {"sampling_noise": False}
DIFFUREC = {"steps": 32, "noise_schedule": "sqrt", "inference_steps": None, "inference_eta": 0.0}
DIFFUREC |= {"lambda_uncertainty": 0.1, "lambda_std": None, "rescale_timesteps": True}


@pytest.mark.parametrize(
    ("part", "names"),
    [
        (GaussianDiffusion, ("first_step_weight",)),
        (LinearFlow, ("t_max", "source_std")),
        (LossSecondMomentTimesteps, ("history", "uniform_prob")),
    ],
)
def test_settings_that_are_left_out_are_the_defaults_of_the_part(part, names):
    parameters, settings = inspect.signature(part.__init__).parameters, ProcessSettings(steps=4)
    assert [parameters[name].default for name in names] == [getattr(settings, name) for name in names]


def test_pairs_may_have_more_calls_than_steps():
    process, solver, times, noised = process_of(PAIRS, "embeddings")
    assert isinstance(process, GaussianDiffusion)
    assert type(times) is UniformTimesteps
    assert [step.t for step in solver.steps] == [5, 4, 3, 2, 1, 0]
    assert (solver.nfe, solver.stochastic, noised) == (6, False, 4)
    assert process_of({**PAIRS, "inference_steps": 0}, "embeddings").solver.nfe == 0
    assert process_of({**PAIRS, "sampling_noise": True}, "embeddings").solver.stochastic
    with pytest.raises(ValueError, match="sampling_steps=5 is more than steps=4"):
        process_of({**PAIRS, "sampling_steps": 5}, "embeddings")


def test_no_noise_is_the_identity_and_the_start_is_not_noised():
    process, solver, _, noised = process_of({**PAIRS, "noise_scale": 0}, "embeddings")
    assert isinstance(process, IdentityProcess)
    assert (solver.nfe, solver.stochastic, noised) == (6, False, 0)


@pytest.mark.parametrize(
    ("more", "times", "noisy"),
    [
        ({}, list(range(31, -1, -1)), True),
        ({"inference_steps": 2}, [31, 0], False),
        ({"inference_steps": 2, "inference_eta": 1.0}, [31, 0], True),
        ({"lambda_uncertainty": 0.0}, [0], False),
        ({"lambda_uncertainty": 0.0, "lambda_std": 0.1}, list(range(31, -1, -1)), True),
        ({"lambda_std": 0.0, "inference_steps": 1}, [31], False),
    ],
    ids=str,
)
def test_diffurecs_chain(more, times, noisy):
    process, solver, *_ = process_of({**DIFFUREC, **more}, "DiffuRec")
    assert [step.t for step in solver.steps] == times
    assert solver.stochastic is noisy
    assert (process.steps, process.time_scale) == (32, 1000 / 32)


def test_cddrec_has_a_linear_schedule_and_one_call():
    process, solver, *_ = process_of({"steps": 3, "beta_start": 0.1, "beta_end": 0.3}, "CDDRec")
    torch.testing.assert_close(process.betas, torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64))
    assert solver.nfe == 1


def test_an_unknown_process_is_named():
    with pytest.raises(ValueError, match=r"process='graph' is not allowed; allowed: gaussian \| flow"):
        make_parts(ProcessSettings(steps=3, process="graph"))


def test_network_calls_are_read_by_the_new_and_the_former_name():
    calls = [{"nfe": 7}, {"nfe": None}, {"denoiser_calls": 3}, {}]
    assert [run_cost.nfe_of({}, SimpleNamespace(**each)) for each in calls] == [7, None, 3, 1]


class Doubled(RowMLP):
    """Another forward and the inherited chain."""

    def forward(self, x, t):
        return 2 * super().forward(x, t)


class Folding(Doubled):
    """Another forward with a chain of its own."""

    def chain(self, x, steps):
        return x


def test_a_network_with_another_forward_does_not_take_the_inherited_chain():
    made = {kind: kind([6, 3, 6], time_size=2).eval() for kind in (RowMLP, Doubled, Folding)}
    assert [net.folds for net in made.values()] == [True, False, True]
    x, solver = torch.rand(2, 6), AffineSolver(IdentityProcess(1).iterated_steps(1))
    with torch.no_grad():
        zero = torch.zeros(2, dtype=torch.int64)
        torch.testing.assert_close(solver.solve(made[Doubled], x), made[Doubled](x, zero))
        assert torch.equal(solver.solve(made[Folding], x), x)
    assert not made[RowMLP].train().folds
    assert not RowMLP([6, 3, 6], time_size=2, normalize=True).eval().folds


def test_times_are_scaled_before_they_are_embedded():
    torch.manual_seed(0)
    net = RowMLP([6, 3, 6], time_size=4, time_scale=10.0).eval()
    plain = RowMLP([6, 3, 6], time_size=4).eval()
    plain.load_state_dict(net.state_dict())
    x = torch.rand(2, 6)
    with torch.no_grad():
        found = net(x, torch.tensor([0.1, 0.5]))
        torch.testing.assert_close(found, plain(x, torch.tensor([1, 5])))
        assert not torch.allclose(found, plain(x, torch.tensor([0, 0])))
