"""Naming of the user's settings in errors of RecBole, torch and numpy, whose messages name none.

Rules refuse what is known not to work before anything is read. What only a library notices, such as a width that the
number of heads does not divide or a table that does not fit into memory, is reported with the settings that the user
gave and that differ from the defaults.
"""

from __future__ import annotations

import contextlib
import math
import re
import sys
from collections.abc import Iterator
from typing import Any, Callable

from recbole_diffusion.settings import scopes
from recbole_diffusion.settings.config import Config
from recbole_diffusion.settings.scopes import Scope

#: The most settings that a message names.
_MOST = 6
_MEMORY = re.compile(
    r"can't allocate|out of memory|not enough memory|unable to allocate|storage size calculation overflow"
    r"|overflow when unpacking|array is too big|maximum supported dimension|invalid buffer size|cannot allocate memory",
    re.IGNORECASE,
)
#: Settings of the run that the size of a model or of its batches depends on.
_SIZES = frozenset({"MAX_ITEM_LIST_LENGTH", "train_batch_size", "eval_batch_size", "eval_users_per_batch"})
#: What RecBole and this package say of numbers that overflowed.
_DIVERGED = re.compile(r"loss is nan|scores that are not finite")
#: Settings beside the model's own that a training diverges by.
_OF_STEPS = frozenset(
    {"learner", "learning_rate", "weight_decay", "clip_grad_norm", "train_batch_size", "enable_amp", "enable_scaler"}
    | {"amp_dtype", "lr_decay_step", "lr_decay_gamma", "lr_cosine_epochs", "train_neg_sample_args"}
)
#: Settings that a model may bring and that the data are prepared by.
_OF_DATA = frozenset({"train_neg_sample_args", "MAX_ITEM_LIST_LENGTH"})
#: Settings that the data are prepared without.
_NOT_OF_DATA = (_OF_STEPS - _OF_DATA) | frozenset(
    {"epochs", "eval_step", "stopping_step", "topk", "metrics", "metric_decimal_place", "valid_metric"}
)


def is_memory_error(error: BaseException) -> bool:
    """Whether an allocation failed, on the CPU or on a device."""
    return isinstance(error, MemoryError) or (
        isinstance(error, (RuntimeError, TypeError, ValueError)) and bool(_MEMORY.search(str(error)))
    )


@contextlib.contextmanager
def named_in_building(config: Config) -> Iterator[None]:
    """Name the model's settings in errors of its construction.

    Raises:
        ValueError: in place of an error that names none of the settings; one line.
    """
    passed = (OSError, ImportError, NameError)  # of a file, a library or the model's code
    with _named(config, lambda key: _is_of_model(config, key), f"{config['model']} cannot be built", passed):
        yield


@contextlib.contextmanager
def named_in_loading(config: Config) -> Iterator[None]:
    """Name the settings of the data in errors of their preparation, other than messages of this package.

    Raises:
        ValueError: in place of an error that names none of the settings; one line.
    """
    text = f"data set {config['dataset']!r} cannot be prepared"
    passed = (ValueError, OSError, NotImplementedError)

    def relevant(key: str) -> bool:
        return key in _OF_DATA or not (key in _NOT_OF_DATA or _is_of_model(config, key))

    with _named(config, relevant, text, passed):
        yield


@contextlib.contextmanager
def named_in_training(config: Config) -> Iterator[None]:
    """Name the settings in errors of memory, and those of the model and of its training where numbers overflowed.

    Raises:
        ValueError: in place of such an error; one line.
    """
    try:
        yield
    except Exception as error:
        what = f"{config['model']} cannot be trained"
        diverged = isinstance(error, OverflowError) or bool(_DIVERGED.search(str(error)))
        if not diverged and not is_memory_error(error):
            raise
        explained = _explained(
            config, error, lambda key: not diverged or key in _OF_STEPS or _is_of_model(config, key), what
        )
        if explained is error:
            raise
        raise explained from error


@contextlib.contextmanager
def _named(config: Config, relevant: Callable[[str], bool], what: str, passed: tuple[type, ...] = ()) -> Iterator[None]:
    """Name relevant settings in any error but those of the types ``passed`` and those that name one already."""
    try:
        yield
    except Exception as error:
        memory = is_memory_error(error)
        if not memory and (isinstance(error, passed) or _is_a_bug(config, error) or _names_one(config, str(error))):
            raise
        explained = _explained(config, error, relevant, what)
        if explained is error:
            raise
        raise explained from error


def _explained(config: Config, error: Exception, relevant: Callable[[str], bool], what: str) -> Exception:
    """The error with the user's settings; the error itself if the user gave none that differs from its default."""
    memory = is_memory_error(error)
    settings = _given(config, lambda key: relevant(key) or (memory and key in _SIZES), with_defaults=memory)
    rank = _largest if memory else _extremeness
    settings = dict(sorted(settings.items(), key=lambda entry: -rank(entry[1])))  # the first are the likeliest reason
    if not settings and not memory:
        return error
    listed = ", ".join(f"{key}={_short(value)}" for key, value in [*settings.items()][:_MOST])
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    if memory:
        asked = re.search(r"(?i)tried to allocate ([\d.]+ ?\w+)|unable to allocate ([\d.]+ \w+)", str(error))
        reason = "out of memory" + (f" (tried to allocate {asked[1] or asked[2]})" if asked else "")
    return ValueError(f"{what}{f' with {listed}' if listed else ''}: {reason}")


def _given(config: Config, relevant: Callable[[str], bool], with_defaults: bool) -> dict[str, Any]:
    """The user's settings, without those of what is shown; ``with_defaults`` also those that are at their defaults."""
    defaults, left_out = config.internal_config_dict, {"model", "dataset"} | scopes.keys(Scope.SHOWN)
    given = {key: value for key, value in config.external_config_dict.items() if key not in left_out}
    return {
        key: value for key, value in given.items() if relevant(key) and (with_defaults or value != defaults.get(key))
    }


def _is_of_model(config: Config, key: str) -> bool:
    return config.key_origin(key) == "model"


def _is_a_bug(config: Config, error: Exception) -> bool:
    """Whether a key is missing that is no value of the user's settings: they have nothing to do with it."""
    values = [str(value) for value in config.external_config_dict.values()]
    return isinstance(error, KeyError) and not any(str(key) in values for key in error.args)


def _names_one(config: Config, text: str) -> bool:
    """Whether a message names one of the user's settings."""
    return any(re.search(rf"(?<!\w){re.escape(key)}(?!\w)", text) for key in config.external_config_dict)


def _numbers(value: Any) -> Iterator[float]:
    """The numbers in a value, whole ones and those of lists and mappings included; booleans are none."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for entry in value:
            yield from _numbers(entry)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def _largest(value: Any) -> float:
    """The largest absolute number in a value; 0 if it holds none."""
    return max((float(min(abs(number), sys.float_info.max)) for number in _numbers(value)), default=0.0)


def _extremeness(value: Any) -> float:
    """How far the numbers in a value are from 1, in powers of ten; 0 and negative ones as 1e-3; 0 if it holds none."""
    return max((abs(math.log10(n)) if 0 < n < math.inf else 3.0 for n in _numbers(value)), default=0.0)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
