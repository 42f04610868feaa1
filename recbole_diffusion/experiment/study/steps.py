"""Quality against network calls: one trained model with several solvers and numbers of steps, without training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Optional, Union

from recbole_diffusion.experiment.study.checkpoint_study import Studied, Variant
from recbole_diffusion.model import interventions
from recbole_diffusion.model.process import SolverFamily, other_solver, solver_family

#: Numbers of steps that are tried where none are passed, up to T.
STEPS: tuple[Union[int, str], ...] = (1, 2, 5, 10, 20, 50, "full")
AS_TRAINED = "as trained"


def solvers_of(studied: Studied) -> SolverFamily:
    """Return the solvers that all reverse processes of the model can have.

    Raises:
        ValueError: the model has no reverse process, or none whose solver can be exchanged; one line.
    """
    modules = interventions.reverse_processes(studied.model)
    name = type(studied.model).__name__
    if not modules:
        raise ValueError(f"{name} has no reverse process, so that there are no steps to vary")
    families = [solver_family(module.process) for module in modules]
    if families[0] is None or None in families:
        raise ValueError(f"{name} has one solver only: its process knows no other numbers of steps")
    return families[0]


def variants(
    studied: Studied, steps: Optional[Sequence[Union[int, str]]] = None, solvers: Optional[Sequence[str]] = None
) -> list[Variant]:
    """Return the model as it was trained, then each solver with each number of steps.

    Args:
        studied: the loaded checkpoint.
        steps: numbers of steps, ``full`` for T; None: those of :data:`STEPS` up to T.
        solvers: names; None: all that the model's process has.

    Raises:
        ValueError: an unknown solver, or more steps than T.
    """
    family = solvers_of(studied)
    allowed, total = [*family.make], family.steps
    names = list(solvers or allowed)
    for name in names:
        if name not in allowed:
            raise ValueError(f"solvers={name!r} is not allowed; allowed for this model: {', '.join(allowed)}")
    counts = _counts(steps, total)
    tried = [_variant(name, count) for name in names for count in counts]
    return [Variant(AS_TRAINED, {}, lambda studied: contextlib.nullcontext()), *tried]


def _counts(steps: Optional[Sequence[Union[int, str]]], total: int) -> list[int]:
    """The numbers of steps in rising order, each once."""
    counts: set[int] = set()
    for count in STEPS if steps is None else steps:
        count = total if count == "full" else count
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError(f"steps={count!r} is not allowed; allowed: integers from 1, and full")
        if count > total and steps is not None:
            raise ValueError(f"steps={count} is more than the model was trained with; allowed: at most {total}")
        counts.add(count)
    return sorted(count for count in counts if count <= total)


def _variant(solver: str, count: int) -> Variant:
    @contextlib.contextmanager
    def applied(studied: Studied) -> Iterator[None]:
        with interventions.solvers_replaced(studied.model, lambda module: other_solver(module.process, solver, count)):
            yield

    return Variant(f"{solver} {count}", {"solver": solver, "inference_steps": count}, applied)
