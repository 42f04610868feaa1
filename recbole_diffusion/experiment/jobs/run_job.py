"""One run as a job: the input and the result of an executor's worker."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import platform
import shutil
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple, Optional

from recbole_diffusion.evaluation.per_user import UserMetrics
from recbole_diffusion.evaluation.ranked_lists import ListsOfSplit
from recbole_diffusion.experiment.jobs.run_spec import RunSpec
from recbole_diffusion.support.temporary_folder import temporary_folder


class RunJob(NamedTuple):
    """A run, and the folder below which it may leave temporary files."""

    spec: RunSpec
    folder: str


class Outcome(NamedTuple):
    """The result of a run, for :class:`Store`.

    Attributes:
        record: of the run.
        users: its test metrics per user, if it was tested.
        lists: its recommended lists of the test, if it kept them.
    """

    record: dict[str, Any]
    users: Optional[UserMetrics]
    lists: Optional[ListsOfSplit] = None


def run_one(job: RunJob) -> Outcome:
    """Train a model, and test it unless the run is a trial.

    Raises:
        Exception: any error of the training; the executor reports it in one line.
    """
    from recbole_diffusion import quick_start

    spec = job.spec
    _warm_up()
    started = datetime.now(timezone.utc)
    with working_directory(Path(job.folder), spec.key):
        settings = {**spec.settings, "seed": spec.seed, "show_progress": False, "output_dir": "outputs"}
        result = quick_start.run(spec.model, spec.dataset, config_dict=settings, saved=False, test=spec.trial is None)
    return Outcome(finished_record(spec, result, started), result["per_user"], result.get("lists"))


@functools.lru_cache(maxsize=1)
def _warm_up() -> None:
    """Pay the one-time costs of a process before the first run's clock starts."""
    import torch

    preload()
    torch.zeros(1, requires_grad=True).sum().backward()


def preload() -> None:
    """Import what every training needs. A fork server calls it, so it starts no thread and uses no device.

    An optimiser's first step imports torch's compiler. That takes seconds, although nothing is compiled.
    """
    import torch
    import torch.utils.tensorboard

    importlib.import_module("recbole_diffusion.quick_start")
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    torch.optim.Adam([weight]).step()


def finished_record(spec: RunSpec, result: dict[str, Any], started: datetime) -> dict[str, Any]:
    """Return the record of a finished run, as plain values.

    Args:
        spec: the run.
        result: of :func:`recbole_diffusion.quick_start.run`.
        started: when the run began, in UTC.

    Returns:
        ``timing.wall_s`` is what this run took; ``timing.total_s`` adds the training of a base model that was loaded.
    """
    timing = {**result["timing"], "wall_s": result["timing"]["total_s"]}
    timing["total_s"] = timing.pop("from_scratch_s")
    return {
        **_identity(spec),
        "status": "finished",
        "valid": result["best_valid_result"],
        "test": result["test_result"],
        "valid_score": result["best_valid_score"],
        "valid_score_bigger": result["valid_score_bigger"],
        "timing": timing,
        "epochs": result["epochs"],
        "data": result["data"],
        "warnings": result["warnings"],
        **_process_info(started),
    }


def failed_record(spec: RunSpec, error: str) -> dict[str, Any]:
    """Return the record of a failed run; ``error`` is its reason in one line."""
    return {**_identity(spec), "status": "failed", "error": error, **_process_info(datetime.now(timezone.utc))}


def _identity(spec: RunSpec) -> dict[str, Any]:
    return {
        "key": spec.key,
        "label": spec.label,
        "model": spec.model,
        "dataset": spec.dataset,
        "seed": spec.seed,
        "trial": spec.trial,
        "settings": spec.settings,
        "basis": spec.basis,
    }


def _process_info(started: datetime) -> dict[str, Any]:
    return {"started": started.isoformat(timespec="seconds"), "host": platform.node(), "pid": os.getpid()}


@contextlib.contextmanager
def working_directory(folder: Path, key: str) -> Iterator[None]:
    """Change into an empty directory for one run, and remove it afterwards: some models write to the current one.

    Args:
        folder: of the comparison or tuning. On another machine that does not see it, a temporary folder is used.
        key: of the run.
    """
    previous = Path.cwd()
    with contextlib.ExitStack() as stack:
        directory = folder / "work" / key if folder.is_dir() else stack.enter_context(temporary_folder())
        directory.mkdir(parents=True, exist_ok=True)
        os.chdir(directory)
        try:
            yield
        finally:
            os.chdir(previous)
            shutil.rmtree(directory, ignore_errors=True)
