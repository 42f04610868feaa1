"""DreamRec and PreferDiff: the chain in closed form, the attention of one query, what each key does."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from recbole_diffusion.diffusion import AffineSolver, GaussianDiffusion, SharedGenerator, make_betas, sample
from recbole_diffusion.model.networks.guided_denoiser import GuidedChain, GuidedDenoiser, sine_first_embedding
from recbole_diffusion.model.sequences import last_item_attention
from recbole_diffusion.model.sequences.guided_recommender import GuidedNoise
from recbole_diffusion.model.sequences.last_item_attention import LastItemAttention
from recbole_diffusion.model.sequential_recommender.preferdiff import PreferDiffNoise
from recbole_diffusion.testing.building import build, quick, train, users_of

SMALL = {"hidden_size": 16, "MAX_ITEM_LIST_LENGTH": 6, "steps": 20}
PREFERDIFF = {**SMALL, "inference_steps": 5}


def network(kind="linear", size=8, dtype=torch.float64):
    torch.manual_seed(0)
    return GuidedDenoiser(size, kind).to(dtype).eval()


def generator(seed=3):
    return SharedGenerator(torch.Generator().manual_seed(seed))


def loop(denoise, start, steps, shared=None):
    """The steps one after another: a function is no chain."""
    return sample(lambda x, t: denoise(x, t), start, AffineSolver(steps), shared)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", ["ancestral", "ancestral, no noise", "ddim", "ddim, eta 1", "official grid"])
@torch.no_grad()
def test_the_closed_form_equals_the_chain(kind, dtype):
    process = GaussianDiffusion(make_betas("linear", 200))
    steps = {
        "ancestral": process.ancestral_steps(200, noise=True),
        "ancestral, no noise": process.ancestral_steps(200),
        "ddim": process.ddim_steps(7),
        "ddim, eta 1": process.ddim_steps(7, 1.0),
        "official grid": process.strided_steps(21),
    }[kind]
    net, condition, none = network(dtype=dtype), *torch.randn(2, 5, 8, dtype=dtype)
    starts = torch.randn(5, 8, dtype=dtype)  # another one for each row
    for guidance, start in itertools.product((0.0, 2.0, 8.0), (starts, starts[:1].expand(5, -1))):
        chain = GuidedChain(net, condition, none[:1], guidance)
        closed = sample(chain, start, AffineSolver(steps), generator())
        tolerance = 1e-11 if dtype == torch.float64 else 1e-4
        torch.testing.assert_close(closed, loop(chain, start, steps, generator()), rtol=tolerance, atol=tolerance)
        assert closed.dtype == dtype


@torch.no_grad()
def test_the_closed_form_has_the_law_of_the_chain():
    """The mean over 2,000 chains with noise of their own, against the closed form without noise."""
    process, net = GaussianDiffusion(make_betas("exp", 20)), network()
    steps = process.ancestral_steps(20, noise=True)
    chain = GuidedChain(net, torch.randn(1, 8).double().expand(2000, -1), torch.randn(1, 8).double(), 2.0)
    torch.manual_seed(1)
    chains = loop(chain, torch.randn(2000, 8, dtype=torch.float64), steps)
    mean = chain.chain(torch.zeros(2000, 8, dtype=torch.float64), [step._replace(r=0.0) for step in steps])[0]
    error = chains.std(dim=0) / 2000**0.5
    assert ((chains.mean(dim=0) - mean).abs() < 4 * error).all()


@torch.no_grad()
def test_the_matrices_serve_all_weights_of_the_guidance_and_follow_the_network():
    net, steps = network(), GaussianDiffusion(make_betas("linear", 10)).ancestral_steps(10)
    folded = net.fold(steps)
    assert net.fold(list(steps)) is folded
    assert net.fold(steps[1:]) is not folded
    expected = net.fold(steps).condition + 0
    net.state.weight.mul_(2)
    assert not torch.allclose(net.fold(steps).condition, expected)
    net.state.weight.div_(2)
    torch.testing.assert_close(net.fold(steps).condition, expected)
    kept = net.fold(steps)
    assert net.train().eval().fold(steps) is not kept
    without = network().fold(steps, with_state=False)
    assert without.state is None
    torch.testing.assert_close(without.condition, kept.condition)


@torch.no_grad()
def test_the_noise_and_the_start_of_an_evaluation_are_run_once(monkeypatch):
    """Every batch starts from the same seed. Other noise, another start and other weights are run again."""
    steps, net = GaussianDiffusion(make_betas("linear", 10)).ancestral_steps(10, noise=True), network()
    run, runs = GuidedDenoiser._run_offset, []
    monkeypatch.setattr(GuidedDenoiser, "_run_offset", lambda *args: runs.append(1) or run(*args))

    def batch(rows=3, seed=3, start=1.0):
        condition, shared = torch.linspace(-1, 1, rows * 8).double().view(rows, 8), generator(seed)
        start = torch.full((1, 8), start).double().expand(rows, -1)
        chain = GuidedChain(net, condition, torch.ones(1, 8).double(), 2.0)
        result = sample(chain, start, AffineSolver(steps), shared)
        expected_shared = generator(seed)
        expected = loop(chain, start, steps, expected_shared)
        torch.testing.assert_close(result, expected, rtol=1e-11, atol=1e-11)
        assert torch.equal(shared.generator.get_state(), expected_shared.generator.get_state())
        return len(runs)

    assert [batch(), batch(), batch(rows=5)] == [1, 1, 1]
    assert [batch(seed=4), batch(start=0.0)] == [2, 3]  # another seed, then the first one with another start
    net.step.bias.add_(1)
    assert batch() == 4
    net.train().eval()
    assert batch() == 5


@torch.no_grad()
def test_a_callback_or_own_noise_of_each_row_takes_the_steps_one_after_another(monkeypatch):
    monkeypatch.setattr(GuidedChain, "_apply", lambda *_: pytest.fail("in closed form"))
    process, net = GaussianDiffusion(make_betas("linear", 10)), network()
    chain, start = (
        GuidedChain(net, torch.ones(2, 8).double(), torch.ones(1, 8).double(), 1.0),
        torch.zeros(2, 8).double(),
    )
    states = []
    sample(chain, start, AffineSolver(process.ancestral_steps(10)), None, lambda t, out, x: states.append(x))
    assert len(states) == 10
    noisy = AffineSolver(process.ancestral_steps(10, noise=True))
    result = sample(chain, start, noisy, torch.Generator().manual_seed(0))
    assert not torch.equal(result[0], result[1])
    wide = network(size=130, dtype=torch.float32)  # few rows of a large width
    rows = torch.ones(2, 130)
    sample(GuidedChain(wide, rows, rows[:1], 1.0), rows, AffineSolver(process.ancestral_steps(2)))
    assert not GuidedChain(wide, rows[:1].expand(129, -1), rows[:1], 1.0).folds
    assert GuidedChain(wide, rows[:1].expand(130, -1), rows[:1], 1.0).folds
    mlp = GuidedChain(network("mlp"), torch.ones(2, 8).double(), torch.ones(1, 8).double(), 1.0)
    sample(mlp, start, noisy, generator())


@torch.no_grad()
def test_guidance_extrapolates_from_the_network_without_a_condition():
    x, condition, none = torch.randn(3, 4, 8, dtype=torch.float64)
    t = torch.full((4,), 5)
    for kind in ("linear", "mlp"):
        net = network(kind)
        with_condition, without = net(x, condition, t), net(x, none[:1].expand_as(x), t)
        for weight in (0.0, 3.0):
            guided = (1 + weight) * with_condition - weight * without
            torch.testing.assert_close(GuidedChain(net, condition, none[:1], weight)(x, t), guided)


def test_the_step_embedding_by_hand():
    embedding = sine_first_embedding(torch.tensor([0, 3]), 6, torch.float64).numpy()
    frequencies = 10000.0 ** -np.array([0, 0.5, 1])
    np.testing.assert_allclose(embedding[1], [*np.sin(3 * frequencies), *np.cos(3 * frequencies)], rtol=1e-12)
    np.testing.assert_allclose(embedding[0], [0, 0, 0, 1, 1, 1])


def test_the_layers_start_as_one_layer_of_three_inputs():
    torch.manual_seed(0)
    net = GuidedDenoiser(64)
    for layer in (net.state.weight, net.condition.weight, net.step.weight, net.step.bias):
        assert 0.95 * 192**-0.5 < float(layer.detach().abs().max()) <= 192**-0.5 + 1e-6


def test_attention_with_dropout_equals_projected_keys_and_values(monkeypatch):
    """Against all keys and values projected, with a fixed mask of the dropout."""
    torch.manual_seed(0)
    block = LastItemAttention(8, 2, 0.5, residual=False).double()
    tokens, lengths = torch.randn(3, 4, 8, dtype=torch.float64), torch.tensor([1, 4, 3])
    queries, factors = torch.randn(3, 8, dtype=torch.float64), (torch.rand(3, 2, 4) > 0.5) * 2.0
    monkeypatch.setattr(last_item_attention, "dropout", lambda x, p, training: x * factors)
    key_bias = torch.randn(8, dtype=torch.float64)
    keys, values = F.linear(tokens, block.key.weight, key_bias), block.value(tokens)
    expected = torch.zeros(3, 8, dtype=torch.float64)
    for row, length in enumerate(lengths):
        for head, part in enumerate((slice(0, 4), slice(4, 8))):
            scores = keys[row, :length, part] @ block.query(queries)[row, part] / 8**0.5
            expected[row, part] = (scores.softmax(0) * factors[row, head, :length]) @ values[row, :length, part]
    torch.testing.assert_close(block._attend(queries, tokens, lengths), expected)


def test_the_official_grid():
    process = GaussianDiffusion(make_betas("linear", 20))
    assert [step.t for step in process.strided_steps(5)] == [20, 15, 10, 5, 0]
    with pytest.raises(ValueError, match=r"must be in 2..steps\+1=21, got 1"):
        process.strided_steps(1)
    even = {step.t: step for step in process.ddim_steps(20)}
    for told, step in zip((20, 15, 10, 5), process.strided_steps(5)):
        assert step.t == told
        assert told - 1 in even  # the coefficients' step
    last = process.strided_steps(5)[-1]
    assert (last.p, last.q) == (0.0, 1.0)


def test_the_exp_schedule_by_hand():
    u = np.linspace(1, 1001, 500)
    expected = 1 - np.exp(-0.1 / 500 - 4.95 * u / 500**2)
    np.testing.assert_allclose(make_betas("exp", 500).numpy(), expected, rtol=1e-12)
    assert float((1 - make_betas("exp", 500)).prod()) == pytest.approx(6.3e-3, rel=0.01)


# -- keys ------------------------------------------------------------------------------------------------------------


def first_batch(loaders):
    return next(iter(loaders[0]))


@pytest.mark.parametrize("denoiser", ["linear", "mlp"])
def test_without_noise_the_scores_depend_on_no_seed(denoiser, built):
    for eval_noise in (True, False):
        _, net, _, loaders = built("DreamRec", **SMALL, eval_noise=eval_noise, denoiser=denoiser)
        net.eval()
        batch = loaders[2]._dataset.inter_feat[:4]
        scores = net.full_sort_predict(batch)
        net.seed_inference(5)
        assert torch.equal(net.full_sort_predict(batch), scores) is not eval_noise
        assert net.draws_noise is eval_noise


def test_the_number_of_network_calls(built):
    calls = {"linear": 20, "mlp": 40}
    for denoiser, count in calls.items():
        assert built("DreamRec", **SMALL, denoiser=denoiser)[1].nfe == count
    assert built("DreamRec", **SMALL, denoiser="mlp", guidance=0.0)[1].nfe == 20
    assert built("DreamRec", **SMALL, inference_steps=3)[1].nfe == 3


def test_fewer_steps_are_ddim_with_the_noise_of_eval_noise(built):
    solvers = [built("DreamRec", **SMALL, inference_steps=4, eval_noise=noise)[1].solver for noise in (True, False)]
    assert [solver.stochastic for solver in solvers] == [True, False]
    assert [step.t for step in solvers[0].steps] == [19, 13, 6, 0]
    grids = [built("PreferDiff", **PREFERDIFF, ddim_grid=grid)[1].solver for grid in ("even", "official")]
    assert [[step.t for step in solver.steps] for solver in grids] == [[19, 14, 10, 5, 0], [20, 15, 10, 5, 0]]
    assert not any(solver.stochastic for solver in grids)


def test_wrong_settings_are_one_line(built):
    with pytest.raises(ValueError, match="hidden_size=7 is not allowed; allowed: even numbers from 4"):
        built("DreamRec", **{**SMALL, "hidden_size": 7})
    with pytest.raises(ValueError, match="hidden_size=16 is not allowed; allowed: multiples of n_heads=3"):
        built("PreferDiff", **PREFERDIFF, n_heads=3)
    with pytest.raises(ValueError, match="inference_steps=21 is more than steps=20"):
        built("PreferDiff", **SMALL, inference_steps=21)
    with pytest.raises(ValueError, match=r"ddim_grid='odd' is not allowed; allowed: even \| official"):
        built("PreferDiff", **PREFERDIFF, ddim_grid="odd")


@pytest.mark.parametrize("model", ["DreamRec", "PreferDiff"])
def test_the_gradient_of_the_items(model, built):
    """Frozen items have none; with ``detach_target`` items that are only targets have none."""
    keys = SMALL if model == "DreamRec" else PREFERDIFF
    _, frozen, _, loaders = built(model, **keys, freeze_items=True)
    frozen.calculate_loss(first_batch(loaders)).backward()
    assert frozen.item_embedding.weight.grad is None
    assert frozen.encoder.query.weight.grad.abs().sum() > 0
    for detach in (False, True):
        _, net, _, loaders = built(model, **keys, detach_target=detach)
        batch = first_batch(loaders)
        net.calculate_loss(batch).backward()
        only_targets = set(batch["item_id"].tolist()) - set(batch["item_id_list"].flatten().tolist())
        assert only_targets
        gradients = net.item_embedding.weight.grad[sorted(only_targets)].abs().sum(dim=1)
        assert (gradients > 0).all() if not detach else (gradients == 0).all()


@pytest.mark.parametrize("model", ["DreamRec", "PreferDiff"])
def test_the_padding_item_has_no_part(model, built):
    keys = SMALL if model == "DreamRec" else PREFERDIFF
    _, net, _, loaders = built(model, **keys, dropout_prob=0.0)
    net.eval()
    batch = loaders[2]._dataset.inter_feat[:4]
    scores = net.full_sort_predict(batch)
    with torch.no_grad():
        net.item_embedding.weight[0] = 7.0
    torch.testing.assert_close(net.full_sort_predict(batch)[:, 1:], scores[:, 1:])


@pytest.mark.parametrize("rounding", ["dot", "l2", "cosine"])
@torch.no_grad()
def test_rounding_by_hand(rounding, built):
    net = built("DreamRec", **SMALL, rounding=rounding)[1]
    states, items = torch.randn(3, 16), net.item_embedding.weight
    expected = {
        "dot": states @ items.T,
        "l2": -((states[:, None] - items[None]) ** 2).sum(dim=2),
        "cosine": F.cosine_similarity(states[:, None], items[None], dim=2),
    }[rounding]
    torch.testing.assert_close(net.score(states)[:, 1:], expected[:, 1:], rtol=1e-4, atol=1e-4)


def draws_of(rows, size=16, seed=1):
    generator = torch.Generator().manual_seed(seed)
    noise, negative = torch.randn(2, rows, size, generator=generator)
    return PreferDiffNoise(GuidedNoise(torch.arange(rows) % 20, noise, torch.ones(rows, dtype=torch.bool)), negative)


@pytest.mark.parametrize("pair_loss", ["batch", "row"])
@pytest.mark.parametrize("distance", ["cosine", "l2"])
@torch.no_grad()
def test_the_loss_of_preferdiff_by_hand(pair_loss, distance, built):
    _, net, _, loaders = built(
        "PreferDiff", **PREFERDIFF, pair_loss=pair_loss, distance=distance, lamda=0.3, ce_weight=0.2
    )
    net.eval()
    sequences, lengths = net.sequences(first_batch(loaders))
    target, draws = first_batch(loaders)["item_id"], draws_of(len(sequences))
    x0, t = net.item_embedding(target), draws.positive.t
    negative = torch.stack([torch.cat([x0[:row], x0[row + 1 :]]).mean(dim=0) for row in range(len(x0))])
    hidden = net.encode(sequences, lengths)
    estimates = [
        net.denoiser(net.process.q_sample(x, t, noise), hidden, t)
        for x, noise in ((x0, draws.positive.noise), (negative, draws.negative_noise))
    ]
    distances = []
    for estimate, x in zip(estimates, (x0, negative)):
        if distance == "l2":
            distances.append(((estimate - x) ** 2).mean(dim=1))
        else:
            distances.append((F.cosine_similarity(estimate, x, dim=1) - 1) ** 2)
    difference = (distances[0] - distances[1]).numpy().astype(float)
    if pair_loss == "batch":
        difference = difference.mean()
    preference = np.log1p(np.exp(5.0 * difference)).mean()
    expected = 0.3 * distances[0].mean() + 0.7 * preference
    expected += 0.2 * F.cross_entropy(estimates[0] @ net.item_embedding.weight.T, target)
    assert float(net.loss(sequences, lengths, target, draws)) == pytest.approx(float(expected), rel=1e-5)


def test_a_batch_of_one_row_has_no_negative(built):
    _, net, _, loaders = built("PreferDiff", **PREFERDIFF, dropout_prob=0.0)
    sequences, lengths = net.sequences(first_batch(loaders))
    target = first_batch(loaders)["item_id"]
    draws = draws_of(1)
    loss = net.loss(sequences[:1], lengths[:1], target[:1], draws)
    x0 = net.item_embedding(target[:1])
    context = net.context(sequences[:1], lengths[:1], draws.positive)
    estimate = net.estimate(x0, context, draws.positive.t, draws.positive.noise)
    assert float(loss) == pytest.approx(0.5 * float((F.cosine_similarity(estimate, x0) - 1) ** 2), rel=1e-5)


def test_targets(built):
    """Every prefix, or the longest one of each user, which ends before the validation item."""
    for targets in ("all", "last"):
        _, _, dataset, loaders = built("PreferDiff", **PREFERDIFF, targets=targets)
        rows = loaders[0]._dataset.inter_feat
        counts = np.bincount(rows["user_id"].numpy(), minlength=dataset.user_num)[1:]
        users = pd.read_csv("dataset/board/board.inter", sep="\t")["user_id:token"].value_counts()
        lengths = users[dataset.field2id_token["user_id"][1:]].to_numpy()
        expected = lengths - 3 if targets == "all" else np.ones_like(lengths)
        np.testing.assert_array_equal(counts, expected)
        if targets == "last":
            np.testing.assert_array_equal(rows["item_length"].numpy(), np.minimum(lengths - 3, 6)[rows["user_id"] - 1])


def test_prepared_data_of_other_targets_are_others(built, tmp_path):
    sizes = []
    for targets in ("all", "last", "all"):
        _, _, _, loaders = built("PreferDiff", **PREFERDIFF, targets=targets, prepared_data=str(tmp_path / "prepared"))
        sizes.append(len(loaders[0]._dataset))
    assert sizes[0] == sizes[2] > sizes[1]


def test_without_state_the_scores_depend_on_the_sequence_alone(settings):
    """No noise, no chain: the same scores for every seed, one call, and no training of the weights of x_t."""
    keys = {**settings, **quick("DreamRec"), "use_state": False, "inference_steps": 1, "epochs": 2}
    built = build("DreamRec", keys)
    train(built)
    net = built.model.eval()
    assert net.nfe == 1
    assert not net.denoiser.state.weight.any()
    batch = users_of(built.loaders)
    scores = []
    for seed in (1, 2):
        net.seed_inference(seed)
        scores.append(net.full_sort_predict(batch))
    assert torch.equal(*scores)
    assert net.target_state(batch, torch.ones(8, 1, dtype=torch.int64)) is None
