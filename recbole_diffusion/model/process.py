"""Factory of the process, the solver and the timestep sampler of every family of models.

The families have different keys: a schedule by name or the bounds of a linear one, a number of reverse steps or a
factor. :data:`~recbole_diffusion.model.process_settings.FAMILIES` translates their keys to one
:class:`~recbole_diffusion.model.process_settings.ProcessSettings`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Callable, NamedTuple, Optional

from torch import Tensor

from recbole_diffusion.diffusion import (
    AffineSolver,
    ContinuousTimes,
    DiscreteFlow,
    GaussianDiffusion,
    GraphSmoothing,
    GraphSolver,
    IdentityProcess,
    JumpSolver,
    LawTimes,
    LinearFlow,
    MeanSolver,
    OdeSolver,
    Process,
    Solver,
    Step,
    Times,
    make_betas,
    make_sampler,
    time_laws,
)
from recbole_diffusion.model.process_settings import FAMILIES, SOLVERS, ProcessSettings

FLOW_TIME_SCALE = 1000.0
#: Laws of the times of a flow that starts at the source.
TIME_LAWS = ("mode", "uniform", "logit_normal", "cosmap")


class DiffusionParts(NamedTuple):
    """``process``, ``solver``, the timestep sampler ``times``, and ``sampling_steps``.

    ``sampling_steps`` is the number of forward steps by which the start of the reverse process is noised. The sampler
    is not part of the process because its state is in checkpoints, under the attribute name that the model chooses.
    """

    process: Process
    solver: Solver
    times: Times
    sampling_steps: int


def process_of(config: Any, family: str = "rows") -> DiffusionParts:
    """Make process, solver and timestep sampler from a model's settings.

    Args:
        config: the settings.
        family: one of :data:`FAMILIES`.

    Raises:
        ValueError: values that make no schedule or no solver, or more reverse steps than ``steps``.
    """
    return make_parts(FAMILIES[family](config))


def make_parts(settings: ProcessSettings) -> DiffusionParts:
    """Make process, solver and timestep sampler, for models whose keys :func:`process_of` does not know.

    The process keeps its :class:`SolverFamily`, so that :func:`other_solver` can make another solver for it.

    Raises:
        ValueError: see :func:`process_of`.
    """
    parts = _make_parts(settings)
    names = ("mean", *SOLVERS["flow"]) if _from_source(settings) else SOLVERS.get(settings.process, ())
    if names:
        own = settings.solver if settings.solver in names else names[0]
        make = {name: functools.partial(_solver_of, settings, name) for name in names}
        parts.process.solvers = SolverFamily(own, settings.steps, make)  # type: ignore[attr-defined]
    return parts


def _solver_of(settings: ProcessSettings, name: str, process: Any, count: int) -> Solver:
    return make_parts(replace(settings, solver=name, inference_steps=count)).solver


class SolverFamily(NamedTuple):
    """The solvers that a process can have without another training.

    Attributes:
        own: name of the model's own solver.
        steps: T, the largest number of reverse steps.
        make: by name, ``make(process, count)``: a solver of ``count`` steps.
    """

    own: str
    steps: int
    make: Mapping[str, Callable[[Any, int], Solver]]


def solver_family(process: Any) -> Optional[SolverFamily]:
    """Return the solvers of a process; None if it has its own only."""
    return getattr(process, "solvers", None)


def other_solver(process: Any, name: Optional[str], count: int) -> Solver:
    """Make another solver for the process of a trained model.

    Args:
        process: one with a :func:`solver_family`.
        name: of a solver; None: the model's own.
        count: number of reverse steps, at most T.
    """
    family: SolverFamily = process.solvers
    return family.make[family.own if name is None else name](process, count)


def _make_parts(settings: ProcessSettings) -> DiffusionParts:
    _check_steps(settings)
    count = settings.steps if settings.inference_steps is None else settings.inference_steps
    if _from_source(settings):
        flow = _flow(settings)
        solver = _flow_solver(flow, settings.solver, count, whole=True)
        return DiffusionParts(flow, solver, LawTimes(_time_law(settings), flow.t_max), 0)
    times = make_sampler(settings.timestep_sampling, settings.steps, settings.history, settings.uniform_prob)
    if settings.process == "identity":
        identity = IdentityProcess(settings.steps, _time_scale(settings))
        return DiffusionParts(identity, AffineSolver(identity.iterated_steps(count)), times, 0)
    if settings.process == "flow":
        flow = _flow(settings)
        flow_times = ContinuousTimes(times, settings.steps, flow.t_max)
        return DiffusionParts(flow, _flow_solver(flow, settings.solver, count), flow_times, settings.sampling_steps)
    if settings.process != "gaussian":
        raise ValueError(f"process={settings.process!r} is not allowed; allowed: gaussian | flow")
    gaussian = _gaussian(settings)
    chain = AffineSolver(_gaussian_steps(gaussian, settings, count))
    return DiffusionParts(gaussian, chain, times, settings.sampling_steps)


def _from_source(settings: ProcessSettings) -> bool:
    """Whether the process is a flow whose reverse starts at the source."""
    return settings.process == "flow" and settings.from_source


def _time_law(settings: ProcessSettings) -> time_laws.TimeLaw:
    name = settings.timestep_sampling
    if name == "mode":
        return time_laws.mode(settings.mode_scale)
    if name == "logit_normal":
        return time_laws.logit_normal(settings.logit_mean, settings.logit_std)
    if name in ("uniform", "cosmap"):
        return time_laws.uniform() if name == "uniform" else time_laws.cosmap()
    raise ValueError(f"timestep_sampling={name!r} is not allowed; allowed: {' | '.join(TIME_LAWS)}")


def discrete_parts(config: Any, probabilities: Tensor) -> DiffusionParts:
    """Make the parts of a discrete flow from FlowCF's keys.

    Args:
        config: the settings.
        probabilities: of a one in each coordinate of the prior, (d,).

    Raises:
        ValueError: more reverse steps than ``steps``.
    """
    settings = ProcessSettings(config["steps"], inference_steps=config["inference_steps"])
    _check_steps(settings)
    count = settings.steps if settings.inference_steps is None else settings.inference_steps
    if "process" in config and config["process"] == "identity":
        identity, times = IdentityProcess(settings.steps), make_sampler("uniform", settings.steps)
        return DiffusionParts(identity, AffineSolver(identity.iterated_steps(count)), times, 0)
    process = DiscreteFlow(settings.steps, probabilities)
    process.solvers = SolverFamily("jump", settings.steps, {"jump": _jump_solver})  # type: ignore[assignment]
    return DiffusionParts(process, JumpSolver(count), make_sampler("uniform", settings.steps), 0)


class GraphParts(NamedTuple):
    """``process``, ``solver`` and the timestep sampler ``times`` of a smoothing over a graph."""

    process: GraphSmoothing
    solver: GraphSolver
    times: Times


def graph_parts(config: Any, smooth: Callable[[Tensor], Tensor]) -> GraphParts:
    """Make the parts of a smoothing over a graph from GiffCF's keys.

    Args:
        config: the settings.
        smooth: the linear operator, (B, d) to (B, d).

    Raises:
        ValueError: more reverse steps than ``steps``.
    """
    settings = ProcessSettings(config["steps"], inference_steps=config["inference_steps"])
    _check_steps(settings)
    count = settings.steps if settings.inference_steps is None else settings.inference_steps
    process = GraphSmoothing(
        smooth, settings.steps, config["alpha"], config["noise_scale"], noise_decay=config["noise_decay"]
    )
    make_solver = functools.partial(_graph_solver, config["noise_decay"])
    process.solvers = SolverFamily("smoothing", settings.steps, {"smoothing": make_solver})  # type: ignore[assignment]
    return GraphParts(process, make_solver(process, count), make_sampler("uniform", settings.steps))


def _jump_solver(process: Any, count: int) -> JumpSolver:
    return JumpSolver(count)


def _graph_solver(noise_decay: float, process: Any, count: int) -> GraphSolver:
    return GraphSolver(process, range(count, -1, -1), noise_decay)


def _check_steps(settings: ProcessSettings) -> None:
    step_counts = {"sampling_steps": settings.sampling_steps}
    if not settings.extra_steps:
        step_counts = {"inference_steps": settings.inference_steps or 0, **step_counts}
    for name, value in step_counts.items():
        if value > settings.steps:
            raise ValueError(f"{name}={value} is more than steps={settings.steps}; allowed: at most steps")


def _time_scale(settings: ProcessSettings, default: float = 1.0) -> float:
    return default if settings.time_scale is None else settings.time_scale


def _gaussian(settings: ProcessSettings) -> GaussianDiffusion:
    betas = make_betas(
        settings.schedule,
        settings.steps,
        noise_scale=settings.noise_scale,
        noise_min=settings.noise_min,
        noise_max=settings.noise_max,
        beta_fixed=settings.beta_fixed,
    )
    return GaussianDiffusion(
        betas, settings.prediction_type, settings.reweight, settings.first_step_weight, _time_scale(settings)
    )


def _gaussian_steps(process: GaussianDiffusion, settings: ProcessSettings, count: int) -> list[Step]:
    if not count:
        return []
    if settings.solver == "ddim" and settings.ddim_grid == "official" and count > 1:
        return process.strided_steps(count)
    if settings.solver == "ddim":
        return process.ddim_steps(count, settings.eta)
    return process.ancestral_steps(count, settings.sampling_noise, settings.large_variance, settings.extra_steps)


def _flow(settings: ProcessSettings) -> LinearFlow:
    if settings.sampling_noise:
        raise ValueError("sampling_noise=True is not allowed with process='flow', whose reverse is deterministic")
    scale = _time_scale(settings, FLOW_TIME_SCALE)
    return LinearFlow(settings.steps, settings.prediction_type, settings.t_max, settings.source_std, scale)


def _flow_solver(flow: LinearFlow, method: str, count: int, whole: bool = False) -> Solver:
    """Make the solver of a flow. Euler's steps are affine, so that the folded chain of the network can apply them."""
    if method == "mean":
        return MeanSolver(flow.grid(count, whole)[:-1])
    if method == "euler":
        return AffineSolver(flow.euler_steps(count, whole))
    return OdeSolver(flow.grid(count, whole), method, flow.velocity, euler_last=flow.prediction_type == "x0")
