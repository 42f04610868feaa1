"""Numbers of the official ADRec, frozen in tests/frozen/adrec_official.npz (Nemo-1024/ADRec, commit 0a30ef7).

Two and two blocks, width 16, T = 8, six left-padded rows, ``full`` of length 8 and ``padded`` of length 1 to 8,
every bias and LayerNorm random, and a random padding row as in the official tables. Case a has the published lambda
0.001, case b 0.3, where the diffusion's input is plain to see, case c 0.3 and one step for a row. The file holds
inputs, draws, weights and outputs only; docs/models/adrec.md says how it was made.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import FROZEN_DATA, near
from sequential_fields import SEQUENTIAL_FIELDS

from recbole_diffusion.diffusion import GaussianDiffusion
from recbole_diffusion.model.process import process_of
from recbole_diffusion.model.sequential_recommender import adrec
from recbole_diffusion.model.sequential_recommender.adrec import ADRec, ADRecNoise

FROZEN = np.load(FROZEN_DATA / "adrec_official.npz")
CASES = {"a": {"lambda_uncertainty": 0.001}, "b": {"lambda_uncertainty": 0.3}}
CASES["c"] = {"lambda_uncertainty": 0.3, "independent": False}
LENGTH, WIDTH, STEPS = 8, 16, 8
SETTINGS = {
    **SEQUENTIAL_FIELDS,
    "MAX_ITEM_LIST_LENGTH": LENGTH,
    "hidden_size": WIDTH,
    "n_heads": 4,
    "n_layers": 2,
    "denoiser_layers": 2,
    "hidden_dropout_prob": 0.1,
    "emb_dropout_prob": 0.3,
    "initializer_range": None,
    "mask_mode": "official",
    "sequence_layout": "padded",
    "compile": False,
    "independent": True,
    "lambda_uncertainty": 0.001,
    "noise_schedule": "trunc_lin",
    "steps": STEPS,
    "rescale_timesteps": True,
    "mse_weight": 1.0,
    "pretrain": None,
    "warmup_epochs": 0,
    "warmup_decay": False,
    "inference_steps": None,
    "inference_eta": 1.0,
}
OURS = {
    "hist_norm": "input_norm",
    "diffu.net.time_embed": "step_mlp",
    "attention.w_layer": "out",
    "feed_forward.w_1": "widen",
    "feed_forward.w_2": "narrow",
    "input_sublayer.norm": "attention_norm",
    "output_sublayer.norm": "feed_norm",
    "diffu.ag_encoder.transformer_blocks": "encoder.blocks",
    "diffu.net.decoder.transformer_blocks": "denoiser.blocks",
    "trm_encoder.transformer_blocks": "encoder.blocks",
    "LayerNorm": "input_norm",
}
LAYOUTS = pytest.mark.parametrize("layout", ["padded", "packed"])
#: Without padding both masks are the official one.
BATCHES = [("full", "key"), ("full", "official"), ("padded", "official")]
PARAMETERS = [(case, *batch) for case in CASES for batch in BATCHES if (case, batch[0]) != ("c", "full")]
EACH = pytest.mark.parametrize(("case", "kind", "mask"), PARAMETERS)


def frozen(key):
    return torch.from_numpy(np.asarray(FROZEN[key]))


def renamed(prefix):
    """The official names as ours, with queries, keys and values in one layer."""
    official = {key[len(prefix) :]: frozen(key) for key in FROZEN.files if key.startswith(prefix)}
    state = {}
    for name, value in official.items():
        if ".linear_layers." in name and ".linear_layers.0." not in name:
            continue
        if ".linear_layers." in name:
            value = torch.cat([official[name.replace("layers.0.", f"layers.{layer}.")] for layer in range(3)])
            name = name.replace("attention.linear_layers.0", "qkv")
        for theirs, ours in OURS.items():
            name = name.replace(theirs, ours)
        state[name] = value
    return state


def model(weights="w/", **more):
    net = ADRec({**SETTINGS, **more}, SimpleNamespace(num=lambda field: 24)).eval()
    missing, unexpected = net.load_state_dict(renamed(weights), strict=False)
    assert not unexpected
    assert all(name == "epochs_done" or (weights != "w/" and name.startswith("step_mlp")) for name in missing)
    return net


def right_padded(kind):
    """The frozen rows as RecBole has them: sequences, lengths, last targets."""
    left, targets = frozen(f"{kind}/seq"), frozen(f"{kind}/tag")
    lengths = (left > 0).sum(dim=1)
    turn = (torch.arange(LENGTH) + LENGTH - lengths[:, None]) % LENGTH
    return left.gather(1, turn), lengths, targets[:, -1]


def packed_rows(net, kind):
    """Our rows, and how a left-padded (B, L, ...) array goes with their tokens."""
    sequences, lengths, last = right_padded(kind)
    rows = net.rows(sequences, lengths, last)
    turn = (torch.arange(LENGTH) + LENGTH - lengths[:, None]) % LENGTH

    def turned(array):
        array = array.unflatten(0, (6, LENGTH)) if len(array) == 6 * LENGTH else array
        array = array[torch.arange(6)[:, None], turn]
        if net.see_padding:  # a ghost in front, which takes the place of the last padded position
            array = torch.cat([array[:, -1:], array], dim=1)
        return rows.packed.pack_rows(array)

    return rows, turned


def draws(net, case, kind):
    rows, turned = packed_rows(net, kind)
    t = frozen(f"{case}/{kind}/train/t")
    return (
        rows,
        turned,
        ADRecNoise(turned(t) if net.independent else t[rows.packed.order], turned(frozen(f"{case}/{kind}/train/eps"))),
    )


@pytest.mark.parametrize("steps", [8, 32])
def test_schedule_and_posterior(steps):
    process, solver, *_ = process_of({**SETTINGS, "steps": steps}, "ADRec")
    assert isinstance(process, GaussianDiffusion)
    torch.testing.assert_close(process.betas, frozen(f"schedule/{steps}/betas"), rtol=1e-9, atol=0)
    assert [step.t for step in solver.steps] == list(reversed(range(steps)))
    for step in solver.steps:
        assert step.q == pytest.approx(float(FROZEN[f"schedule/{steps}/coef1"][step.t]), rel=1e-9)
        assert step.p == pytest.approx(float(FROZEN[f"schedule/{steps}/coef2"][step.t]), rel=1e-9, abs=1e-12)
        noise = np.exp(FROZEN[f"schedule/{steps}/log_variance"][step.t] / 2) if step.t else 0.0
        assert step.r == pytest.approx(float(noise), rel=1e-9)


def test_step_embedding():
    near(model().embed_step(frozen("time/t")), frozen("time/out"))


@LAYOUTS
@EACH
def test_training(case, kind, mask, layout):
    net = model(mask_mode=mask, sequence_layout=layout, **CASES[case])
    rows, turned, noise = draws(net, case, kind)
    real, prefix = rows.next_items > 0, f"{case}/{kind}/train/"
    x_t, _ = net.noised(rows, noise, net.table())
    near(x_t[real], turned(frozen(f"{prefix}x_t"))[real])
    near(net.encoder(net.tokens(rows, net.table()), rows.packed, rows.ghosts)[real], turned(frozen(f"{prefix}c"))[real])
    near(net.predict_clean(rows, noise, net.table())[real], turned(frozen(f"{prefix}x0"))[real])
    for loss, name in zip(net.losses(rows, noise), ("ce", "mse")):
        near(loss.detach(), frozen(prefix + name))
    net.loss(rows, noise).backward()
    expected = renamed(f"{prefix}grad/")
    assert expected.keys() == dict(net.named_parameters()).keys()
    for name, parameter in net.named_parameters():
        near(parameter.grad, expected[name])


@LAYOUTS
@EACH
def test_inference(case, kind, mask, layout, monkeypatch):
    """The whole chain with the earlier keys kept, every draw fed in, through the method that the evaluator calls."""
    net, prefix = model(mask_mode=mask, sequence_layout=layout, **CASES[case]), f"{case}/{kind}/infer/"
    sequences, lengths, _ = right_padded(kind)
    order = net.rows(sequences, lengths).packed.order
    z, seen, sampled = iter(frozen(f"{prefix}z")), [], adrec.sample
    monkeypatch.setattr("recbole_diffusion.diffusion.sampler.randn", lambda like, generator: next(z)[order])

    def fed(denoiser, _, *rest):
        def spied(x, t):
            seen.append((int(t[0]), x, denoiser(x, t)))
            return seen[-1][2]

        return sampled(spied, frozen(f"{prefix}start")[order], *rest)

    monkeypatch.setattr(adrec, "sample", fed)
    with torch.no_grad():
        result = net.states(sequences, lengths)
    assert [t for t, _, _ in seen] == list(reversed(range(STEPS)))
    for index, (_, x, x0) in enumerate(seen):
        near(x, frozen(f"{prefix}x")[index][order])
        near(x0, frozen(f"{prefix}x0")[index][order])
    near(result, frozen(f"{prefix}result"))
    near(net.score(result).detach(), frozen(f"{prefix}scores"))


@pytest.mark.parametrize("stage", ["warmup", "all"])
def test_three_steps_of_adam(stage):
    """In the official warm-up the table is frozen and decays all the same; ``warmup_decay`` repeats it."""
    net = model(mask_mode="key", warmup_epochs=int(stage == "warmup"), warmup_decay=True)
    rows, _, noise = draws(net, "a", "full")
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-5)
    for expected in frozen(f"adam/{stage}/losses").float():
        optimizer.zero_grad()
        near(torch.stack(net.losses(rows, noise)).detach(), expected)
        net.loss(rows, noise).backward()
        optimizer.step()
    near(net.item_embedding.weight.detach(), frozen(f"adam/{stage}/w/item_embedding.weight"))
    queries = net.denoiser.blocks[1].qkv.weight[:WIDTH].detach()
    near(queries, frozen(f"adam/{stage}/w/diffu.net.decoder.transformer_blocks.1.attention.linear_layers.0.weight"))
    near(net.step_mlp[0].weight.detach(), frozen(f"adam/{stage}/w/diffu.net.time_embed.0.weight"))


def test_a_held_table_does_not_move_without_the_key():
    net = model(mask_mode="key", warmup_epochs=1)
    rows, _, noise = draws(net, "a", "full")
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-5)
    net.loss(rows, noise).backward()
    optimizer.step()
    assert torch.equal(net.item_embedding.weight, frozen("w/item_embedding.weight"))
    moved = (frozen("adam/warmup/w/item_embedding.weight") - frozen("w/item_embedding.weight")).abs()
    assert float(moved.mean()) == pytest.approx(3e-3, rel=0.05)  # what the official decay does in three steps


@LAYOUTS
@pytest.mark.parametrize(("kind", "mask"), BATCHES)
def test_the_first_stage_is_the_model_without_denoiser(kind, mask, layout):
    """The official SASRec of stage 1, without positions."""
    first = {"denoiser_layers": 0, "lambda_uncertainty": 0.0, "mse_weight": 0.0}
    net = model("pretrain/w/", mask_mode=mask, sequence_layout=layout, **first)
    net.input_norm.eps = 1e-5
    rows, turned = packed_rows(net, kind)
    real = rows.next_items > 0
    near(net.predict_clean(rows, None, net.table())[real], turned(frozen(f"pretrain/{kind}/out"))[real])
    near(net.loss(rows, None).detach(), frozen(f"pretrain/{kind}/ce"))
