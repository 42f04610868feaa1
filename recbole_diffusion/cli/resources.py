"""The options of ``compare`` for the resources of its trainings, and the paths of results."""

from __future__ import annotations

import argparse
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from recbole_diffusion.cli.command import Command, integer, real_number

_NAMES = ("workers", "address", "threads", "cpus", "gpus")


def add_resources(command: Command) -> None:
    """Declare ``--workers``, ``--address``, ``--threads``, ``--cpus`` and ``--gpus``."""
    command.option(
        "workers",
        "N",
        "number of trainings at once on this machine, in processes of Ray\ndefault: one after the other, without Ray",
        integer,
    )
    command.option(
        "address",
        "auto",
        "address of a Ray cluster, host:port or auto; its machines must see this folder and the data",
    )
    command.option(
        "threads",
        "1",
        "threads of each training; equal numbers of threads give equal results, with Ray and without",
        integer,
    )
    command.option("cpus", "1", "Ray's CPU slots of each training", real_number)
    command.option("gpus", "0", "GPUs of each training; with a fraction several trainings share one", real_number)


def resources_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the given options of :func:`add_resources`, by name."""
    return {name: getattr(options, name) for name in _NAMES if getattr(options, name) is not None}


def default_folder(command: str, name: str) -> str:
    """Return ``outputs/COMMAND-NAME-TIME``."""
    return os.path.join("outputs", f"{command}-{name.replace(',', '+')}-{datetime.now():%Y%m%d-%H%M%S}")


def short_path(path: Path) -> str:
    """Return the path relative to the working folder if it lies below it, else the whole path."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative
