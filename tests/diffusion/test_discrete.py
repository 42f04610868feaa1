"""The discrete flow: its path by counting and by hand, and the thresholds of the jumps; float64."""

from __future__ import annotations

import pytest
import torch

from recbole_diffusion.diffusion import DiscreteFlow, JumpSolver, sample
from recbole_diffusion.diffusion.discrete import jump

FREQUENCIES = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)


def test_the_share_of_the_data_falls_with_the_step():
    flow = DiscreteFlow(4, FREQUENCIES)
    assert flow.shares.tolist() == [0.75, 0.5, 0.25, 0.0]
    assert flow.time_after(1) == 0


def test_each_coordinate_by_hand():
    """T = 4, t = 1: the data below 1/2; else a one below 1/2 + f/2."""
    flow = DiscreteFlow(4, FREQUENCIES)
    x0 = torch.tensor([[0.3, 0.0, 1.0]] * 4, dtype=torch.float64)
    u = torch.tensor([[0.49] * 3, [0.51, 0.51, 0.94], [0.56, 0.76, 0.96], [0.54, 0.74, 0.94]], dtype=torch.float64)
    x_t, target, clean = flow.sample(x0, torch.ones(4, dtype=torch.int64), u)
    assert x_t.tolist() == [[0.3, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    assert target is clean is x0


@pytest.mark.parametrize("frequency", [0.0, 0.2, 1.0])
def test_the_law_of_a_draw(frequency):
    """With the generator's own numbers: P(x_t = 1) is share x_0 + (1 - share) f."""
    n = 20_000
    flow = DiscreteFlow(5, torch.full((2,), frequency, dtype=torch.float64))
    torch.manual_seed(0)
    x0 = torch.tensor([[0.0, 1.0]], dtype=torch.float64).expand(n, 2)
    for t in range(5):
        x_t = flow.sample(x0, torch.full((n,), t), flow.source(x0, torch.randn_like)).x_t
        share = (4 - t) / 5
        probability = torch.tensor([(1 - share) * frequency, share + (1 - share) * frequency], dtype=torch.float64)
        error = (probability * (1 - probability) / n).sqrt()
        assert bool(((x_t.mean(dim=0) - probability).abs() <= 4 * error + 1e-12).all())


def test_the_loss_is_the_mean_over_the_items():
    flow = DiscreteFlow(2, FREQUENCIES)
    point = flow.sample(torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64), torch.ones(1, 3))
    loss = flow.loss(torch.tensor([[1.0, 2.0, 0.0]]), point.x0, point, torch.zeros(1))
    assert loss.dtype == torch.float64
    assert loss.tolist() == pytest.approx([5 / 3])


@pytest.mark.parametrize(
    ("t", "state", "prediction", "after"),
    [
        (1, 0, 1.0, 0), (1, 0, 1.01, 1), (2, 0, 1.49, 0), (2, 0, 1.51, 1), (1, 1, -0.01, 0), (1, 1, 0.01, 1),
    ],
)  # fmt: skip
def test_the_thresholds_of_a_jump(t, state, prediction, after):
    """A zero flips above (t + 1) / 2, an added one stays above 1 - (t + 1) / 2; a tie gives zero."""
    x, out = (torch.tensor([[value]], dtype=torch.float64) for value in (state, prediction))
    result = jump(x, out, t, torch.zeros_like(x), torch.zeros_like(x, dtype=torch.bool))
    assert float(result) == after


def test_what_the_start_holds_stays_with_its_weight():
    start = torch.tensor([[0.4, 0.0]], dtype=torch.float64)
    states, times = [], []

    def denoise(x, t):
        times.append(int(t))
        return torch.full_like(x, -5.0) if t else torch.tensor([[0.25, 0.75]], dtype=torch.float64)

    solver = JumpSolver(3)
    result = sample(denoise, start, solver, callback=lambda t, out, x: states.append(x.tolist()))
    assert times == [2, 1, 0]
    assert states == [[[0.4, 0.0]], [[0.4, 0.0]], [[0.25, 0.75]]]
    assert result.tolist() == [[0.25, 0.75]]
    assert (solver.nfe, solver.stochastic) == (3, False)


def test_an_added_item_reaches_the_next_call():
    seen = []

    def denoise(x, t):
        seen.append(x.tolist())
        return torch.tensor([[0.0, 1.2]], dtype=torch.float64)

    JumpSolver(2).solve(denoise, torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    assert seen == [[[1.0, 0.0]], [[1.0, 1.0]]]
