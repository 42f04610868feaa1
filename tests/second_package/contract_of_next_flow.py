"""The public contract suite for a model of this package; not collected with the tests around it."""

from __future__ import annotations

from recbole_diffusion.testing import ContractTests


class TestNextFlow(ContractTests):
    model = "NextFlow"
