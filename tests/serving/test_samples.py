"""Several generations: mean and standard deviation by hand, one generation for models without noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction
from served_models import ServedModels

from recbole_diffusion import recommend
from recbole_diffusion.model import hooks

pytestmark = pytest.mark.xdist_group("samples")  # its models are trained once


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> ServedModels:
    return ServedModels(tmp_path_factory.mktemp("serving"))


def test_mean_spread_and_diversity_by_hand(make: ServedModels) -> None:
    loaded = make("DiffRec", sampling_noise=True, noise_scale=1.0, noise_max=0.5)
    users, k = ["u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8", "u9", "u10"], 5
    frame = recommend(loaded, users, k=k, samples=4, exclude=None)
    ids = torch.tensor([loaded.dataset.token2id("user_id", user) for user in users])
    generations = []
    for seed in range(4):
        loaded.model.diffusion.eval_seed = loaded.config["eval_seed"] + seed
        generations.append(loaded.model.full_sort_predict(Interaction({"user_id": ids})).numpy()[:, 1:])
    scores = np.stack(generations).astype(np.float64)
    mean, sd = scores.mean(0), scores.std(0, ddof=1)
    order = np.argsort(-mean, axis=1)[:, :k]
    names = loaded.dataset.field2id_token["item_id"]
    assert frame["item"].tolist() == names[order + 1].ravel().tolist()
    assert np.allclose(frame["score"], np.take_along_axis(mean, order, 1).ravel(), atol=1e-5)
    assert np.allclose(frame["score_sd"], np.take_along_axis(sd, order, 1).ravel(), atol=1e-5)
    assert (frame["score_sd"] > 0).all()
    tops = [[{*row} for row in np.argsort(-generation, axis=1)[:, :k]] for generation in scores]
    pairs = [(first, second) for first in range(4) for second in range(first + 1, 4)]
    jaccard = [
        np.mean([len(tops[a][u] & tops[b][u]) / len(tops[a][u] | tops[b][u]) for a, b in pairs]) for u in range(10)
    ]
    assert np.allclose(frame.attrs["jaccard"], jaccard, atol=1e-6)


def test_one_sample_is_the_lists_of_the_evaluation_and_the_seed_comes_back(make: ServedModels) -> None:
    loaded = make("DiffRec", sampling_noise=True, noise_scale=1.0, noise_max=0.5)
    before = recommend(loaded, k=5)
    recommend(loaded, k=5, samples=3)
    assert loaded.model.diffusion.eval_seed == loaded.config["eval_seed"]
    assert recommend(loaded, k=5).equals(before)


def test_seen_items_stay_out_of_the_mean(make: ServedModels) -> None:
    loaded = make("DiffRec", sampling_noise=True, noise_scale=1.0, noise_max=0.5)
    one, several = (recommend(loaded, k=40, samples=samples) for samples in (1, 2))
    for user, rows in one.groupby("user"):
        assert {*rows["item"]} == {*several[several["user"] == user]["item"]}


def test_models_without_noise_make_one_generation(make: ServedModels, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, calls = make("DiffRec"), []
    predict = loaded.model.full_sort_predict
    monkeypatch.setattr(loaded.model, "full_sort_predict", lambda batch: calls.append(1) or predict(batch))
    frame = recommend(loaded, k=3, samples=5)
    assert list(frame.columns) == ["user", "item", "rank", "score"]
    assert any("draws no noise at inference" in note for note in frame.attrs["notes"])
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("model", "settings", "expected"),
    [
        ("DiffRec", {}, False),
        ("DiffRec", {"sampling_steps": 2}, True),
        ("LDiffRec", {"n_cate": 1, "sampling_noise": True}, True),
        ("CDDRec", {}, False),
        ("CDDRec", {"eval_noise": True}, True),
        ("DiffuRec", {"MAX_ITEM_LIST_LENGTH": 8, "hidden_size": 16, "n_heads": 2}, True),
        ("FMRec", {"MAX_ITEM_LIST_LENGTH": 8, "hidden_size": 16, "n_heads": 2}, True),
        ("ADRec", {"MAX_ITEM_LIST_LENGTH": 8, "hidden_size": 16, "n_heads": 2, "pretrain": None}, True),
        ("DreamRec", {"hidden_size": 16}, True),
        ("DreamRec", {"hidden_size": 16, "eval_noise": False}, False),
        ("DDRM", {"sampling_steps": 0}, False),
        ("DDRM", {"sampling_noise": True}, True),
    ],
)
def test_draws_noise_says_whether_another_seed_changes_the_scores(
    make: ServedModels, model: str, settings: dict[str, object], expected: bool
) -> None:
    loaded = make(model, **settings)
    scored = [recommend(loaded, ["u1"], k=40, exclude=None)]
    loaded.model.seed_inference(77)
    batch = Interaction({"user_id": torch.tensor([loaded.dataset.token2id("user_id", "u1")])})
    if loaded.test_data.is_sequential:
        rows = loaded.test_data._dataset.inter_feat
        batch = rows[rows["user_id"] == batch["user_id"]][:1]
    with torch.no_grad():
        scores = np.sort(loaded.model.full_sort_predict(batch).numpy().ravel()[1:])[::-1]
    assert hooks.of(loaded.model).draws_noise is expected
    assert np.allclose(scores, scored[0]["score"], atol=1e-7) is not expected


def test_randomness_of_recboles_models_is_seen(make: ServedModels) -> None:
    loaded = make("recbole:DiffRec", sampling_noise=True, noise_scale=0.5, steps=3, dims_dae=[16], sampling_steps=2)
    assert "score_sd" in recommend(loaded, ["u1"], k=3, samples=3)
    assert "score_sd" not in recommend(make("MultiVAE"), ["u1"], k=3, samples=3)
