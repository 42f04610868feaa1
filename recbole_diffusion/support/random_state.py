"""Saving and restoring the state of all global random generators: Python, numpy, torch, CUDA."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """The state of every global generator, as tensors and plain values."""
    numpy_state: Any = np.random.get_state()
    name, keys, position, has_gauss, cached = numpy_state
    state = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "python": [state[0], torch.tensor(state[1], dtype=torch.int64), state[2]],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Restore the states that :func:`random_state` returned; those of CUDA if the number of GPUs is the same."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([gpu_state.cpu() for gpu_state in state["cuda"]])
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached))
    version, values, gauss = state["python"]
    random.setstate((version, tuple(values.tolist()), gauss))
