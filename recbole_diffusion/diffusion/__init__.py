"""Diffusion mathematics: schedules, the Gaussian process, timestep sampling, samplers. Needs torch only."""

from recbole_diffusion.diffusion.gaussian import GaussianDiffusion, Step
from recbole_diffusion.diffusion.sampler import Shared, randn, row_generators, sample
from recbole_diffusion.diffusion.schedule import make_betas
from recbole_diffusion.diffusion.timestep import (
    LossSecondMomentTimesteps,
    Timesteps,
    UniformTimesteps,
    make_sampler,
)

__all__ = [
    "GaussianDiffusion",
    "LossSecondMomentTimesteps",
    "Shared",
    "Step",
    "Timesteps",
    "UniformTimesteps",
    "make_betas",
    "make_sampler",
    "randn",
    "row_generators",
    "sample",
]
