"""RecBole's loaders where they are wrong or slow: one row per user, evaluation batches, saved generators."""

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

#: float32 values per item that scoring one user takes: scores, RecBole's int32 matrix of positives, the model's
#: own two or three rows.
FLOATS_PER_SCORE = 6
MAX_ROWS = 1024


class UserLoader(UserDataLoader):
    """One row per user that has training interactions, shuffled; RecBole's also yields the padding user 0."""

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
    """Full ranking with as many users at once as the memory budget holds.

    RecBole scores ``eval_batch_size // n_items`` users at once: one, on ml-1m at its default of 4096. It masks what
    users had before for general models only; here ``past`` does for sequential ones.
    """

    seen_items: Optional[SeenItems] = None

    def __init__(self, config: Any, dataset: Any, sampler: Any, shuffle: bool = False) -> None:
        super().__init__(config, dataset, sampler, shuffle=shuffle)
        if not self.is_sequential:
            self._add_users_without_rows(sampler.used_ids)

    def _add_users_without_rows(self, used: Any) -> None:
        """Give users who are not in this split their history too, for RecBole's ``full_sort_topk``."""
        for user, history in enumerate(self.uid2history_item):
            if history is None:
                self.uid2history_item[user] = torch.tensor(sorted(used[user]), dtype=torch.int64)
                self.uid2positive_item[user] = torch.empty(0, dtype=torch.int64)

    def _init_batch_size_and_step(self) -> None:
        if _predicts_pairwise(self.config) and self.config["eval_users_per_batch"] is None:
            super()._init_batch_size_and_step()  # every (user, item) pair is a row there: RecBole's rule is right
            return
        self.step = users_per_batch(self.config, self._dataset.item_num)
        self.set_batch_size(self.step if self.is_sequential else self.step * self._dataset.item_num)

    def collate_fn(self, index: Any) -> Any:
        interaction, history, positive_u, positive_i = super().collate_fn(index)
        if self.seen_items is not None:
            items = interaction[getattr(self._dataset, f"{self.iid_field}_list_field")]
            history = self.seen_items.of(interaction[self.uid_field], items, torch.as_tensor(index))
        return interaction, history, positive_u, positive_i


class KnowledgeLoader(KnowledgeBasedDataLoader):
    """RecBole's two loaders of a knowledge graph model, with the generators that its ``save_dataloaders`` asks for.

    RecBole takes ``generator`` and ``sampler.generator`` off each loader that it saves, and puts one back when it loads
    them. Here that reaches both loaders; each has a generator of its own, with the same state.
    """

    @property
    def config(self) -> Any:
        """The settings, which RecBole compares when it loads saved loaders."""
        return self.general_dataloader.config

    @property
    def generator(self) -> Optional[torch.Generator]:
        """That of the interactions' loader; to set one gives the other loader a copy."""
        found: Optional[torch.Generator] = self.general_dataloader.generator
        return found

    @generator.setter
    def generator(self, value: Optional[torch.Generator]) -> None:
        self.general_dataloader.generator = value
        copy = None
        if value is not None:
            copy = torch.Generator()
            copy.set_state(value.get_state())
        self.kg_dataloader.generator = copy

    @property
    def sampler(self) -> _Samplers:
        """Both loaders' samplers, as far as RecBole sets something there."""
        return _Samplers(self)


class _Samplers:
    def __init__(self, loader: KnowledgeLoader) -> None:
        self.loaders = (loader.general_dataloader, loader.kg_dataloader)

    @property
    def generator(self) -> Optional[torch.Generator]:
        found: Optional[torch.Generator] = self.loaders[0].sampler.generator
        return found

    @generator.setter
    def generator(self, value: Optional[torch.Generator]) -> None:
        for each in self.loaders:
            each.sampler.generator = None if value is None else each.generator


def users_per_batch(config: Any, n_items: int) -> int:
    """How many users are scored at once: the explicit key, or what ``eval_memory`` MiB hold, at most 1024."""
    if config["eval_users_per_batch"] is not None:
        return config["eval_users_per_batch"]
    budget = (config["eval_memory"] or 256) * 2**20
    return int(min(max(budget // (4 * FLOATS_PER_SCORE * n_items), 1), MAX_ROWS))


def _predicts_pairwise(config: Any) -> bool:
    model = config.model_class
    return getattr(model, "full_sort_predict", None) is AbstractRecommender.full_sort_predict


def get_dataloader(config: Any, phase: str) -> type:
    """The loader class of a phase: ours for user-wise training and full ranking, otherwise RecBole's."""
    if phase == "train" and registry.is_user_wise(config.model_class):
        return UserLoader
    if phase == "train" and config["MODEL_TYPE"] == ModelType.KNOWLEDGE:
        return KnowledgeLoader
    if phase != "train" and config["eval_args"]["mode"][phase] == "full":
        return FullSortLoader
    loader: type = recbole_get_dataloader(config, phase)
    return loader
