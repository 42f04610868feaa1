"""The contract suite for each of this package's models; what it tests: :mod:`recbole_diffusion.testing.contract`."""

from __future__ import annotations

import pytest
import torch

from recbole_diffusion import registry
from recbole_diffusion.testing import ContractTests, quick

for _spec in registry.ours():
    _class = type(f"Test{_spec.name}", (ContractTests,), {"model": _spec.name})
    globals()[_class.__name__] = pytest.mark.xdist_group(_spec.name)(_class)  # one training, so one worker


def test_the_chain_has_gradients_where_they_are_asked_for(built):
    _, model, _, _ = built("DiffRec", **quick("DiffRec"))
    diffusion = model.eval().diffusion
    rows = model.history.rows(torch.arange(1, 5)).requires_grad_()
    scores = diffusion.denoise(rows)
    (gradient,) = torch.autograd.grad(scores.sum(), rows)
    assert gradient.abs().sum() > 0
    with torch.no_grad():
        torch.testing.assert_close(diffusion.denoise(rows), scores.detach(), rtol=1e-4, atol=1e-6)
