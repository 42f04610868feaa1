"""Diffusion mathematics: processes, solvers, noise schedules, timestep samplers. Needs torch only."""

from recbole_diffusion.diffusion.discrete import DiscreteFlow, JumpSolver
from recbole_diffusion.diffusion.flow import LinearFlow
from recbole_diffusion.diffusion.gaussian import GaussianDiffusion
from recbole_diffusion.diffusion.graph import GraphSmoothing, GraphSolver
from recbole_diffusion.diffusion.identity import IdentityProcess
from recbole_diffusion.diffusion.mean_solver import MeanSolver
from recbole_diffusion.diffusion.noise import Generators, SharedGenerator, draw, randn, row_generators
from recbole_diffusion.diffusion.ode import OdeSolver
from recbole_diffusion.diffusion.process import PathSample, Process, full_time, row_mse
from recbole_diffusion.diffusion.sampler import Denoiser, Step, StepCallback, sample
from recbole_diffusion.diffusion.schedule import make_betas
from recbole_diffusion.diffusion.solver import AffineSolver, ChainDenoiser, SharedNoiseDenoiser, Solver
from recbole_diffusion.diffusion.time_laws import LawTimes
from recbole_diffusion.diffusion.timestep import (
    ContinuousTimes,
    LossSecondMomentTimesteps,
    Times,
    Timesteps,
    UniformTimesteps,
    make_sampler,
)

__all__ = [
    "AffineSolver",
    "ChainDenoiser",
    "ContinuousTimes",
    "Denoiser",
    "DiscreteFlow",
    "GaussianDiffusion",
    "Generators",
    "GraphSmoothing",
    "GraphSolver",
    "IdentityProcess",
    "JumpSolver",
    "LawTimes",
    "LinearFlow",
    "LossSecondMomentTimesteps",
    "MeanSolver",
    "OdeSolver",
    "PathSample",
    "Process",
    "SharedGenerator",
    "SharedNoiseDenoiser",
    "Solver",
    "Step",
    "StepCallback",
    "Times",
    "Timesteps",
    "UniformTimesteps",
    "draw",
    "full_time",
    "make_betas",
    "make_sampler",
    "randn",
    "row_generators",
    "row_mse",
    "sample",
]
