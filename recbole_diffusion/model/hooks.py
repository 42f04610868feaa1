"""The hooks: everything that training, evaluation and reports ask of a model beyond RecBole's own methods.

A model overrides the hooks that it needs; :class:`Hooks` documents them and holds the defaults. RecBole's models, and
models of other packages that do not inherit from :class:`Hooks`, have the defaults for what they do not define.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator
from typing import Any, Callable, Optional

import numpy as np
import torch
from torch import Tensor

from recbole_diffusion.model.geometry.space import FLAT, Space

#: Gives (user, item) of the validation split, int64 (n, 2); None where the evaluation mode does not know it.
ValidPairs = Callable[[], Optional[np.ndarray]]


class Hooks:
    """Mixin with every hook and its default.

    Attributes:
        space: where the embeddings of users and items are scored: flat (inner products) or hyperbolic.
    """

    space: Space = FLAT

    def make_optimizer(self, learning_rate: float, weight_decay: float) -> Optional[torch.optim.Optimizer]:
        """Make an optimiser of the model's own; None: the one that the key ``learner`` names."""
        return None

    def parameter_groups(self) -> Optional[list[dict[str, Any]]]:
        """Parameter groups for that optimiser, for learning rates of their own; None: all parameters in one group."""
        return None

    @property
    def loss_reduction(self) -> str:
        """``mean`` or ``sum``: how ``calculate_loss`` reduces over the rows of a batch.

        Several processes average the gradients of a mean and add those of a sum. ``averaged`` (bool) is an older name.
        """
        return "mean" if getattr(self, "averaged", True) else "sum"

    def end_epoch(self) -> None:
        """Called after each epoch of training, before validation."""

    def begin_evaluation(self, phase: Optional[str], valid_pairs: ValidPairs) -> None:
        """Called before each evaluation.

        Args:
            phase: ``valid`` or ``test``; None where the loader does not say.
            valid_pairs: gives the validation split's interactions.
        """

    @classmethod
    def from_state(cls, config: Any, dataset: Any, state: dict[str, Tensor]) -> Any:
        """Build the model for a checkpoint's weights; for shapes that follow from something trained or drawn."""
        return cls(config, dataset)  # type: ignore[call-arg]

    @property
    def nfe(self) -> Optional[int]:
        """Number of function evaluations: network calls to rank the items for one user; None if it varies.

        ``denoiser_calls`` is an older name.
        """
        calls = getattr(self, "denoiser_calls", 1)
        return None if calls is None else int(calls)

    def project(self) -> None:
        """Put parameters back on their manifold, after an epoch of an optimiser that does not know it."""


NAMES = tuple(name for name in vars(Hooks) if not name.startswith("_"))
#: Older names of hooks.
ALIASES = ("averaged", "denoiser_calls")
#: Hooks of other libraries that a model may be written for by mistake, with ours.
_ELSEWHERE = {"configure_optimizers": "make_optimizer", "configure_optimizer": "make_optimizer"}
#: Words that a hook's name may have more or otherwise than ours.
_FILLERS = {"on", "the", "train", "training"}
_SYNONYMS = {"start": "begin", "before": "begin", "after": "end", "finish": "end", "eval": "evaluation"}
#: Packages whose classes are not searched for misspelt hooks.
_OF_LIBRARIES = ("recbole", "torch", "builtins", "typing", "abc")
#: Names that are shorter than this are compared whole: ``space`` is near to many words.
_SHORTEST = 9
_NEAR = 0.85


class _Asked:
    """A model that does not inherit from :class:`Hooks`, seen as if it did."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self._model, name)
        except AttributeError:
            default = getattr(Hooks, name)
        if isinstance(default, property):
            return default.fget(self._model)  # type: ignore[misc]
        return functools.partial(default, self._model) if callable(default) else default


def of(model: Any) -> Hooks:
    """The hooks of a model: its own, and the defaults of those that it does not have."""
    return model if isinstance(model, Hooks) else _Asked(model)  # type: ignore[return-value]


def averages(model: Any) -> bool:
    """Whether the model's loss is a mean over the rows of a batch.

    Raises:
        ValueError: ``loss_reduction`` is neither ``mean`` nor ``sum``.
    """
    reduction = of(model).loss_reduction
    if reduction not in ("mean", "sum"):
        raise ValueError(f"{type(model).__name__}.loss_reduction={reduction!r} is not allowed; allowed: mean, sum")
    return reduction == "mean"


def build(model_class: type, config: Any, dataset: Any, state: Optional[dict[str, Tensor]] = None) -> Any:
    """Build a model; with ``state`` for a checkpoint's weights, which the caller loads.

    Raises:
        ValueError: the class has a misspelt hook, see :func:`check`.
    """
    check(model_class)
    from_state = getattr(model_class, "from_state", None)
    if state and from_state is not None:
        return from_state(config, dataset, state)
    return model_class(config, dataset)


def check(model_class: type) -> None:
    """Refuse a method that looks like a hook and is none; it would never be called.

    Raises:
        ValueError: one line with the class, the name and the nearest hook.
    """
    for owner, name in _own_names(model_class):
        near = None if name in (*NAMES, *ALIASES) else _near_hook(name)
        if near is not None:
            raise ValueError(
                f"{owner.__name__}.{name} looks like the hook {near} and is none: it would never be called; "
                f"rename it to {near}, or to something else (the hooks: {', '.join(NAMES)})"
            )


def _own_names(model_class: type) -> Iterator[tuple[type, str]]:
    """Public methods, properties and class attributes of the classes that are no library's."""
    for owner in model_class.__mro__:
        if owner.__module__.partition(".")[0] not in _OF_LIBRARIES and owner is not Hooks:
            yield from ((owner, name) for name in vars(owner) if not name.startswith("_"))


def _near_hook(name: str) -> Optional[str]:
    words = _words(name)
    same = next((hook for hook in (*NAMES, *ALIASES) if _words(hook) == words), None)
    if same is None and len(name) >= _SHORTEST:
        long_enough = [hook for hook in (*NAMES, *ALIASES) if len(hook) >= _SHORTEST]
        same = next(iter(difflib.get_close_matches(name, long_enough, n=1, cutoff=_NEAR)), None)
    return _ELSEWHERE.get(name) or same


def _words(name: str) -> frozenset[str]:
    """The words of a name without fillers and plurals, whatever their order."""
    words = (_SYNONYMS.get(word, word) for word in name.lower().split("_") if word not in _FILLERS)
    return frozenset(word.rstrip("s") for word in words)
