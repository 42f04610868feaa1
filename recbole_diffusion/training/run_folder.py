"""What a run leaves behind: its folder; the log is in :mod:`recbole_diffusion.training.run_log`."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import platform
import resource
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

import torch

from recbole_diffusion.support.atomic_write import atomic_write_text, sweep
from recbole_diffusion.support.json_values import nan_to_null
from recbole_diffusion.support.versions import PACKAGES, version

#: Warnings of RecBole's code on today's libraries that a user can do nothing about: (message, module).
_NOISE = (
    (r".*GradScaler.* is deprecated", r"recbole\..*"),
    (r".*autocast.* is deprecated", r"recbole\..*"),
    (r"A value is trying to be set on a copy of a DataFrame.*", r"recbole\..*"),
    (r".*(chained assignment|ChainedAssignment).*", r"recbole\..*"),
    (r".*SparseTensor.* is deprecated", r"recbole\..*"),
    (r".*sparse_csr.*|.*Sparse CSR.*", r"recbole\..*"),
    (r"Using a non-tuple sequence for multidimensional indexing.*", r"recbole\..*"),
    (r"The given NumPy array is not writable.*", r"recbole\..*"),  # pandas 3 hands out read-only arrays
    (r"__array_wrap__ must accept.*", r".*"),
    (r"distutils Version classes are deprecated.*", r"thop\..*"),
)


@contextlib.contextmanager
def hide_known_warnings() -> Iterator[None]:
    """Hide those warnings, by message and module, for the time of a run."""
    with warnings.catch_warnings():
        for message, module in _NOISE:
            warnings.filterwarnings("ignore", message=message, module=module)
        yield


def environment() -> dict[str, Any]:
    """Versions and machine, as plain values."""
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def reset_peak_memory() -> None:
    """Let :func:`peak_memory_mib` begin anew, so that it is of one run and not of the process; Linux and CUDA only."""
    with contextlib.suppress(OSError):  # no /proc, or not allowed
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if torch.cuda.is_initialized():
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mib() -> float:
    """The highest memory of the process since :func:`reset_peak_memory`; since its start where that has no effect."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def peak_gpu_memory_mib(device: torch.device) -> Optional[float]:
    """The highest memory that torch held on the GPU; None on the CPU."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None


def check_folders(config: Any, saved: bool) -> None:
    """Find out before the data are prepared whether results can be written; clean up after runs that were killed.

    Args:
        config: its ``output_dir``, ``checkpoint_dir``, ``pretrain_dir`` and ``prepared_data`` count.
        saved: whether the run writes a checkpoint; without, RecBole only wants the folder to be there.

    Raises:
        ValueError: a folder that cannot be written to, or made.
    """
    results, checkpoints = Path(config["output_dir"] or "outputs"), Path(config["checkpoint_dir"] or "saved")
    _check_writable("output_dir", results)
    if saved or not checkpoints.is_dir():
        _check_writable("checkpoint_dir", checkpoints)
    bases = pretrain_folder(config)
    if config["pretrain_dir"] and not bases.is_dir():  # one that is there may be for reading only
        _check_writable("pretrain_dir", bases)
    prepared = [Path(config["prepared_data"])] if config["prepared_data"] else []
    runs = [each for each in results.iterdir() if each.is_dir()] if results.is_dir() else []
    sweep(results, *runs, checkpoints, bases, *prepared)


def pretrain_folder(config: Any) -> Path:
    """Folder of the models trained for others to build on: ``pretrain_dir``, or ``pretrain`` in ``checkpoint_dir``."""
    return Path(config["pretrain_dir"] or Path(config["checkpoint_dir"] or "saved") / "pretrain")


def _check_writable(key: str, folder: Path) -> None:
    """Try it in the folder, or in the first one above that exists."""
    place = next(each for each in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(each))
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ValueError(
            f"{key}={str(folder)!r} cannot be written: {error.strerror} in {str(place)!r}; "
            f"give --{key}=FOLDER with one that can"
        ) from error


class RunFolder:
    """``<output_dir>/<model>-<data set>-<time>-<six letters>/``: all that a run writes.

    ========================= ==========================================================================
    config.yaml               the settings; ``--config_files`` takes it to do the same run again
    manifest.json             status, seed, machine, versions, counts of the data, time, warnings
    metrics.json, epochs.json the result, and a row for each epoch
    run.log, tensorboard/     see :mod:`recbole_diffusion.training.run_log`
    checkpoint.pth            a link to ``<checkpoint_dir>/<name of the run>.pth``; also checkpoint-last.pth
    ========================= ==========================================================================
    """

    def __init__(self, config: Any) -> None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        name = f"{config['model']}-{config['dataset']}-{stamp}-{uuid.uuid4().hex[:6]}"
        self.path = Path(config["output_dir"] or "outputs") / name
        self.path.mkdir(parents=True)
        self.write_config(config)
        self.manifest: dict[str, Any] = {
            "status": "running",
            "model": config.model_name(),
            "dataset": config["dataset"],
            "seed": config["seed"],
            "device": str(config["device"]),
            "process": {"host": platform.node(), "pid": os.getpid()},
            "started": datetime.now().astimezone().isoformat(timespec="milliseconds"),
            "environment": environment(),
        }
        self.update()

    def write_config(self, config: Any) -> None:
        """Write config.yaml; again once the model is built, so that it holds what the checkpoint will hold."""
        atomic_write_text(self.path / "config.yaml", config.to_yaml())

    def update(self, **entries: Any) -> None:
        """Add entries to manifest.json."""
        self.manifest.update(entries)
        self.write("manifest.json", self.manifest)

    def write(self, name: str, content: Any) -> None:
        """Write a json file, whole or not at all."""
        atomic_write_text(self.path / name, json.dumps(nan_to_null(content), indent=2, default=str) + "\n")

    def link_checkpoints(self, best: Path) -> None:
        """Link ``best`` and its last epoch's file, where they exist, from the run's folder.

        The links are relative, so that both folders can be moved together. Where the file system has no links,
        manifest.json still names the checkpoint.
        """
        for ending in ("", "-last"):
            file, link = best.with_name(f"{best.stem}{ending}.pth"), self.path / f"checkpoint{ending}.pth"
            with contextlib.suppress(OSError, NotImplementedError, ValueError):  # ValueError: on two drives
                if link.is_symlink() and not file.exists():
                    link.unlink()
                elif file.exists() and not os.path.lexists(link):
                    link.symlink_to(os.path.relpath(file.resolve(), self.path.resolve()))

    def write_table(self, name: str, columns: dict[str, Any]) -> None:
        """Write columns of the same length as csv."""
        atomic_write_text(self.path / name, _lines(columns))


def _lines(columns: dict[str, Any]) -> str:
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(columns)
    rows.writerows(zip(*columns.values()))
    return out.getvalue()
