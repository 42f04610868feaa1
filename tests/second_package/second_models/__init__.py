"""Models for recbole-diffusion."""

from __future__ import annotations

from pathlib import Path

from recbole_diffusion import ModelSpec


def models() -> list[ModelSpec]:
    """Named by the entry point; imports no torch."""
    return [ModelSpec.from_card(file) for file in sorted((Path(__file__).parent / "card").glob("*.yaml"))]
