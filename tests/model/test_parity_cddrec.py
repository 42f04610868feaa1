"""Numbers of the official CDDRec, frozen in tests/data/cddrec_official.npz (YuWang-1024/CDDRec, commit edfe0ff).

Width 16, five steps, five left-padded rows of length 1 to 6, every weight and bias random. ``linear`` has the random
features of the official commands, ``exact`` the exact InfoNCE, ``valid`` the second view weighted by places and not
by item numbers. The file holds inputs, draws, weights and outputs only; docs/models/cddrec.md says how it was made.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import FROZEN_DATA, near
from recbole.data.interaction import Interaction
from sequential_fields import SEQUENTIAL_FIELDS

from recbole_diffusion.model.sequential_recommender.cddrec import Batch, CDDRec, CDDRecNoise, left_padded

FROZEN = np.load(FROZEN_DATA / "cddrec_official.npz")
CASES = {
    "linear": {"infonce": "rff", "aug_weight": "item_id"},
    "exact": {"infonce": "exact", "aug_weight": "item_id"},
    "valid": {"infonce": "rff", "aug_weight": "valid"},
}
SETTINGS = {
    **SEQUENTIAL_FIELDS,
    "MAX_ITEM_LIST_LENGTH": 6,
    "hidden_size": 16,
    "n_layers": 1,
    "n_heads": 4,
    "inner_size": 64,
    "hidden_dropout_prob": 0.0,
    "attn_dropout_prob": 0.2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "initializer_range": 0.02,
    "decoder_attention": "batch",
    "cross_view": "all",
    "temperature": 0.5,
    "cl_weight": 0.3,
    "cd_aug_weight": 1.0,
    "aug_ops": ["reorder"],
    "eval_noise": False,
    "steps": 5,
    "beta_start": 1e-4,
    "beta_end": 0.04,
}


class _Items:
    """What the model asks of a data set: 20 items and the padding one, and the pairs of training."""

    all_pairs = np.array([[1, 1]])

    def num(self, field):
        return 21


def frozen(key):
    return torch.from_numpy(np.asarray(FROZEN[key]))


def renamed(prefix):
    """The official names as ours; of the attention to the step only values and output matter."""
    found = {key[len(prefix) :]: frozen(key) for key in FROZEN.files if key.startswith(prefix)}
    names = {
        "item_embeddings": "item_embedding",
        "position_embeddings": "place_embedding",
        "time_embeddings": "decoder.step_embedding",
        "conditional_encoder.layer": "encoder.layer",
        "attention.": "multi_head_attention.",
        "intermediate.": "feed_forward.",
        "decoder.self_attn.in_proj_": "decoder.qkv.",
        "decoder.self_attn.out_proj": "decoder.out",
        "decoder.multihead_attn.out_proj": "decoder.step_out",
        "decoder.linear1": "decoder.widen",
        "decoder.linear2": "decoder.narrow",
        "decoder.norm1": "decoder.norms.0",
        "decoder.norm2": "decoder.norms.1",
        "decoder.norm3": "decoder.norms.2",
    }
    state = {}
    for name, value in found.items():
        if name.startswith("decoder.multihead_attn.in_proj_"):
            state[f"decoder.step_value.{name.rsplit('_', 1)[1]}"] = value[32:]
            continue
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        state[name.replace("LayerNorm", "input_norm") if name.startswith("LayerNorm") else name] = value
    return state


def model(**more):
    net = CDDRec({**SETTINGS, **CASES["linear"], **more}, _Items()).eval()
    net.load_state_dict(renamed("w/"))
    return net


def batch():
    return Batch(*(frozen(key) for key in ("input", "aug", "pos", "neg")))


def draws(exact=False):
    """Noise of the targets for the places with an item only: the others have none in any loss."""
    found, real = [], frozen("input").flatten() > 0
    for t in range(5):
        noise = [frozen(f"draw/{key}")[t].flatten(0, 1) for key in ("x", "x_aug", "q")]
        noise[2] = noise[2][real]
        found.append(CDDRecNoise(*noise, *([] if exact else [frozen("linear/W_in")[t], frozen("linear/W_cross")[t]])))
    return found


def right_padded():
    left = frozen("input")
    lengths = (left > 0).sum(dim=1)
    place = (torch.arange(6) + 6 - lengths[:, None]) % 6
    return left.gather(1, place), lengths


def test_left_padding():
    assert torch.equal(left_padded(*right_padded()), frozen("input"))


def test_process():
    net = model()
    torch.testing.assert_close(net.process.betas, frozen("betas"), rtol=1e-5, atol=0)  # theirs in float32
    torch.testing.assert_close(net.process.alpha_bar, frozen("abar"), rtol=1e-7, atol=0)
    torch.testing.assert_close(torch.tensor(net.noise_std, dtype=torch.float64), frozen("std"), rtol=1e-5, atol=0)
    torch.testing.assert_close(net.process.sqrt_one_minus_alpha_bar, frozen("noise_std"), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("view", "expected"), [("input", "mu"), ("aug", "mu_aug")])
def test_predictions_of_each_step(view, expected):
    net = model()
    states, step_bias = net.encode(frozen(view)), net.decoder.step_bias()
    for t in range(5):
        near(net.decoder(states, step_bias[t]).detach(), frozen(expected)[t])


@pytest.mark.parametrize("case", CASES)
def test_losses_of_each_step(case):
    net, given = model(**CASES[case]), draws(exact=case == "exact")
    positions = net.loss_positions(batch())
    states = [net.encode(frozen(view)).flatten(0, 1) for view in ("input", "aug")]
    items = [net.item_embedding(frozen(key).flatten()[positions.with_target]) for key in ("pos", "neg")]
    names = {"logistic": "cd", "logistic_second": "cd_aug", "in_view": "infonce", "cross_view": "crossview"}
    for t in range(5):
        parts = net.step_losses(t, positions, *states, *items, net.decoder.step_bias()[t], given[t])
        for ours, theirs in names.items():
            kept = case if f"{case}/{theirs}" in FROZEN.files else "linear"
            near(getattr(parts, ours).detach(), frozen(f"{kept}/{theirs}")[t])


@pytest.mark.parametrize("case", CASES)
def test_total_and_every_gradient(case):
    """The sum is accumulated step by step; the official one walks back a single graph of all steps."""
    net = model(**CASES[case])
    loss = net.loss(batch(), draws(exact=case == "exact"))
    near(loss.detach(), frozen(f"{case}/loss"))
    loss.backward()
    expected = renamed(f"{case}/grad/")
    assert expected.keys() == dict(net.named_parameters()).keys()
    for name, parameter in net.named_parameters():
        near(parameter.grad, expected[name])


def test_three_steps_of_adam():
    net = model()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for expected in frozen("adam/loss"):
        optimizer.zero_grad()
        loss = net.loss(batch(), draws())
        near(loss.detach(), expected)
        loss.backward()
        optimizer.step()
    near(net.item_embedding.weight.detach(), frozen("adam/w/item_embeddings.weight"))
    near(net.decoder.widen.weight.detach(), frozen("adam/w/decoder.linear1.weight"))
    near(net.decoder.step_embedding.weight.detach(), frozen("adam/w/time_embeddings.weight"))


def test_inference():
    net = model()
    sequences, lengths = right_padded()
    rows = Interaction({net.ITEM_SEQ: sequences, net.ITEM_SEQ_LEN: lengths})
    near(net.full_sort_predict(rows)[:, 1:], frozen("infer/scores_clean")[:, 1:21])
    noisy = net.states(sequences, lengths) + net.noise_std[0] * frozen("infer/noise")[:, -1]
    near(noisy.detach(), frozen("infer/x")[:, -1])
    near(net.score(noisy)[:, 1:].detach(), frozen("infer/scores")[:, 1:21])


def test_a_row_alone_is_another_row_in_batch_mode():
    """The official predictions depend on who else is in the batch; ours do so in this mode only."""
    net = model()
    sequences, lengths = right_padded()
    alone = torch.cat([net.states(*row) for row in zip(sequences.split(1), lengths.split(1))])
    near(alone.detach(), frozen("alone/x"))
    assert (alone - net.states(sequences, lengths)).abs().max() > 0.1
