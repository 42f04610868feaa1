"""What the tests of the fork server run in its children; each returns a pickle. Nothing heavy at the head."""

from __future__ import annotations

import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any

_traces: list[str] = []


def state_of_parent() -> bytes:
    """The server's threads as the system counts them, and CUDA's state, which a child inherits."""
    import torch

    return pickle.dumps(
        {
            "threads": len(os.listdir(f"/proc/{os.getppid()}/task")),
            "cuda_initialised": torch.cuda.is_initialized(),
            "bad_fork": torch.cuda._is_in_bad_fork(),
            "loaded": sorted(sys.modules),
        }
    )


def leave_traces() -> bytes:
    import numpy as np

    before = list(_traces)
    _traces.append("here")
    seen: dict[str, Any] = {"traces": before, "variable": os.environ["FORK_TEST"], "pid": os.getpid()}
    return pickle.dumps({**seen, "directory": os.getcwd(), "drawn": float(np.random.rand())})


def product_with_threads(threads: int) -> bytes:
    """Sums of a product that torch spreads over its threads, after checking that there are as many."""
    import torch

    torch.set_num_threads(threads)
    before = len(os.listdir("/proc/self/task"))
    square = torch.arange(4_000_000, dtype=torch.float64).remainder(7).reshape(2000, 2000)
    total = torch.exp(square).sum(0).tolist()
    assert len(os.listdir("/proc/self/task")) - before >= threads - 1
    return pickle.dumps(total)


def parent() -> bytes:
    return pickle.dumps(os.getppid())


def wait_for_ever(file: Path) -> bytes:
    file.with_suffix(".new").write_text(str(os.getpid()))
    file.with_suffix(".new").rename(file)
    time.sleep(600)
    return pickle.dumps("never")


def wait_for(file: Path) -> bytes:
    while not file.exists():
        time.sleep(0.02)
    return pickle.dumps("came")


def many_bytes(count: int) -> bytes:
    return pickle.dumps(bytes(count))
