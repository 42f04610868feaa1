"""The words of a command line: options, settings and flags; paths of config files; misspelt options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Optional

FLAGS = {"dry-run", "trust-checkpoint", "no-save", "debug", "help", "all", "csv"}
OPTIONS = {"model", "dataset", "config_files", "resume"}
#: RecBole's words for several processes, which ``run`` takes out of the settings.
OF_THE_GROUP = ("nproc", "world_size", "ip", "port", "group_offset")
#: Names that other programs, or RecBole's functions, have for an option.
_ALIASES = dict.fromkeys(("config_file_list", "config_file", "configs", "config"), "config_files")
#: Letters of an option from which on one edit makes a misspelling: many words are near to --ip.
_SHORTEST = 4
_SEPARATOR = re.compile(r"[\s,]+")


class UsageError(ValueError):
    """The words cannot be understood."""


def parse(words: Sequence[str]) -> tuple[dict[str, str], dict[str, str], set[str]]:
    """Options, settings and flags of a ``run`` command line.

    Raises:
        UsageError: a word that is no option, a key without a value, two different values for one key.
    """
    options: dict[str, str] = {}
    settings: dict[str, str] = {}
    flags: set[str] = set()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in {"-h", "--help"}:
            flags.add("help")
            continue
        if not word.startswith("--") or len(word) < 3:
            raise UsageError(f"{word!r} is not understood; settings are --key=value")
        key, equals, value = word[2:].partition("=")
        flag = key.replace("_", "-")
        if flag in FLAGS and value.lower() in {"", "true", "1", "false", "0"}:
            flags |= {flag} if value.lower() in {"", "true", "1"} else set()
            continue
        if flag in FLAGS:
            raise UsageError(f"--{key}={value!r} is not allowed; allowed: nothing, True or False")
        if not equals:
            if not rest or rest[0].startswith("--"):
                near = nearest_option(key, FLAGS)
                hint = f"did you mean --{near}?" if near else f"write --{key}=VALUE"
                raise UsageError(f"--{key} has no value; {hint}")
            value = rest.pop(0)
        target = options if key in OPTIONS else settings
        if target.get(key, value) != value:
            raise UsageError(f"--{key} is given twice, as {target[key]!r} and {value!r}")
        target[key] = value
    return options, settings, flags


def only(command: str, options: dict[str, str], flags: set[str]) -> None:
    """No option or flag of another command: it would have no effect.

    Raises:
        UsageError: there is one.
    """
    for word in [*options, *sorted(flags - {"help", "debug"})]:
        raise UsageError(f"--{word} is not an option of {command}")


def places_of(words: Sequence[str], count: int) -> tuple[list[str], list[str]]:
    """The first words that are no options, at most ``count``, and the rest."""
    places: list[str] = []
    rest = list(words)
    while rest and len(places) < count and not rest[0].startswith("-"):
        places.append(rest.pop(0))
    return places, rest


def check_spelling(
    settings: Iterable[str], options: Collection[str], model: Optional[str] = None, flags: Collection[str] = FLAGS
) -> None:
    """No setting that is a misspelt option of the command: one edit away, or in other letters or hyphens.

    Args:
        settings: keys that are no options.
        options: of the command.
        model: whose keys are known too.
        flags: options without a value.

    Raises:
        UsageError: there is one that RecBole, this package and the model do not know either.
    """
    near = {key: _ALIASES.get(key) or nearest_option(key, [*options, *flags]) for key in settings}
    suspects = {key: option for key, option in near.items() if option in {*options, *flags}}
    for key in sorted(suspects):
        if key in _ALIASES or key not in _known_keys(model):
            raise UsageError(f"--{key} is not an option; did you mean --{suspects[key]}?")


def nearest_option(word: str, options: Iterable[str]) -> Optional[str]:
    """The option that is at most one edit away from ``word``: a letter more, less, another, or two exchanged."""
    folded, long_enough = _folded(word), sorted(each for each in options if len(each) >= _SHORTEST)
    return next((each for each in long_enough if each != word and _one_edit(folded, _folded(each))), None)


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


def _known_keys(model: Optional[str]) -> set[str]:
    """Keys of RecBole, of this package and its models, and of ``model``."""
    from recbole_diffusion import registry
    from recbole_diffusion.settings import known_keys
    from recbole_diffusion.support import yaml_files

    known = {*known_keys.more_keys()}
    for file in [*registry.recbole_folder().glob("properties/**/*.yaml"), *yaml_files.properties().rglob("*.yaml")]:
        known.update(yaml_files.load_yaml(file))
    for spec in registry.specs().values():
        known.update(yaml_files.load_yaml(spec.defaults) if spec.defaults.is_file() else ())
    return known | (known_keys.read_by(registry.get_model(model)) if model else set())


def config_files(text: str) -> list[str]:
    """The files that ``--config_files`` names: with spaces or commas between them, and spaces within their names.

    Quotes keep a name together, ``[a.yaml, b.yaml]`` is a list. Elsewhere the longest beginning that is a file is one.

    Raises:
        UsageError: one of several is not there.
    """
    text = text.strip()
    if not text or _is_file(text):
        return [str(Path(text).expanduser())] if text else []
    if text[0] == "[" and text[-1] == "]":
        from recbole_diffusion.settings import schema

        listed: Any = schema.parse_value(text)
        return [str(Path(str(each).strip()).expanduser()) for each in listed] if isinstance(listed, list) else [text]
    names = _split(text)
    for name in names:
        if len(names) > 1 and not _is_file(name):
            raise UsageError(
                f"config file {name!r} cannot be read: no such file; nor is there a file with spaces in its name that "
                f"begins so in --config_files={text!r}"
            )
    return [str(Path(each).expanduser()) for each in names]


def _split(text: str) -> list[str]:
    ends = [found.span() for found in _SEPARATOR.finditer(text)] + [(len(text), len(text))]
    for end, start in reversed(ends):
        if _is_file(text[:end]):
            return [text[:end], *(_split(text[start:]) if text[start:] else [])]
    if {"'", '"'} & {*text}:
        try:
            return [each for each in shlex.split(text.replace(",", " ")) if each]
        except ValueError:  # a quote without its other half
            pass
    end, start = ends[0]
    return [text[:end], *(_split(text[start:]) if text[start:] else [])]


def _is_file(name: str) -> bool:
    try:
        return Path(name).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):  # too long; no such user; a null byte
        return False
