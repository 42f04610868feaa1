"""Data loaders that replace RecBole's: one row per user, full-ranking batches by memory, saved generators."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from logging import getLogger
from typing import Any, Optional

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader, KnowledgeBasedDataLoader, UserDataLoader
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.data.utils import get_dataloader as recbole_get_dataloader  # the original, also under enable()
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType
from torch import Tensor

from recbole_diffusion import registry
from recbole_diffusion.data.sequences import SeenItems

#: float32 values per item that scoring one user takes: scores, RecBole's int32 matrix of positives, and two or three
#: rows of the model.
FLOATS_PER_SCORE = 6
#: The largest number of users scored at once on the CPU and on a GPU, which needs more rows to be busy.
MAX_ROWS = {"cpu": 1024, "cuda": 8192}
#: MiB for the scores of one batch on the CPU, and the share of a GPU's free memory, unless ``eval_memory`` is set.
CPU_MEMORY, GPU_SHARE = 256.0, 0.25


class UserLoader(UserDataLoader):
    """Training loader with one row per user that has training interactions, shuffled.

    RecBole's ``UserDataLoader`` also yields the padding user 0; ``train_padding_user: True`` restores that.
    """

    def __init__(self, config: Any, dataset: Any, sampler: Any, shuffle: bool = True) -> None:
        self.logger = getLogger()
        self.uid_field = dataset.uid_field
        users = torch.unique(dataset.inter_feat[self.uid_field])
        if config["train_padding_user"]:
            users = torch.arange(dataset.user_num)
        self.user_list = Interaction({self.uid_field: users})
        self.sample_size = len(users)
        AbstractDataLoader.__init__(self, config, dataset, sampler, shuffle=True)

    def collate_fn(self, index: list[int]) -> Interaction:
        return Interaction({self.uid_field: self.user_list[self.uid_field][torch.as_tensor(index)]})


class FullSortLoader(FullSortEvalDataLoader):
    """Full-ranking loader whose batches have as many users as the memory budget allows.

    RecBole scores ``eval_batch_size // n_items`` users at once: one, on ml-1m at its default of 4096. It masks seen
    items for general models only.

    Attributes:
        seen_items: the items to mask for a sequential model; None to mask nothing.
    """

    seen_items: Optional[SeenItems] = None

    def __init__(self, config: Any, dataset: Any, sampler: Any, shuffle: bool = False) -> None:
        super().__init__(config, dataset, sampler, shuffle=shuffle)
        if not self.is_sequential:
            self._add_users_without_rows(sampler.used_ids)

    def _add_users_without_rows(self, used: Any) -> None:
        """Fill in the history of users who are not in this split, for RecBole's ``full_sort_topk``."""
        for user, history in enumerate(self.uid2history_item):
            if history is None:
                self.uid2history_item[user] = torch.tensor(sorted(used[user]), dtype=torch.int64)
                self.uid2positive_item[user] = torch.empty(0, dtype=torch.int64)

    def _init_batch_size_and_step(self) -> None:
        if _predicts_pairwise(self.config) and self.config["eval_users_per_batch"] is None:
            super()._init_batch_size_and_step()  # each (user, item) pair is a row, so eval_batch_size counts pairs
            return
        self.step = users_per_batch(self.config, self._dataset.item_num)
        self.set_batch_size(self.step if self.is_sequential else self.step * self._dataset.item_num)

    def collate_fn(self, index: Any) -> Any:
        """A batch of users, or of sequences: rows, (row, item) of what is not ranked, row and item of each positive.

        RecBole loops over the users of a batch, which takes longer than a GPU needs to score them.
        """
        if not self.is_sequential:
            index = torch.as_tensor(np.asarray(index, dtype=np.int64))
            history_pairs, positive_pairs = (lists.pairs(index) for lists in self._items_of_rows)
            return self.user_df[index], history_pairs, *positive_pairs
        interaction, history, positive_u, positive_i = super().collate_fn(index)
        if self.seen_items is not None:
            items = interaction[getattr(self._dataset, f"{self.iid_field}_list_field")]
            history = self.seen_items.to_mask(interaction[self.uid_field], items, torch.as_tensor(index))
        return interaction, history, positive_u, positive_i

    @functools.cached_property
    def _items_of_rows(self) -> tuple[ItemLists, ItemLists]:
        """The history and the positives of each row, in the order of ``uid_list``."""
        users = self.uid_list.numpy()
        return ItemLists(self.uid2history_item[users]), ItemLists(self.uid2positive_item[users])


class ItemLists:
    """Lists of items of different length, one after the other.

    Args:
        lists: int64 tensors.
    """

    def __init__(self, lists: Sequence[Tensor]) -> None:
        self.lengths = torch.tensor([len(items) for items in lists], dtype=torch.int64)
        self.items = torch.cat([torch.empty(0, dtype=torch.int64), *lists])
        self.starts = self.lengths.cumsum(0) - self.lengths

    def pairs(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The items of some lists, as pairs of the list's place in ``rows`` and the item, int64 (n,) each."""
        lengths = self.lengths[rows]
        place = torch.repeat_interleave(torch.arange(len(rows)), lengths)
        if len(rows) and torch.equal(rows, torch.arange(int(rows[0]), int(rows[0]) + len(rows))):  # as loaders ask
            start = int(self.starts[rows[0]])
            return place, self.items[start : start + len(place)]
        index = torch.arange(len(place)) + (self.starts[rows] - lengths.cumsum(0) + lengths)[place]
        return place, self.items[index]


class KnowledgeLoader(KnowledgeBasedDataLoader):
    """RecBole's pair of loaders of a knowledge graph model, with the attributes that ``save_dataloaders`` needs.

    RecBole removes ``generator`` and ``sampler.generator`` from each loader before it saves it, and sets new ones after
    loading. Here both are forwarded to the two inner loaders. Each has its own generator, with the same state.
    """

    @property
    def config(self) -> Any:
        """The settings, which RecBole compares with those of saved loaders."""
        return self.general_dataloader.config

    @property
    def generator(self) -> Optional[torch.Generator]:
        """The generator of the interactions' loader. Setting it also sets a copy for the graph's loader."""
        generator: Optional[torch.Generator] = self.general_dataloader.generator
        return generator

    @generator.setter
    def generator(self, value: Optional[torch.Generator]) -> None:
        self.general_dataloader.generator = value
        copy = None
        if value is not None:
            copy = torch.Generator()
            copy.set_state(value.get_state())
        self.kg_dataloader.generator = copy

    @property
    def sampler(self) -> _SamplerPair:
        """The samplers of both loaders, as an object with the one attribute that RecBole sets."""
        return _SamplerPair(self)


class _SamplerPair:
    """The samplers of a :class:`KnowledgeLoader`; setting ``generator`` sets each loader's own generator."""

    def __init__(self, loader: KnowledgeLoader) -> None:
        self.loaders = (loader.general_dataloader, loader.kg_dataloader)

    @property
    def generator(self) -> Optional[torch.Generator]:
        generator: Optional[torch.Generator] = self.loaders[0].sampler.generator
        return generator

    @generator.setter
    def generator(self, value: Optional[torch.Generator]) -> None:
        for loader in self.loaders:
            loader.sampler.generator = None if value is None else loader.generator


def users_per_batch(config: Any, n_items: int) -> int:
    """The number of users scored at once: ``eval_users_per_batch``, or what fits into ``eval_memory`` MiB.

    It is ``eval_memory * 2**20 / (4 * FLOATS_PER_SCORE * n_items)``, from 1 to :data:`MAX_ROWS`.
    """
    if config["eval_users_per_batch"] is not None:
        return config["eval_users_per_batch"]
    device = config["device"]
    mebibytes = config["eval_memory"] or _default_memory(device)
    fitting = mebibytes * 2**20 // (4 * FLOATS_PER_SCORE * n_items)
    return int(min(max(fitting, 1), MAX_ROWS.get(device.type, MAX_ROWS["cpu"])))


def _default_memory(device: torch.device) -> float:
    """MiB for the scores of one batch: 256 on the CPU, a quarter of what is free on a GPU."""
    if device.type != "cuda":
        return CPU_MEMORY
    free, _ = torch.cuda.mem_get_info(device)
    return GPU_SHARE * free / 2**20


def _predicts_pairwise(config: Any) -> bool:
    model = config.model_class
    return getattr(model, "full_sort_predict", None) is AbstractRecommender.full_sort_predict


def get_dataloader(config: Any, phase: str) -> type:
    """The loader class of a phase: this module's for user-wise training, knowledge graphs and full ranking.

    Args:
        config: the settings.
        phase: ``train``, ``valid`` or ``test``.
    """
    if phase == "train" and registry.is_user_wise(config.model_class):
        return UserLoader
    if phase == "train" and config["MODEL_TYPE"] == ModelType.KNOWLEDGE:
        return KnowledgeLoader
    if phase != "train" and config["eval_args"]["mode"][phase] == "full":
        return FullSortLoader
    loader: type = recbole_get_dataloader(config, phase)
    return loader
