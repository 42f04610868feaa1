"""Data loaders that replace RecBole's: one row per user, full-ranking batches by memory, saved generators."""

from __future__ import annotations

from logging import getLogger
from typing import Any, Optional

import torch
from recbole.data.dataloader import FullSortEvalDataLoader, KnowledgeBasedDataLoader, UserDataLoader
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.data.utils import get_dataloader as recbole_get_dataloader  # the original, also under enable()
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import ModelType

from recbole_diffusion import registry
from recbole_diffusion.data.sequences import SeenItems

#: float32 values per item that scoring one user takes: scores, RecBole's int32 matrix of positives, and two or three
#: rows of the model.
FLOATS_PER_SCORE = 6
#: The largest number of users scored at once.
MAX_ROWS = 1024


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
        interaction, history, positive_u, positive_i = super().collate_fn(index)
        if self.seen_items is not None:
            items = interaction[getattr(self._dataset, f"{self.iid_field}_list_field")]
            history = self.seen_items.to_mask(interaction[self.uid_field], items, torch.as_tensor(index))
        return interaction, history, positive_u, positive_i


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
    budget = (config["eval_memory"] or 256) * 2**20
    return int(min(max(budget // (4 * FLOATS_PER_SCORE * n_items), 1), MAX_ROWS))


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
