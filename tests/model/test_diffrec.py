"""DiffRec's keys, each shown to do what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recbole_diffusion.model.rows.history import SparseRows

QUICK = {"steps": 4, "dims": [16]}
USERS = torch.arange(1, 9)


def rows_and_model(built, **more):
    _, model, dataset, _ = built("DiffRec", **{**QUICK, **more})
    model.eval()
    return model.history.rows(USERS), model, dataset


def test_infer_steps_one_is_one_pass_at_the_last_step(built):
    rows, model, _ = rows_and_model(built, inference_steps=1)
    with torch.no_grad():
        expected = model.diffusion.denoiser(rows, torch.zeros(len(rows), dtype=torch.int64))
        torch.testing.assert_close(model.denoise(SparseRows.of(rows)), expected, rtol=1e-4, atol=1e-5)
    assert model.nfe == model.denoiser_calls == 1
    assert rows_and_model(built)[1].nfe == 4


def test_norm_makes_the_scores_independent_of_a_rows_length(built):
    for norm in (True, False):
        rows, model, _ = rows_and_model(built, norm=norm, inference_steps=1)
        with torch.no_grad():
            same = torch.allclose(model.denoise(SparseRows.of(rows)), model.denoise(SparseRows.of(3 * rows)), atol=1e-6)
        assert same is norm


@pytest.mark.parametrize("noise", [{"sampling_noise": True}, {"sampling_steps": 4}], ids=str)
def test_eval_seed_is_where_the_noise_at_inference_comes_from(noise, built):
    big = {"noise_scale": 1.0, "noise_max": 0.2}

    def scores(seed):
        _, model, _ = rows_and_model(built, **noise, **big, eval_seed=seed)
        return model.full_sort_predict({"user_id": USERS})

    assert torch.equal(scores(1), scores(1))
    assert not torch.equal(scores(1), scores(2))


def test_no_noise_means_the_rows_themselves_and_weight_one(built):
    rows, model, _ = rows_and_model(built, noise_scale=0, dropout_prob=0.0)
    t = torch.zeros(len(rows), dtype=torch.int64)
    loss = model.diffusion.row_loss(rows, t, torch.randn_like(rows)).loss
    expected = (model.diffusion.denoiser(rows, t) - rows).square().mean(dim=1)
    torch.testing.assert_close(loss, expected.double())
    assert model.full_sort_predict({"user_id": USERS}).isfinite()[:, 1:].all()


@pytest.mark.parametrize("order", ["RO", "TO"])
def test_time_aware_weights_follow_the_exact_time_in_every_order(order, built):
    """Times one second apart, which float32 cannot tell: the ranks are still right."""
    args = {"split": {"RS": [8, 1, 1]}, "order": order, "mode": "full"}
    more = {"time-aware": True, "w_min": 0.2, "w_max": 0.8, "eval_args": args}
    _, model, _, (train, _, _) = built("DiffRec", **QUICK, **more)
    feat = train._dataset.inter_feat
    users, items, ranks = (feat[key].numpy() for key in ("user_id", "item_id", "time_rank"))
    assert len(np.unique(ranks)) == len(ranks)
    dense = model.history.rows(torch.arange(65)).numpy()
    for user in (1, 7, 40):
        mine = np.flatnonzero(users == user)
        mine = mine[np.argsort(ranks[mine])]
        expected = np.linspace(0.2, 0.8, len(mine))
        np.testing.assert_allclose(dense[user, items[mine] - 1], expected, rtol=1e-5)


@pytest.mark.parametrize(("key", "value"), [("dims", []), ("dims_dnn", []), ("dims", [0]), ("embedding_size", 1)])
def test_networks_that_are_none_are_refused(key, value, built):
    with pytest.raises(ValueError, match=f"{key}=.* is not allowed"):
        built("DiffRec", **{**QUICK, key: value})


@pytest.mark.parametrize("schedule", ["linear", "linear-var", "cosine", "binomial", "sqrt", "trunc_cos", "trunc_lin"])
@pytest.mark.parametrize("mean", ["x0", "eps", "v"])
def test_every_schedule_and_mean_type_trains_and_ranks(schedule, mean, built):
    _, model, _ = rows_and_model(built, noise_schedule=schedule, prediction_type=mean)
    loss = model.train().calculate_loss({"user_id": USERS})
    loss.backward()
    assert bool(loss.isfinite())
    scores = model.eval().full_sort_predict({"user_id": USERS})
    assert scores[:, 1:].isfinite().all()
