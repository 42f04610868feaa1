"""The training input that a model's loss needs beside the interactions: sampled negative items, or labels.

RecBole decides by ``input_type``, ``loss_type`` and ``train_neg_sample_args``. If the loss does not get its input, the
training ends in a KeyError (``neg_item_id``, ``label``) at the first batch.
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
#: Kinds of models that are not trained on batches with negatives.
_WITHOUT_NEGATIVES = (ModelType.TRADITIONAL, ModelType.DECISIONTREE)


@functools.lru_cache(maxsize=256)
def input_read_by_loss(model_class: type) -> Optional[str]:
    """The input that the source of the model's loss mentions.

    Returns:
        ``negatives``, ``labels``, or None for neither and for a model without source.
    """
    source = "".join(map(_source, _own_classes(model_class)))
    if _READS_NEGATIVES.search(source):
        return "negatives"
    return "labels" if _READS_LABELS.search(source) else None


def _own_classes(model_class: type) -> list[type]:
    """The class and its bases, without RecBole's abstract classes, which mention every field."""
    excluded = ("recbole.model.abstract_recommender", "torch.", "builtins", "abc", "typing")
    return [base for base in model_class.__mro__ if not base.__module__.startswith(excluded)]


def _source(model_class: type) -> str:
    try:
        return inspect.getsource(model_class)
    except (OSError, TypeError):  # defined in an interactive session
        return ""


def samples_negatives(settings: dict[str, Any]) -> bool:
    """Whether negative items are sampled for training."""
    arguments = settings.get("train_neg_sample_args")
    return isinstance(arguments, dict) and arguments.get("distribution") not in (None, "None", "none")


def ignores_negatives(model_class: type, settings: dict[str, Any]) -> bool:
    """Whether training reads no negatives, whatever the value of ``train_neg_sample_args``."""
    return registry.is_user_wise(model_class) or settings["MODEL_TYPE"] in _WITHOUT_NEGATIVES


def required_input(model_class: type, settings: dict[str, Any]) -> Optional[str]:
    """The input that training needs: ``negatives``, ``labels``, or None.

    It is None for the models of this package, which check it themselves, since some sample their own triples.

    Args:
        model_class: the model.
        settings: the effective settings, with ``MODEL_TYPE`` and ``MODEL_INPUT_TYPE``.
    """
    kind, input_type = settings["MODEL_TYPE"], settings.get("MODEL_INPUT_TYPE")
    if kind == ModelType.DECISIONTREE:
        return "labels"
    if model_class.__module__.startswith("recbole_diffusion."):
        return None
    if ignores_negatives(model_class, settings) or (kind == ModelType.SEQUENTIAL and settings.get("loss_type") == "CE"):
        return None
    if kind == ModelType.KNOWLEDGE:  # its loader samples negatives of the graph too
        return "negatives"
    name = input_read_by_loss(model_class)
    type_of_input = {"negatives": InputType.PAIRWISE, "labels": InputType.POINTWISE}
    return name if input_type == type_of_input.get(str(name)) else None
