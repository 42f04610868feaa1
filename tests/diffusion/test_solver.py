"""Solvers: what is exact, how often the network is called, what callbacks see, when a chain is folded."""

from __future__ import annotations

import pytest
import torch

from recbole_diffusion.diffusion import AffineSolver, IdentityProcess, OdeSolver, Step, sample
from recbole_diffusion.diffusion.ode import METHODS

GRID = [1.0, 0.75, 0.5, 0.25, 0.0]


def velocity(out, x, t):
    return out


def start():
    return torch.arange(6, dtype=torch.float64).reshape(3, 2)


@pytest.mark.parametrize("method", METHODS)
def test_polynomials_in_t_up_to_the_order_are_exact(method):
    solver = OdeSolver(GRID, method, velocity)
    torch.testing.assert_close(solver.solve(lambda x, t: torch.full_like(x, 3.0), start()), start() - 3.0)
    linear = solver.solve(lambda x, t: (2 * t)[:, None].expand_as(x), start())  # the integral of 2 t from 1 to 0 is -1
    assert torch.allclose(linear, start() - 1.0) is (method != "euler")


@pytest.mark.parametrize(
    ("method", "euler_last", "calls"),
    [("euler", False, 4), ("midpoint", False, 8), ("heun", False, 8), ("heun", True, 7)],
)
def test_nfe_is_the_number_of_calls(method, euler_last, calls):
    seen = []

    def denoise(x, t):
        assert t.shape == (3,)
        seen.append(float(t[0]))
        return x

    solver = OdeSolver(GRID, method, velocity, euler_last)
    solver.solve(denoise, start())
    assert solver.nfe == len(seen) == calls
    assert (min(seen) > 0) is (method != "heun" or euler_last)


def test_callbacks_see_each_step_of_the_grid():
    seen = []
    solver = OdeSolver(GRID, "heun", velocity)
    result = solver.solve(lambda x, t: x, start(), callback=lambda t, out, x: seen.append((t, out, x)))
    assert [t for t, _, _ in seen] == GRID[:-1]
    assert torch.equal(seen[0][1], start())
    assert seen[-1][2] is result


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match=r"solver='rk45' is not allowed; allowed: euler \| midpoint \| heun"):
        OdeSolver(GRID, "rk45", velocity)


def test_sample_takes_a_solver_as_well_as_steps():
    steps = [Step(1, 0.5, 0.5, 0.0), Step.take_output(0)]
    expected = sample(lambda x, t: x + 1, start(), steps)
    assert torch.equal(sample(lambda x, t: x + 1, start(), AffineSolver(steps)), expected)
    assert torch.equal(expected, (0.5 * start() + 0.5 * (start() + 1)) + 1)


class Folding:
    """A denoiser whose chain gives another result than its loop, so that the two can be told apart."""

    folds = True

    def __call__(self, x, t):
        return x

    def chain(self, x, steps):
        return x - len(steps)


def test_deterministic_steps_go_to_the_denoisers_chain():
    net, quiet, noisy = Folding(), AffineSolver([Step(0, 0.5, 0.5, 0.0)]), AffineSolver([Step(0, 0.5, 0.5, 0.1)])
    assert (quiet.nfe, quiet.stochastic, noisy.stochastic) == (1, False, True)
    with torch.no_grad():
        assert torch.equal(quiet.solve(net, start()), start() - 1)
        assert torch.equal(quiet.solve(net, start(), callback=lambda t, out, x: None), start())
        assert not torch.equal(noisy.solve(net, start()), start() - 1)
        net.folds = False
        assert torch.equal(quiet.solve(net, start()), start())
        net.folds = True
    assert torch.equal(quiet.solve(net, start()), start())  # gradients are wanted


def test_the_identity_process_applies_the_network_to_its_output():
    process = IdentityProcess(5)
    x0, t = start(), torch.tensor([0, 2, 4])
    point = process.sample(x0, t, process.source(x0, torch.randn_like))
    assert point.x_t is point.target is point.x0 is x0
    assert process.x0_from_output(x0 + 1, x0, t).equal(x0 + 1)
    assert process.loss(x0 + 2, x0 + 2, point, t).tolist() == [4.0] * 3
    seen = []
    found = sample(lambda x, t: seen.append(int(t[0])) or 2 * x, x0, process.iterated_steps(3))
    assert seen == [2, 1, 0]
    assert torch.equal(found, 8 * x0)


def test_the_identity_draws_as_much_as_other_processes():
    """A run without noise has the same other random numbers, e.g. dropout's, as one with noise."""
    torch.manual_seed(0)
    IdentityProcess(5).source(start(), torch.randn_like)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    torch.randn_like(start())
    assert torch.equal(torch.get_rng_state(), after)
