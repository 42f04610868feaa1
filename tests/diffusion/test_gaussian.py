"""The Gaussian process and its samplers: algebra in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_diffusion.diffusion import GaussianDiffusion, SharedGenerator, make_betas, randn, row_generators, sample
from recbole_diffusion.diffusion.gaussian import PREDICTIONS


def process(steps=12, prediction="x0", name="cosine"):
    return GaussianDiffusion(make_betas(name, steps), prediction)


def batch(n=6, width=5, seed=0):
    torch.manual_seed(seed)
    return torch.randn(n, width, dtype=torch.float64), torch.randn(n, width, dtype=torch.float64)


def test_tables_are_float64_buffers_outside_the_state_dict():
    diffusion = process()
    assert all(buffer.dtype == torch.float64 for buffer in diffusion.buffers())
    assert not diffusion.state_dict()
    assert {name for name, _ in diffusion.named_buffers()} >= {"betas", "alpha_bar", "posterior_variance"}


@given(st.integers(2, 60), st.sampled_from(["linear", "cosine", "binomial", "trunc_lin"]))
def test_posterior_is_bayes(steps, name):
    """q(x_{t-1}|x_t,x0) by completing the square of q(x_t|x_{t-1}) q(x_{t-1}|x0), for t >= 1."""
    d = process(steps, name=name)
    alpha, previous = 1 - d.betas[1:], d.alpha_bar_prev[1:]
    precision = alpha / d.betas[1:] + 1 / (1 - previous)
    torch.testing.assert_close(d.posterior_variance[1:], 1 / precision, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(d.coef_xt[1:], alpha.sqrt() / d.betas[1:] / precision, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(d.coef_x0[1:], previous.sqrt() / (1 - previous) / precision, rtol=1e-6, atol=1e-12)


def test_the_last_reverse_step_gives_x0():
    d = process()
    assert float(d.coef_x0[0]) == pytest.approx(1, abs=1e-12)
    assert float(d.coef_xt[0]) == 0
    assert float(d.posterior_variance[0]) == 0


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_network_is_inverted_exactly(prediction):
    d = process(prediction=prediction)
    x0, noise = batch(12)
    t = torch.arange(12)
    x_t = d.q_sample(x0, t, noise)
    torch.testing.assert_close(d.x0_from_output(d.target(x0, t, noise), x_t, t), x0)


def test_noised_moments():
    d = process()
    torch.manual_seed(1)
    x0 = torch.full((200_000, 1), 2.0, dtype=torch.float64)
    for step in (0, 5, 11):
        t = torch.full((len(x0),), step)
        x_t = d.q_sample(x0, t, torch.randn_like(x0))
        assert float(x_t.mean()) == pytest.approx(2 * float(d.alpha_bar[step]) ** 0.5, abs=0.01)
        assert float(x_t.var()) == pytest.approx(1 - float(d.alpha_bar[step]), abs=0.01)


def oracle(d, x0):
    """A network that knows x0 and says it in the process's own language."""

    def denoise(x, t):
        signal = d.at(d.alpha_bar.sqrt(), t, x)
        spread = d.at((1 - d.alpha_bar).sqrt(), t, x)
        noise = (x - signal * x0) / spread
        return d.target(x0, t, noise)

    return denoise


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_every_sampler_finds_x0_with_an_oracle(prediction, count):
    d = process(prediction=prediction)
    x0, start = batch()
    for steps in (
        d.ancestral_steps(12),
        d.ancestral_steps(12, noise=True),
        d.ddim_steps(count),
        d.ddim_steps(count, 1),
    ):
        torch.testing.assert_close(sample(oracle(d, x0), start, steps), x0, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_ddim_with_all_steps_and_eta_one_is_ancestral(prediction):
    d = process(prediction=prediction)
    for ours, theirs in zip(d.ddim_steps(12, eta=1.0), d.ancestral_steps(12, noise=True)):
        assert ours.t == theirs.t
        assert ours[1:] == pytest.approx(theirs[1:], rel=1e-9, abs=1e-12)


def test_ddim_without_eta_keeps_the_noise_of_the_start():
    """eta = 0 moves along one trajectory: from x_T = q_sample(x0, eps) each state is q_sample(x0, eps) at its t."""
    d = process(prediction="eps")
    x0, noise = batch()
    last = torch.full((6,), 11)
    states = []
    sample(
        lambda x, t: noise,
        d.q_sample(x0, last, noise),
        d.ddim_steps(4),
        callback=lambda t, out, x: states.append((t, x)),
    )
    times = [t for t, _ in states]
    assert times == [11, 7, 4, 0]
    for (_, x), after in zip(states[:-1], times[1:]):
        torch.testing.assert_close(x, d.q_sample(x0, torch.full((6,), after), noise))


def test_step_matches_the_posterior_mean():
    d = process(prediction="eps")
    x_t, out = batch(12)
    t = torch.arange(12)
    mean = d.posterior_mean(d.x0_from_output(out, x_t, t), x_t, t)
    for step in d.ancestral_steps(12):
        torch.testing.assert_close(step.p * x_t[step.t] + step.q * out[step.t], mean[step.t])


def test_noise_comes_from_the_generator_and_from_nothing_else():
    d = process()
    _, start = batch()
    steps = d.ancestral_steps(12, noise=True)

    def denoise(x, t):
        return 0.5 * x

    before = torch.get_rng_state()
    one = sample(denoise, start, steps, torch.Generator().manual_seed(3))
    two = sample(denoise, start, steps, torch.Generator().manual_seed(3))
    other = sample(denoise, start, steps, torch.Generator().manual_seed(4))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@settings(max_examples=20)
@given(st.permutations(range(6)), st.integers(1, 6))
def test_row_generators_make_a_row_independent_of_its_batch(order, size):
    d = process()
    _, start = batch()
    steps = d.ancestral_steps(12, noise=True)

    def run(rows):
        return sample(lambda x, t: 0.5 * x, start[rows], steps, row_generators(rows, 7))

    whole = run(list(range(6)))
    part = list(order)[:size]
    torch.testing.assert_close(run(part), whole[part], rtol=1e-12, atol=1e-12)


def test_the_start_is_not_changed_and_zero_noise_is_a_fixed_point():
    d = GaussianDiffusion(torch.full((3,), 1e-6, dtype=torch.float64))
    x0, _ = batch()
    kept = x0.clone()
    torch.testing.assert_close(sample(lambda x, t: x, x0, d.ancestral_steps(3)), kept, rtol=1e-5, atol=1e-5)
    assert torch.equal(x0, kept)


def test_one_step_process():
    d = process(1)
    x0, start = batch()
    torch.testing.assert_close(sample(oracle(d, x0), start, d.ancestral_steps(1)), x0)
    assert d.loss_weights().tolist() == [1.0]


@pytest.mark.parametrize("count", [0, 13])
def test_wrong_step_counts_are_refused(count):
    with pytest.raises(ValueError, match=r"1\.\.steps=12"):
        process().ancestral_steps(count)
    with pytest.raises(ValueError, match=r"1\.\.steps=12"):
        process().ddim_steps(count)


def test_unknown_prediction():
    with pytest.raises(ValueError, match="prediction_type 'y'"):
        process(prediction="y")


def test_the_large_variance_is_beta():
    process = GaussianDiffusion(make_betas("cosine", 6))
    small, large = (process.ancestral_steps(6, noise=True, large=each) for each in (False, True))
    assert [step[:3] for step in small] == [step[:3] for step in large]
    assert [step.r for step in large[:-1]] == pytest.approx([float(process.betas[t]) ** 0.5 for t in range(5, 0, -1)])
    assert large[-1].r == small[-1].r == 0


def test_shared_noise_is_one_draw_for_all_rows():
    like = torch.empty(3, 4)
    drawn = randn(like, SharedGenerator(torch.Generator().manual_seed(5)))
    assert torch.equal(drawn, randn(like[:1], torch.Generator().manual_seed(5)).expand(3, 4))
    assert drawn.std() > 0
