"""ADRec: the kept keys, the masks, the loss by hand, the stages of training."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from recbole_diffusion import quick_start
from recbole_diffusion.model.sequences.causal_transformer import CausalTransformer
from recbole_diffusion.model.sequences.packing import pack
from recbole_diffusion.pretraining import bases
from recbole_diffusion.training.resume import _cosine_factor

QUICK = {"hidden_size": 8, "n_heads": 2, "n_layers": 1, "MAX_ITEM_LIST_LENGTH": 6, "steps": 3, "noise_schedule": "sqrt"}
QUICK |= {"pretrain": None, "initializer_range": 0.3, "warmup_epochs": 0}
FIRST_STAGE = {"denoiser_layers": 0, "lambda_uncertainty": 0.0, "mse_weight": 0.0, "pretrain": None, "warmup_epochs": 0}


def first(built, **keys):
    config, net, _, loaders = built("ADRec", **{**QUICK, **keys})
    return net, next(iter(loaders[0])), loaders[2]._dataset.inter_feat[:6], config


@pytest.mark.parametrize("ghosts", [None, torch.tensor([4.0, 0.0, 1.0])], ids=["key", "official"])
@pytest.mark.parametrize("keep", [False, True], ids=["packed", "padded"])
def test_with_kept_keys_the_last_item_is_that_of_the_whole_pass(ghosts, keep):
    """Another input at the last items; float64."""
    torch.manual_seed(0)
    lengths = torch.tensor([2, 5, 1]) + (ghosts is not None)
    packed = pack(torch.ones(3, 6, dtype=torch.int64), lengths, keep)
    net = CausalTransformer(8, 3, 2, 0.3).double().eval()
    x, other = (torch.randn(len(packed.items), 8, dtype=torch.float64) for _ in range(2))
    counts = None if ghosts is None else ghosts[packed.order]
    kept = net.keep(x, packed, counts)
    changed = x.clone()
    changed[packed.last] = other[packed.last]
    whole = net(changed, packed, counts)[packed.last]
    torch.testing.assert_close(net.at_last(other[packed.last], packed, kept), whole, rtol=1e-12, atol=1e-12)
    assert (whole - net(x, packed, counts)[packed.last]).abs().max() > 0.1


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_ghost_equals_as_many_padded_positions(count):
    """Against a row that has them, with the padding's vector, seen by all: the official mask written out; float64."""
    torch.manual_seed(0)
    net = CausalTransformer(8, 2, 2, 0.3).double().eval()
    padding, items = torch.randn(1, 8, dtype=torch.float64), torch.randn(3, 8, dtype=torch.float64)
    with_ghost = pack(torch.ones(1, 4, dtype=torch.int64), torch.tensor([4]))
    ghost = net(torch.cat([padding, items]), with_ghost, torch.tensor([float(count)]))[1:]
    width = count + 3
    written_out = pack(torch.ones(1, width, dtype=torch.int64), torch.tensor([width]))
    expected = net(torch.cat([padding.expand(count, -1), items]), written_out)[count:]
    torch.testing.assert_close(ghost, expected, rtol=1e-12, atol=1e-12)


def test_a_later_item_changes_no_earlier_prediction_and_the_padded_length_counts_in_official_mode_only(built):
    net, *_ = first(built, lambda_uncertainty=0.0)
    net.eval()
    row, length = torch.tensor([[1, 2, 3, 4, 0, 0]]), torch.tensor([4])

    def predictions(items):
        rows = net.rows(items, length)
        return net.predict_clean(rows, None, net.table())

    one, two = predictions(row), predictions(torch.tensor([[1, 2, 3, 9, 0, 0]]))
    torch.testing.assert_close(one[:3], two[:3])
    assert (one[3] - two[3]).abs().max() > 1e-3
    for mode, same in (("key", True), ("official", False)):
        net, *_ = first(built, mask_mode=mode, lambda_uncertainty=0.0)
        net.eval()
        states = [net.states(torch.nn.functional.pad(row, (0, more)), length).detach() for more in (0, 7)]
        assert torch.allclose(*states, atol=1e-6) is same


def test_users_count_equally_in_the_squared_error_and_places_in_the_cross_entropy(built):
    net, *_ = first(built, lambda_uncertainty=0.0, emb_dropout_prob=0.0, hidden_dropout_prob=0.0)
    rows = net.rows(torch.tensor([[1, 2, 3, 0, 0, 0], [4, 0, 0, 0, 0, 0]]), torch.tensor([3, 1]), torch.tensor([7, 8]))
    places = [(1, 2), (2, 3), (3, 7), (4, 8)]
    found = {(int(i), int(n)): place for place, (i, n) in enumerate(zip(rows.packed.items, rows.next_items)) if n}
    assert set(found) == {*places}
    table = net.item_embedding.weight.detach().numpy()
    states = net.predict_clean(rows, None, net.table()).detach().numpy()
    errors, entropies = [], []
    for pair in places:
        state, target = states[found[pair]], pair[1]
        errors.append(((state - table[target]) ** 2).mean())
        logits = state @ table.T
        entropies.append(math.log(np.exp(logits).sum()) - logits[target])
    mse = (np.mean(errors[:3]) + errors[3]) / 2
    losses = [float(loss.detach()) for loss in net.losses(rows, None)]
    assert losses == [pytest.approx(np.mean(entropies), rel=1e-5), pytest.approx(mse, rel=1e-5)]
    net.mse_weight = 3.0
    assert float(net.loss(rows, None).detach()) == pytest.approx((losses[0] + 3 * losses[1]) / 2, rel=1e-5)
    net.mse_weight = 0.0
    assert float(net.loss(rows, None).detach()) == pytest.approx(losses[0], rel=1e-5)


def test_the_layout_changes_no_score_and_no_loss(built):
    losses, scores = [], []
    for layout in ("packed", "padded"):
        torch.manual_seed(0)
        still = {"emb_dropout_prob": 0.0, "hidden_dropout_prob": 0.0, "sequence_layout": layout, "seed": 3}
        net, batch, rows, _ = first(built, lambda_uncertainty=0.0, **still)
        losses.append(net.calculate_loss(batch).detach())
        net, batch, rows, _ = first(built, lambda_uncertainty=0.5, **still)
        scores.append(net.eval().states(*net.sequences(rows)).detach())
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-5)


def test_steps_are_drawn_for_places_or_for_rows(built):
    for independent, name in ((True, "items"), (False, "order")):
        net, batch, *_ = first(built, independent=independent, lambda_uncertainty=0.5)
        rows = net.rows(*net.sequences(batch), batch["item_id"])
        assert len(net.draw(rows).t) == len(getattr(rows.packed, name))
    net, batch, *_ = first(built, lambda_uncertainty=0.0)
    assert (net.draw(rows), net.nfe, net.draws_noise) == (None, 1, False)


def test_the_table_is_held_for_the_warm_up_and_the_count_is_in_the_state(built):
    net, batch, *_ = first(built, warmup_epochs=2)

    def gradient():
        net.zero_grad()
        net.calculate_loss(batch).backward()
        return net.item_embedding.weight.grad

    assert gradient() is None
    net.end_epoch()
    assert net.warming_up
    copy, *_ = first(built, warmup_epochs=2)
    copy.load_state_dict(net.state_dict())
    copy.end_epoch()
    assert not copy.warming_up
    net.warmup_decay = True
    assert not gradient().any()  # zeros, by which the optimiser's decay moves the table
    net.end_epoch()
    assert gradient().abs().sum() > 0


def test_the_first_stage_gives_the_table_and_follows_the_width(built, monkeypatch, tmp_path):
    source = {"model": "ADRec", "config": {**FIRST_STAGE, "epochs": 1}}
    net, _, _, config = first(built, pretrain=source, hidden_size=4, checkpoint_dir=str(tmp_path))
    expected = bases.embeddings(config, *loaders_of(config)).item
    assert expected.shape == (net.n_items, 4)
    table = net.item_embedding.weight.detach().numpy()
    np.testing.assert_array_equal(table[1:], expected[1:])
    assert not table[0].any()
    official, *_ = first(built, pretrain=source, hidden_size=4, mask_mode="official", checkpoint_dir=str(tmp_path))
    row = official.item_embedding.weight[0].detach()
    assert row.any()
    file = tmp_path / "table.npy"
    np.save(file, np.arange(3.0 * net.n_items).reshape(-1, 3))
    with pytest.raises(ValueError, match="hidden_size=4 is not the width of the pretrained item embeddings, 3"):
        first(built, pretrain=str(file), hidden_size=4)


def loaders_of(config):
    return quick_start.prepare(config)[1][:2]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            {"model": "SASRec"},
            "pretrain.model='SASRec' is not allowed; allowed: .* trains on the same rows, e.g. ADRec",
        ),
        ({"model": "ADRec", "config": {"epochs": 1}}, "pretrain.model='ADRec' is not allowed: it needs pretrained"),
    ],
)
def test_what_cannot_be_a_first_stage_is_named(source, message, built):
    if "config" in source:
        source["config"]["pretrain"] = {"model": "BPR"}
    with pytest.raises(ValueError, match=message):
        first(built, pretrain=source)


def test_what_the_keys_of_inference_do(built):
    results = []
    for keys in ({}, {"inference_steps": 1}, {"inference_steps": 2}, {"eval_seed": 5}, {"inference_eta": 0.0}):
        torch.manual_seed(0)
        net, _, rows, _ = first(built, **{"lambda_uncertainty": 0.5, **keys})
        results.append(net.eval().states(*net.sequences(rows)).detach())
    torch.testing.assert_close(results.pop(), results[0])  # eta is read where steps are skipped
    for number, one in enumerate(results):
        assert all(float((one - two).abs().max()) > 1e-5 for two in results[number + 1 :])


def test_the_learning_rate_falls_on_half_a_cosine():
    factors = [_cosine_factor(4, None, 0.1, epoch) for epoch in range(6)]
    assert factors == pytest.approx([1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0, 0])
    assert _cosine_factor(4, 2, 0.1, 2) == pytest.approx(0.05)
