"""The device of a run, chosen from the visible GPUs by ``gpu_id`` and ``use_gpu``."""

from __future__ import annotations

import torch


def choose(gpu_id: str, use_gpu: bool) -> torch.device:
    """The first GPU of ``gpu_id``, which counts among the visible GPUs; the CPU without one.

    Raises:
        ValueError: ``gpu_id`` is not a number, or no such GPU is visible.
    """
    first = gpu_id.split(",")[0].strip()
    if first and not first.isdigit():
        raise ValueError(f"gpu_id={gpu_id!r} is not allowed; allowed: the number of a visible GPU, or '' for the CPU")
    if not first or not use_gpu or not torch.cuda.is_available():
        return torch.device("cpu")
    number = 0 if _sees_one_gpu_of_its_rank() else int(first)
    if number >= torch.cuda.device_count():
        raise ValueError(f"gpu_id={gpu_id!r} is not allowed; allowed: 0..{torch.cuda.device_count() - 1}")
    return torch.device("cuda", number)


def in_process_group() -> bool:
    """Whether this process is a rank of an initialized ``torch.distributed`` process group."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _sees_one_gpu_of_its_rank() -> bool:
    """Whether this is a rank of ``--nproc`` on GPUs. Its one visible GPU has number 0, whatever ``gpu_id`` is."""
    return in_process_group() and torch.distributed.get_backend() == "nccl" and torch.cuda.device_count() == 1
