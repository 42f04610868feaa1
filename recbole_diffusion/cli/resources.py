"""Options that ``compare`` and ``tune`` share: where trainings run, and where results are kept."""

from __future__ import annotations

import argparse
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from recbole_diffusion.cli.command import Command, real, whole

_NAMES = ("workers", "address", "threads", "cpus", "gpus")


def add_resources(command: Command) -> None:
    """Declare ``--workers``, ``--address``, ``--threads``, ``--cpus`` and ``--gpus``."""
    command.option(
        "workers",
        "N",
        "trainings at once on this machine, each in a process of Ray's; without: one by one, no Ray",
        whole,
    )
    command.option(
        "address", "auto", "a Ray cluster that is there (host:port, or auto); it must see this folder and the data"
    )
    command.option("threads", "1", "of each training, with Ray and without: equal threads, equal numbers", whole)
    command.option("cpus", "1", "CPU slots of Ray's that a training takes", real)
    command.option("gpus", "0", "GPUs that a training takes; a fraction shares one", real)


def resources_of(options: argparse.Namespace) -> dict[str, Any]:
    """Those of :func:`add_resources` that were given."""
    return {name: getattr(options, name) for name in _NAMES if getattr(options, name) is not None}


def default_folder(command: str, name: str) -> str:
    """``outputs/COMMAND-NAME-TIME``."""
    return os.path.join("outputs", f"{command}-{name.replace(',', '+')}-{datetime.now():%Y%m%d-%H%M%S}")


def shown(path: Path) -> str:
    """The path from here, where it lies below; else all of it."""
    short = os.path.relpath(path)
    return str(path) if short.startswith(os.pardir) else short
