"""The cost of a run: seconds, memory, parameters and number of function evaluations."""

from __future__ import annotations

from time import perf_counter
from typing import Any, NamedTuple, Optional

import numpy as np
from recbole.trainer import TraditionalTrainer

from recbole_diffusion import registry
from recbole_diffusion.model import hooks
from recbole_diffusion.training import run_folder
from recbole_diffusion.training.energy import Energy, EnergyMeter
from recbole_diffusion.training.trainer import Training


class RunClock:
    """Wall-clock time and energy of a run, from its creation.

    Args:
        config: settings of the run: its device, ``carbon_intensity`` and ``carbon_country``.
    """

    def __init__(self, config: Any) -> None:
        self._start = perf_counter()
        self._meter = EnergyMeter(config["device"], config["carbon_intensity"], country=config["carbon_country"])

    def seconds(self) -> float:
        """Seconds since the creation."""
        return perf_counter() - self._start

    def energy(self) -> Energy:
        """Energy since the creation."""
        return self._meter.stop()


class RunSeconds(NamedTuple):
    """Wall-clock times of a run.

    Attributes:
        total: seconds of the run.
        pretraining: seconds of the pretraining of the base model, whichever run did it; 0 without one.
        pretraining_here: seconds that this run spent on it: training it, waiting for another run, or reading the file.
    """

    total: float
    pretraining: float = 0.0
    pretraining_here: float = 0.0

    @property
    def from_scratch(self) -> float:
        """Seconds of the run as if no other run had pretrained the base model."""
        return self.total - self.pretraining_here + self.pretraining


def cost_of(config: Any, trainer: Any, model: Any, seconds: RunSeconds, tested: bool, energy: Energy) -> dict[str, Any]:
    """Measure the cost of a finished run.

    Args:
        config: settings of the run.
        trainer: the trainer after training and test.
        model: the trained model.
        seconds: wall-clock times.
        tested: whether the test split was scored.
        energy: of the run.

    Returns:
        ``epochs`` and ``best_epoch``, counted from 1; ``train_s_per_epoch`` and ``valid_s_per_epoch``, means in
        seconds; ``test_users_per_s``, None without a test; ``denoiser_calls_per_user``, see :func:`nfe_of`;
        ``parameters``, the trainable ones; ``peak_memory_mib`` and ``peak_gpu_memory_mib`` in MiB, the latter None on
        the CPU; ``energy_wh``, ``co2_g`` and ``energy_source``, see :class:`Energy`; ``pretrain_s``, ``total_s`` and
        ``from_scratch_s`` in seconds.
    """
    epochs = trainer.epochs_done if isinstance(trainer, Training) else []
    # RecBole gives EASE and its like one parameter for form's sake; they are solved in closed form.
    closed_form = isinstance(trainer, TraditionalTrainer)
    evaluation = getattr(trainer, "evaluation", None) or {"users": 0, "seconds": 1.0}
    return {
        "epochs": len(epochs) or len(getattr(trainer, "train_loss_dict", ())),  # RecBole's trainers count in their dict
        "best_epoch": getattr(trainer, "best_epoch", None),
        "train_s_per_epoch": float(np.mean([row["train_s"] for row in epochs])) if epochs else 0.0,
        "valid_s_per_epoch": float(np.mean([row["valid_s"] for row in epochs if "valid_s" in row] or [0.0])),
        "test_users_per_s": evaluation["users"] / max(evaluation["seconds"], 1e-9) if tested else None,
        "denoiser_calls_per_user": 0 if closed_form else nfe_of(config, model),
        "parameters": 0 if closed_form else _trainable_parameters(model),
        "peak_memory_mib": run_folder.peak_memory_mib(),
        "peak_gpu_memory_mib": run_folder.peak_gpu_memory_mib(config["device"]),
        "energy_wh": energy.wh,
        "co2_g": energy.co2_g,
        "energy_source": energy.source,
        "pretrain_s": seconds.pretraining,
        "total_s": seconds.total,
        "from_scratch_s": seconds.from_scratch,
    }


def _trainable_parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def nfe_of(config: Any, model: Any) -> Optional[int]:
    """Return the number of function evaluations (network calls) per user and ranking.

    It is the model's ``nfe``, the number of steps for RecBole's own diffusion models, else 1.

    Returns:
        The number; None if it varies.
    """
    if type(model).__module__.startswith("recbole.") and type(model).__name__ in registry.DIFFUSION_IN_RECBOLE:
        return int(config["steps"])
    return hooks.of(model).nfe
