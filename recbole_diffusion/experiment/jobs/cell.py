"""One training as a job: what a worker of any executor is given, and what it gives back."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple, Optional

from recbole_diffusion.evaluation.per_user import UserMetrics
from recbole_diffusion.experiment.jobs.store import Cell


class Job(NamedTuple):
    """A cell and where its run may leave files while it works."""

    cell: Cell
    folder: str


class Outcome(NamedTuple):
    """What becomes of a cell: its record for :class:`Store`, and the test metrics per user of a run that was tested."""

    record: dict[str, Any]
    users: Optional[UserMetrics]


def run_cell(job: Job) -> Outcome:
    """Train, and test unless the cell is a trial.

    Raises:
        Exception: whatever the run raises; the executor makes one line of it.
    """
    from recbole_diffusion import quick_start

    cell = job.cell
    _warm_up()
    started = datetime.now(timezone.utc)
    with workplace(Path(job.folder), cell.key):
        settings = {**cell.settings, "seed": cell.seed, "show_progress": False, "output_dir": "outputs"}
        result = quick_start.run(cell.model, cell.dataset, config_dict=settings, saved=False, test=cell.trial is None)
    return Outcome(record(cell, result, started), result["per_user"])


@functools.lru_cache(maxsize=1)
def _warm_up() -> None:
    """What the first training of a process pays for all."""
    import torch

    preload()
    torch.zeros(1, requires_grad=True).sum().backward()


def preload() -> None:
    """Import what every training needs. A fork server calls it: no thread is started, and no device is touched.

    An optimiser's first step imports torch's compiler, which takes seconds, though nothing is compiled.
    """
    import torch
    import torch.utils.tensorboard

    importlib.import_module("recbole_diffusion.quick_start")
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    torch.optim.Adam([weight]).step()


def record(cell: Cell, result: dict[str, Any], started: datetime) -> dict[str, Any]:
    """A finished cell as plain values. ``total_s`` is what it takes from scratch, a pretrained base included."""
    timing = {**result["timing"], "wall_s": result["timing"]["total_s"]}
    timing["total_s"] = timing.pop("from_scratch_s")
    return {
        **_who(cell),
        "status": "finished",
        "valid": result["best_valid_result"],
        "test": result["test_result"],
        "valid_score": result["best_valid_score"],
        "valid_score_bigger": result["valid_score_bigger"],
        "timing": timing,
        "epochs": result["epochs"],
        "data": result["data"],
        "warnings": result["warnings"],
        **_where(started),
    }


def failure(cell: Cell, error: str) -> dict[str, Any]:
    """The record of a cell that failed."""
    return {**_who(cell), "status": "failed", "error": error, **_where(datetime.now(timezone.utc))}


def _who(cell: Cell) -> dict[str, Any]:
    return {
        "key": cell.key,
        "label": cell.label,
        "model": cell.model,
        "dataset": cell.dataset,
        "seed": cell.seed,
        "trial": cell.trial,
        "settings": cell.settings,
        "basis": cell.basis,
    }


def _where(started: datetime) -> dict[str, Any]:
    return {"started": started.isoformat(timespec="seconds"), "host": platform.node(), "pid": os.getpid()}


@contextlib.contextmanager
def workplace(folder: Path, key: str) -> Iterator[None]:
    """Models of RecBole and of others may write to where they stand: a folder of the cell's own, removed after it.

    On another machine that does not see ``folder`` it is a temporary one.
    """
    before = Path.cwd()
    work = folder / "work" / key if folder.is_dir() else Path(tempfile.mkdtemp(prefix="recbole-diffusion-"))
    work.mkdir(parents=True, exist_ok=True)
    os.chdir(work)
    try:
        yield
    finally:
        os.chdir(before)
        shutil.rmtree(work, ignore_errors=True)
