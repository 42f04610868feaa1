"""The options of the commands, and words that misspell them, which would be taken for settings without effect."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Optional

FLAGS = {"dry-run", "trust-checkpoint", "no-save", "debug", "help", "all", "csv", "check", "write"}
#: RecBole's words for several processes, which ``run`` takes out of the settings.
OF_THE_GROUP = ("nproc", "world_size", "ip", "port", "group_offset")
_WHERE = ("workers", "address", "threads", "gpus", "folder", "resume", "config_files", "dataset", "seeds")
OPTIONS: dict[str, tuple[str, ...]] = {
    "run": ("model", "dataset", "config_files", "resume", *OF_THE_GROUP),
    "reproduce": ("data", "seeds", "protocol", "out"),
    "compare": (*_WHERE, "models", "tune", "cpus", "metric", "reference"),
    "tune": (*_WHERE, "model", "trials", "space", "search", "scheduler", "grace", "executor", "seed"),
}
#: Names that other programs, or RecBole's functions, have for an option.
_ALIASES = dict.fromkeys(("config_file_list", "config_file", "configs", "config"), "config_files")
#: Commands whose options are taken for each other's, and what a command calls another command's option.
_ALIKE = ("compare", "tune")
_INSTEAD = {("compare", "trials"): "tune", ("compare", "model"): "models", ("tune", "models"): "model"}
#: Settings of RecBole's that are more likely a slip there: loader processes, where runs at once were meant.
_SLIPS = frozenset({"worker"})
#: Letters of an option from which on one edit makes a misspelling: many words are near to --ip.
_SHORTEST = 4


class UsageError(ValueError):
    """The words cannot be understood."""


def check(command: str, words: Iterable[str], models: Iterable[str] = ()) -> None:
    """No word that misspells an option of the command: one edit away, in other letters or hyphens, or another's.

    Args:
        command: one of :data:`OPTIONS`.
        words: those that were taken for settings.
        models: whose keys are known too, beside RecBole's and ours; those that cannot be found have none.

    Raises:
        UsageError: there is one, and it is no key.
    """
    meant = {word: _meant(command, word) for word in words}
    suspects = {word: option for word, option in meant.items() if option is not None}
    known = _known_keys(models) if suspects else frozenset()
    for word, option in sorted(suspects.items()):
        slip = command in _ALIKE and word in _SLIPS
        if word not in known or word in _ALIASES or (command, word) in _INSTEAD or slip:
            hint = f"; did you mean --{option}?" if option else ""
            as_setting = f" (RecBole's own key {word} goes into a --config_files file)" if slip else ""
            raise UsageError(f"--{word} is not an option of {command}{hint}{as_setting}")


def nearest_option(word: str, options: Iterable[str]) -> Optional[str]:
    """The option that is at most one edit away from ``word``: a letter more, less, another, or two exchanged."""
    folded, long_enough = _folded(word), sorted(each for each in options if len(each) >= _SHORTEST)
    return next((each for each in long_enough if each != word and _one_edit(folded, _folded(each))), None)


def _meant(command: str, word: str) -> Optional[str]:
    """The option that a word is like; an empty text for one of the other command's; None for neither."""
    if word in OPTIONS[command]:
        return None
    own = _ALIASES.get(word) or nearest_option(word, [*OPTIONS[command], *FLAGS])
    if own is not None or command not in _ALIKE:
        return own
    others = {option for each in _ALIKE for option in OPTIONS[each]}
    other = word if word in others else nearest_option(word, others)
    return None if other is None else _INSTEAD.get((command, other), "")


def _folded(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "")


def _one_edit(one: str, other: str) -> bool:
    if len(one) > len(other):
        one, other = other, one
    place = next((n for n, (a, b) in enumerate(zip(one, other)) if a != b), len(one))
    if len(one) < len(other):
        return len(other) - len(one) == 1 and one[place:] == other[place + 1 :]
    exchanged = one[:place] + one[place : place + 2][::-1] + one[place + 2 :]
    return one[place + 1 :] == other[place + 1 :] or exchanged == other


def _known_keys(models: Iterable[str]) -> frozenset[str]:
    """Keys of RecBole, of this package and its models, and of ``models``."""
    from recbole_diffusion import registry
    from recbole_diffusion.settings import known_keys
    from recbole_diffusion.support import yaml_files

    known = {*known_keys.keys_in_recbole()}
    for file in [*registry.recbole_folder().glob("properties/**/*.yaml"), *yaml_files.properties().rglob("*.yaml")]:
        known.update(yaml_files.load_yaml(file))
    for spec in registry.specs().values():
        known.update(yaml_files.load_yaml(spec.defaults) if spec.defaults.is_file() else ())
    for model in models:
        with contextlib.suppress(ValueError):  # said where the model is needed
            known |= known_keys.keys_read_by(registry.get_model(model))
    return frozenset(known)
