"""The clustered auto-encoder on sparse rows, and the loss that needs the logits only once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from recbole_diffusion.model.rows.autoencoder import ClusterAutoencoder, encoder_sizes, multinomial_loss
from recbole_diffusion.model.rows.history import SparseRows


def autoencoder(labels, in_dims=(6,), out_dims=(), dropout=0.0):
    torch.manual_seed(1)
    return ClusterAutoencoder(torch.tensor(labels), in_dims, out_dims, "tanh", dropout).double()


def rows(n_items, seed=0, n=5):
    draw = torch.Generator().manual_seed(seed)
    dense = torch.rand(n, n_items, generator=draw, dtype=torch.float64)
    dense[dense < 0.6] = 0
    dense[0] = 0  # a user without a row
    return dense


@given(st.lists(st.integers(1, 500), min_size=1, max_size=6), st.lists(st.integers(30, 400), min_size=1, max_size=3))
def test_widths_are_shares_that_add_up(counts, in_dims):
    sizes = encoder_sizes(counts, in_dims)
    assert all(width >= 1 for size in sizes for width in size)
    assert [sum(column) for column in zip(*sizes)] == in_dims  # enough width for every cluster here


def test_more_clusters_than_width_leave_one_for_each():
    assert encoder_sizes([5, 5, 5], [2]) == [[1], [1], [1]]


@pytest.mark.parametrize("out_dims", [(), (7,)])
@pytest.mark.parametrize("labels", [[0] * 9, [0, 1, 0, 2, 1, 0, 0, 2, 0], [1] * 8 + [0], [3, 3, 9, 9, 3, 9, 3, 3, 9]])
def test_the_layers_are_the_dense_ones(labels, out_dims):
    """Against plain matrix products over each cluster's columns; labels may have gaps (empty clusters)."""
    model, dense = autoencoder(labels, (6, 8), out_dims).eval(), rows(9)
    encoded = model.encode(SparseRows.of(dense))
    present = sorted(set(labels))
    halves = []
    for encoder, label in zip(model.encoders, present):
        columns = [place for place, each in enumerate(labels) if each == label]
        h = torch.tanh(dense[:, columns] @ encoder.weight + encoder.bias)
        for layer in encoder.layers:
            h = torch.tanh(layer(h))
        halves.append(h.chunk(2, dim=1))
    mu, logvar = (torch.cat(half, dim=1) for half in zip(*halves))
    torch.testing.assert_close(encoded.mu, mu)
    torch.testing.assert_close(encoded.logvar, logvar)
    expected = sum(
        torch.distributions.kl_divergence(
            torch.distributions.Normal(mu, (logvar / 2).exp()), torch.distributions.Normal(0.0, 1.0)
        ).sum(dim=1)
    ) / len(dense)
    torch.testing.assert_close(encoded.kl(), expected)
    order = [place for label in present for place, each in enumerate(labels) if each == label]
    torch.testing.assert_close(encoded.target.dense(), dense[:, order])
    logits = model.decode(mu)
    assert logits.shape == dense.shape
    torch.testing.assert_close(model.by_item(logits)[:, order], logits)
    assert len(model.decoders) == (len(present) if out_dims and len(present) > 1 else 1)


def test_decoders_of_clusters_mirror_their_encoders():
    model = autoencoder([0, 0, 0, 1, 1, 1, 1, 1], in_dims=(4, 8, 16), out_dims=(99,))
    widths = [[layer.in_features for layer in decoder.layers] for decoder in model.decoders]
    assert widths == [[1, 3, 6], [3, 5, 10]]
    assert [decoder.layers[-1].out_features for decoder in model.decoders] == [3, 5]
    assert [tuple(encoder.weight.shape) for encoder in model.encoders] == [(3, 6), (5, 10)]


def test_weights_start_xavier_normal_and_biases_at_zero():
    torch.manual_seed(0)
    model = ClusterAutoencoder(torch.zeros(900, dtype=torch.int64), [300, 400], [200], "tanh", 0.0)
    first, second = model.encoders[0], model.encoders[0].layers[0]
    decoder = model.decoders[0].layers[0]
    for weight in (first.weight, second.weight, decoder.weight):
        assert float(weight.detach().std()) == pytest.approx((2 / sum(weight.shape)) ** 0.5, rel=0.02)
    for bias in (first.bias, second.bias, decoder.bias):
        assert not bias.any()


@given(st.integers(0, 99), st.booleans())
def test_multinomial_loss_and_its_gradient(seed, weighted):
    dense = rows(11, seed)
    dense = dense if weighted else (dense > 0).double()
    logits = torch.randn(5, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    one, two = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = multinomial_loss(one, SparseRows.of(dense))
    expected = -(F.log_softmax(two, dim=1) * dense).sum(dim=1).mean()
    torch.testing.assert_close(loss, expected)
    (3 * loss).backward()
    (3 * expected).backward()
    torch.testing.assert_close(one.grad, two.grad)


def test_every_gradient_is_that_of_the_dense_computation():
    model, dense = autoencoder([0, 1, 0, 2, 1, 0, 0, 2, 0]), rows(9)

    def gradients(loss):
        found = model.encode(SparseRows.of(dense))
        (loss(model.decode(found.mu), found.target) + found.kl()).backward()
        gradients = [each.grad.clone() for each in model.parameters()]
        model.zero_grad()
        return gradients

    plain = gradients(lambda logits, target: -(F.log_softmax(logits, 1) * target.dense()).sum(1).mean())
    for ours, theirs in zip(gradients(multinomial_loss), plain):
        torch.testing.assert_close(ours, theirs)


def test_a_second_backward_of_the_loss_is_an_error_and_not_a_wrong_gradient():
    logits = torch.randn(5, 9, requires_grad=True)
    loss = multinomial_loss(logits, SparseRows.of(rows(9).float()))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_dropout_acts_on_the_users_items_and_on_the_target_alike():
    model = autoencoder([0] * 2000, dropout=0.25).train()
    found = model.encode(SparseRows.of(torch.ones(1, 2000, dtype=torch.float64)))
    values = found.target.values
    torch.testing.assert_close(torch.unique(values), torch.tensor([0.0, 1 / 0.75], dtype=torch.float64))
    assert 0.2 < float((values == 0).double().mean()) < 0.3
    mu = torch.tanh(values @ model.encoders[0].weight + model.encoders[0].bias)[:6]
    torch.testing.assert_close(found.mu[0], mu)
    assert (model.eval().encode(SparseRows.of(torch.ones(1, 2000, dtype=torch.float64))).target.values == 1).all()


def test_weights_of_another_clustering_bring_their_own():
    one, two = autoencoder([0, 1, 0, 2, 1, 0, 0, 2, 0]).eval(), autoencoder([0, 1, 1, 1, 1, 0, 0, 0, 0]).eval()
    state = {key: value.clone() for key, value in one.state_dict().items()}
    two.load_state_dict(state)
    found = SparseRows.of(rows(9))
    expected = one.by_item(one.decode(one.encode(found).mu))
    torch.testing.assert_close(two.by_item(two.decode(two.encode(found).mu)), expected)
    assert two.counts == one.counts


def test_weights_of_other_items_are_refused():
    state = autoencoder([0, 1, 0]).state_dict()
    with pytest.raises(RuntimeError, match="size mismatch"):
        autoencoder([0, 1, 0, 1]).load_state_dict(state)
