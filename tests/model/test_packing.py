"""Packed sequences, and the Transformer on them beside a plain one written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_diffusion.model.sequences.packing import layout, pack
from recbole_diffusion.model.sequences.transformer import LastItemTransformer, attend

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=20)


def batch(lengths, width=12):
    lengths = torch.tensor(lengths)
    rows = torch.arange(1, len(lengths) * width + 1).view(-1, width)
    return rows * (torch.arange(width) < lengths[:, None]), lengths


@given(LENGTHS, st.booleans())
def test_every_item_is_there_once_and_rows_know_their_last(lengths, whole):
    sequences, lengths = batch(lengths)
    packed = pack(sequences, lengths, whole)
    assert sorted(packed.items[packed.items > 0].tolist()) == sorted(sequences[sequences > 0].tolist())
    last = sequences.gather(1, lengths[:, None] - 1).squeeze(1)
    assert torch.equal(packed.items[packed.last][packed.inverse], last)
    assert torch.equal(packed.items[packed.last], last[packed.order])
    assert torch.equal(packed.items > 0, packed.items_after >= 0)
    assert (packed.items_after[packed.last] == 0).all()
    assert sum(group.n_rows * group.width for group in packed.groups) == len(packed.items)
    if whole:
        assert len(packed.items) == sequences.numel()
    for group in packed.groups:
        inside = packed.items[group.first_token : group.first_token + group.n_rows * group.width]
        inside = inside.view(group.n_rows, group.width)
        assert torch.equal(inside > 0, torch.ones_like(inside > 0) if group.is_item is None else group.is_item)
        assert whole or group.is_item is None or not group.is_item.all()
        if not whole:
            assert (inside > 0).sum(dim=1).min() >= 0.75 * group.width


@given(LENGTHS)
def test_repeat_rows_gives_each_token_its_rows_vector(lengths):
    sequences, lengths = batch(lengths)
    packed = pack(sequences, lengths)
    vectors = torch.arange(float(len(lengths)))[:, None].expand(-1, 3)
    row = (packed.items - 1) // 12
    repeated = packed.repeat_rows(vectors[packed.order])
    assert torch.equal(repeated[packed.items > 0, 0].long(), row[packed.items > 0])


def test_little_is_padded():
    lengths = np.minimum(np.random.default_rng(0).geometric(0.12, 512), 50)
    sequences, lengths = batch(lengths, 50)
    packed = pack(sequences, lengths)
    assert len(packed.items) < 1.2 * int(lengths.sum()) < 0.25 * sequences.numel()
    assert len(packed.groups) < 16


def plain(net, x, real, see_padding):
    """What the packed network computes, row by row: x (L, d), real (L,); the vector at the last real place."""
    for block in net.blocks:
        q, k, v = block.qkv(block.attention_norm(x)).chunk(3, dim=-1)
        mixed = []
        for head in range(block.heads):
            part = slice(head * 4, head * 4 + 4)
            scores = q[:, part] @ k[:, part].T / math.sqrt(4)
            scores = scores.masked_fill(~real[:, None], -1e9) if see_padding else scores.masked_fill(~real, -torch.inf)
            mixed.append(scores.softmax(dim=1) @ v[:, part])
        x = x + block.out(torch.cat(mixed, dim=1))
        hidden = block.widen(block.feed_norm(x))
        gelu = 0.5 * hidden * (1 + torch.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
        x = x + block.narrow(gelu)
    return net.norm(x[int(real.sum()) - 1])


@pytest.mark.parametrize(("see_padding", "keep_padding"), [(True, True), (False, False), (False, True)])
@pytest.mark.parametrize("layers", [1, 3])
def test_packed_rows_equal_rows_one_by_one(see_padding, keep_padding, layers):
    torch.manual_seed(0)
    net = LastItemTransformer(8, layers, 2, 0.3, see_padding).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    sequences, lengths = batch([3, 1, 12, 7, 12, 2, 5])
    table = torch.randn(int(sequences.max()) + 1, 8)
    packed = pack(sequences, lengths, keep_padding=keep_padding)
    found = net(table[packed.items], packed)[packed.inverse]
    expected = torch.stack([plain(net, table[row], row > 0, see_padding) for row in sequences])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_written_out_attention_is_torchs(p, monkeypatch):
    """Where torch has no fused attention, or draws its dropout slowly, the same law."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, 2, 4, 5) for _ in range(3))
    seen = torch.rand(3, 1, 4, 4) > 0.3
    seen[..., 0] = True
    expected = attend(q, k, v, seen)
    if p:
        found = torch.stack([attend(q, k, v, seen, p) for _ in range(3000)]).mean(dim=0)
        torch.testing.assert_close(found, expected, rtol=0, atol=0.12)
    else:
        monkeypatch.delattr("torch.nn.functional.scaled_dot_product_attention", raising=False)
        torch.testing.assert_close(attend(q, k, v, seen), expected)


def test_dropout_reaches_every_place_in_training():
    torch.manual_seed(0)
    net = LastItemTransformer(8, 1, 2, 0.5, False)
    sequences, lengths = batch([4, 4])
    packed, x = pack(sequences, lengths), torch.randn(8, 8)
    drawn = torch.stack([net(x, packed) for _ in range(8)])
    assert drawn.std(dim=0).min() > 0
    net.eval()
    assert torch.equal(net(x, packed), net(x, packed))


@pytest.mark.parametrize(
    ("key", "device", "training", "compiled", "expected"),
    [
        ("auto", "cpu", True, False, "packed"),
        ("auto", "cpu", True, True, "padded"),
        ("auto", "cuda", True, False, "padded"),
        ("auto", "cuda", False, False, "packed"),  # a GPU ranks packed sequences in half of the time
        ("auto", "cuda", False, True, "padded"),
        ("packed", "cuda", True, False, "packed"),
        ("padded", "cpu", False, False, "padded"),
    ],
)
def test_layout_of_batches(key, device, training, compiled, expected):
    assert layout(key, torch.device(device), training, compiled) == expected
