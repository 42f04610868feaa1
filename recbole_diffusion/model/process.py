"""The Gaussian process that a model's keys describe."""

from __future__ import annotations

from typing import Any, Optional

from recbole_diffusion.diffusion import GaussianDiffusion, make_betas


def process_of(config: Any) -> Optional[GaussianDiffusion]:
    """From noise_schedule, steps, noise_scale, noise_min, noise_max, beta_fixed, mean_type; None for noise_scale 0.

    Raises:
        ValueError: values that make no schedule.
    """
    if config["noise_scale"] == 0:
        return None
    betas = make_betas(
        config["noise_schedule"],
        config["steps"],
        noise_scale=config["noise_scale"],
        noise_min=config["noise_min"],
        noise_max=config["noise_max"],
        beta_fixed=config["beta_fixed"],
    )
    return GaussianDiffusion(betas, config["mean_type"])
