"""The resources of a comparison's runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Resources:
    """Workers, threads, CPUs and GPUs; see :func:`recbole_diffusion.experiment.jobs.executor.executor`."""

    workers: Optional[int] = None
    address: Optional[str] = None
    threads: int = 1
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers before any data are prepared.

        Raises:
            ValueError: a number that is not allowed.
        """
        for name, least in (("workers", 1), ("threads", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ValueError(f"{name}={value!r} is not allowed; allowed: a whole number from {least}")
