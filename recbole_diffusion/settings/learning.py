"""What a model learns from, besides the rows: sampled negative items, or labels.

RecBole decides by ``input_type``, ``loss_type`` and ``train_neg_sample_args``, and a model that does not get what its
loss reads ends in a KeyError (``neg_item_id``, ``label``) at the first batch.
"""

from __future__ import annotations

import functools
import inspect
import re
from typing import Any, Optional

from recbole.utils import InputType, ModelType

from recbole_diffusion import registry

_READS_NEGATIVES = re.compile(r"\bself\.NEG_ITEM_ID\b|\bneg_item_id\b")
_READS_LABELS = re.compile(r"\bself\.LABEL(?:_FIELD)?\b")
#: Kinds that are not trained by batches with negatives.
_WITHOUT = (ModelType.TRADITIONAL, ModelType.DECISIONTREE)


@functools.lru_cache(maxsize=256)
def input_read_by_loss(model_class: type) -> Optional[str]:
    """``negatives`` or ``labels`` if the model's loss reads them, by its source; None for neither or no source."""
    source = "".join(map(_source, _own_classes(model_class)))
    if _READS_NEGATIVES.search(source):
        return "negatives"
    return "labels" if _READS_LABELS.search(source) else None


def _own_classes(model_class: type) -> list[type]:
    """The class and its bases, without RecBole's abstract ones, which name every field."""
    outside = ("recbole.model.abstract_recommender", "torch.", "builtins", "abc", "typing")
    return [each for each in model_class.__mro__ if not each.__module__.startswith(outside)]


def _source(model_class: type) -> str:
    try:
        return inspect.getsource(model_class)
    except (OSError, TypeError):  # made in a session
        return ""


def samples_negatives(settings: dict[str, Any]) -> bool:
    """Whether negatives are drawn for training."""
    arguments = settings.get("train_neg_sample_args")
    return isinstance(arguments, dict) and arguments.get("distribution") not in (None, "None", "none")


def ignores_negatives(model_class: type, settings: dict[str, Any]) -> bool:
    """Whether training reads no negatives, whatever ``train_neg_sample_args`` says."""
    return registry.is_user_wise(model_class) or settings["MODEL_TYPE"] in _WITHOUT


def required_input(model_class: type, settings: dict[str, Any]) -> Optional[str]:
    """What the training has to get: ``negatives``, ``labels`` or None.

    Our models that can draw their own triples check it themselves.

    Args:
        model_class: the model.
        settings: the effective ones, with ``MODEL_TYPE`` and ``MODEL_INPUT_TYPE``.
    """
    kind, form = settings["MODEL_TYPE"], settings.get("MODEL_INPUT_TYPE")
    if kind == ModelType.DECISIONTREE:
        return "labels"
    if model_class.__module__.startswith("recbole_diffusion."):
        return None
    if ignores_negatives(model_class, settings) or (kind == ModelType.SEQUENTIAL and settings.get("loss_type") == "CE"):
        return None
    if kind == ModelType.KNOWLEDGE:  # its loader draws negatives of the graph too
        return "negatives"
    read = input_read_by_loss(model_class)
    return read if form == {"negatives": InputType.PAIRWISE, "labels": InputType.POINTWISE}.get(str(read)) else None
