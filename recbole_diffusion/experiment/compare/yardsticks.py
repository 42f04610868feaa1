"""Yardsticks: models without training that a comparison of diffusion models should have beside them."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_diffusion import registry

#: For models of interactions, and for models of sequences.
GENERAL = ("Pop", "ItemKNN", "EASE")
SEQUENTIAL = ("Pop", "Transitions")
#: On the base model of a model on embeddings.
OF_BASE = "ItemMean"


def add(words: Sequence[str]) -> list[str]:
    """Return the models of a comparison with the yardsticks that suit them, each once.

    Args:
        words: models such as ``DDRM:BPR``, see :func:`.model_entries.parse_entries`.
    """
    all_words = [word.strip() for word in words if word.strip()]
    for word in list(all_words):
        all_words += [name for name in _of(word) if name not in all_words]
    return all_words


def _of(word: str) -> list[str]:
    """The yardsticks of one model."""
    name = word.partition("@")[0]
    model, _, base = ("", "", "") if name.startswith("recbole:") else name.partition(":")
    spec = registry.find_spec(model) if model else None
    if spec is None:
        return _of_recboles(name.partition(":")[2] or name)
    if spec.task == "sequential":
        return [*SEQUENTIAL]
    own = [f"{OF_BASE}:{base}" if base else OF_BASE] if "base_model" in spec.needs else []
    return [*GENERAL, *own]


def _of_recboles(model: str) -> list[str]:
    """The yardsticks of a model of RecBole, or of a class."""
    from recbole.utils import ModelType

    try:
        is_sequential = getattr(registry.get_model(model), "type", None) == ModelType.SEQUENTIAL
    except ValueError:  # the comparison names it
        return []
    return [*(SEQUENTIAL if is_sequential else GENERAL)]
