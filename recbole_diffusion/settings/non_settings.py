"""Keys that are not settings: RecBole or this package derives them, or they are command line options."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Optional

import torch

_COMMAND = "it is a word of the command line"
#: The key or option that decides instead, by key.
DECIDED_BY: dict[str, str] = {
    "device": "use_gpu and gpu_id choose it",
    "MODEL_TYPE": "the model's class says it",
    "MODEL_INPUT_TYPE": "the model's class and loss_type say it",
    "eval_type": "metrics choose it",
    "valid_metric_bigger": "valid_metric says it",
    "valid_neg_sample_args": "eval_args.mode says it",
    "test_neg_sample_args": "eval_args.mode says it",
    "neg_sampling": "train_neg_sample_args: {distribution: uniform, sample_num: 1} says it",
    "training_neg_sample_num": "train_neg_sample_args: {distribution: uniform, sample_num: 1} says it",
    "single_spec": "--nproc=N says it",
    "world_size": f"--nproc=N and --world_size=N say it, {_COMMAND}",
    "nproc": f"{_COMMAND}, --nproc=N",
    "ip": f"{_COMMAND}, beside --nproc=N",
    "port": f"{_COMMAND}, beside --nproc=N",
    "offset": "--group_offset=N beside --nproc=N says it",
    "group_offset": f"{_COMMAND}, beside --nproc=N",
    "config_file": f"--config_files=FILE says it, {_COMMAND}",
    "config_files": f"{_COMMAND}, --config_files=FILE",
    "config_file_list": f"--config_files=FILE says it, {_COMMAND}",
}
#: Command line options whose names a user's own model may use as keys.
_OPTIONS = frozenset({"nproc", "ip", "port", "offset", "group_offset"})


def pop_from(settings: dict[str, Any], model_keys: Collection[str]) -> dict[str, Any]:
    """Remove these keys from a user's settings.

    Args:
        settings: modified in place. In a rank of ``--nproc``, ``world_size`` was set by the launcher and stays.
        model_keys: the keys that the model's module reads.

    Returns:
        The removed keys with their values.
    """
    kept_keys = {*_OPTIONS} & {*model_keys} | ({"world_size"} if "local_rank" in settings else set())
    return {key: settings.pop(key) for key in DECIDED_BY if key in settings and key not in kept_keys}


def notes(removed: dict[str, Any], effective: dict[str, Any]) -> list[str]:
    """One line for each removed key whose value differs from the effective one."""
    return [
        f"key {key!r} has no effect: {DECIDED_BY[key]}"
        for key, value in removed.items()
        if value is not None and not _same(value, effective.get(key))
    ]


def _same(value: Any, effective: Optional[Any]) -> bool:
    """Whether a user's value means the effective one; devices and RecBole's enumerations compare by name."""
    if isinstance(effective, torch.device):
        return str(value) in {str(effective), effective.type}
    return value == effective or str(value).lower() == str(getattr(effective, "name", effective)).lower()
