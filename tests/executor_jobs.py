"""What the tests of the executors run. Workers import this module: nothing heavy at its head."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def double(argument: int) -> int:
    return 2 * argument


def fail(kind: str) -> Any:
    import numpy as np
    import torch

    if kind == "lines":
        raise ValueError("epochs=0 is not allowed;\n  allowed: from 1")
    if kind == "bare":
        raise ValueError
    if kind == "key":
        raise KeyError("loss")
    if kind == "memory":
        np.empty(2**50)
    if kind == "gpu":
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
    if kind == "cpu":
        torch.empty(2**50)
    if kind == "exit":
        sys.exit("could not download")
    return kind


def arrays(rows: int) -> dict[str, Any]:
    import numpy as np

    return {"ndcg@10": np.arange(float(rows))}


def watch(argument: Any) -> tuple[int, list[str], str, str, int, int]:
    import torch
    from threadpoolctl import threadpool_info

    limits = [pool["num_threads"] for pool in threadpool_info()]
    devices, threads = os.environ.get("CUDA_VISIBLE_DEVICES", "?"), os.environ["OMP_NUM_THREADS"]
    return os.getpid(), sys.argv[1:], devices, threads, torch.get_num_threads(), max(limits)


def pid(argument: Any) -> int:
    return os.getpid()


def wait_or_die(argument: tuple[str, Path]) -> str:
    """``dies`` waits for ``kills``, which waits until it is dead: both run at the same time."""
    what, folder = argument
    if what == "dies":
        (folder / "pid.new").write_text(str(os.getpid()))
        (folder / "pid.new").rename(folder / "pid")
        time.sleep(600)
    if what == "kills":
        while not (folder / "pid").exists():
            time.sleep(0.01)
        os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    return what


class Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("not this one")


def unpicklable(argument: Any) -> Any:
    return Unpicklable()


def held(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)


def interrupted(argument: Any) -> None:
    raise KeyboardInterrupt


def train(settings: dict[str, Any]) -> dict[str, Any]:
    """A tiny training, in the worker as here; with its seed and everything else given."""
    from recbole_diffusion import run

    os.chdir(settings.pop("folder"))
    result = run("DiffRec", "board", config_dict=settings, saved=False)
    return {"valid": result["best_valid_result"], "test": result["test_result"]}


def peak_mib(mebibytes: int) -> float:
    import resource

    len(bytearray(mebibytes * 2**20))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
