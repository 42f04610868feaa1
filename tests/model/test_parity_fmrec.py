"""Numbers of the official FMRec, frozen in tests/frozen/fmrec_official.npz (FengLiu-1/FMRec, commit 1c39b17).

Three blocks, width 16, six left-padded rows of length 1 to 8, every bias and LayerNorm random, and a reconstruction
decoder of widths 5 and 7. Case a has the published lambda 0.001, case b 0.3, where the flow's input is plain to see.
The file holds inputs, draws, weights and outputs only; docs/models/fmrec.md says how it was made.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import FROZEN_DATA, near
from sequential_fields import SEQUENTIAL_FIELDS

from recbole_diffusion.diffusion import sample, time_laws
from recbole_diffusion.model.sequences.history_decoder import HistoryDecoder
from recbole_diffusion.model.sequences.mixed_sequence import MixingNoise
from recbole_diffusion.model.sequences.packing import pack
from recbole_diffusion.model.sequential_recommender.fmrec import FMRec

FROZEN = np.load(FROZEN_DATA / "fmrec_official.npz")
CASES = pytest.mark.parametrize(("case", "share"), [("a", 0.001), ("b", 0.3)])
BLOCKS = 3
SETTINGS = {
    **SEQUENTIAL_FIELDS,
    "MAX_ITEM_LIST_LENGTH": 8,
    "hidden_size": 16,
    "n_heads": 4,
    "n_layers": BLOCKS,
    "hidden_dropout_prob": 0.1,
    "emb_dropout_prob": 0.3,
    "mask_mode": "official",
    "sequence_layout": "auto",
    "compile": False,
    "lambda_std": None,
    "steps": 30,
    "eps": 0.001,
    "timestep_sampling": "mode",
    "mode_scale": 1.0,
    "logit_mean": 1.0,
    "logit_std": 0.6,
    "rescale_timesteps": True,
    "mse_weight": 1.0,
    "ce_weight": 0.2,
    "recon_weight": 0.4,
    "recon_mean": "all",
    "recon_last": 1,
    "recon_ratio": 1.0,
    "inference_steps": None,
    "velocity": "start",
    "rounding": "dot",
}
OURS = {
    "item_embeddings.weight": "item_embedding.weight",
    "LayerNorm": "input_norm",
    "fm.xstart_model.time_embed": "step_mlp",
    "fm.xstart_model.norm_fm_rep": "approximator.norm",
    "attention.w_layer": "out",
    "feed_forward.w_1": "widen",
    "feed_forward.w_2": "narrow",
    "input_sublayer.norm": "attention_norm",
    "output_sublayer.norm": "feed_norm",
    "fm.xstart_model.att.transformer_blocks": "approximator.blocks",
    **{f"fm.xstart_model.decoder.{2 * layer}": f"history_decoder.layers.{layer}" for layer in range(3)},
}


def frozen(key):
    return torch.from_numpy(np.asarray(FROZEN[key]))


def renamed(prefix):
    """The official names as ours: queries, keys and values in one layer; dead parameters left out."""
    official = {key[len(prefix) :]: frozen(key) for key in FROZEN.files if key.startswith(prefix)}
    state, dead = {}, set(FROZEN["dead"].tolist())
    for name, value in official.items():
        if name in dead or ".linear_layers." in name:
            continue
        for theirs, ours in OURS.items():
            name = name.replace(theirs, ours)
        state[name] = value
    for block in range(BLOCKS):
        theirs = f"fm.xstart_model.att.transformer_blocks.{block}.attention.linear_layers"
        for kind in ("weight", "bias"):
            three = [official[f"{theirs}.{layer}.{kind}"] for layer in range(3)]
            state[f"approximator.blocks.{block}.qkv.{kind}"] = torch.cat(three)
    return state


def model(**more):
    config = {**SETTINGS, "lambda_uncertainty": 0.001, **more}
    net = FMRec(config, SimpleNamespace(num=lambda field: 24)).eval()
    if net.history_decoder is not None:
        net.history_decoder = HistoryDecoder(16, 24, widths=(5, 7))
    net.load_state_dict(renamed("w/"))
    return net


def right_padded():
    """The frozen rows as RecBole has them, and how a left-padded (B, 8, ...) array goes with them."""
    left = frozen("seq")
    lengths = (left > 0).sum(dim=1)
    turn = (torch.arange(8) + 8 - lengths[:, None]) % 8  # place of right-padded slot s on the left-padded side
    return left.gather(1, turn), lengths, lambda array: array[torch.arange(6)[:, None], turn]


def standard(lam, share):
    """The standard normal draws behind the frozen lambda."""
    return (lam - share) / share


def training(case, share):
    """The packed rows and the frozen draws; our time is 1 minus the official one."""
    sequences, lengths, turned = right_padded()
    spread = standard(turned(frozen(f"{case}/train/lam")), share).reshape(-1, 16)
    draws = MixingNoise(1 - frozen(f"{case}/train/t").double(), frozen(f"{case}/train/z"), spread)
    return pack(sequences, lengths, keep_padding=True), draws


def test_laws_of_the_times():
    """The official functions of u, and their densities by differences of the times."""
    u = frozen("law/u").double()
    for law, key in ((time_laws.mode(1.0), "mode"), (time_laws.mode(0.5), "mode_half")):
        near(law.time(u).float(), frozen(f"law/{key}"))
    near(time_laws.cosmap().time(1 - u).float(), frozen("law/cosmap"))
    # our time is 1 minus theirs, so the mean has the other sign
    near(time_laws.logit_normal(-1.0, 0.6).time(u).float(), 1 - frozen("law/logit_normal"))


def test_time_embedding_is_told_the_official_time():
    told = frozen("time/t").double()
    near(model().embed_step(1 - told / 999), frozen("time/out"))


@CASES
def test_training(case, share):
    net = model(lambda_uncertainty=share)
    packed, draws = training(case, share)
    x_t = net.noised(frozen("target"), draws)
    near(x_t, frozen(f"{case}/train/x_t"))
    x0 = net.approximate(packed, net.tokens(packed), x_t, draws.t, draws.lambda_noise)
    near(x0, frozen(f"{case}/train/x0"))
    near(net.score(x0), frozen(f"{case}/train/scores"))
    losses = net.losses(packed, frozen("target"), draws, frozen(f"{case}/train/zeros"))
    for loss, name in zip(losses, ("mse", "ce", "recon")):
        near(loss.detach(), frozen(f"{case}/train/{name}"))
    loss = net.loss(packed, frozen("target"), draws, frozen(f"{case}/train/zeros"))
    near(loss.detach(), frozen(f"{case}/train/loss"))
    loss.backward()
    expected = renamed(f"{case}/train/grad/")
    assert expected.keys() == dict(net.named_parameters()).keys()
    for name, parameter in net.named_parameters():
        near(parameter.grad, expected[name])


@CASES
def test_inference(case, share):
    """All 30 steps with frozen draws, state by state, and their closed form."""
    net = model(lambda_uncertainty=share)
    sequences, lengths, turned = right_padded()
    packed = pack(sequences, lengths, keep_padding=True)
    tokens, seen = net.tokens(packed), []
    lam = iter(frozen(f"{case}/infer/lam"))

    def denoiser(x, t):
        spread = standard(turned(next(lam)), share).reshape(-1, 16)
        seen.append((x, t, net.approximate(packed, tokens, x, t, spread)))
        return seen[-1][2]

    start = frozen(f"{case}/infer/z")
    with torch.no_grad():
        result = net.solve(denoiser, start, None, None)
    assert len(seen) == 30
    for index, (x, t, x0) in enumerate(seen):
        near(x, frozen(f"{case}/infer/x")[index])
        near(999 * (1 - t).float(), frozen(f"{case}/infer/told")[index])
        near(x0, frozen(f"{case}/infer/x0")[index])
    near(result, frozen(f"{case}/infer/result"))
    near(result, frozen(f"{case}/infer/x0").mean(dim=0))
    near(net.score(result).detach(), frozen(f"{case}/infer/scores"))


def test_euler_with_the_state_in_the_velocity_ends_at_the_last_prediction():
    """``velocity: state`` is the usual flow: other states, and the last prediction instead of the mean."""
    net = model(velocity="state", lambda_uncertainty=0.3)
    outputs = torch.randn(30, 6, 16)
    seen, predictions = [], iter(outputs)
    result = sample(lambda x, t: seen.append(t) or next(predictions), torch.randn(6, 16), net.solver)
    near(result, outputs[-1])
    assert [round(float(t[0]), 6) for t in seen[:2]] == [0.999, 0.9657]


def test_three_steps_of_adam():
    net = model()
    packed, draws = training("a", 0.001)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for expected in frozen("adam/loss"):
        optimizer.zero_grad()
        loss = net.loss(packed, frozen("target"), draws, frozen("a/train/zeros"))
        near(loss.detach(), expected)
        loss.backward()
        optimizer.step()
    near(net.item_embedding.weight.detach(), frozen("adam/w/item_embeddings.weight"))
    queries = net.approximator.blocks[0].qkv.weight[:16].detach()
    near(queries, frozen("adam/w/fm.xstart_model.att.transformer_blocks.0.attention.linear_layers.0.weight"))
    near(net.step_mlp[0].weight.detach(), frozen("adam/w/fm.xstart_model.time_embed.0.weight"))
    near(net.history_decoder.layers[2].weight.detach(), frozen("adam/w/fm.xstart_model.decoder.4.weight"))
