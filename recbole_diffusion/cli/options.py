"""Split the arguments of a command line into options, settings and flags; read ``--config_files``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_diffusion.cli.option_names import FLAGS, UsageError, nearest_option

#: Options that several commands have. Other ``--key=value`` are settings, or options of one command.
OPTIONS = {"model", "dataset", "config_files", "resume"}
_SEPARATOR = re.compile(r"[\s,]+")


def parse(words: Sequence[str]) -> tuple[dict[str, str], dict[str, str], set[str]]:
    """Split arguments into options, settings and flags.

    Args:
        words: ``--key=value``, ``--key value`` or ``--flag``.

    Returns:
        The values of :data:`OPTIONS`, those of all other keys, and the names of the flags.

    Raises:
        UsageError: an argument that is no option, a key without a value, or two different values for one key.
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
                nearest = nearest_option(key, FLAGS)
                hint = f"did you mean --{nearest}?" if nearest else f"write --{key}=VALUE"
                raise UsageError(f"--{key} has no value; {hint}")
            value = rest.pop(0)
        target = options if key in OPTIONS else settings
        if target.get(key, value) != value:
            raise UsageError(f"--{key} is given twice, as {target[key]!r} and {value!r}")
        target[key] = value
    return options, settings, flags


def split_positionals(words: Sequence[str], count: int) -> tuple[list[str], list[str]]:
    """Split off the positional arguments at the beginning, at most ``count``.

    Returns:
        The positional arguments, and the rest.
    """
    positionals: list[str] = []
    rest = list(words)
    while rest and len(positionals) < count and not rest[0].startswith("-"):
        positionals.append(rest.pop(0))
    return positionals, rest


def config_files(text: str) -> list[str]:
    """Split the value of ``--config_files`` into paths.

    Spaces or commas separate the paths. A path may contain spaces: the longest beginning of the text that is an
    existing file is a path. Quotes keep a path together, and ``[a.yaml, b.yaml]`` is a list.

    Args:
        text: the value.

    Returns:
        The paths, with ``~`` expanded.

    Raises:
        UsageError: one of several files does not exist.
    """
    text = text.strip()
    if not text or _is_file(text):
        return [str(Path(text).expanduser())] if text else []
    if text[0] == "[" and text[-1] == "]":
        from recbole_diffusion.settings import schema

        listed: Any = schema.parse_value(text)
        return [str(Path(str(name).strip()).expanduser()) for name in listed] if isinstance(listed, list) else [text]
    names = _split(text)
    for name in names:
        if len(names) > 1 and not _is_file(name):
            raise UsageError(
                f"config file {name!r} cannot be read: no such file; nor is there a file with spaces in its name that "
                f"begins so in --config_files={text!r}"
            )
    return [str(Path(name).expanduser()) for name in names]


def _split(text: str) -> list[str]:
    """Split off the longest beginning that is a file, then split the rest."""
    separators = [match.span() for match in _SEPARATOR.finditer(text)] + [(len(text), len(text))]
    for end, start in reversed(separators):
        if _is_file(text[:end]):
            return [text[:end], *(_split(text[start:]) if text[start:] else [])]
    if {"'", '"'} & {*text}:
        try:
            return [name for name in shlex.split(text.replace(",", " ")) if name]
        except ValueError:  # an unbalanced quote
            pass
    end, start = separators[0]
    return [text[:end], *(_split(text[start:]) if text[start:] else [])]


def _is_file(name: str) -> bool:
    try:
        return Path(name).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):  # too long; no such user; a null byte
        return False
