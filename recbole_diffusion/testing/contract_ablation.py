"""Contract tests of the trainings without a part of the model, which ``ablate --train`` makes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from recbole_diffusion import quick_start
from recbole_diffusion.cards.card import NO_DIFFUSION, WITHOUT
from recbole_diffusion.model import hooks, interventions
from recbole_diffusion.settings import scopes
from recbole_diffusion.settings.scopes import Scope
from recbole_diffusion.testing.building import ablations, build, users_of
from recbole_diffusion.testing.model_case import ModelCase


class AblationTests(ModelCase):
    """The card's ``ablation`` names settings that train: without diffusion, and without each part of the loss."""

    def test_each_ablation_is_allowed_differs_and_trains(self, keys: dict[str, Any], ablation: dict[str, Any]) -> None:
        shared = {*ablation} & scopes.keys(Scope.MEASURED, Scope.WHERE, Scope.SHOWN)
        assert not shared, f"ablation sets {', '.join(sorted(shared))}, which all models of a comparison share"
        built = build(self.model, {**keys, **ablation})
        paths = {key: value for key, value in keys.items() if key not in self.quick_settings()}
        default = quick_start.configure(self.model, "board", config_dict=paths)
        assert any(built.config[key] != default[key] for key in ablation), f"{ablation} is the model's default"
        losses = _losses(built)
        total = torch.stack([loss.reshape(()).double() for loss in losses]).sum()
        total.backward()
        gradients = [parameter.grad for parameter in built.model.parameters() if parameter.grad is not None]
        assert torch.isfinite(total)
        assert any(gradient.abs().sum() > 0 for gradient in gradients)
        assert all(torch.isfinite(gradient).all() for gradient in gradients)

    def test_without_diffusion_nothing_is_noised_and_one_call_ranks(self, keys: dict[str, Any]) -> None:
        variants = ablations(self.model)
        if NO_DIFFUSION not in variants:
            pytest.skip(f"the card's ablation has no '{NO_DIFFUSION}'")
        built = build(self.model, {**keys, **variants[NO_DIFFUSION]})
        assert hooks.of(built.model).nfe in (0, 1)
        batch = users_of(built.loaders)
        x0 = hooks.of(built.model).target_state(batch, torch.ones(8, 2, dtype=torch.int64))
        for module in interventions.reverse_processes(built.model) if x0 is not None else ():
            for t in range(getattr(module.process, "steps", 1)):
                times = torch.full((8,), t)
                source = module.process.source(x0, torch.randn_like)
                torch.testing.assert_close(module.process.sample(x0, times, source).x_t, x0)

    def test_each_part_of_the_loss_can_be_left_out(self, keys: dict[str, Any]) -> None:
        """Parts are the values that ``calculate_loss`` returns; those of a NamedTuple have names."""
        losses = _losses(build(self.model, keys))
        if len(losses) == 1 or not ablations(self.model):
            pytest.skip("the loss has one part, or the card no ablation")
        without = {label: settings for label, settings in ablations(self.model).items() if label.startswith(WITHOUT)}
        assert len(without) >= len(losses), f"the loss has {len(losses)} parts; the card leaves out {[*without]}"
        for name in getattr(losses, "_fields", ()):
            labels = [label for label in without if name in label]
            assert labels, f"the card's ablation has no '{WITHOUT}{name} ...'"
            left = _losses(build(self.model, {**keys, **without[labels[0]]}))
            assert float(getattr(left, name).detach()) == 0


def _losses(built: Any) -> Any:
    """The losses of the first training batch, as ``calculate_loss`` returns them; a tuple of one for a tensor."""
    losses = built.model.train().calculate_loss(next(iter(built.loaders[0])))
    return losses if isinstance(losses, tuple) else (losses,)
