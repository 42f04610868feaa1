"""The one place where settings become a process, a solver and a law of the times, for every family of models.

The families name the same things differently (``steps`` or ``diffusion_steps``, ``infer_steps`` or
``inference_steps``, ...): :data:`FAMILIES` translates their keys to one :class:`ProcessSettings`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Optional

from torch import Tensor

from recbole_diffusion.diffusion import (
    AffineSolver,
    ContinuousTimes,
    GaussianDiffusion,
    Generators,
    IdentityProcess,
    LinearFlow,
    OdeSolver,
    Process,
    Solver,
    Step,
    Times,
    make_betas,
    make_sampler,
    row_generators,
)

FLOW_TIME_SCALE = 1000.0


@dataclass(frozen=True)
class ProcessSettings:
    """What describes a process and its solver, under one name for all models.

    Attributes:
        steps: T; of a flow the intervals of its grid.
        process: gaussian, flow, or identity (no noise).
        prediction_type: what the network outputs: x0, eps, v.
        time_scale: the time embedding is given ``t * time_scale``; None: 1, of a flow 1000.
        schedule, noise_scale, noise_min, noise_max, beta_fixed: of a Gaussian process; see :func:`make_betas`.
        reweight, first_step_weight: of its loss; see :class:`GaussianDiffusion`.
        t_max, source_std: of a flow; see :class:`LinearFlow`.
        timestep_sampling, history, uniform_prob: the law of the times in training.
        solver: ancestral or ddim of a Gaussian process; euler, midpoint or heun of a flow.
        infer_steps: reverse steps; None: T. 0: none, the start is the result.
        extra_steps: whether these may be more than T.
        sampling_noise, large_variance: noise in the ancestral steps; see :meth:`GaussianDiffusion.ancestral_steps`.
        eta: noise in the ddim steps.
        sampling_steps: forward steps by which the start is noised first.
    """

    steps: int
    process: str = "gaussian"
    prediction_type: str = "x0"
    time_scale: Optional[float] = None
    schedule: str = "linear"
    noise_scale: float = 1.0
    noise_min: float = 1e-4
    noise_max: float = 0.02
    beta_fixed: bool = False
    reweight: bool = False
    first_step_weight: float = 1.0
    t_max: float = 1.0
    source_std: float = 1.0
    timestep_sampling: str = "uniform"
    history: int = 10
    uniform_prob: float = 0.001
    solver: str = "ancestral"
    infer_steps: Optional[int] = None
    extra_steps: bool = False
    sampling_noise: bool = False
    large_variance: bool = False
    eta: float = 0.0
    sampling_steps: int = 0


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
    count = settings.steps if settings.infer_steps is None else settings.infer_steps
    law = make_sampler(settings.timestep_sampling, settings.steps, settings.history, settings.uniform_prob)
    if settings.process == "identity":
        identity = IdentityProcess(settings.steps)
        return Parts(identity, AffineSolver(identity.iterated(count)), law, 0)
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
        limited = {"infer_steps": settings.infer_steps or 0, **limited}
    for name, value in limited.items():
        if value > settings.steps:
            raise ValueError(f"{name}={value} is more than steps={settings.steps}; allowed: at most steps")


def _gaussian(settings: ProcessSettings) -> GaussianDiffusion:
    betas = make_betas(
        settings.schedule,
        settings.steps,
        noise_scale=settings.noise_scale,
        noise_min=settings.noise_min,
        noise_max=settings.noise_max,
        beta_fixed=settings.beta_fixed,
    )
    scale = 1.0 if settings.time_scale is None else settings.time_scale
    return GaussianDiffusion(betas, settings.prediction_type, settings.reweight, settings.first_step_weight, scale)


def _gaussian_steps(process: GaussianDiffusion, settings: ProcessSettings, count: int) -> list[Step]:
    if not count:
        return []
    if settings.solver == "ddim":
        return process.ddim_steps(count, settings.eta)
    return process.ancestral_steps(count, settings.sampling_noise, settings.large_variance, settings.extra_steps)


def _flow(settings: ProcessSettings) -> LinearFlow:
    if settings.sampling_noise:
        raise ValueError("sampling_noise=True is not allowed with process='flow', whose reverse is deterministic")
    scale = FLOW_TIME_SCALE if settings.time_scale is None else settings.time_scale
    return LinearFlow(settings.steps, settings.prediction_type, settings.t_max, settings.source_std, scale)


def _flow_solver(flow: LinearFlow, method: str, count: int) -> Solver:
    """Euler's steps are affine in the network's output, so that the folded chain takes them."""
    if method == "euler":
        return AffineSolver(flow.euler_steps(count))
    return OdeSolver(flow.grid(count), method, flow.velocity, euler_last=flow.prediction_type == "x0")


def _optional(config: Any, key: str, default: Any) -> Any:
    """A key that not all models of a family have."""
    return config[key] if key in config else default  # noqa: SIM401  RecBole's Config has no get


def _noise(config: Any) -> dict[str, Any]:
    """The keys of a Gaussian process as DiffRec and DDRM name them."""
    process = _optional(config, "process", "gaussian")
    return {
        "process": process if config["noise_scale"] else "identity",
        "schedule": config["noise_schedule"],
        "noise_scale": config["noise_scale"],
        "noise_min": config["noise_min"],
        "noise_max": config["noise_max"],
        "beta_fixed": config["beta_fixed"],
        "prediction_type": config["mean_type"],
        "sampling_noise": config["sampling_noise"],
    }


def _rows(config: Any) -> ProcessSettings:
    """DiffRec, T-DiffRec, L-DiffRec, LT-DiffRec."""
    return ProcessSettings(
        steps=config["steps"],
        time_scale=_optional(config, "time_scale", None),
        reweight=config["reweight"],
        first_step_weight=config["first_step_weight"],
        t_max=_optional(config, "t_max", 1.0),
        source_std=_optional(config, "source_std", 1.0),
        timestep_sampling=config["timestep_sampling"],
        history=config["history_num_per_term"],
        uniform_prob=config["uniform_prob"],
        solver=_optional(config, "solver", "euler"),
        infer_steps=config["infer_steps"],
        sampling_steps=config["sampling_steps"],
        **_noise(config),
    )


def _embeddings(config: Any) -> ProcessSettings:
    """DDRM, HDRM."""
    steps, count, factor = config["steps"], config["infer_steps"], config["infer_factor"]
    noised = config["sampling_steps"]
    return ProcessSettings(
        steps=steps,
        infer_steps=max(int(factor * steps), 1) if count is None else count,
        extra_steps=True,
        sampling_steps=steps if noised is None else noised,
        **_noise(config),
    )


def _diffurec(config: Any) -> ProcessSettings:
    """All the steps of the official chain, whose variance is beta, or fewer strided ones.

    The bounds of the schedule ``linear`` are those of 1000 steps, scaled. Where nothing of x_t reaches the network, all
    passes give the same, and one is made.
    """
    steps, count = config["diffusion_steps"], config["inference_steps"]
    count = steps if count is None else count
    if count > steps:
        raise ValueError(f"inference_steps={count} is not allowed; allowed: at most {steps}")
    std = config["lambda_std"]
    conditioned = config["lambda_uncertainty"] != 0 or (std is not None and std != 0)
    return ProcessSettings(
        steps=steps,
        process="gaussian" if conditioned else "identity",
        time_scale=1000 / steps if config["rescale_timesteps"] else 1.0,
        schedule=config["noise_schedule"],
        noise_scale=1000 / steps,
        solver="ancestral" if count == steps else "ddim",
        infer_steps=count if conditioned else 1,
        sampling_noise=True,
        large_variance=True,
        eta=config["inference_eta"],
    )


def _cddrec(config: Any) -> ProcessSettings:
    """A linear schedule. There is no chain: the prediction at t = 0 ranks."""
    return ProcessSettings(
        steps=config["diffusion_steps"],
        noise_min=config["beta_start"],
        noise_max=config["beta_end"],
        infer_steps=1,
    )


#: By family: what translates its keys.
FAMILIES: dict[str, Callable[[Any], ProcessSettings]] = {
    "rows": _rows,
    "embeddings": _embeddings,
    "DiffuRec": _diffurec,
    "CDDRec": _cddrec,
}


class Reverse:
    """The reverse process of a module: its solver, and what is read off it.

    Attributes:
        solver: how the reverse process is walked.
        sampling_steps: forward steps by which the start is noised first.
        eval_seed: of the noise at inference.
    """

    solver: Solver
    sampling_steps: int
    eval_seed: int

    @property
    def nfe(self) -> Optional[int]:
        """Number of function evaluations: network calls per sample."""
        return self.solver.nfe

    @property
    def reverse(self) -> Sequence[Step]:
        """The affine steps of the solver; assigning a list makes it the solver."""
        return self.solver.steps if isinstance(self.solver, AffineSolver) else []

    @reverse.setter
    def reverse(self, steps: Sequence[Step]) -> None:
        self.solver = AffineSolver(steps)

    def generators(self, users: Tensor) -> Generators:
        """Each user's own noise at inference; None where there is none. users: (B,)."""
        noisy = self.sampling_steps > 0 or self.solver.stochastic
        return row_generators(users.tolist(), self.eval_seed, users.device) if noisy else None


class CountsCalls:
    """A model that knows its number of function evaluations."""

    @property
    def nfe(self) -> Optional[int]:
        """Number of function evaluations: network calls per user and ranking; None if it varies."""
        raise NotImplementedError

    @property
    def denoiser_calls(self) -> Optional[int]:
        """The former name of :attr:`nfe`, still read of models that have it alone."""
        return self.nfe
