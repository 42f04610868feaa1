"""Resources of trainings: on which machine they run, how many at once, and what each of them takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Resources:
    """Where trainings run; the fields are arguments of :func:`recbole_diffusion.experiment.jobs.executor.executor`.

    With neither ``workers`` nor ``address`` the trainings run one after the other in this process, without Ray.

    Attributes:
        workers: trainings at once in a Ray session on this machine; None: no session is started here.
        address: address of a Ray cluster, ``auto`` or ``host:port``; None: no cluster is used.
        threads: threads of each training.
        cpus: Ray's CPU slots of each training; fractions are allowed.
        gpus: GPUs of each training; fractions are allowed. With 0 a training on Ray sees no GPU.

    Raises:
        ValueError: ``workers`` or ``threads`` is no whole number from 1.
    """

    workers: Optional[int] = None
    address: Optional[str] = None
    threads: int = 1
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        for name in ("workers", "threads"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name}={value!r} is not allowed; allowed: a whole number from 1")

    @property
    def on_ray(self) -> bool:
        """Whether the trainings run on Ray."""
        return self.workers is not None or self.address is not None
