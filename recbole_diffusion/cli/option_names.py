"""The names of all options, and the detection of misspelt ones.

A misspelt option would be taken for a setting, which has no effect.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Optional

FLAGS = {
    *("dry-run", "trust-checkpoint", "no-save", "debug", "help", "all", "csv", "check", "write"),
    *("keep-seen", "skip-unknown", "per-user", "evaluate", "yardsticks", "overwrite", "json", "train"),
}
#: RecBole's names for the options of distributed training. ``run`` takes them out of the settings.
PROCESS_GROUP_OPTIONS = ("nproc", "world_size", "ip", "port", "group_offset")
#: Options of both ``compare`` and ``tune``.
_SHARED = ("workers", "address", "threads", "gpus", "folder", "resume", "config_files", "dataset", "seeds")
#: Options of each command that takes settings.
OPTIONS: dict[str, tuple[str, ...]] = {
    "run": ("model", "dataset", "config_files", "resume", "like", *PROCESS_GROUP_OPTIONS),
    "recommend": ("users", "k", "out", "exclude", "histories", "items", "samples"),
    "reproduce": ("data", "seeds", "protocol", "out"),
    "compare": (*_SHARED, "models", "tune", "cpus", "metric", "reference", "keep-lists"),
    "robustness": (
        *(name for name in _SHARED if name != "resume"),
        "models",
        "cpus",
        "metric",
        "reference",
        "noise",
        "ratios",
        "below",
    ),
    "tune": (*_SHARED, "model", "trials", "space", "search", "scheduler", "grace", "executor", "seed"),
}
#: Names of other programs, and of arguments of RecBole's functions, for an option.
_ALIASES = dict.fromkeys(("config_file_list", "config_file", "configs", "config"), "config_files")
#: Commands whose options are easily mixed up.
_SIMILAR_COMMANDS = ("compare", "tune")
#: Names that a command has for an option of the similar command.
_COUNTERPARTS = {("compare", "trials"): "tune", ("compare", "model"): "models", ("tune", "models"): "model"}
#: Settings of RecBole that are probably misspelt options there: its loader processes, instead of runs at once.
_PROBABLE_MISTAKES = frozenset({"worker"})
#: Shortest option with which names are compared: many names are one edit away from --ip.
_MIN_LENGTH = 4


class UsageError(ValueError):
    """The arguments are not right."""


def check(command: str, names: Iterable[str], models: Iterable[str] = ()) -> None:
    """Refuse settings that are probably misspelt options of the command, or options of the similar command.

    A name is misspelt if it is one edit away from an option, or differs in case, hyphens or underscores.

    Args:
        command: one of :data:`OPTIONS`.
        names: the names of the settings.
        models: the models, whose keys are settings too, beside RecBole's and ours. Unknown models are ignored.

    Raises:
        UsageError: a name is misspelt, and is no key of a setting.
    """
    meant = {name: _meant(command, name) for name in names}
    suspects = {name: option for name, option in meant.items() if option is not None}
    known = _known_keys(models) if suspects else frozenset()
    for name, option in sorted(suspects.items()):
        is_mistake = command in _SIMILAR_COMMANDS and name in _PROBABLE_MISTAKES
        if name not in known or name in _ALIASES or (command, name) in _COUNTERPARTS or is_mistake:
            hint = f"; did you mean --{option}?" if option else ""
            as_setting = f" (RecBole's own key {name} goes into a --config_files file)" if is_mistake else ""
            raise UsageError(f"--{name} is not an option of {command}{hint}{as_setting}")


def nearest_option(name: str, options: Iterable[str]) -> Optional[str]:
    """Return the option that is one edit away from ``name``: an insertion, deletion, substitution or transposition.

    Case, hyphens and underscores are ignored.
    """
    folded, candidates = _folded(name), sorted(option for option in options if len(option) >= _MIN_LENGTH)
    return next((option for option in candidates if option != name and _one_edit(folded, _folded(option))), None)


def _meant(command: str, name: str) -> Optional[str]:
    """The option that is probably meant by a name.

    Returns:
        The option of the command; an empty text for an option of the similar command only; None for neither.
    """
    if name in OPTIONS[command]:
        return None
    own_option = _ALIASES.get(name) or nearest_option(name, [*OPTIONS[command], *FLAGS])
    if own_option is not None or command not in _SIMILAR_COMMANDS:
        return own_option
    similar_options = {option for similar in _SIMILAR_COMMANDS for option in OPTIONS[similar]}
    option = name if name in similar_options else nearest_option(name, similar_options)
    return None if option is None else _COUNTERPARTS.get((command, option), "")


def _folded(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _one_edit(first: str, second: str) -> bool:
    """Whether two names are equal, or one insertion, deletion, substitution or transposition apart."""
    if len(first) > len(second):
        first, second = second, first
    place = next((index for index, (a, b) in enumerate(zip(first, second)) if a != b), len(first))
    if len(first) < len(second):
        return len(second) - len(first) == 1 and first[place:] == second[place + 1 :]
    transposed = first[:place] + first[place : place + 2][::-1] + first[place + 2 :]
    return first[place + 1 :] == second[place + 1 :] or transposed == second


def _known_keys(models: Iterable[str]) -> frozenset[str]:
    """The keys of RecBole, of this package and its models, and of ``models``."""
    from recbole_diffusion import registry
    from recbole_diffusion.settings import known_keys
    from recbole_diffusion.support import yaml_files

    known = {*known_keys.keys_in_recbole()}
    for file in [*registry.recbole_folder().glob("properties/**/*.yaml"), *yaml_files.properties().rglob("*.yaml")]:
        known.update(yaml_files.load_yaml(file))
    for spec in registry.specs().values():
        known.update(yaml_files.load_yaml(spec.defaults) if spec.defaults.is_file() else ())
    for model in models:
        with contextlib.suppress(ValueError):  # the model is loaded, and the error raised, later
            known |= known_keys.keys_read_by(registry.get_model(model))
    return frozenset(known)
