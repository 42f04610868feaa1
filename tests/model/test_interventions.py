"""Interventions on the reverse process: what the network sees, on a network whose outputs are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recbole_diffusion.diffusion import AffineSolver, GaussianDiffusion, Step, make_betas
from recbole_diffusion.model import interventions
from recbole_diffusion.model.reverse import ReverseProcess
from recbole_diffusion.testing import quick, users_of

STEPS = [Step(2, 0.5, 1.0, 0.0), Step(1, 0.25, 2.0, 0.0), Step(0, 0.0, 1.0, 0.0)]


class Toy(ReverseProcess, nn.Module):
    """A reverse process whose network returns 10 t plus its input plus the condition, and keeps its inputs."""

    def __init__(self) -> None:
        super().__init__()
        betas = make_betas("linear", 3, noise_scale=1.0, noise_min=0.1, noise_max=0.4)
        self.process = GaussianDiffusion(betas)
        self.solver = AffineSolver(STEPS)
        self.sampling_steps, self.eval_seed = 0, 1
        self.seen: list[torch.Tensor] = []

    def full_sort_predict(self, start, condition=None):
        condition = torch.zeros_like(start) if condition is None else condition
        self.seen.clear()

        def network(x, t):
            self.seen.append(x.clone())
            return 10.0 * t[:, None] + x + condition

        return self.solver.solve(network, start)


@pytest.fixture
def start():
    return torch.tensor([[1.0], [2.0], [3.0]])


def by_hand(start, condition, steps):
    x = start
    for step in steps:
        x = step.p * x + step.q * (10 * step.t + x + condition)
    return x


def test_zeros_and_another_input_in_every_call(start):
    toy = Toy()
    with interventions.input_replaced(toy, interventions.zeros):
        scores = toy.full_sort_predict(start)
    assert all((x == 0).all() for x in toy.seen)
    assert torch.equal(scores, torch.zeros(3, 1))  # the last step is the output at t = 0 alone
    assert isinstance(toy.solver, AffineSolver)
    with interventions.input_replaced(toy, lambda module: lambda x, t: t[:, None].float() + 7):
        toy.full_sort_predict(start)
    assert [float(x[0]) for x in toy.seen] == [9, 8, 7]


def test_noise_alone_has_the_level_of_its_step():
    toy = Toy()
    with interventions.input_replaced(toy, interventions.noise_alone):
        toy.full_sort_predict(torch.full((2000, 4), 5.0))
    for x, t in zip(toy.seen, (2, 1, 0)):
        assert abs(float(x.mean())) < 0.05
        assert float(x.std()) == pytest.approx(float((1 - toy.process.alpha_bar[t]) ** 0.5), rel=0.05)
    first = [x.clone() for x in toy.seen]
    with interventions.input_replaced(toy, interventions.noise_alone):
        toy.full_sort_predict(torch.full((2000, 4), 9.0))
    assert all(torch.equal(*pair) for pair in zip(first, toy.seen))  # one seed, whatever the data


def test_a_row_gets_the_condition_of_the_next_one(start):
    toy, condition = Toy(), torch.tensor([[100.0], [200.0], [300.0]])
    with interventions.condition_shuffled(toy):
        shuffled = toy.full_sort_predict(start, condition)
    assert torch.equal(shuffled, by_hand(start, condition.roll(-1, 0), STEPS))
    with interventions.condition_shuffled(toy):  # without a condition nothing changes
        assert torch.equal(toy.full_sort_predict(start), by_hand(start, 0.0, STEPS))


@pytest.mark.parametrize("count", range(4))
def test_stopped_after_some_steps(start, count):
    toy, solvers = Toy(), []

    def stopped(module):
        solvers.append(interventions.StoppedAfter(module.solver, count))
        return solvers[-1]

    with interventions.solvers_replaced(toy, stopped):
        assert torch.equal(toy.full_sort_predict(start), by_hand(start, 0.0, STEPS[:count]))
    assert solvers[0].taken == count
    assert solvers[0].nfe == 3


def test_without_the_chain_the_start_is_the_result(start):
    toy = Toy()
    with interventions.without_chain(toy):
        assert torch.equal(toy.full_sort_predict(start), start)
        assert toy.nfe == 0
    assert toy.nfe == 3


def test_an_error_restores_the_solver():
    toy, solver = Toy(), None
    solver = toy.solver
    with pytest.raises(ZeroDivisionError), interventions.input_replaced(toy, interventions.zeros):
        raise ZeroDivisionError
    assert toy.solver is solver


def test_no_noise_whoever_draws_it():
    if not interventions.CAN_LEAVE_OUT_NOISE:
        pytest.skip("this torch cannot replace draws from a generator")
    with interventions.NoNoise():
        assert not torch.randn(3, generator=torch.Generator().manual_seed(1)).any()
        assert not torch.randn_like(torch.ones(3)).any()
        assert torch.equal(torch.ones(3).normal_(2.0, 5.0), torch.full((3,), 2.0))
        assert torch.rand(3).any()
    assert torch.randn(3).any()


@pytest.mark.parametrize(
    "name", ["DiffRec", "LDiffRec", "DDRM", "HDRM", "DiffuRec", "FMRec", "ADRec", "DreamRec", "PreferDiff"]
)
def test_the_state_of_held_out_items_has_the_shape_of_x(name, built, shared_bases):
    _, model, _, loaders = built(name, **quick(name), pretrain_dir=shared_bases)
    model.eval()
    batch = users_of(loaders)
    shapes = []

    def replacement(module):
        def replace(x, t):
            shapes.append(x.shape)
            return x

        return replace

    items = torch.zeros(len(batch), 3, dtype=torch.int64)
    items[:, 0], items[::2, 1] = 5, 6
    with torch.no_grad():
        with interventions.input_replaced(model, replacement):
            model.full_sort_predict(batch)
        state = model.target_state(batch, items)
        assert {tuple(state.shape)} == {tuple(shape) for shape in shapes}
        with interventions.target_as_input(model, lambda interaction: items):
            model.full_sort_predict(batch)
    assert "full_sort_predict" not in vars(model)


def test_the_state_of_a_row_is_the_row_and_of_embeddings_their_mean(built, shared_bases):
    items = torch.tensor([[5, 6, 0], [7, 0, 0]])
    _, model, *_ = built("DiffRec", **quick("DiffRec"))
    rows = model.target_state(None, items)
    assert rows.nonzero().tolist() == [[0, 4], [0, 5], [1, 6]]  # column j is item j + 1
    _, model, *_ = built("DDRM", **quick("DDRM"), pretrain_dir=shared_bases)
    table = model.tables()[1]
    torch.testing.assert_close(model.target_state(None, items), torch.stack([(table[5] + table[6]) / 2, table[7]]))
