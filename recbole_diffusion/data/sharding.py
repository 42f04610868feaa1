"""The rows of each process when several train one model: shards of the loaders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch.distributed as dist
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler, Sampler, SequentialSampler


class ShardSampler(Sampler):
    """One process's rows of the training data, in the order in which one process would take them.

    Every n-th of that order, so that the k-th batches of the n processes are together the k-th batch of one process. It
    is filled up from its beginning, so that all processes have as many: at most n - 1 rows count twice in an epoch.
    """

    def __init__(self, loader: AbstractDataLoader) -> None:
        rows = range(loader.sample_size)
        self.order: Any = RandomSampler(rows, generator=loader.generator) if loader.shuffle else SequentialSampler(rows)

    def __iter__(self) -> Iterator[int]:
        order, processes = list(self.order), dist.get_world_size()
        places = range(dist.get_rank(), len(self) * processes, processes)
        return iter([order[place % len(order)] for place in places])

    def __len__(self) -> int:
        return -(-len(self.order) // dist.get_world_size())

    def set_epoch(self, epoch: int) -> None:
        """RecBole's trainer calls it; the order comes from the loader's generator, which is the same everywhere."""


def shard_loaders(loaders: Sequence[Any]) -> None:
    """Give each process its part of the training batches, and all of an evaluation that draws negatives.

    RecBole deals the others out already: full ranking, and rows with labels.
    """
    train, *others = loaders
    if isinstance(train, AbstractDataLoader):  # RecBole's loaders of knowledge graphs are made of two
        _sample(train, ShardSampler(train))
    for loader in others:
        negatives = getattr(loader, "neg_sample_args", None) or {"distribution": "none"}
        if negatives["distribution"] != "none":
            loader._init_batch_size_and_step()
            _sample(loader, SequentialSampler(range(loader.sample_size)))


def _sample(loader: Any, sampler: Sampler) -> None:
    """Put a sampler into a loader, which torch allows only when it is made."""
    vars(loader).update(sampler=sampler, batch_sampler=BatchSampler(sampler, loader.step, drop_last=False))


def is_sharded(loader: Any) -> bool:
    """Whether a process sees only its part of an evaluation."""
    return isinstance(loader.sampler, DistributedSampler)
