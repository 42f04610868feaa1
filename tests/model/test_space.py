"""The hyperboloid's maps and Riemannian SGD: against geoopt, and what must hold of them by themselves."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_diffusion.model.geometry.riemannian_sgd import RiemannianSGD
from recbole_diffusion.model.geometry.space import FLAT, Lorentz, space_of

CURVATURES = pytest.mark.parametrize("curvature", [0.5, 1.0, 2.0])


def tangent(rows, seed=0, scale=1.0, dtype=torch.float64):
    u = torch.randn(rows, 6, dtype=dtype, generator=torch.Generator().manual_seed(seed)) * scale
    u[:, 0] = 0
    return u


@pytest.fixture
def geoopt():
    return pytest.importorskip("geoopt", reason="pip install -e '.[test]'; needs torch 2")


@CURVATURES
def test_maps_are_geoopts(curvature, geoopt):
    mine, theirs = Lorentz(curvature), geoopt.Lorentz(k=1 / curvature).double()
    u, v = tangent(9, scale=0.5), tangent(9, seed=1, scale=0.5)
    x, y = mine.exp0(u), mine.exp0(v)
    same = {"rtol": 1e-9, "atol": 1e-10}
    torch.testing.assert_close(x, theirs.expmap0(u), **same)
    torch.testing.assert_close(mine.log0(x), theirs.logmap0(x), **same)
    torch.testing.assert_close(mine.inner(x, y).squeeze(1), theirs.inner(None, x, y), **same)
    torch.testing.assert_close(mine.sqdist(x, y), theirs.dist2(x, y), **same)
    torch.testing.assert_close(mine.project(x + 1), theirs.projx(x + 1), **same)
    gradient = 0.1 * torch.randn_like(x)
    moved = mine.gradient(x, gradient)
    torch.testing.assert_close(moved, theirs.egrad2rgrad(x, gradient), **same)
    torch.testing.assert_close(mine.exp(x, moved), theirs.expmap(x, moved), **same)
    torch.testing.assert_close(mine.transport(x, y, moved), theirs.transp(x, y, moved), **same)


@CURVATURES
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_a_step_of_the_optimiser_is_geoopts(curvature, weight_decay, geoopt):
    """Without momentum: with it geoopt makes the first, Euclidean buffer tangent, which the official code does not."""
    space = Lorentz(curvature)
    start, target = space.exp0(tangent(9)), space.exp0(tangent(9, seed=1))
    ours = start.clone().requires_grad_()
    theirs = geoopt.ManifoldParameter(start.clone(), manifold=geoopt.Lorentz(k=1 / curvature).double())
    mine = RiemannianSGD([ours], space, lr=0.05, weight_decay=weight_decay)
    other = geoopt.optim.RiemannianSGD([theirs], lr=0.05, weight_decay=weight_decay)
    for _ in range(5):
        for points, optimiser in ((ours, mine), (theirs, other)):
            optimiser.zero_grad()
            space.sqdist(points, target).sum().backward()
            optimiser.step()
        torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=1e-9, atol=1e-10)


@CURVATURES
def test_momentum_finds_the_minimum_and_stays_on_the_manifold(curvature):
    space = Lorentz(curvature)
    points = space.exp0(tangent(9)).requires_grad_()
    target = space.exp0(tangent(9, seed=1))
    optimiser = RiemannianSGD([points], space, lr=0.01, momentum=0.9)
    for _ in range(400):
        optimiser.zero_grad()
        loss = space.sqdist(points, target).sum()
        loss.backward()
        optimiser.step()
        minus_k = torch.full((9, 1), -1 / curvature, dtype=torch.float64)
        torch.testing.assert_close(space.inner(points, points).detach(), minus_k)
    assert float(loss) < 1e-6


def test_a_closure_is_called_and_unused_points_stay():
    space = Lorentz()
    used, unused = (space.exp0(tangent(3, seed)).requires_grad_() for seed in range(2))
    before = unused.detach().clone()

    def closure():
        loss = used.square().sum()
        loss.backward()
        return loss

    assert float(RiemannianSGD([used, unused], space, lr=0.1).step(closure)) > 0
    assert torch.equal(unused.detach(), before)


@pytest.mark.parametrize("key", ["learning_rate", "momentum", "weight_decay"])
def test_negative_settings_are_named(key):
    values = {"learning_rate": 0.1, "momentum": 0.0, "weight_decay": 0.0, key: -1.0}
    with pytest.raises(ValueError, match=f"{key}=-1.0 is not allowed"):
        RiemannianSGD([torch.zeros(1, 3)], Lorentz(), *values.values())


@given(
    curvature=st.floats(0.1, 4),
    scale=st.floats(1e-3, 1.5),
    seed=st.integers(0, 10_000),
)
def test_log_undoes_exp_and_scores_order_as_distances(curvature, scale, seed):
    space = Lorentz(curvature)
    u, v = tangent(4, seed, scale), tangent(12, seed + 1, scale)
    torch.testing.assert_close(space.log0(space.exp0(u)), u, rtol=1e-7, atol=1e-9)
    scores = space.user_factor(u) @ space.item_factor(v).t()
    x, y = space.exp0(u), space.exp0(v)
    distances = space.sqdist(x[:, None].expand(-1, 12, -1), y[None].expand(4, -1, -1))
    assert torch.equal(space.to_points(u), x)
    assert torch.equal(space.similarity(x[:, None].expand(-1, 12, -1), y.expand(4, -1, -1)), -distances)
    # the score is <x, y> + sqrt(K) x_0, a falling function of the distance for each user
    again = space.k * torch.acosh(((space.scale * x[:, :1] - scores) / space.k).clamp_min(1)).square()
    torch.testing.assert_close(again, distances, rtol=1e-6, atol=1e-7)


def test_small_distances_keep_their_order_in_float32():
    """Near the origin all Minkowski products are close to -1; float32 would tie them."""
    space, origin = Lorentz(), torch.zeros(1, 4)
    items = torch.zeros(50, 4)
    items[:, 1] = torch.linspace(1e-4, 2e-4, 50)
    scores = (space.user_factor(origin) @ space.item_factor(items).t())[0]
    assert len(scores.unique()) == 50
    assert torch.equal(scores.argsort(descending=True), torch.arange(50))
    products = space.inner(space.exp0(origin).expand(50, -1), space.exp0(items))
    assert len(products.unique()) < 50


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_points_and_the_origin_have_finite_gradients(dtype):
    space = Lorentz()
    u = torch.zeros(2, 5, dtype=dtype, requires_grad=True)
    v = torch.ones(2, 5, dtype=dtype, requires_grad=True)
    space.similarity(space.to_points(u), space.to_points(v)).sum().backward()
    space.similarity(space.to_points(v), space.to_points(v.detach().clone())).sum().backward()
    assert torch.isfinite(u.grad).all()
    assert torch.isfinite(v.grad).all()
    points = space.exp0(u.detach()).requires_grad_()
    space.log0(points).sum().backward()
    assert torch.isfinite(points.grad).all()


def test_far_points_stay_finite():
    space = Lorentz()
    far = torch.full((1, 8), 1e4)
    assert torch.isfinite(space.exp0(far)).all()
    assert torch.isfinite(space.exp(space.exp0(torch.zeros(1, 8)), far)).all()


def test_space_of_a_curvature():
    assert space_of(0) is FLAT
    assert space_of(2.0).k == 0.5
    with pytest.raises(ValueError, match="curvature=-1 is not allowed"):
        Lorentz(-1)
