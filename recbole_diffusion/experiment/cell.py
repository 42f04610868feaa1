"""One training as a job: what a worker of any executor is given, and what it gives back."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple, Optional

from recbole_diffusion import data_key, registry, runs, schema
from recbole_diffusion.experiment.store import Cell
from recbole_diffusion.per_user import UserMetrics

#: Settings that name a file or a folder.
PATHS: tuple[str, ...] = ("data_path", "checkpoint_dir", "output_dir", "prepared_data", "pretrain", "base_checkpoint")
PATHS += ("dataset_save_path", "dataloaders_save_path", "pre_model_path", "mlp_pretrain_path", "mf_pretrain_path")
#: Modules and settings that no number depends on.
_BESIDE = ("experiment", "cli", "doctor", "convert", "bridge")
_LIBRARIES = ("recbole", "torch", "numpy", "scipy", "pandas")


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
    """What the first training of a process pays for all: torch imports seconds' worth at the first step."""
    import torch
    import torch.utils.tensorboard

    weight = torch.nn.Parameter(torch.zeros(1))
    weight.sum().backward()
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
    """RecBole writes log/, log_tensorboard/ and more to where it stands: a folder of the cell's own, removed after it.

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


def absolute(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with paths that do not depend on where a worker stands."""
    return {
        key: os.path.abspath(os.path.expanduser(value)) if key in PATHS and isinstance(value, str) and value else value
        for key, value in settings.items()
    }


def files_mark(settings: Mapping[str, Any]) -> str:
    """A hash of the files that settings name: a checkpoint that is replaced makes another cell."""
    files = [Path(settings[key]) for key in ("pretrain", "base_checkpoint") if isinstance(settings.get(key), str)]
    return ";".join(_file_hash(file, file.stat().st_ctime_ns)[:20] for file in files if file.is_file())


@functools.lru_cache(maxsize=64)
def _file_hash(file: Path, changed: int) -> str:
    """Hash a file once for all cells of a plan. ``changed``: its ctime, which nobody can set back."""
    return data_key.file_hash(file)


def data_mark(config: Any) -> str:
    """A hash of the data set's files: the split's hash knows no times, ratings or features."""
    return data_key.files_hash(Path(config["data_path"]), config["dataset"])[:20]


def model_mark(model: Any) -> str:
    """A hash of the source files of a model that is neither ours nor RecBole's; empty for those."""
    digest, own = hashlib.sha256(), False
    for each in registry.get_model(model).__mro__:
        if each.__module__.split(".")[0] in ("recbole", "recbole_diffusion", "torch", "builtins", "typing", "abc"):
            continue
        with contextlib.suppress(TypeError, OSError):  # made in a session, without a file
            digest.update(Path(inspect.getfile(each)).read_bytes())
            own = True
    return digest.hexdigest()[:20] if own else ""


def _matters(file: Path) -> bool:
    """Whether numbers may depend on a module, by its path in the package."""
    return file.parts[0].split(".")[0] not in _BESIDE or file.name == "cell.py"


@functools.lru_cache(maxsize=1)
def code_mark(package: Path = Path(__file__).parent.parent) -> str:
    """A hash of the code and the defaults that a run's numbers depend on, and of the libraries' versions."""
    digest = hashlib.sha256()
    sources = [file for file in package.rglob("*.py") if _matters(file.relative_to(package))]
    properties = schema.properties()
    defaults = [properties / "overall.yaml", *(properties / "model").glob("*.yaml"), *(properties / "quick").glob("*")]
    for file in [*sorted(sources), *sorted(defaults)]:
        digest.update(file.name.encode() + file.read_bytes())
    digest.update(str([runs.version(library) for library in _LIBRARIES]).encode())
    return digest.hexdigest()[:20]
