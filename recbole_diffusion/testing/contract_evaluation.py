"""Contract tests of RecBole's evaluation, with all items and with sampled candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from recbole_diffusion import quick_start
from recbole_diffusion.testing.building import taken
from recbole_diffusion.testing.model_case import ModelCase, Trained, evaluating_trainer


class EvaluationTests(ModelCase):
    """Evaluation is repeatable, and ranks sampled candidates by the scores of all items."""

    def test_two_evaluations_agree_and_leave_the_random_state(self, trained: Trained) -> None:
        trainer = evaluating_trainer(trained)
        random_state = torch.get_rng_state()
        result = trainer.evaluate(trained.loaders[2], load_best_model=False)
        assert torch.equal(random_state, torch.get_rng_state())
        assert trainer.evaluate(trained.loaders[2], load_best_model=False) == result == trained.result["test_result"]

    @pytest.mark.parametrize("mode", ["uni20", "pop20"])
    def test_sampled_evaluation_ranks_as_the_full_scores(
        self, mode: str, trained: Trained, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The recall over sampled candidates equals a recall computed from ``full_sort_predict``."""
        eval_args = {**trained.config["eval_args"], "mode": mode}
        loaded = quick_start.load(trained.result["checkpoint"], config_dict={"eval_args": eval_args})
        trainer = evaluating_trainer(Trained({}, *loaded[:3], loaded[3:]))
        batches: list[Any] = []
        original = trainer._neg_sample_batch_eval

        def recording(batch: Any) -> Any:
            batches.append(batch)
            return original(batch)

        monkeypatch.setattr(trainer, "_neg_sample_batch_eval", recording)
        result = trainer.evaluate(loaded.test_data, load_best_model=False)
        users = [user for batch in batches for user in _rank_candidates(loaded.model, batch)]
        assert len(users) == len(loaded.test_data._dataset.inter_feat["user_id"].unique())
        assert all(len(ranking) > len(positives) for ranking, positives in users)
        for k in trained.config["topk"]:
            recalls = [len(positives & {*ranking[:k]}) / len(positives) for ranking, positives in users]
            assert result[f"recall@{k}"] == pytest.approx(np.mean(recalls), abs=1e-6)


def _rank_candidates(model: Any, batch: Any) -> list[tuple[list[int], set[int]]]:
    """Rank each user's sampled candidates by ``full_sort_predict``; pairs (ranking, positives)."""
    interaction, user_rows, positive_rows, positive_items = batch
    user_rows, positive_rows = torch.as_tensor(user_rows), torch.as_tensor(positive_rows)
    items, users = interaction[model.ITEM_ID], []
    rows_of_users = [(user_rows == user).nonzero().squeeze(1) for user in range(int(user_rows.max()) + 1)]
    first_rows = torch.stack([rows[0] for rows in rows_of_users])
    all_scores = model.full_sort_predict(taken(interaction, first_rows)).view(len(first_rows), -1).tolist()
    for user, (rows, scores) in enumerate(zip(rows_of_users, all_scores)):
        ranking = sorted({*items[rows].tolist()}, key=lambda item: -scores[item])
        users.append((ranking, {*torch.as_tensor(positive_items)[positive_rows == user].tolist()}))
    return users
