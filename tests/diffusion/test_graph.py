"""Smoothing over a graph: the levels by hand, the noise, and the reverse process against its definition; float64."""

from __future__ import annotations

import pytest
import torch

from recbole_diffusion.diffusion import GraphSmoothing, GraphSolver

#: Smoothing matrix of three items.
A = torch.tensor([[0.5, 0.25, 0.0], [0.25, 0.5, 0.25], [0.0, 0.25, 0.5]], dtype=torch.float64)
X = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], dtype=torch.float64)


def smooth(y):
    return y @ A


def network(x, t):
    """Any map that depends on both."""
    return torch.tanh(x) * (1 + 0.1 * t[:, None]) - 0.2


def test_the_levels_by_hand():
    process = GraphSmoothing(smooth, 3, alpha=1.5)
    times = torch.tensor([0, 2])
    x_t, target, clean = process.sample(X, times, process.source(X, torch.randn_like))
    # level 1: half of the way to (.5, .25, 0); level 3: 1.5 times the way to (.25, .75, .75)
    torch.testing.assert_close(x_t, torch.tensor([[0.75, 0.125, 0.0], [0.375, 0.625, 0.625]], dtype=torch.float64))
    assert target is clean is X
    assert process.time_after(3) == 2


def test_without_noise_none_is_drawn():
    process = GraphSmoothing(smooth, 3)
    state = torch.get_rng_state()
    assert process.source(X, torch.randn_like).abs().sum() == 0
    assert torch.equal(torch.get_rng_state(), state)


def test_the_noise_has_its_standard_deviation():
    process = GraphSmoothing(smooth, 3, noise_scale=0.8, noise_decay=0.5)
    z = torch.ones_like(X)
    x_t = process.sample(X, torch.tensor([0, 2]), z).x_t
    still = GraphSmoothing(smooth, 3).sample(X, torch.tensor([0, 2]), z).x_t
    torch.testing.assert_close(x_t - still, torch.tensor([[0.2], [0.8]], dtype=torch.float64).expand(2, 3))
    torch.manual_seed(0)
    drawn = process.source(X, torch.randn_like)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.randn_like(X))


def test_the_loss_is_the_sum_over_the_items():
    process = GraphSmoothing(smooth, 3)
    point = process.sample(X, torch.zeros(2, dtype=torch.int64), X)
    assert process.loss(X + torch.tensor([1.0, 2.0, 0.0]), X, point, torch.zeros(2)).tolist() == [5.0, 5.0]


def defined(levels, decay, alpha, steps):
    """The reverse process as the paper writes it: two blends of the prediction in every step."""

    def blend(y, level):
        return y + alpha * level / steps * (smooth(y) - y)

    z = blend(X, levels[0])
    for level, following in zip(levels[:-1], levels[1:]):
        out = network(z, torch.full((2,), level - 1))
        z = blend(out, following) + decay ** (level - following) * (z - blend(out, level))
    return z


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("levels", [[3, 2, 1, 0], [1, 0], [3, 0]], ids=str)
def test_the_reverse_process_against_its_definition(levels, decay):
    process = GraphSmoothing(smooth, 3, alpha=1.5)
    solver, states = GraphSolver(process, levels, decay), []
    start = solver.start(X, smooth(X))
    result = solver.solve(network, start, callback=lambda t, out, x: states.append((t, x)))
    torch.testing.assert_close(result, defined(levels, decay, 1.5, 3), rtol=1e-12, atol=1e-12)
    assert [t for t, _ in states] == [level - 1 for level in levels[:-1]]
    assert solver.nfe == len(levels) - 1
    assert torch.equal(states[-1][1], result)


def test_a_step_smooths_once_and_only_where_it_has_to():
    calls = []
    process = GraphSmoothing(lambda y: calls.append(1) or smooth(y), 3, alpha=1.5)
    solver = GraphSolver(process, [3, 2, 1, 0], 0.5)
    solver.solve(network, X)
    assert len(calls) == 2  # from 2 to 1 the factor of the smoothing is 1 - 0.5 * 2 = 0


def test_a_perfect_network_returns_the_data():
    """The residual is zero, whatever share of it is kept."""
    process = GraphSmoothing(smooth, 3, alpha=1.5)
    for decay in (0.0, 0.5, 1.0):
        solver = GraphSolver(process, [3, 2, 1, 0], decay)
        result = solver.solve(lambda x, t: X, solver.start(X, smooth(X)))
        torch.testing.assert_close(result, X)
