"""The one place where settings become a process, a solver and a law of the times, for every family of models.

The families have different keys (a schedule by name, or the ends of a linear one; a number of reverse steps, or a
factor): :data:`~recbole_diffusion.model.process_settings.FAMILIES` translates their keys to one
:class:`~recbole_diffusion.model.process_settings.ProcessSettings`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from recbole_diffusion.diffusion import (
    AffineSolver,
    ContinuousTimes,
    GaussianDiffusion,
    IdentityProcess,
    LinearFlow,
    OdeSolver,
    Process,
    Solver,
    Step,
    Times,
    make_betas,
    make_sampler,
)
from recbole_diffusion.model.process_settings import FAMILIES, ProcessSettings

FLOW_TIME_SCALE = 1000.0


class Parts(NamedTuple):
    """``process``, ``solver``, the law ``times``, and by how many forward ``sampling_steps`` the start is noised.

    The law stands beside the process since its state is in checkpoints, under the name that models give it.
    """

    process: Process
    solver: Solver
    times: Times
    sampling_steps: int


def process_of(config: Any, family: str = "rows") -> Parts:
    """Make the parts that a model's settings describe.

    Args:
        config: the settings.
        family: one of :data:`FAMILIES`.

    Raises:
        ValueError: values that make no schedule, no solver, or more steps than there are.
    """
    return make_parts(FAMILIES[family](config))


def make_parts(settings: ProcessSettings) -> Parts:
    """Make the parts; for models of other packages, whose keys :func:`process_of` does not know.

    Raises:
        ValueError: see :func:`process_of`.
    """
    _check_steps(settings)
    count = settings.steps if settings.inference_steps is None else settings.inference_steps
    law = make_sampler(settings.timestep_sampling, settings.steps, settings.history, settings.uniform_prob)
    if settings.process == "identity":
        identity = IdentityProcess(settings.steps, _time_scale(settings))
        return Parts(identity, AffineSolver(identity.iterated_steps(count)), law, 0)
    if settings.process == "flow":
        flow = _flow(settings)
        times = ContinuousTimes(law, settings.steps, flow.t_max)
        return Parts(flow, _flow_solver(flow, settings.solver, count), times, settings.sampling_steps)
    if settings.process != "gaussian":
        raise ValueError(f"process={settings.process!r} is not allowed; allowed: gaussian | flow")
    gaussian = _gaussian(settings)
    return Parts(gaussian, AffineSolver(_gaussian_steps(gaussian, settings, count)), law, settings.sampling_steps)


def _check_steps(settings: ProcessSettings) -> None:
    limited = {"sampling_steps": settings.sampling_steps}
    if not settings.extra_steps:
        limited = {"inference_steps": settings.inference_steps or 0, **limited}
    for name, value in limited.items():
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
    if settings.solver == "ddim":
        return process.ddim_steps(count, settings.eta)
    return process.ancestral_steps(count, settings.sampling_noise, settings.large_variance, settings.extra_steps)


def _flow(settings: ProcessSettings) -> LinearFlow:
    if settings.sampling_noise:
        raise ValueError("sampling_noise=True is not allowed with process='flow', whose reverse is deterministic")
    scale = _time_scale(settings, FLOW_TIME_SCALE)
    return LinearFlow(settings.steps, settings.prediction_type, settings.t_max, settings.source_std, scale)


def _flow_solver(flow: LinearFlow, method: str, count: int) -> Solver:
    """Euler's steps are affine in the network's output, so that the folded chain takes them."""
    if method == "euler":
        return AffineSolver(flow.euler_steps(count))
    return OdeSolver(flow.grid(count), method, flow.velocity, euler_last=flow.prediction_type == "x0")
