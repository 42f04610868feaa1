"""Numbers of the official DiffuRec, frozen in tests/data/diffurec_official.npz (WHUIR/DiffuRec, commit f6f70c9).

Two blocks, width 16, six left-padded rows of length 1 to 8, every weight and bias random. Case a has the published
lambda 0.001, case b 0.3, where the diffusion's input is plain to see. The file holds inputs, draws, weights and
outputs only; docs/models/diffurec.md says how it was made.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import FROZEN_DATA, near
from sequential_fields import SEQUENTIAL_FIELDS

from recbole_diffusion.diffusion import GaussianDiffusion, make_betas
from recbole_diffusion.model.sequences.packing import pack
from recbole_diffusion.model.sequential_recommender import diffurec
from recbole_diffusion.model.sequential_recommender.diffurec import DiffuRec, DiffuRecNoise

FROZEN = np.load(FROZEN_DATA / "diffurec_official.npz")
CASES = pytest.mark.parametrize(("case", "share"), [("a", 0.001), ("b", 0.3)])
SETTINGS = {
    **SEQUENTIAL_FIELDS,
    "MAX_ITEM_LIST_LENGTH": 8,
    "hidden_size": 16,
    "n_heads": 4,
    "n_layers": 2,
    "hidden_dropout_prob": 0.1,
    "emb_dropout_prob": 0.3,
    "mask_mode": "official",
    "sequence_layout": "auto",
    "compile": False,
    "lambda_std": None,
    "noise_schedule": "trunc_lin",
    "steps": 32,
    "rescale_timesteps": True,
    "inference_steps": None,
    "inference_eta": 1.0,
    "rounding": "dot",
}


def frozen(key):
    return torch.from_numpy(np.asarray(FROZEN[key]))


def renamed(prefix):
    """The official names as ours: queries, keys and values in one layer; dead parameters left out."""
    found = {key[len(prefix) :]: frozen(key) for key in FROZEN.files if key.startswith(prefix)}
    plain = {
        "item_embeddings.weight": "item_embedding.weight",
        "LayerNorm": "input_norm",
        "diffu.xstart_model.time_embed": "step_mlp",
        "diffu.xstart_model.norm_diffu_rep": "approximator.norm",
        "attention.w_layer": "out",
        "feed_forward.w_1": "widen",
        "feed_forward.w_2": "narrow",
        "input_sublayer.norm": "attention_norm",
        "output_sublayer.norm": "feed_norm",
        "diffu.xstart_model.att.transformer_blocks": "approximator.blocks",
    }
    state, dead = {}, set(FROZEN["dead"].tolist())
    for name, value in found.items():
        if name in dead or ".linear_layers." in name:
            continue
        for theirs, ours in plain.items():
            name = name.replace(theirs, ours)
        state[name] = value
    for block in range(2):
        theirs = f"diffu.xstart_model.att.transformer_blocks.{block}.attention.linear_layers"
        for kind in ("weight", "bias"):
            three = [found[f"{theirs}.{layer}.{kind}"] for layer in range(3)]
            state[f"approximator.blocks.{block}.qkv.{kind}"] = torch.cat(three)
    return state


def model(**more):
    config = {**SETTINGS, "lambda_uncertainty": 0.001, **more}
    net = DiffuRec(config, SimpleNamespace(num=lambda field: 24)).eval()
    net.load_state_dict(renamed("w/"))
    return net


def right_padded():
    """The frozen rows as RecBole has them, and how a left-padded (B, 8, …) array goes with them."""
    left = frozen("seq")
    lengths = (left > 0).sum(dim=1)
    turn = (torch.arange(8) + 8 - lengths[:, None]) % 8  # place of right-padded slot s on the left-padded side
    return left.gather(1, turn), lengths, lambda array: array[torch.arange(6)[:, None], turn]


def unit(lam, share):
    """The standard normal draws behind the frozen lambda."""
    return (lam - share) / share


@pytest.mark.parametrize("name", ["linear", "cosine", "sqrt", "trunc_cos", "trunc_lin", "pw_lin"])
def test_schedules(name):
    torch.testing.assert_close(diffurec._betas(name, 32), frozen(f"schedule/{name}"), rtol=1e-9, atol=0)


def test_short_schedule_and_posterior():
    torch.testing.assert_close(make_betas("trunc_lin", 20), frozen("schedule20/trunc_lin"), rtol=1e-9, atol=0)
    process = GaussianDiffusion(make_betas("trunc_lin", 32))
    torch.testing.assert_close(process.alpha_bar, frozen("abar"), rtol=1e-9, atol=0)
    for step in process.ancestral_steps(32, noise=True, large=True):
        assert step.q == pytest.approx(float(FROZEN["coef1"][step.t]), rel=1e-9)
        assert step.p == pytest.approx(float(FROZEN["coef2"][step.t]), rel=1e-9, abs=1e-12)
        if step.t:
            assert step.r == pytest.approx(float(np.exp(FROZEN["log_variance"][step.t] / 2)), rel=1e-9)


def test_step_embedding():
    near(model().embed_step(frozen("time/t")), frozen("time/out"))


@CASES
def test_training(case, share):
    net = model(lambda_uncertainty=share)
    sequences, lengths, turned = right_padded()
    packed = pack(sequences, lengths, keep_padding=True)
    t, noise = frozen(f"{case}/train/t"), frozen(f"{case}/train/eps")
    spread = unit(turned(frozen(f"{case}/train/lam")), share).reshape(-1, 16)
    x_t = net.process.q_sample(net.item_embedding(frozen("target")), t, noise)
    near(x_t, frozen(f"{case}/train/x_t"))
    x0 = net.approximate(packed, net.tokens(packed), x_t, t, spread)
    near(x0, frozen(f"{case}/train/x0"))
    near(net.score(x0), frozen(f"{case}/train/scores"))
    loss = net.loss(packed, frozen("target"), DiffuRecNoise(t, noise, spread))
    near(loss, frozen(f"{case}/train/loss"))
    loss.backward()
    expected = renamed(f"{case}/train/grad/")
    assert expected.keys() == dict(net.named_parameters()).keys()
    for name, parameter in net.named_parameters():
        near(parameter.grad, expected[name])


@CASES
@pytest.mark.parametrize(("rounding", "scores"), [("dot", "scores"), ("l2", "l2")])
def test_inference(case, share, rounding, scores, monkeypatch):
    """The whole chain, every draw fed in, through the method that the evaluator calls."""
    net = model(lambda_uncertainty=share, rounding=rounding)
    sequences, lengths, turned = right_padded()
    lam, seen = iter(frozen(f"{case}/infer/lam")), []
    approximate = net.approximate

    def fed(packed, tokens, x, t, spread):
        draws = unit(turned(next(lam)), share).reshape(-1, 16)
        seen.append((int(t[0]), x, approximate(packed, tokens, x, t, draws)))
        return seen[-1][2]

    z = iter(frozen(f"{case}/infer/z"))
    monkeypatch.setattr(net, "approximate", fed)
    monkeypatch.setattr("recbole_diffusion.diffusion.sampler.randn", lambda like, generator: next(z))
    sampled = diffurec.sample
    start = frozen(f"{case}/infer/x_T")
    monkeypatch.setattr(diffurec, "sample", lambda net, _, *rest: sampled(net, start, *rest))
    with torch.no_grad():
        found = net.score(net.states(sequences, lengths))
    assert [t for t, _, _ in seen] == list(reversed(range(32)))
    for index, (_, x, x0) in enumerate(seen):
        near(x, frozen(f"{case}/infer/x")[index])
        near(x0, frozen(f"{case}/infer/x0")[index])
    near(found, frozen(f"{case}/infer/{scores}"))


def test_three_steps_of_adam():
    net = model()
    sequences, lengths, turned = right_padded()
    packed = pack(sequences, lengths, keep_padding=True)
    spread = unit(turned(frozen("a/train/lam")), 0.001).reshape(-1, 16)
    draws = DiffuRecNoise(frozen("a/train/t"), frozen("a/train/eps"), spread)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for expected in frozen("adam/loss"):
        optimizer.zero_grad()
        loss = net.loss(packed, frozen("target"), draws)
        near(loss.detach(), expected)
        loss.backward()
        optimizer.step()
    near(net.item_embedding.weight.detach(), frozen("adam/w/item_embeddings.weight"))
    queries = net.approximator.blocks[0].qkv.weight[:16].detach()
    near(queries, frozen("adam/w/diffu.xstart_model.att.transformer_blocks.0.attention.linear_layers.0.weight"))
    near(net.step_mlp[0].weight.detach(), frozen("adam/w/diffu.xstart_model.time_embed.0.weight"))
