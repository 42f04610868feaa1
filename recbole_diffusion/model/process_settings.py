"""Settings of a process and its solver under common names, and their translation from the keys of every family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Optional


@dataclass(frozen=True)
class ProcessSettings:
    """Settings of a process, its solver and its timestep sampler, under the same names for all models.

    Attributes:
        steps: number of steps T, or of grid intervals of a flow.
        process: ``gaussian``, ``flow``, or ``identity`` (no noise).
        prediction_type: the network's output: ``x0``, ``eps`` or ``v``.
        time_scale: the time embedding is computed from ``t * time_scale``; None: 1, for a flow 1000.
        schedule, noise_scale, noise_min, noise_max, beta_fixed: Gaussian only; see :func:`make_betas`.
        reweight, first_step_weight: loss of the Gaussian process; see :class:`GaussianDiffusion`.
        t_max, source_std: flow only; see :class:`LinearFlow`.
        from_source: flow only; the reverse process starts at the source, so that any number of steps covers the whole
            path. Otherwise ``inference_steps`` are the last intervals of the grid.
        timestep_sampling, history, uniform_prob: timestep sampler of training; see :func:`make_sampler`. With
            ``from_source``: ``mode``, ``uniform``, ``logit_normal`` or ``cosmap`` (:mod:`time_laws`).
        mode_scale, logit_mean, logit_std: parameters of the laws ``mode`` and ``logit_normal``.
        solver: ``ancestral`` or ``ddim`` for a Gaussian process; ``euler``, ``midpoint`` or ``heun`` for a flow, with
            ``from_source`` also ``mean`` (:class:`MeanSolver`).
        inference_steps: number of reverse steps; None: T; 0: the start is returned as it is.
        extra_steps: allow ``inference_steps`` > T.
        sampling_noise, large_variance: noise of ancestral steps; see :meth:`GaussianDiffusion.ancestral_steps`.
        ddim_grid: steps of DDIM: ``even``, or ``official`` for :meth:`GaussianDiffusion.strided_steps`.
        eta: noise of DDIM steps; see :meth:`GaussianDiffusion.ddim_steps`.
        sampling_steps: number of forward steps by which the start is noised first.
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
    from_source: bool = False
    timestep_sampling: str = "uniform"
    history: int = 10
    uniform_prob: float = 0.001
    mode_scale: float = 1.0
    logit_mean: float = 0.0
    logit_std: float = 1.0
    solver: str = "ancestral"
    inference_steps: Optional[int] = None
    extra_steps: bool = False
    sampling_noise: bool = False
    large_variance: bool = False
    ddim_grid: str = "even"
    eta: float = 0.0
    sampling_steps: int = 0


def _optional(config: Any, key: str, default: Any) -> Any:
    """Read a key that only some models of a family have."""
    return config[key] if key in config else default  # noqa: SIM401  RecBole's Config has no get


def _noise(config: Any) -> dict[str, Any]:
    """Translate the keys of a Gaussian process that DiffRec and DDRM share."""
    process = _optional(config, "process", "gaussian")
    return {
        "process": process if config["noise_scale"] else "identity",
        "schedule": config["noise_schedule"],
        "noise_scale": config["noise_scale"],
        "noise_min": config["noise_min"],
        "noise_max": config["noise_max"],
        "beta_fixed": config["beta_fixed"],
        "prediction_type": config["prediction_type"],
        "sampling_noise": config["sampling_noise"],
    }


def _rows(config: Any) -> ProcessSettings:
    """Translate the keys of DiffRec, T-DiffRec, L-DiffRec and LT-DiffRec."""
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
        inference_steps=config["inference_steps"],
        sampling_steps=config["sampling_steps"],
        **_noise(config),
    )


def _embeddings(config: Any) -> ProcessSettings:
    """Translate the keys of DDRM and HDRM."""
    steps, count, factor = config["steps"], config["inference_steps"], config["infer_factor"]
    sampling_steps = config["sampling_steps"]
    return ProcessSettings(
        steps=steps,
        inference_steps=max(int(factor * steps), 1) if count is None else count,
        extra_steps=True,
        sampling_steps=steps if sampling_steps is None else sampling_steps,
        **_noise(config),
    )


def _diffurec(config: Any) -> ProcessSettings:
    """Translate the keys of DiffuRec and ADRec: all T ancestral steps with variance beta, or fewer DDIM steps.

    The bounds of the schedule ``linear`` are defined for 1000 steps and scaled by 1000 / T. If lambda is 0, x_t does
    not reach the network, so that all its calls return the same: one call is made.
    """
    steps, count = config["steps"], config["inference_steps"]
    count = steps if count is None else count
    if count > steps:
        raise ValueError(f"inference_steps={count} is not allowed; allowed: at most {steps}")
    std = _optional(config, "lambda_std", None)
    conditioned = config["lambda_uncertainty"] != 0 or (std is not None and std != 0)
    return ProcessSettings(
        steps=steps,
        process="gaussian" if conditioned else "identity",
        time_scale=1000 / steps if config["rescale_timesteps"] else 1.0,
        schedule=config["noise_schedule"],
        noise_scale=1000 / steps,
        solver="ancestral" if count == steps else "ddim",
        inference_steps=count if conditioned else 1,
        sampling_noise=True,
        large_variance=True,
        eta=config["inference_eta"],
    )


def _fmrec(config: Any) -> ProcessSettings:
    """Translate the keys of FMRec, whose own time runs from the noise to the data: here t is 1 minus that.

    Its smallest time ``eps`` is the distance of our largest one from 1. If lambda is 0, x_t does not reach the network,
    so that all its calls return the same: one call is made.
    """
    std = config["lambda_std"]
    conditioned = config["lambda_uncertainty"] != 0 or (std is not None and std != 0)
    return ProcessSettings(
        steps=config["steps"],
        process="flow" if conditioned else "identity",
        time_scale=1 / config["eps"] - 1 if config["rescale_timesteps"] else 1.0,
        t_max=1 - config["eps"],
        from_source=True,
        timestep_sampling=config["timestep_sampling"] if conditioned else "uniform",
        mode_scale=config["mode_scale"],
        logit_mean=-config["logit_mean"],
        logit_std=config["logit_std"],
        solver="mean" if config["velocity"] == "start" else "euler",
        inference_steps=config["inference_steps"] if conditioned else 1,
    )


def _cddrec(config: Any) -> ProcessSettings:
    """Translate the keys of CDDRec: a linear schedule and one network call, since the prediction at t = 0 ranks."""
    return ProcessSettings(
        steps=config["steps"],
        noise_min=config["beta_start"],
        noise_max=config["beta_end"],
        inference_steps=1,
    )


def _guided(config: Any) -> ProcessSettings:
    """Translate the keys of DreamRec and PreferDiff.

    DreamRec: all T ancestral steps with the small variance, or fewer DDIM steps, both without noise if ``eval_noise``
    is off. PreferDiff, which has ``ddim_grid``: DDIM steps without noise; only the start is drawn.
    """
    grid, count, noise = _optional(config, "ddim_grid", None), config["inference_steps"], config["eval_noise"]
    common: dict[str, Any] = {
        "steps": config["steps"],
        "schedule": config["noise_schedule"],
        "noise_min": config["noise_min"],
        "noise_max": config["noise_max"],
        "inference_steps": count,
    }
    if grid is not None:
        return ProcessSettings(solver="ddim", ddim_grid=grid, **common)
    solver = "ancestral" if count in (None, config["steps"]) else "ddim"
    return ProcessSettings(solver=solver, sampling_noise=noise, eta=float(noise), **common)


#: Solvers that need no training of their own, by process.
SOLVERS: dict[str, tuple[str, ...]] = {"gaussian": ("ancestral", "ddim"), "flow": ("euler", "midpoint", "heun")}
#: Translations of settings, by family of models.
FAMILIES: dict[str, Callable[[Any], ProcessSettings]] = {
    "rows": _rows,
    "embeddings": _embeddings,
    "DiffuRec": _diffurec,
    "FMRec": _fmrec,
    "ADRec": _diffurec,
    "CDDRec": _cddrec,
    "guided": _guided,
}
