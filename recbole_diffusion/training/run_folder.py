"""The folder of a run and its files; the log is in :mod:`recbole_diffusion.training.run_log`."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import json
import os
import platform
import resource
import shutil
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

import torch

from recbole_diffusion.support import json_files
from recbole_diffusion.support.atomic_write import atomic_write_text, sweep
from recbole_diffusion.support.json_values import nan_to_null
from recbole_diffusion.support.versions import PACKAGES, version

#: Warnings of RecBole's code on current libraries that a user cannot act on: (message, module).
_KNOWN_WARNINGS = (
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
    """Hide the known warnings of RecBole's code, by message and module, while the context is open."""
    with warnings.catch_warnings():
        for message, module in _KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message=message, module=module)
        yield


@functools.cache
def _versions() -> dict[str, Optional[str]]:
    """The libraries' versions; what a process has imported does not change."""
    return {package: version(package) for package in PACKAGES}


def environment() -> dict[str, Any]:
    """Versions of the libraries, and the machine, as plain values."""
    return {
        "python": platform.python_version(),
        **_versions(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def reset_peak_memory() -> None:
    """Reset the peaks of :func:`peak_memory_mib` and :func:`peak_gpu_memory_mib`, so that they are of one run.

    It has no effect on systems other than Linux, except on the GPU.
    """
    with contextlib.suppress(OSError):  # /proc is missing or read-only
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if torch.cuda.is_initialized():
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mib() -> float:
    """Peak resident memory in MiB since :func:`reset_peak_memory`; since the start where that has no effect."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def peak_gpu_memory_mib(device: torch.device) -> Optional[float]:
    """Peak memory in MiB that torch allocated on the GPU since :func:`reset_peak_memory`; None on the CPU."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None


def check_folders(config: Any, saved: bool) -> None:
    """Check before the data are prepared that results can be written, and delete temporary files of killed runs.

    Args:
        config: the settings ``output_dir``, ``checkpoint_dir``, ``pretrain_dir`` and ``prepared_data`` are used.
        saved: whether the run writes a checkpoint. If not, RecBole still needs an existing ``checkpoint_dir``.

    Raises:
        ValueError: a folder cannot be written to or created.
    """
    results, checkpoints = Path(config["output_dir"] or "outputs"), Path(config["checkpoint_dir"] or "saved")
    _check_writable("output_dir", results)
    if saved or not checkpoints.is_dir():
        _check_writable("checkpoint_dir", checkpoints)
    pretrained = pretrain_folder(config)
    if config["pretrain_dir"] and not pretrained.is_dir():  # an existing one may be read-only
        _check_writable("pretrain_dir", pretrained)
    prepared = [Path(config["prepared_data"])] if config["prepared_data"] else []
    runs = [folder for folder in results.iterdir() if folder.is_dir()] if results.is_dir() else []
    sweep(results, *runs, checkpoints, pretrained, *prepared)


def pretrain_folder(config: Any) -> Path:
    """The folder of pretrained base models: ``pretrain_dir``, or ``pretrain`` in ``checkpoint_dir``."""
    return Path(config["pretrain_dir"] or Path(config["checkpoint_dir"] or "saved") / "pretrain")


def _check_writable(key: str, folder: Path) -> None:
    """Create a temporary file in the folder, or in the nearest parent that exists.

    Raises:
        ValueError: it cannot be created.
    """
    candidates = (folder.absolute(), *folder.absolute().parents)
    nearest = next(candidate for candidate in candidates if os.path.lexists(candidate))
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise ValueError(
            f"{key}={str(folder)!r} cannot be written: {error.strerror} in {str(nearest)!r}; "
            f"give --{key}=FOLDER with one that can"
        ) from error


class RunFolder:
    """The folder of a run, ``<output_dir>/<model>-<data set>-<time>-<six letters>/``.

    ========================= ==========================================================================
    config.yaml               the settings; ``--config_files`` with it repeats the run
    manifest.json             status, seed, machine, versions, counts of the data, time, warnings
    metrics.json, epochs.json the result, and one row per epoch
    run.log, tensorboard/     see :mod:`recbole_diffusion.training.run_log`
    checkpoint.pth            a link to ``<checkpoint_dir>/<name of the run>.pth``; checkpoint-last.pth likewise
    ========================= ==========================================================================
    """

    def __init__(self, config: Any) -> None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        name = f"{config['model']}-{config['dataset']}-{stamp}-{uuid.uuid4().hex[:6]}"
        self.path = Path(config["output_dir"] or "outputs") / name
        self.path.mkdir(parents=True)
        try:
            self._write_first(config)
        except BaseException:  # nothing has been trained: no half folder
            with contextlib.suppress(MemoryError):
                shutil.rmtree(self.path, ignore_errors=True)
            raise

    def _write_first(self, config: Any) -> None:
        """Write config.yaml and manifest.json."""
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
        """Write config.yaml. A second call after the model is built adds the settings that the model has changed."""
        atomic_write_text(self.path / "config.yaml", config.to_yaml())

    def update(self, **entries: Any) -> None:
        """Add entries to manifest.json."""
        self.manifest.update(entries)
        json_files.write(self.path / "manifest.json", self.manifest)

    def write(self, name: str, content: Any) -> None:
        """Write a json file atomically; numbers that are not finite become null."""
        self._write_text(name, json.dumps(nan_to_null(content), indent=2, default=str) + "\n")

    def link_checkpoints(self, best: Path) -> None:
        """Link the checkpoints of the best and of the last epoch, where they exist, from the run's folder.

        The links are relative, so that both folders can be moved together. Where the file system has no links,
        manifest.json still names the checkpoint.

        Args:
            best: the checkpoint of the best epoch.
        """
        for suffix in ("", "-last"):
            file, link = best.with_name(f"{best.stem}{suffix}.pth"), self.path / f"checkpoint{suffix}.pth"
            with contextlib.suppress(OSError, NotImplementedError, ValueError):  # ValueError: two drives of Windows
                if link.is_symlink() and not file.exists():
                    link.unlink()
                elif file.exists() and not os.path.lexists(link):
                    link.symlink_to(os.path.relpath(file.resolve(), self.path.resolve()))

    def write_table(self, name: str, columns: dict[str, Any]) -> None:
        """Write columns of equal length as a csv file, atomically."""
        self._write_text(name, _as_csv(columns))

    def _write_text(self, name: str, text: str) -> None:
        """Write a file atomically; the next :meth:`update` enters its checksum into manifest.json."""
        atomic_write_text(self.path / name, text)
        self.manifest.setdefault("files", {})[name] = json_files.checksum_of(text.encode())


def _as_csv(columns: dict[str, Any]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values()))
    return text.getvalue()
