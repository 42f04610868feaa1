"""Interventions on the reverse process of a trained model: what its network sees at inference is replaced.

They answer which input carries a result. All of them work through :class:`ReverseProcess` and the
:class:`~recbole_diffusion.diffusion.Solver` protocol, so that they know no model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Callable, Optional

import torch
from torch import Tensor
from torch.utils import _python_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from recbole_diffusion.diffusion import Generators, Solver, StepCallback, randn
from recbole_diffusion.diffusion.sampler import Denoiser
from recbole_diffusion.model import hooks
from recbole_diffusion.model.reverse import ReverseProcess

#: ``replace(x_t, t)`` returns what the network sees in place of x_t (B, ...) at the times t (B,).
Replace = Callable[[Tensor, Tensor], Tensor]


def reverse_processes(model: Any) -> list[ReverseProcess]:
    """Return the modules of a model that run a reverse process; empty for a model without a chain."""
    return [module for module in model.modules() if isinstance(module, ReverseProcess)]


class _Wrapper:
    """A solver around another one, whose other attributes are those of the inner one.

    Args:
        solver: the inner solver.
    """

    def __init__(self, solver: Solver) -> None:
        self.solver = solver

    @property
    def nfe(self) -> Optional[int]:
        """Number of function evaluations: network calls per sample."""
        return self.solver.nfe

    @property
    def stochastic(self) -> bool:
        """Whether the method draws noise."""
        return self.solver.stochastic

    def __getattr__(self, name: str) -> Any:
        return getattr(self.solver, name)


class ReplacedInput(_Wrapper):
    """A solver whose network sees a replacement of x_t in every call.

    Args:
        solver: the solver.
        replace: gives the replacement.
    """

    def __init__(self, solver: Solver, replace: Replace) -> None:
        super().__init__(solver)
        self.replace = replace

    def solve(
        self,
        denoise: Denoiser,
        start: Tensor,
        generator: Generators = None,
        callback: Optional[StepCallback] = None,
    ) -> Tensor:
        """Solve the reverse process; see :class:`~recbole_diffusion.diffusion.Solver`."""
        return self.solver.solve(lambda x, t: denoise(self.replace(x, t), t), start, generator, callback)


class ShuffledCondition(_Wrapper):
    """A solver whose network has, for each row, the condition of another row of the batch.

    The starts are shifted by one row against the conditions, which the network holds, and the results are shifted back.
    Where the network has no condition beside x_t, or a batch has one row, nothing changes.
    """

    def solve(
        self,
        denoise: Denoiser,
        start: Tensor,
        generator: Generators = None,
        callback: Optional[StepCallback] = None,
    ) -> Tensor:
        """Solve the reverse process; see :class:`~recbole_diffusion.diffusion.Solver`."""
        return self.solver.solve(denoise, start.roll(1, 0), generator, callback).roll(-1, 0)


class NoCalls(_Wrapper):
    """A solver without network calls: the start is the result."""

    @property
    def nfe(self) -> int:
        """Number of function evaluations: 0."""
        return 0

    def solve(
        self,
        denoise: Denoiser,
        start: Tensor,
        generator: Generators = None,
        callback: Optional[StepCallback] = None,
    ) -> Tensor:
        """Return the start."""
        return start


class _Stopped(Exception):
    """Ends a reverse process at a state."""

    def __init__(self, state: Tensor) -> None:
        super().__init__()
        self.state = state


class StoppedAfter(_Wrapper):
    """A solver whose reverse process ends after ``count`` steps; 0: at its start.

    The state after the last of these steps is its result.

    Attributes:
        taken: number of steps of the last call.
    """

    def __init__(self, solver: Solver, count: float) -> None:
        super().__init__(solver)
        self.count, self.taken = count, 0

    def solve(
        self,
        denoise: Denoiser,
        start: Tensor,
        generator: Generators = None,
        callback: Optional[StepCallback] = None,
    ) -> Tensor:
        """Solve the reverse process up to the step; see :class:`~recbole_diffusion.diffusion.Solver`."""
        self.taken = 0
        if not self.count:
            return start

        def stop(t: Any, out: Tensor, x: Tensor) -> None:
            self.taken += 1
            if self.taken >= self.count:
                raise _Stopped(x)

        try:
            return self.solver.solve(denoise, start, generator, stop)
        except _Stopped as stopped:
            return stopped.state


@contextlib.contextmanager
def solvers_replaced(model: Any, make: Callable[[ReverseProcess], Solver]) -> Iterator[None]:
    """Replace the solver of every reverse process of a model by ``make(module)``; restore them afterwards."""
    modules = reverse_processes(model)
    solvers = [module.solver for module in modules]
    try:
        for module in modules:
            module.solver = make(module)
        yield
    finally:
        for module, solver in zip(modules, solvers):
            module.solver = solver


@contextlib.contextmanager
def input_replaced(model: Any, replacement: Callable[[ReverseProcess], Replace]) -> Iterator[None]:
    """Replace x_t in every network call of inference.

    Args:
        model: the model.
        replacement: gives the replacement for one of its reverse processes.
    """
    with solvers_replaced(model, lambda module: ReplacedInput(module.solver, replacement(module))):
        yield


def zeros(module: ReverseProcess) -> Replace:
    """Replace x_t by zeros."""
    return lambda x, t: torch.zeros_like(x)


def noise_alone(module: ReverseProcess, seed: int = 0) -> Replace:
    r"""Replace x_t by the noise of its level, without the signal: the forward process applied to 0.

    For a Gaussian process it is :math:`\sqrt{1 - \bar\alpha_t}\, z`.
    """
    generator = torch.Generator().manual_seed(seed)  # of the CPU: the same noise on every device

    def replace(x: Tensor, t: Tensor) -> Tensor:
        noise = randn(x, generator)
        process = module.process
        if not t.is_floating_point():  # the reverse process may go on beyond the forward one's last step
            t = t.clamp(max=process.steps - 1)
        return process.sample(torch.zeros_like(x), t, process.source(x, lambda like: noise)).x_t

    return replace


@contextlib.contextmanager
def target_as_input(model: Any, targets: Callable[[Any], Tensor]) -> Iterator[None]:
    """Replace x_t by the clean state of the held-out items: a leak on purpose.

    A network that uses its x_t then ranks the held-out items far higher; one that ignores it does not change.

    Args:
        model: the model.
        targets: returns the held-out items of each row of an evaluation batch, int64 (B, m), filled up with 0.

    Raises:
        ValueError: the model does not say what the clean state is (hook ``target_state``).
    """
    state: list[Tensor] = []
    score = model.full_sort_predict

    def full_sort_predict(interaction: Any) -> Tensor:
        clean = hooks.of(model).target_state(interaction, targets(interaction))
        if clean is None:
            raise ValueError(f"{type(model).__name__} does not say what the clean state of held-out items is")
        state[:] = [clean]
        scores: Tensor = score(interaction)
        return scores

    model.full_sort_predict = full_sort_predict
    try:
        with input_replaced(model, lambda module: lambda x, t: state[0].to(x)):
            yield
    finally:
        del model.full_sort_predict


@contextlib.contextmanager
def without_chain(model: Any) -> Iterator[None]:
    """Make no network call: the start of the reverse process is its result."""
    with solvers_replaced(model, lambda module: NoCalls(module.solver)):
        yield


@contextlib.contextmanager
def condition_shuffled(model: Any) -> Iterator[None]:
    """Give the network the condition of another row of the batch."""
    with solvers_replaced(model, lambda module: ShuffledCondition(module.solver)):
        yield


class NoNoise(TorchDispatchMode):
    """A context in which every draw of a normal distribution is its mean, whoever draws it."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operator(*args, **(kwargs or {}))
        name = operator.overloadpacket.__name__
        if name in ("randn", "randn_like"):
            return result.zero_()
        if name == "normal_":
            return result.fill_(args[1] if len(args) > 1 else 0.0)
        return result


#: Whether draws can be replaced. torch before 1.13 makes dispatch modes itself, and cannot pass them generators.
CAN_LEAVE_OUT_NOISE = not hasattr(_python_dispatch, "push_torch_dispatch_mode")
