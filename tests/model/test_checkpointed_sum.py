"""A sum over steps with the memory of one: value, gradients, and what stays alive."""

from __future__ import annotations

import pytest
import torch

from recbole_diffusion.model.networks.checkpointed_sum import checkpointed_sum
from recbole_diffusion.model.sequences.infonce import exact_infonce, rff_infonce


@pytest.fixture
def parts():
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 4).double()
    frozen = torch.nn.Parameter(torch.randn(4).double(), requires_grad=False)
    root = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    return layer, frozen, root


def of_step(layer, frozen):
    return lambda t, x, y: ((layer(x) * (t + 1)).sin() * frozen + y).square().sum()


def test_value_and_gradients_are_those_of_one_graph(parts):
    layer, frozen, root = parts
    loss = of_step(layer, frozen)
    shared = [root * 2, torch.ones(4, dtype=torch.float64)]  # one with a graph, one without
    total = checkpointed_sum(loss, range(3), shared, [*layer.parameters(), frozen])
    (total * 3).backward()
    found = [root.grad, *(each.grad for each in layer.parameters())]
    plain = sum(loss(t, root * 2, shared[1]) for t in range(3)) * 3
    expected = torch.autograd.grad(plain, [root, *layer.parameters()])
    torch.testing.assert_close(total.detach() * 3, plain.detach())
    for one, two in zip(found, expected):
        torch.testing.assert_close(one, two)
    assert frozen.grad is None


def test_gradients_accumulate_over_two_losses(parts):
    layer, frozen, root = parts
    loss, parameters = of_step(layer, frozen), list(layer.parameters())
    shared = [root * 2, root[0]]
    for _ in range(2):
        checkpointed_sum(loss, range(2), shared, parameters).backward(retain_graph=True)
    twice = [each.grad.clone() for each in parameters]
    layer.zero_grad()
    checkpointed_sum(loss, range(2), shared, parameters).backward(retain_graph=True)
    for one, two in zip(twice, parameters):
        torch.testing.assert_close(one, 2 * two.grad)


def test_without_gradients_it_is_the_plain_sum(parts):
    layer, frozen, root = parts
    loss = of_step(layer, frozen)
    with torch.no_grad():
        total = checkpointed_sum(loss, range(3), [root, root[0]], list(layer.parameters()))
        torch.testing.assert_close(total, sum(loss(t, root, root[0]) for t in range(3)))
    assert not total.requires_grad


def test_one_steps_graph_is_alive_at_a_time(parts):
    """What a step saves for its way back is freed before the next one begins."""
    layer, _, root = parts
    alive, most = set(), []

    class Saved(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, t):
            ctx.t = t
            alive.add(t)
            most.append(len(alive))
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            alive.discard(ctx.t)
            return gradient, None

    def loss(t, x):
        return Saved.apply(layer(x), t).sum()

    checkpointed_sum(loss, range(6), [root * 1], list(layer.parameters())).backward()
    assert max(most) == 1
    assert not alive


def test_infonce_written_out():
    torch.manual_seed(0)
    one, two = torch.randn(2, 6, 5, dtype=torch.float64)
    z = torch.nn.functional.normalize(torch.cat([one, two]), dim=1)
    losses = []
    for i in range(12):
        terms = [torch.exp(z[i] @ z[j] / 0.5) for j in range(12) if j != i]
        losses.append(-torch.log(torch.exp(z[i] @ z[(i + 6) % 12] / 0.5) / sum(terms)))
    torch.testing.assert_close(exact_infonce(one, two, 0.5), torch.stack(losses).mean())


def test_random_features_estimate_the_sum_with_the_row_itself():
    torch.manual_seed(0)
    one, two = torch.randn(2, 40, 5, dtype=torch.float64)
    z = torch.nn.functional.normalize(torch.cat([one, two]), dim=1)
    expected = (z @ z.T / 0.5).logsumexp(dim=1).mean() - (z[:40] * z[40:]).sum(dim=1).mean() / 0.5
    frequencies = torch.randn(5, 200_000, dtype=torch.float64)
    torch.testing.assert_close(rff_infonce(one, two, 0.5, frequencies), expected, rtol=2e-3, atol=0)


def test_gradients_of_the_random_features():
    torch.manual_seed(0)
    one, two = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    frequencies = torch.randn(4, 300, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: rff_infonce(a, b, 0.5, frequencies), (one, two))


def test_random_features_do_not_depend_on_the_blocks():
    """More rows than a block holds."""
    torch.manual_seed(0)
    one, two = torch.randn(2, 300, 4, dtype=torch.float64, requires_grad=True)
    frequencies = torch.randn(4, 64, dtype=torch.float64)
    loss = rff_infonce(one, two, 0.5, frequencies)
    found = torch.autograd.grad(loss, [one, two])
    z = torch.nn.functional.normalize(torch.cat([one, two]), dim=1)
    angles = z @ frequencies / 0.5**0.5
    kernel = (angles[:, None] - angles[None]).cos().sum(dim=(1, 2)) * torch.e**2 / 64
    plain = kernel.log().mean() - (z[:300] * z[300:]).sum(dim=1).mean() / 0.5
    torch.testing.assert_close(loss, plain)
    for a, b in zip(found, torch.autograd.grad(plain, [one, two])):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("infonce", [exact_infonce, rff_infonce])
def test_infonce_of_some_rows(infonce):
    """A mask gives the loss and the gradients of the selected rows."""
    torch.manual_seed(0)
    one, two = torch.randn(2, 9, 4, dtype=torch.float64, requires_grad=True)
    is_row = torch.tensor([1, 0, 1, 1, 0, 1, 0, 1, 1], dtype=torch.bool)
    frequencies = [torch.randn(4, 50, dtype=torch.float64)] if infonce is rff_infonce else []
    results = []
    for arguments in ((one[is_row], two[is_row], 0.5, *frequencies), (one, two, 0.5, *frequencies, is_row)):
        loss = infonce(*arguments)
        results.append([loss, *torch.autograd.grad(loss, [one, two])])
    torch.testing.assert_close(results[1], results[0])
