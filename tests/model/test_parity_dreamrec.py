"""Numbers of the official DreamRec, frozen in tests/frozen/dreamrec_official.npz (YangZhengyi98/DreamRec, 454133c).

All in float64; in float32 the official tables lose digits. Training: width 16, 16 rows of length 1 to 10, four of which
lose their condition, both denoisers (``mlp1``, ``mlp2``). Ranking: width 64, which is hard-coded there, 50 steps,
w = 4, one draw of the noise for all rows. docs/models/dreamrec.md says how it was made.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import FROZEN_DATA
from guided_frozen import SETTINGS, near, renamed

from recbole_diffusion.diffusion import make_betas
from recbole_diffusion.model.networks import guided_denoiser
from recbole_diffusion.model.networks.guided_denoiser import GuidedChain
from recbole_diffusion.model.sequences import guided_recommender
from recbole_diffusion.model.sequences.guided_recommender import GuidedNoise
from recbole_diffusion.model.sequential_recommender.dreamrec import DreamRec

FROZEN = np.load(FROZEN_DATA / "dreamrec_official.npz")
KINDS = {"mlp1": "linear", "mlp2": "mlp"}
DENOISERS = pytest.mark.parametrize("kind", list(KINDS))
N_ITEMS = 31  # with the padding item
SEEN_STATES = (0, 1, 9, 24, 39, 48, 49)


def frozen(key):
    return torch.from_numpy(np.asarray(FROZEN[key]))


def parameters(prefix):
    official = {key[len(prefix) :]: frozen(key) for key in FROZEN.files if key.startswith(prefix)}
    return renamed(official, "", "step_mlp", "diffuser")


def ranking_parameters(kind):
    """Both kinds share all but the denoiser."""
    official = {key[len("rank/w/mlp1/") :]: frozen(key) for key in FROZEN.files if key.startswith("rank/w/mlp1/")}
    official = {name: value for name, value in official.items() if not name.startswith("diffuser")}
    prefix = f"rank/w/{kind}/"
    official |= {key[len(prefix) :]: frozen(key) for key in FROZEN.files if key.startswith(f"{prefix}diffuser")}
    return renamed(official, "", "step_mlp", "diffuser")


def model(kind, size, state, **more):
    config = {**SETTINGS, "hidden_size": size, "denoiser": KINDS[kind], **more}
    net = DreamRec(config, SimpleNamespace(num=lambda field: N_ITEMS)).double()
    net.load_state_dict(state)
    return net.eval()


def ours(items):
    """Official ids as ours: theirs count from 0, and the padding item is the last."""
    return (items + 1) % N_ITEMS


def batch():
    draws = GuidedNoise(frozen("t"), frozen("eps"), frozen("keep"))
    return ours(frozen("seq")), frozen("len"), ours(frozen("target")), draws


@pytest.mark.parametrize(("name", "official"), [("linear",) * 2, ("exp",) * 2, ("clip_cos", "cosine"), ("sqrt",) * 2])
@pytest.mark.parametrize("steps", [50, 200])
def test_schedules(name, official, steps):
    torch.testing.assert_close(make_betas(name, steps), frozen(f"schedule/{official}/{steps}"), rtol=1e-9, atol=0)


@DENOISERS
def test_training(kind):
    net = model(kind, 16, parameters(f"{kind}/w/"))
    sequences, lengths, target, draws = batch()
    encoded = net.encode(sequences, lengths)
    assert (~draws.keep).sum() == 4
    near(torch.where(draws.keep[:, None], encoded, net.unconditional), frozen(f"{kind}/h"))
    x0 = net.target_embedding(target)
    near(net.process.q_sample(x0, draws.t, draws.noise), frozen(f"{kind}/x_t"))
    near(net.estimate(x0, net.context(sequences, lengths, draws), draws.t, draws.noise), frozen(f"{kind}/pred"))
    loss = net.loss(sequences, lengths, target, draws)
    near(loss, frozen(f"{kind}/loss"))
    loss.backward()
    expected = parameters(f"{kind}/grad/")
    assert expected.keys() == dict(net.named_parameters()).keys()
    for name, parameter in net.named_parameters():
        near(parameter.grad, expected[name])
        assert float(expected[name].abs().max()) > 1e-7, f"the gradient of {name} is nothing to compare with"


@DENOISERS
def test_three_steps_of_adam(kind):
    net = model(kind, 16, parameters(f"{kind}/w/"))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for expected in frozen(f"{kind}/adam/loss"):
        optimizer.zero_grad()
        loss = net.loss(*batch())
        near(loss.detach(), expected)
        loss.backward()
        optimizer.step()
    frozen_weights = {key.rpartition("adam/w/")[2]: frozen(key) for key in FROZEN.files if f"{kind}/adam/w/" in key}
    items = frozen_weights["item_embeddings.weight"]
    near(net.item_embedding.weight.detach()[1:], items[:-1])
    near(net.unconditional.detach(), frozen_weights["none_embedding.weight"])
    near(net.place_embedding.weight.detach(), frozen_weights["positional_embeddings.weight"])
    near(net.encoder.query.weight.detach(), frozen_weights["mh_attn.linear_q.weight"])
    near(net.encoder.key.weight.detach(), frozen_weights["mh_attn.linear_k.weight"])
    near(net.encoder.value.bias.detach(), frozen_weights["mh_attn.linear_v.bias"])
    near(net.encoder.widen.weight.detach(), frozen_weights["feed_forward.w_1.weight"].squeeze(-1))
    near(net.denoiser.step_mlp[0].weight.detach(), frozen_weights["step_mlp.1.weight"])
    state, condition, step = frozen_weights["diffuser.0.weight"].chunk(3, dim=1)
    for layer, expected in (("state", state), ("condition", condition), ("step", step)):
        near(getattr(net.denoiser, layer).weight.detach(), expected)


@DENOISERS
@torch.no_grad()
def test_the_denoiser_with_and_without_a_condition(kind):
    net = model(kind, 64, ranking_parameters(kind))
    x, h, t = (frozen(f"rank/{name}") for name in ("x", "h", "t"))
    near(net.denoiser(x, h, t), frozen(f"rank/{kind}/with"))
    near(net.denoiser(x, net.unconditional.expand_as(x), t), frozen(f"rank/{kind}/without"))
    for row in range(4):  # guidance: one pass of the linear network, two of the other one
        chain = GuidedChain(net.denoiser, h[row : row + 1], net.unconditional, 4.0)
        guided = 5 * frozen(f"rank/{kind}/with")[row] - 4 * frozen(f"rank/{kind}/without")[row]
        near(chain(x[row : row + 1], t[row : row + 1])[0], guided)


def fed(monkeypatch):
    """The frozen draws, one for all rows: the start, then the noise of the steps."""
    z = iter(frozen("rank/z"))
    monkeypatch.setattr(guided_recommender, "draw", lambda shape, like, generator: next(z)[None])
    monkeypatch.setattr("recbole_diffusion.diffusion.sampler.randn", lambda like, generator: next(z).expand_as(like))
    monkeypatch.setattr(
        guided_denoiser,
        "_noise_of_steps",
        lambda steps, size, *_: torch.stack([next(z) if step.r else torch.zeros(size).double() for step in steps]),
    )


@DENOISERS
@torch.no_grad()
def test_the_chain_state_by_state(kind, monkeypatch):
    net = model(kind, 64, ranking_parameters(kind))
    fed(monkeypatch)
    states = []
    result = net.denoise(ours(frozen("rank/seq")), frozen("rank/len"), callback=lambda t, out, x: states.append(x))
    assert len(states) == 50
    for expected, place in zip(frozen(f"rank/{kind}/states"), SEEN_STATES):
        near(states[place], expected)
    near(result, states[-1])


@DENOISERS
@torch.no_grad()
def test_scores(kind, monkeypatch):
    """For the linear denoiser in closed form."""
    net = model(kind, 64, ranking_parameters(kind))
    fed(monkeypatch)
    if kind == "mlp1":
        monkeypatch.setattr(GuidedChain, "__call__", lambda *_: pytest.fail("the chain was run step by step"))
    scores = net.score(net.states(ours(frozen("rank/seq")), frozen("rank/len")))
    expected = frozen(f"rank/{kind}/scores")
    near(scores[:, 1:], expected[:, :-1])  # the padding item is a candidate there
