"""``recbole-diffusion models``: the models with paper, task and abilities."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_diffusion.cli.options import parse


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    _, _, flags = parse(words)
    from recbole_diffusion import registry

    for name, spec in sorted(registry.specs().items()):
        paper = f"{spec.paper.title}, {spec.paper.venue}, {spec.paper.url}" if spec.paper else "no paper"
        print(f"{name:12} {spec.task:11} {paper}\n{'':12} {', '.join(spec.abilities)}")
    if "all" in flags:
        theirs = " ".join(registry.recbole_model_names())
        print(f"\nRecBole's own (--model=NAME; with a name of ours: --model=recbole:NAME):\n  {theirs}")
    return 0
