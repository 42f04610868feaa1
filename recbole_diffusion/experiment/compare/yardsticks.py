"""Yardsticks: models without training that a comparison of diffusion models should have beside them.

RecBole's are :data:`recbole_diffusion.registry.YARDSTICKS_IN_RECBOLE`; the cards of ours say that they are some.
"""

from __future__ import annotations

from collections.abc import Sequence

from recbole_diffusion import registry


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
    on_base = _on_a_base() if "base_model" in spec.needs else []
    return [*_for(spec.task), *(f"{yardstick}:{base}" if base else yardstick for yardstick in on_base)]


def _of_recboles(model: str) -> list[str]:
    """The yardsticks of a model of RecBole, or of a class."""
    from recbole.utils import ModelType

    try:
        is_sequential = getattr(registry.get_model(model), "type", None) == ModelType.SEQUENTIAL
    except ValueError:  # the comparison names it
        return []
    return _for("sequential" if is_sequential else "general")


def _for(task: str) -> list[str]:
    """The yardsticks of a task, without those on a base model; of RecBole's only Pop ranks for sequences too."""
    recboles = registry.YARDSTICKS_IN_RECBOLE if task == "general" else ("Pop",)
    return [*recboles, *(spec.name for spec in registry.yardsticks(task) if "base_model" not in spec.needs)]


def _on_a_base() -> list[str]:
    """The yardsticks on the base model of a model on embeddings."""
    return [spec.name for spec in registry.yardsticks("general") if "base_model" in spec.needs]
