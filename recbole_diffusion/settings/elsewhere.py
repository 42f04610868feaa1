"""Keys that are no settings: RecBole or we derive them, or they are words of the command line."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Optional

import torch

_COMMAND = "it is a word of the command line"
#: What decides in their place.
ELSEWHERE: dict[str, str] = {
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
#: Words that a model of a user's own may have as keys.
_WORDS = frozenset({"nproc", "ip", "port", "offset", "group_offset"})


def take_out(given: dict[str, Any], own: Collection[str]) -> dict[str, Any]:
    """Remove these keys from the settings that a user gave, and return them.

    Args:
        given: the settings; in one of the processes of ``--nproc`` ``world_size`` is what started it and stays.
        own: keys that the model's module reads.
    """
    stay = {*_WORDS} & {*own} | ({"world_size"} if "local_rank" in given else set())
    return {key: given.pop(key) for key in ELSEWHERE if key in given and key not in stay}


def notes(taken: dict[str, Any], effective: dict[str, Any]) -> list[str]:
    """A line for each key whose value is not the effective one anyway."""
    return [
        f"key {key!r} has no effect: {ELSEWHERE[key]}"
        for key, value in taken.items()
        if value is not None and not _same(value, effective.get(key))
    ]


def _same(value: Any, effective: Optional[Any]) -> bool:
    if isinstance(effective, torch.device):
        return str(value) in {str(effective), effective.type}
    return value == effective or str(value).lower() == str(getattr(effective, "name", effective)).lower()
