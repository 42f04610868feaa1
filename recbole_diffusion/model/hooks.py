"""Hooks: the methods of a model that training, evaluation and reports call in addition to RecBole's own.

A model overrides the hooks that it needs; :class:`Hooks` documents them and holds the defaults. For models that do not
inherit from :class:`Hooks`, e.g. RecBole's, :func:`of` adds the default of every hook that they do not define.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator
from typing import Any, Callable, Optional

import numpy as np
import torch
from torch import Tensor, nn

from recbole_diffusion.model.geometry.space import FLAT, Space
from recbole_diffusion.model.histories import Histories

#: Returns the (user, item) pairs of the validation split, int64 (n, 2); None if the evaluation mode does not know them.
ValidPairs = Callable[[], Optional[np.ndarray]]


class Hooks:
    """Mixin with every hook and its default.

    Attributes:
        space: geometry in which the embeddings of users and items are scored: flat (inner products) or hyperbolic.
    """

    space: Space = FLAT

    def make_optimizer(self, learning_rate: float, weight_decay: float) -> Optional[torch.optim.Optimizer]:
        """Make the model's optimiser; None: use the optimiser of the key ``learner``."""
        return None

    def parameter_groups(self) -> Optional[list[dict[str, Any]]]:
        """Return parameter groups for the optimiser of ``learner``, e.g. with different learning rates.

        None: all parameters in one group.
        """
        return None

    @property
    def loss_reduction(self) -> str:
        """Reduction of ``calculate_loss`` over the rows of a batch: ``mean`` or ``sum``.

        Distributed training averages the gradients of a mean and adds those of a sum. ``averaged`` (bool) is an older
        name.
        """
        return "mean" if getattr(self, "averaged", True) else "sum"

    def networks(self) -> list[nn.Module]:
        """Return the networks that the key ``compile`` compiles: modules whose forward passes take the time."""
        return []

    def step_is_capturable(self, batch_size: int) -> Optional[bool]:
        """Return whether a training step can be captured as a CUDA graph; for the key ``cuda_graphs``.

        It can if ``calculate_loss`` reads nothing but the batch, parameters and buffers, draws from torch's global
        generator on the device alone, changes buffers in place, and never waits for a value.

        Args:
            batch_size: rows of the batch.

        Returns:
            True: it can; False: not yet; None: never.
        """
        return None

    def end_epoch(self) -> None:
        """Called after each epoch of training, before validation."""

    def begin_evaluation(self, phase: Optional[str], valid_pairs: ValidPairs) -> None:
        """Called before each evaluation.

        Args:
            phase: ``valid`` or ``test``; None if the loader does not tell.
            valid_pairs: returns the interactions of the validation split.
        """

    @classmethod
    def from_state(cls, config: Any, dataset: Any, state: dict[str, Tensor]) -> Any:
        """Build the model for the weights of a checkpoint, which the caller loads.

        Override it if parameter shapes depend on a pretrained model or on random draws: it then takes them from
        ``state`` instead of computing them again.
        """
        return cls(config, dataset)  # type: ignore[call-arg]

    @property
    def nfe(self) -> Optional[int]:
        """Number of function evaluations: network calls to rank the items for one user; None if it varies.

        ``denoiser_calls`` is an older name.
        """
        calls = getattr(self, "denoiser_calls", 1)
        return None if calls is None else int(calls)

    @property
    def draws_noise(self) -> bool:
        """Whether the scores depend on noise that is drawn at inference."""
        return False

    def seed_inference(self, seed: int) -> None:
        """Set the seed of the noise at inference; the key ``eval_seed`` sets it first."""

    def score_histories(self, histories: Histories) -> Optional[Tensor]:
        """Score all items for users who are given by their items, (B, n_items); the padding item is -inf.

        The scores of a user of the training equal those of ``full_sort_predict`` if the history is the user's own.

        Args:
            histories: on the CPU.

        Returns:
            The scores; None: the model can score only users of its training.
        """
        return None

    def target_state(self, interaction: Any, items: Tensor) -> Optional[Tensor]:
        """Return the clean state x_0 that the reverse process would generate for held-out items, (B, ...).

        For interventions at inference, see :mod:`recbole_diffusion.model.interventions`.

        Args:
            interaction: a batch as ``full_sort_predict`` takes it.
            items: the held-out items of each row, int64 (B, m), filled up with 0.

        Returns:
            The states, in the order in which the reverse process holds the rows; None: the model does not say.
        """
        return None

    def project(self) -> None:
        """Project parameters onto their manifold, after an epoch of an optimiser that does not know it."""


NAMES = tuple(name for name in vars(Hooks) if not name.startswith("_"))
#: Older names of hooks.
ALIASES = ("averaged", "denoiser_calls")
#: Hooks of other libraries that a model may define by mistake, with our names.
_FOREIGN_HOOKS = {"configure_optimizers": "make_optimizer", "configure_optimizer": "make_optimizer"}
#: Words ignored and words equated when a name is compared with the hooks.
_FILLERS = {"on", "the", "train", "training"}
_SYNONYMS = {"start": "begin", "before": "begin", "after": "end", "finish": "end", "eval": "evaluation"}
#: Packages whose classes are not searched for misspelt hooks.
_LIBRARIES = ("recbole", "torch", "builtins", "typing", "abc")
#: Shorter names are compared word by word only: ``space`` resembles many words.
_MIN_LENGTH = 9
_MIN_SIMILARITY = 0.85


class _WithDefaults:
    """Wrapper that adds the default hooks to a model that does not inherit from :class:`Hooks`."""

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
    """Return the hooks of any model: those it defines, and the defaults of the others."""
    return model if isinstance(model, Hooks) else _WithDefaults(model)  # type: ignore[return-value]


def averages(model: Any) -> bool:
    """Return whether the model's loss is a mean over the rows of a batch.

    Raises:
        ValueError: ``loss_reduction`` is neither ``mean`` nor ``sum``.
    """
    reduction = of(model).loss_reduction
    if reduction not in ("mean", "sum"):
        raise ValueError(f"{type(model).__name__}.loss_reduction={reduction!r} is not allowed; allowed: mean, sum")
    return reduction == "mean"


def build(model_class: type, config: Any, dataset: Any, state: Optional[dict[str, Tensor]] = None) -> Any:
    """Build a model.

    Args:
        model_class: the class of the model.
        config: the settings.
        dataset: the train data set.
        state: weights of a checkpoint for which the model is built; the caller loads them.

    Raises:
        ValueError: the class has a misspelt hook, see :func:`check`.
    """
    check(model_class)
    from_state = getattr(model_class, "from_state", None)
    if state and from_state is not None:
        return from_state(config, dataset, state)
    return model_class(config, dataset)


def check(model_class: type) -> None:
    """Reject a class with a misspelt hook, which would never be called.

    Raises:
        ValueError: one line with the class, the name and the closest hook.
    """
    for owner, name in _public_names(model_class):
        hook = None if name in (*NAMES, *ALIASES) else _closest_hook(name)
        if hook is not None:
            raise ValueError(
                f"{owner.__name__}.{name} looks like the hook {hook} and is none: it would never be called; "
                f"rename it to {hook}, or to something else (the hooks: {', '.join(NAMES)})"
            )


def _public_names(model_class: type) -> Iterator[tuple[type, str]]:
    """Public attributes of a model's classes, without those of libraries; pairs (class, name)."""
    for owner in model_class.__mro__:
        if owner.__module__.partition(".")[0] not in _LIBRARIES and owner is not Hooks:
            yield from ((owner, name) for name in vars(owner) if not name.startswith("_"))


def _closest_hook(name: str) -> Optional[str]:
    """Hook with the same words as ``name`` or a similar spelling; None if no hook resembles it."""
    words = _words(name)
    closest = next((hook for hook in (*NAMES, *ALIASES) if _words(hook) == words), None)
    if closest is None and len(name) >= _MIN_LENGTH:
        long_hooks = [hook for hook in (*NAMES, *ALIASES) if len(hook) >= _MIN_LENGTH]
        closest = next(iter(difflib.get_close_matches(name, long_hooks, n=1, cutoff=_MIN_SIMILARITY)), None)
    return _FOREIGN_HOOKS.get(name) or closest


def _words(name: str) -> frozenset[str]:
    """Set of the words of a name, without fillers and plurals."""
    words = (_SYNONYMS.get(word, word) for word in name.lower().split("_") if word not in _FILLERS)
    return frozenset(word.rstrip("s") for word in words)
