"""Shards of the loaders for data-parallel training: the rows of each rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch.distributed as dist
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler, Sampler, SequentialSampler


class ShardSampler(Sampler):
    """Sampler of one rank's rows of the training data: every n-th row of the order that one process would use.

    Together the k-th batches of the n ranks are the k-th batch of a single process. The order is padded from its
    beginning, so that all ranks have the same number of rows; at most n - 1 rows are used twice in an epoch.
    """

    def __init__(self, loader: AbstractDataLoader) -> None:
        rows = range(loader.sample_size)
        self.order: Any = RandomSampler(rows, generator=loader.generator) if loader.shuffle else SequentialSampler(rows)

    def __iter__(self) -> Iterator[int]:
        order, world_size = list(self.order), dist.get_world_size()
        places = range(dist.get_rank(), len(self) * world_size, world_size)
        return iter([order[place % len(order)] for place in places])

    def __len__(self) -> int:
        return -(-len(self.order) // dist.get_world_size())

    def set_epoch(self, epoch: int) -> None:
        """Do nothing. RecBole's trainer calls it; here the loader's generator, equal on all ranks, sets the order."""


def shard_loaders(loaders: Sequence[Any]) -> None:
    """Set the samplers of the loaders of one rank.

    The training loader yields the rank's shard. An evaluation loader that draws negatives yields all rows on each rank.
    RecBole shards other evaluation loaders itself: full ranking, and rows with labels.

    Args:
        loaders: of train, valid and test.
    """
    train, *evaluation = loaders
    if isinstance(train, AbstractDataLoader):  # not the loader of a knowledge graph, which consists of two
        _set_sampler(train, ShardSampler(train))
    for loader in evaluation:
        negatives = getattr(loader, "neg_sample_args", None) or {"distribution": "none"}
        if negatives["distribution"] != "none":
            loader._init_batch_size_and_step()
            _set_sampler(loader, SequentialSampler(range(loader.sample_size)))


def _set_sampler(loader: Any, sampler: Sampler) -> None:
    """Replace the sampler of an existing loader, for which torch has no public way."""
    vars(loader).update(sampler=sampler, batch_sampler=BatchSampler(sampler, loader.step, drop_last=False))


def is_sharded(loader: Any) -> bool:
    """Whether an evaluation loader yields only the rows of this rank."""
    return isinstance(loader.sampler, DistributedSampler)
