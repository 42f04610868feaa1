"""Merges of mappings in yaml."""

import pytest

from recbole_diffusion.support.yaml_files import parse


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("a: &a {x: 1}\nb:\n  <<: [*a, {x: 2, z: 3}]\n  q: 1", {"a": {"x": 1}, "b": {"x": 1, "z": 3, "q": 1}}),
        ("a: {<<: {<<: {x: 1}, y: 2}, y: 3}", {"a": {"x": 1, "y": 3}}),
        ("a: &a {<<: *a, x: 1}", {"a": {"x": 1}}),
        ("a: &a {<<: &b {<<: *a, y: 1}, x: 1}", {"a": {"x": 1, "y": 1}}),  # two that merge each other
    ],
)
def test_merged_mappings(text, content):
    assert parse(text) == content
