"""Reader of yaml files with settings, and the folder of this package's own files."""

from __future__ import annotations

import functools
import os
import pickle
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

#: libyaml's loader, nine times as fast as the Python one; some builds of PyYAML lack it.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


#: The most entries of a mapping, those that are merged into it by ``<<`` included.
_MOST_MERGED = 100_000
_MERGE = "tag:yaml.org,2002:merge"

#: libyaml's writer, ten times as fast as the Python one.
_SafeDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class YamlLoader(_SafeLoader):
    """SafeLoader that reads ``1e-4`` as a number, as RecBole's does. yaml's own loaders are not modified."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put the pairs behind ``<<`` in its stead; merges of merges would double them with each line.

        They are counted before they are put there.
        """
        opened: set[int] = self.__dict__.setdefault("_opened", set())  # two mappings may merge each other
        opened.add(id(node))
        count = len(node.value)
        for merged in _merged(node):
            if id(merged) not in opened and any(key.tag == _MERGE for key, _ in merged.value):
                self.flatten_mapping(merged)
            count += len(merged.value)
            if count > _MOST_MERGED:
                raise ValueError(f"its keys << stand for more than {_MOST_MERGED} entries")
        super().flatten_mapping(node)


def _merged(node: yaml.MappingNode) -> Iterator[yaml.MappingNode]:
    """The mappings behind the keys ``<<`` of a mapping, in order."""
    for key, value in node.value:
        if key.tag == _MERGE:
            parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
            yield from (part for part in parts if isinstance(part, yaml.MappingNode))


YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


@functools.cache
def properties() -> Path:
    """The folder with this package's yaml files: inside the installed package, or beside it in a checkout."""
    inside = Path(str(resources.files("recbole_diffusion"))) / "properties"
    return inside if inside.is_dir() else inside.parent.parent / "properties"


def dump_yaml(value: Any, **options: Any) -> str:
    """Write plain values as yaml; ``options`` as of ``yaml.dump``. Unicode stays as it is."""
    text: str = yaml.dump(value, Dumper=_SafeDumper, allow_unicode=True, **options)
    return text


#: The most values of a file, those behind each use of an anchor included.
MOST_VALUES = 1_000_000
#: The deepest nesting of a file; the parser calls itself for each level.
_DEEPEST = 100


def parse(text: str) -> Any:
    """Parse yaml.

    Raises:
        yaml.YAMLError: it is no yaml.
        ValueError: it is nested too deeply, or its anchors stand for too many values.
    """
    depth, may_be_deep = 0, sum(map(text.count, "[{-?")) > _DEEPEST or " " * _DEEPEST in text
    for event in yaml.parse(text, Loader=YamlLoader) if may_be_deep else ():
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")
    content = yaml.load(text, Loader=YamlLoader)
    if "*" in text and _count(content, {}, set()) > MOST_VALUES:
        raise ValueError(f"its anchors stand for more than {MOST_VALUES} values")
    return content


def _count(value: Any, counts: dict[int, int], above: set[int]) -> int:
    """The number of values in a value that anchors may share.

    Args:
        value: of the file.
        counts: the numbers of the containers that were counted, by id.
        above: the ids of the containers that hold this one.

    Raises:
        ValueError: a container holds itself.
    """
    if not isinstance(value, (dict, list, tuple, set)):
        return 1
    if id(value) in above:
        raise ValueError("an anchor stands for a value that holds itself")
    if id(value) not in counts:
        parts = value.values() if isinstance(value, dict) else value
        counts[id(value)] = 1 + sum(_count(part, counts, above | {id(value)}) for part in parts)
    return counts[id(value)]


def load_yaml(file: Path) -> dict[str, Any]:
    """Read the mapping in a yaml file. The result is cached until the file changes.

    Returns:
        A copy, which the caller may modify.

    Raises:
        ValueError: the file is missing, is not yaml, or is not a mapping; one line with its name.
    """
    try:
        state = os.stat(file)
        content: dict[str, Any] = pickle.loads(_parsed(Path(file), (state.st_ino, state.st_size, state.st_mtime_ns)))
        return content
    except OSError as error:
        raise ValueError(f"config file {str(file)!r} cannot be read: {error.strerror}") from error


@functools.lru_cache(maxsize=256)
def _parsed(file: Path, state: tuple[int, int, int]) -> bytes:
    """Parse a file; cached by its name and ``state``, its inode, size and time of modification.

    Returns:
        The mapping, pickled: a copy takes a quarter of a deep copy's time.
    """
    try:
        content = parse(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"config file {str(file)!r} is not yaml{_place(error, file)}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"config file {str(file)!r} is not in UTF-8 (byte {error.start}); save it as UTF-8") from error
    except ValueError as error:
        raise ValueError(f"config file {str(file)!r} cannot be read: {error}") from error
    if content is not None and not isinstance(content, dict):
        raise ValueError(f"config file {str(file)!r} must hold 'key: value' lines, got a {type(content).__name__}")
    return pickle.dumps(content or {})


def _place(error: yaml.YAMLError, file: Path) -> str:
    """The line of an error in yaml, with a hint if an interval without quotes is the likely cause."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return ""
    lines = file.read_text(encoding="utf-8").splitlines()
    first = getattr(error, "context_mark", None) or mark
    suspect = next((line.strip() for line in lines[first.line : mark.line + 1] if _UNQUOTED.search(line)), None)
    hint = f': {suspect!r}; an interval is written in quotes, e.g. "[4,inf)"' if suspect else ""
    return f" (line {mark.line + 1}){hint}"


#: ``[4,inf)``: to yaml, a list without an end.
_UNQUOTED = re.compile(r":\s*\[[^\[\]()'\"]+,[^\[\]()'\"]+\)")
