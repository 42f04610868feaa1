"""Dropout by bits: the law of torch's dropout."""

from __future__ import annotations

import pytest
import torch

from recbole_diffusion.model.networks import dropout as module
from recbole_diffusion.model.networks.dropout import bernoulli_bits, dropout


@pytest.mark.parametrize("p", [0.5, 0.1, 0.25, 0.9, 1 / 3])
def test_share_and_independence_of_the_bits(p):
    torch.manual_seed(0)
    words = bernoulli_bits(40_000, p)
    bits = torch.stack([words >> place & 1 for place in range(64)], dim=1).float()
    assert float(bits.mean()) == pytest.approx(p, abs=2e-3)
    assert bits.mean(dim=0).sub(p).abs().max() < 0.02
    neighbours = (bits[:, 1:] * bits[:, :-1]).mean()
    assert float(neighbours) == pytest.approx(p * p, abs=3e-3)


@pytest.mark.parametrize("at_once", [1, 2_500, 3_500, 10**9])
def test_bits_that_are_drawn_in_parts_are_those_drawn_at_once(at_once, monkeypatch):
    """Two, three or all rows of 1,000 words at once; those of large batches are drawn in parts."""
    torch.manual_seed(0)
    whole = bernoulli_bits(1_000, 0.1)
    monkeypatch.setattr(module, "_WORDS_AT_ONCE", at_once)
    torch.manual_seed(0)
    assert torch.equal(bernoulli_bits(1_000, 0.1), whole)
    assert sum(bin(word & (2**64 - 1)).count("1") for word in whole.tolist()) == pytest.approx(6_400, abs=400)


@pytest.mark.parametrize("shape", [(7,), (3, 5), (64, 129), (1, 1)])
@pytest.mark.parametrize("p", [0.5, 0.1])
def test_elements_are_dropped_or_scaled(shape, p):
    torch.manual_seed(1)
    x = torch.rand(shape) + 1
    out = dropout(x, p)
    kept = out != 0
    assert out.shape == x.shape
    torch.testing.assert_close(out[kept], x[kept] / (1 - p))


def test_it_is_off_where_it_should_be_and_repeatable():
    x = torch.rand(20, 30)
    assert torch.equal(dropout(x, 0.5, training=False), x)
    assert torch.equal(dropout(x, 0.0), x)
    torch.testing.assert_close(dropout(x, 1e-9), x)
    torch.manual_seed(3)
    one = dropout(x, 0.5)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.5), one)
    assert not torch.equal(dropout(x, 0.5), one)


def test_gradients_pass_through_what_was_kept():
    x = torch.rand(20, 30, requires_grad=True)
    out = dropout(x, 0.5)
    out.sum().backward()
    torch.testing.assert_close(x.grad, (out != 0).float() * 2)
    assert float(dropout(torch.ones(300, 300), 0.5).mean()) == pytest.approx(1, abs=0.02)
