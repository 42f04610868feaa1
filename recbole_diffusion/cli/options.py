"""The words of a command line: options, settings and flags; paths of config files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_diffusion.cli.option_names import FLAGS, UsageError, nearest_option

OPTIONS = {"model", "dataset", "config_files", "resume"}
_SEPARATOR = re.compile(r"[\s,]+")


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


def places_of(words: Sequence[str], count: int) -> tuple[list[str], list[str]]:
    """The first words that are no options, at most ``count``, and the rest."""
    places: list[str] = []
    rest = list(words)
    while rest and len(places) < count and not rest[0].startswith("-"):
        places.append(rest.pop(0))
    return places, rest


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
