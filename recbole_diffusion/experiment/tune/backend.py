"""The backend of a tuning: Ray Tune where it works, else one trial after the other in this process."""

from __future__ import annotations

import importlib
from typing import Any, Optional

from recbole_diffusion.experiment.jobs.resources import Resources
from recbole_diffusion.experiment.tune.options import ADAPTIVE_SEARCHES, check_names, positive_integer


def choose_backend(
    executor: Optional[str],
    workers: Optional[int],
    address: Optional[str],
    threads: int,
    gpus: float,
    search: str,
    scheduler: Optional[str],
) -> tuple[Resources, str]:
    """Choose where the trials run: on Ray where it works, unless ``executor`` is ``serial``.

    Args:
        executor, workers, address, threads, gpus, search, scheduler: as
            :func:`recbole_diffusion.experiment.tune.tune` takes them.

    Returns:
        The resources, and a note for the user where Ray was expected and does not work; else an empty string.

    Raises:
        ValueError: a value that is not allowed, an option that needs Ray without Ray, or a library that cannot be
            imported.
    """
    check_names(search, scheduler, executor)
    for name, number in (("workers", workers), ("threads", threads)):
        if number is not None:
            positive_integer(name, number)
    ray_options = _options_that_need_ray(workers, address, search, scheduler)
    serial = Resources(threads=threads, gpus=gpus)
    if executor == "serial":
        if ray_options:
            raise ValueError(
                f"executor=serial is not allowed with {ray_options[0]}, which needs Ray; allowed: executor=ray"
            )
        return serial, ""
    ray_error = _import_error_of_ray()
    if ray_error is not None:
        if executor == "ray" or ray_options:
            raise ValueError(f"{ray_options[0] if ray_options else 'executor=ray'}: {ray_error}")
        note = f"trials run one after the other in this process, with median stopping instead of ASHA: {ray_error}"
        return serial, note
    if search in ADAPTIVE_SEARCHES:
        import_search_library(search)
    workers = workers or (1 if address is None else None)
    return Resources(workers, address, threads, gpus=float(gpus)), ""


def _options_that_need_ray(
    workers: Optional[int], address: Optional[str], search: str, scheduler: Optional[str]
) -> list[str]:
    """The options that work on Ray only, as ``name=value``."""
    options = {
        "search": search if search in ADAPTIVE_SEARCHES else None,
        "workers": workers,
        "address": address,
        "scheduler": scheduler if scheduler == "asha" else None,
    }
    return [f"{name}={value}" for name, value in options.items() if value is not None]


def _import_error_of_ray() -> Optional[str]:
    """Import Ray Tune. Return the error in one line where that fails, else None."""
    from recbole_diffusion.experiment.cluster.session import import_ray

    try:
        import_ray()
        importlib.import_module("ray.tune")
    except (ValueError, ImportError) as error:
        return " ".join(str(error).split())
    return None


def import_search_library(name: str) -> Any:
    """Import ``optuna`` or ``hyperopt``.

    Raises:
        ValueError: the import fails; the message holds the command that installs it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"search={name} needs {name}, which cannot be imported ({error}); pip install {name}"
        ) from error
