"""The solver that keeps its start in the velocity: Euler's method step by step against its closed form; float64."""

from __future__ import annotations

import torch

from recbole_diffusion.diffusion import LinearFlow, MeanSolver, sample


def network(x, t):
    return torch.sin(x + t[:, None]) * 2


def test_the_closed_form_is_eulers_method_with_the_velocity_from_the_start():
    torch.manual_seed(0)
    start, count = torch.randn(4, 3, dtype=torch.float64), 7
    times = LinearFlow(count, "x0", t_max=0.9).grid(count)[:-1]
    states, x = [], start.clone()
    for t in times:
        x = x + (network(x, torch.full((4,), t, dtype=torch.float64)) - start) / count
        states.append(x)
    seen = []
    solver = MeanSolver(times)
    result = sample(network, start, solver, callback=lambda t, out, x: seen.append((t, out, x)))
    assert [t for t, _, _ in seen] == times
    for (_, _, x), expected in zip(seen, states):
        torch.testing.assert_close(x, expected, rtol=1e-13, atol=1e-13)
    assert torch.equal(result, seen[-1][2])
    torch.testing.assert_close(result, torch.stack([out for _, out, _ in seen]).mean(0), rtol=1e-14, atol=1e-14)
    assert (solver.nfe, solver.stochastic) == (7, False)


def test_one_step_is_the_prediction_at_the_start_and_the_start_is_not_changed():
    start, ones = torch.ones(2, 3, dtype=torch.float64), torch.ones(2, 3, dtype=torch.float64)
    result = MeanSolver([0.5]).solve(network, start)
    torch.testing.assert_close(result, network(ones, torch.full((2,), 0.5)))
    assert torch.equal(start, ones)


def test_the_network_gets_times_without_rounding():
    seen = []
    MeanSolver([0.9657]).solve(lambda x, t: seen.append(t) or x, torch.ones(2, 3))
    assert seen[0].tolist() == [0.9657, 0.9657]


def test_a_grid_of_the_whole_path_begins_at_its_end():
    flow = LinearFlow(10, "x0", t_max=0.8)
    assert flow.grid(2, whole=True) == [0.8, 0.4, 0.0]
    assert flow.grid(10, whole=True) == flow.grid(10)
    torch.testing.assert_close(torch.tensor(flow.grid(2)), torch.tensor([0.16, 0.08, 0.0]))
    assert [step.t for step in flow.euler_steps(2, whole=True)] == [0.8, 0.4]
