"""The cross-entropy over all items in blocks of rows: value, gradients, and the logits that are alive at a time."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from recbole_diffusion.model.networks import item_cross_entropy as module
from recbole_diffusion.model.networks.item_cross_entropy import item_cross_entropy
from recbole_diffusion.testing import quick

ROWS, ITEMS, SIZE = 11, 7, 3


def inputs(dtype=torch.float64):
    torch.manual_seed(0)
    states, table = torch.randn(ROWS, SIZE, dtype=dtype), torch.randn(ITEMS, SIZE, dtype=dtype)
    return states.requires_grad_(), table.requires_grad_(), torch.randint(ITEMS, (ROWS,))


@pytest.fixture(params=[1, 2 * ITEMS, 4 * ITEMS + 3, ROWS * ITEMS], ids=["row", "two", "four", "all"])
def in_blocks(request, monkeypatch):
    """Blocks of one row, two rows, four rows and of all rows; the last block of two and four is smaller."""
    monkeypatch.setattr(module, "MAX_LOGITS", 0)
    monkeypatch.setattr(module, "BLOCK_LOGITS", request.param)


def test_value_and_gradients_are_those_of_all_rows_at_once(in_blocks):
    states, table, target = inputs()
    loss = item_cross_entropy(states, table, target)
    (3 * loss).backward()
    expected = F.cross_entropy(states @ table.T, target)
    gradients = torch.autograd.grad(3 * expected, (states, table))
    torch.testing.assert_close(loss, expected, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close((states.grad, table.grad), gradients, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("frozen", ["states", "table"])
def test_what_has_no_gradient_gets_none(in_blocks, frozen):
    states, table, target = inputs()
    (states if frozen == "states" else table).requires_grad_(False)
    (gradient,) = torch.autograd.grad(
        item_cross_entropy(states, table, target), table if frozen == "states" else states
    )
    expected = F.cross_entropy(states @ table.T, target)
    torch.testing.assert_close(gradient, *torch.autograd.grad(expected, table if frozen == "states" else states))


def test_without_gradients_the_value_is_the_same(in_blocks):
    states, table, target = inputs()
    with torch.no_grad():
        loss = item_cross_entropy(states, table, target)
        torch.testing.assert_close(loss, F.cross_entropy(states @ table.T, target))


def test_up_to_the_bound_the_numbers_are_bit_for_bit_those_of_torch(monkeypatch):
    monkeypatch.setattr(module, "MAX_LOGITS", ROWS * ITEMS)
    monkeypatch.setattr(module, "checkpoint", lambda *_, **__: pytest.fail("in blocks"))
    states, table, target = inputs(torch.float32)
    assert torch.equal(item_cross_entropy(states, table, target), F.cross_entropy(states @ table.T, target))


@pytest.mark.parametrize(("bound", "blocks"), [(ROWS * ITEMS, []), (ROWS * ITEMS - 1, [4, 4, 3])])
def test_the_rows_are_divided_above_the_bound(bound, blocks, monkeypatch):
    monkeypatch.setattr(module, "MAX_LOGITS", bound)
    monkeypatch.setattr(module, "BLOCK_LOGITS", 4 * ITEMS)
    found, of_block = [], module._block_sum
    monkeypatch.setattr(module, "_block_sum", lambda *block: found.append(len(block[0])) or of_block(*block))
    item_cross_entropy(*inputs())
    assert found == blocks


def test_no_block_has_more_logits_than_its_bound(monkeypatch):
    """Six blocks of at most two rows, each computed in the forward pass and again in the backward pass."""
    monkeypatch.setattr(module, "MAX_LOGITS", 0)
    monkeypatch.setattr(module, "BLOCK_LOGITS", 2 * ITEMS)
    blocks, of_block = [], module._block_sum
    monkeypatch.setattr(module, "_block_sum", lambda *block: blocks.append(len(block[0])) or of_block(*block))
    loss = item_cross_entropy(*inputs())
    assert blocks == [2] * 5 + [1]
    loss.backward()
    assert sorted(blocks) == [1] * 2 + [2] * 10


@pytest.mark.parametrize("model", ["DiffuRec", "FMRec", "ADRec", "DreamRec", "PreferDiff"])
def test_the_loss_of_every_model_with_such_a_term_is_the_same_in_blocks(model, built, monkeypatch):
    own = {"ADRec": {"pretrain": None}, "DreamRec": {"ce_weight": 1.0}, "PreferDiff": {"ce_weight": 1.0}}
    keys = {**quick(model), **own.get(model, {})}
    net, _, (loader, *_) = built(model, **keys)[1:]
    batch, results = next(iter(loader)), []
    for bound in (module.MAX_LOGITS, 0):
        monkeypatch.setattr(module, "MAX_LOGITS", bound)
        monkeypatch.setattr(module, "BLOCK_LOGITS", 3 * net.n_items)
        torch.manual_seed(1)
        loss = net.train().calculate_loss(batch)
        gradients = torch.autograd.grad(loss, [*net.parameters()], allow_unused=True)
        results.append((loss, [gradient for gradient in gradients if gradient is not None]))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)
