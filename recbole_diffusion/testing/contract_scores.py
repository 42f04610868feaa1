"""Contract tests of learning and of the scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_diffusion import registry
from recbole_diffusion.testing.board import ITEMS, USERS
from recbole_diffusion.testing.building import build, taken, users_of
from recbole_diffusion.testing.model_case import ModelCase, Trained

#: Minimum number of the 64 users whose best unseen item has their own parity.
MIN_CORRECT = 62


class ScoreTests(ModelCase):
    """The model learns the checkerboard; its scores depend on the user alone."""

    def test_the_loss_is_finite_and_falls(self, trained: Trained) -> None:
        if self.is_closed_form():
            pytest.skip("the model is fitted in closed form")
        losses = [epoch["train_loss"] for epoch in trained.result["epochs"]]
        assert np.isfinite(losses).all()
        assert losses[-1] < 0.8 * losses[0]

    def test_the_checkerboard_is_learnt(self, trained: Trained) -> None:
        """The unseen item with the highest score has the user's parity."""
        batch = users_of(trained.loaders, USERS)
        scores = trained.model.full_sort_predict(batch).view(USERS, -1)[:, 1:]
        best = scores.masked_fill(_seen_items(trained, batch), -torch.inf).argmax(1) + 1
        tokens = trained.dataset.field2id_token
        users = [int(token[1:]) for token in tokens["user_id"][batch["user_id"]]]
        items = [int(token[1:]) for token in tokens["item_id"][best]]
        n_correct = sum(user % 2 == item % 2 for user, item in zip(users, items))
        assert n_correct >= MIN_CORRECT, f"{n_correct} of {USERS} users are given an item of their parity"

    def test_scores_have_the_right_shape_and_predict_is_their_gather(self, trained: Trained) -> None:
        batch, n_items = users_of(trained.loaders), trained.dataset.item_num
        scores = trained.model.full_sort_predict(batch).view(-1, n_items)
        assert scores.shape == (8, n_items)
        rows, items = torch.tensor([2, 2, 0, 7, 2]), torch.tensor([1, 2, 5, 7, 1])
        pairs = taken(batch, rows)
        pairs.update(Interaction({trained.model.ITEM_ID: items}))
        torch.testing.assert_close(trained.model.predict(pairs), scores[rows, items])

    def test_scores_do_not_depend_on_the_batch_nor_on_the_call(
        self, keys: dict[str, Any], extra_settings: dict[str, Any]
    ) -> None:
        built = build(self.model, {**keys, **extra_settings})
        model = built.model.eval()
        batch = users_of(built.loaders)
        scores = model.full_sort_predict(batch).view(8, -1).clone()
        repeated = model.full_sort_predict(batch).view(8, -1)
        assert torch.equal(scores, repeated)
        repeated[:] = 0  # RecBole writes -inf into the tensor that a model returns
        of_two_users = model.full_sort_predict(taken(batch, torch.tensor([4, 1]))).view(2, -1)
        torch.testing.assert_close(of_two_users, scores[[4, 1]], rtol=1e-4, atol=1e-5)

    def test_the_padding_item_is_never_recommended(self, trained: Trained) -> None:
        scores = trained.model.full_sort_predict(users_of(trained.loaders, USERS)).view(USERS, -1)
        assert (scores.argmax(1) > 0).all()

    def test_one_row_per_user_trains_no_padding_user(self, trained: Trained) -> None:
        spec, train_loader = registry.find_spec(self.model), trained.loaders[0]
        by_user = spec is not None and (spec.loader == "user" or str(spec.dataset).endswith(":UserSequenceDataset"))
        if not by_user:
            pytest.skip("the model trains on interactions")
        users = torch.cat([batch[trained.model.USER_ID] for batch in train_loader])
        assert users.min() > 0
        assert len(users) == len(users.unique()) == len(train_loader._dataset.inter_feat["user_id"].unique())


def _seen_items(trained: Trained, batch: Interaction) -> torch.Tensor:
    """Mask of items in the model's input: the sequence, or the user's training rows; bool (B, n_items - 1)."""
    seen = torch.zeros(len(batch), ITEMS + 1, dtype=torch.bool)
    if trained.loaders[2].is_sequential:
        return seen.scatter_(1, batch[trained.model.ITEM_SEQ], True)[:, 1:]
    interactions = trained.loaders[0]._dataset.inter_feat
    row_of_user = {int(user): row for row, user in enumerate(batch["user_id"])}
    for user, item in zip(interactions["user_id"].tolist(), interactions["item_id"].tolist()):
        if user in row_of_user:
            seen[row_of_user[user], item] = True
    return seen[:, 1:]
