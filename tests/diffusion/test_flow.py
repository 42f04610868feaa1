"""The linear flow: its path, its meaning of the network's output, and closed forms of the solutions; float64."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_diffusion.diffusion import AffineSolver, LinearFlow, OdeSolver
from recbole_diffusion.diffusion.flow import PREDICTIONS
from recbole_diffusion.diffusion.ode import METHODS

ORDERS = {"euler": 1, "midpoint": 2, "heun": 2}
EACH = pytest.mark.parametrize("prediction", PREDICTIONS)


def batch(n=6, width=5, seed=0):
    torch.manual_seed(seed)
    return torch.randn(n, width, dtype=torch.float64), torch.randn(n, width, dtype=torch.float64)


@EACH
def test_a_perfect_network_is_inverted_exactly(prediction):
    flow = LinearFlow(4, prediction)
    x0, source = batch()
    t = torch.linspace(0.05, 1, 6, dtype=torch.float64)
    x_t, target, clean = flow.sample(x0, t, source)
    assert clean is x0
    torch.testing.assert_close(flow.x0_from_output(target, x_t, t), x0)
    torch.testing.assert_close(flow.velocity(target, x_t, t), source - x0)


def test_the_path_is_straight_from_the_data_to_the_source():
    flow = LinearFlow(4)
    x0, source = batch()
    t = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0, 0.1], dtype=torch.float64)
    x_t = flow.sample(x0, t, source).x_t
    torch.testing.assert_close(x_t[0], x0[0])
    torch.testing.assert_close(x_t[4], source[4])
    torch.testing.assert_close(x_t[1], 0.75 * x0[1] + 0.25 * source[1])
    time = torch.tensor(0.3, dtype=torch.float64)
    slope = torch.autograd.functional.jacobian(lambda s: flow.sample(x0, s.expand(6), source).x_t, time)
    torch.testing.assert_close(slope, flow.sample(x0, time.expand(6), source).target)


def test_the_source_is_normal_with_the_standard_deviation_that_is_set():
    like = torch.empty(3, 4)
    assert torch.equal(LinearFlow(4, source_std=0.5).source(like, torch.ones_like), torch.full((3, 4), 0.5))


def test_loss_is_the_error_of_what_is_predicted():
    x0, source = batch()
    t = torch.full((6,), 0.5, dtype=torch.float64)
    for prediction, target in (("x0", x0), ("v", source - x0)):
        flow = LinearFlow(4, prediction)
        loss = flow.loss(target + 2.0, x0, flow.sample(x0, t, source), t)
        torch.testing.assert_close(loss, torch.full((6,), 4.0, dtype=torch.float64))


def test_the_grid_ends_at_the_data_and_starts_where_training_ends():
    flow = LinearFlow(4, t_max=0.5)
    assert flow.grid(4) == [0.5, 0.375, 0.25, 0.125, 0.0]
    assert flow.grid(1) == [0.125, 0.0]
    assert flow.time_after(2) == 0.25


@EACH
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_solver_finds_x0_with_an_oracle(prediction, method, count):
    """The oracle's paths are straight, so that each method is exact, Heun's Euler step at t = 0 included."""
    flow = LinearFlow(5, prediction, t_max=0.8)
    x0, source = batch()
    start = flow.sample(x0, torch.full((6,), flow.time_after(count), dtype=torch.float64), source).x_t
    output = x0 if prediction == "x0" else source - x0
    solver = OdeSolver(flow.grid(count), method, flow.velocity, euler_last=prediction == "x0")
    torch.testing.assert_close(solver.solve(lambda x, t: output, start), x0)
    torch.testing.assert_close(AffineSolver(flow.euler_steps(count)).solve(lambda x, t: output, start), x0)


@EACH
def test_euler_steps_are_eulers_method(prediction):
    flow = LinearFlow(7, prediction, t_max=0.9)
    _, start = batch()

    def denoise(x, t):
        return torch.tanh(x) * (1 + t[:, None])

    affine = AffineSolver(flow.euler_steps(7)).solve(denoise, start)
    torch.testing.assert_close(affine, OdeSolver(flow.grid(7), "euler", flow.velocity).solve(denoise, start))


def slopes(error):
    """log2 of how much smaller the error is with half the step, for 40 and 80 steps."""
    errors = [error(count) for count in (20, 40, 80)]
    return [math.log2(one / two) for one, two in zip(errors, errors[1:])]


@pytest.mark.parametrize("method", METHODS)
def test_an_affine_velocity_is_solved_to_the_order_of_the_method(method):
    """dx/dt = A x + b has the solution x(0) = exp(-A) (x(1) + c) - c with A c = b."""
    torch.manual_seed(1)
    matrix, shift = torch.randn(5, 5, dtype=torch.float64) / 2, torch.randn(5, dtype=torch.float64)
    _, start = batch()
    fixed = torch.linalg.solve(matrix, shift)
    exact = (start + fixed) @ torch.linalg.matrix_exp(-matrix).T - fixed

    def error(count):
        flow = LinearFlow(count)
        solver = OdeSolver(flow.grid(count), method, flow.velocity)
        return float((solver.solve(lambda x, t: x @ matrix.T + shift, start) - exact).abs().max())

    assert error(80) < (0.1 if method == "euler" else 1e-3)
    assert slopes(error) == pytest.approx([ORDERS[method]] * 2, abs=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_an_affine_estimate_of_x0_is_solved_to_the_order_of_the_method(method):
    """x0 = m x + c gives dx/dt = ((1-m) x - c) / t, so that x - c/(1-m) goes with t^(1-m). From t = 1 to .2."""
    flow, m, c = LinearFlow(4, "x0"), 0.3, 0.7
    _, start = batch()
    exact = (start - c / (1 - m)) * 0.2 ** (1 - m) + c / (1 - m)

    def error(count):
        grid = torch.linspace(1, 0.2, count + 1, dtype=torch.float64).tolist()
        return float((OdeSolver(grid, method, flow.velocity).solve(lambda x, t: m * x + c, start) - exact).abs().max())

    assert slopes(error) == pytest.approx([ORDERS[method]] * 2, abs=0.1)


@EACH
@pytest.mark.parametrize("method", METHODS)
def test_normal_data_are_reached_from_normal_noise(prediction, method):
    """For x0 ~ N(0, s^2) the best network is linear, and the flow scales: x(0) = x(1) s, since var_t is known."""
    s = 0.4
    flow = LinearFlow(1, prediction)
    _, start = batch()

    def denoise(x, t):
        variance = ((1 - t) ** 2 * s**2 + t**2)[:, None]
        clean = (1 - t)[:, None] * s**2 / variance * x  # E[x0 | x_t]
        return clean if prediction == "x0" else t[:, None] / variance * x - clean  # E[z | x_t] - E[x0 | x_t]

    def error(count):
        grid = torch.linspace(1, 0, count + 1, dtype=torch.float64).tolist()
        solver = OdeSolver(grid, method, flow.velocity, euler_last=prediction == "x0")
        return float((solver.solve(denoise, start) - s * start).abs().max())

    assert error(80) < (0.05 if method == "euler" else 1e-3)
    assert min(slopes(error)) > ORDERS[method] - 0.25


def test_other_predictions_are_refused():
    with pytest.raises(ValueError, match=r"prediction_type='eps' is not allowed with process='flow'; allowed: x0 \| v"):
        LinearFlow(4, "eps")
