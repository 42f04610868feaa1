"""What carries a result: one trained model with parts of its reverse process replaced, without training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recbole_diffusion.experiment.study.checkpoint_study import Studied, Variant
from recbole_diffusion.model import hooks, interventions
from recbole_diffusion.model.process import other_solver, solver_family

FULL = "full chain"


class Plan(NamedTuple):
    """The variants of an ablation, and a line for each that this model cannot have."""

    variants: list[Variant]
    left_out: list[str]


def plan(studied: Studied) -> Plan:
    """Choose the variants that the model can have.

    - full chain: as trained;
    - one call: one step of the model's own solver;
    - no call: the start of the reverse process is its result;
    - no noise: every normal draw at inference is 0;
    - x_t = noise, x_t = 0: the network sees the noise of the level alone, or zeros;
    - x_t = target: the network sees the clean state of the held-out items. A number far above the full chain's shows
      that the network reads x_t; an equal one, that it does not;
    - another user's condition: the network has the condition of another user;
    - another seed: other noise at inference.
    """
    model = studied.model
    left_out: list[str] = []
    variants = [Variant(FULL, {}, lambda studied: contextlib.nullcontext())]
    modules = interventions.reverse_processes(model)
    if not modules:
        left_out.append(f"{type(model).__name__} calls its network once and has no x_t at inference")
    else:
        variants += _of_chain(studied, left_out)
    if hooks.of(model).draws_noise:
        variants.append(Variant("another seed", {"eval_seed": "+1"}, _another_seed))
    else:
        left_out.append("no noise, another seed: the model draws no noise at inference")
    return Plan(variants, left_out)


def _of_chain(studied: Studied, left_out: list[str]) -> list[Variant]:
    """The variants of a model with a reverse process."""
    model = studied.model
    modules = interventions.reverse_processes(model)
    variants = []
    if all(solver_family(module.process) is not None for module in modules):
        variants.append(Variant("one call", {"inference_steps": 1}, _one_call))
    else:
        left_out.append("one call: the model's process knows no other number of steps")
    variants.append(Variant("no call", {"inference_steps": 0}, _on_model(interventions.without_chain)))
    if hooks.of(model).draws_noise and not interventions.CAN_LEAVE_OUT_NOISE:
        left_out.append("no noise: this torch cannot replace draws; 1.13 and newer can")
    elif hooks.of(model).draws_noise:
        variants.append(Variant("no noise", {"noise": 0}, lambda studied: interventions.NoNoise()))
    variants += [
        Variant("x_t = noise", {"x_t": "noise"}, _replacing(interventions.noise_alone)),
        Variant("x_t = 0", {"x_t": "0"}, _replacing(interventions.zeros)),
    ]
    if _has_target_state(studied):
        variants.append(Variant("x_t = target", {"x_t": "target"}, _target_as_input))
    else:
        left_out.append("x_t = target: the model does not say what the clean state of held-out items is")
    variants.append(
        Variant("another user's condition", {"condition": "shifted"}, _on_model(interventions.condition_shuffled))
    )
    return variants


def _on_model(intervention: Callable[[Any], Any]) -> Callable[[Studied], Any]:
    return lambda studied: intervention(studied.model)


def _replacing(replacement: Callable[[Any], interventions.Replace]) -> Callable[[Studied], Any]:
    return lambda studied: interventions.input_replaced(studied.model, replacement)


@contextlib.contextmanager
def _one_call(studied: Studied) -> Iterator[None]:
    """One step of the model's own solver."""
    with interventions.solvers_replaced(studied.model, lambda module: other_solver(module.process, None, 1)):
        yield


@contextlib.contextmanager
def _another_seed(studied: Studied) -> Iterator[None]:
    """Draw other noise at inference."""
    model, seed = hooks.of(studied.model), studied.loaded.config["eval_seed"]
    model.seed_inference(seed + 1)
    try:
        yield
    finally:
        model.seed_inference(seed)


def _has_target_state(studied: Studied) -> bool:
    return getattr(type(studied.model), "target_state", hooks.Hooks.target_state) is not hooks.Hooks.target_state


def _target_as_input(studied: Studied) -> Any:
    return interventions.target_as_input(studied.model, held_out_items(studied))


def held_out_items(studied: Studied) -> Callable[[Any], Tensor]:
    """Return a function that gives the held-out items of each row of an evaluation batch, (B, m), filled up with 0."""
    loaded = studied.loaded
    user_field, item_field = loaded.dataset.uid_field, loaded.dataset.iid_field
    loader = loaded.valid_data if studied.split.phase == "valid" else loaded.test_data
    if getattr(loader, "is_sequential", False):
        return lambda interaction: interaction[item_field][:, None]
    users, items = studied.split.data.targets.T
    counts = np.bincount(users, minlength=studied.split.data.n_users)
    padded = np.zeros((len(counts), counts.max()), dtype=np.int64)
    place = np.arange(len(users)) - np.repeat(counts.cumsum() - counts, counts)  # the targets are sorted by user
    padded[users, place] = items
    table = torch.from_numpy(padded)
    return lambda interaction: table.to(interaction[user_field].device)[interaction[user_field]]
