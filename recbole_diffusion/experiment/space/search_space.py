"""What a tuning may choose from: a space of settings, read from yaml or from RecBole's ``.hyper`` files.

A yaml file holds one key a line, ``key: {choice: [...]}``, ``{uniform: [low, high]}``, ``{loguniform: [low, high]}``,
``{quniform: [low, high, step]}`` (the multiples of ``step``) or ``{randint: [low, high]}``; all bounds are included.
A ``.hyper`` file holds ``key kind values``; the bounds of its ``loguniform`` are natural logarithms, as in RecBole.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Union

from recbole_diffusion import registry
from recbole_diffusion.experiment.space.dimensions import (
    NOT_TUNED,
    Choice,
    Dimension,
    Interval,
    Settings,
    Space,
    identity,
    is_number,
)
from recbole_diffusion.settings import schema
from recbole_diffusion.support import yaml_files

__all__ = ["NOT_TUNED", "Choice", "Interval", "Settings", "Space", "available", "identity", "load", "parse"]


def available() -> list[str]:
    """The models with a space of their own in ``properties/hyper``."""
    return sorted(file.stem for file in (yaml_files.properties() / "hyper").glob("*.yaml"))


def load(source: Union[str, Path, type]) -> Space:
    """The space of a model, or of a file (``.yaml``, ``.yml``, or RecBole's ``.hyper`` or ``.test``).

    Raises:
        ValueError: no such model or file, or one that is not a space; one line with file, key, value and way out.
    """
    if isinstance(source, Path) or (isinstance(source, str) and _is_file(source)):
        return _read(Path(source))
    spec = registry.find_spec(source)
    name = spec.name if spec else registry.get_model(source).__name__
    file = yaml_files.properties() / "hyper" / f"{name}.yaml"
    namesake = spec is None and name in registry.specs()  # RecBole's model of that name, whose keys are others
    if namesake or not file.is_file():
        raise ValueError(
            f"there is no search space for {source if isinstance(source, str) else name}; give one with --space=FILE, "
            f"lines such as 'learning_rate: {{loguniform: [1e-4, 1e-2]}}'; models with one: {', '.join(available())}"
        )
    return _read(file)


def _is_file(source: str) -> bool:
    """Whether the words name a file and not a model."""
    return ":" not in source and (Path(source).suffix in {".yaml", ".yml", ".hyper", ".test"} or Path(source).is_file())


def _read(file: Path) -> Space:
    if file.suffix in {".yaml", ".yml"}:
        return parse(yaml_files.load_yaml(file), str(file))
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"search space {str(file)!r} cannot be read: {error.strerror}") from error
    return parse(dict(_hyper_entry(line, file) for line in lines if line.split("#")[0].strip()), str(file))


def _hyper_entry(line: str, file: Path) -> tuple[str, dict[str, Any]]:
    """``key kind values`` as an entry of a yaml file."""
    words = line.split()
    if len(words) < 3:
        raise ValueError(f"{file}: {line.strip()!r} is not understood; allowed: key kind values, as in RecBole")
    key, kind, text = words[0], words[1], " ".join(words[2:])
    try:
        values = ast.literal_eval(text if kind == "choice" else f"[{text}]")
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"{file}: {key} {kind} {text} is not understood; allowed: Python's literals") from error
    if kind == "choice":  # strings of lists, '[64,64]', are what RecBole's Config evaluates
        values = [schema.parse_value(each) if isinstance(each, str) else each for each in values]
    if kind == "loguniform":
        values = [math.exp(each) for each in _bounds(f"{file}: {key}", kind, values, 2)]
    return key, {kind: values}


def parse(entries: Mapping[str, Any], source: str) -> Space:
    """A space from what a yaml file holds.

    Raises:
        ValueError: see :func:`load`.
    """
    if not entries:
        raise ValueError(f"{source} holds no key; allowed: lines such as 'learning_rate: {{choice: [1e-4, 1e-3]}}'")
    return Space({str(key): _dimension(f"{source}: {key}", entry) for key, entry in entries.items()}, source)


KINDS = ("choice", "uniform", "loguniform", "quniform", "randint")
#: The most values of one key, each of which is checked before anything runs.
MOST = 1000


def _dimension(where: str, entry: Any) -> Dimension:
    if not isinstance(entry, Mapping) or len(entry) != 1 or next(iter(entry)) not in KINDS:
        near = schema.nearest(str(next(iter(entry))), KINDS) if isinstance(entry, Mapping) and entry else None
        hint = f" (did you mean {near}?)" if near else ""
        raise ValueError(f"{where}={entry!r} is not allowed; allowed: one of {{{' | '.join(KINDS)}: [...]}}{hint}")
    kind, values = next(iter(entry.items()))
    if kind == "choice":
        if not isinstance(values, (list, tuple)) or not values:
            raise ValueError(
                f"{where}={entry!r} is not allowed; allowed: {{choice: [a, b, ...]}} with a value at least"
            )
        return Choice(tuple({identity(value): value for value in values}.values()))
    low, high, *step = _bounds(where, kind, values, 3 if kind == "quniform" else 2)
    if kind == "loguniform" and low <= 0:
        raise ValueError(f"{where}={entry!r} is not allowed: a logarithm; allowed: low > 0")
    if kind in {"uniform", "loguniform"}:
        return Interval(float(low), float(high), kind == "loguniform") if low < high else Choice((float(low),))
    return Choice(_multiples(where, kind, low, high, step[0] if step else 1))


def _bounds(where: str, kind: str, values: Any, count: int) -> list[Any]:
    """Finite numbers, the first not above the second.

    Raises:
        ValueError: they are not, or are not ``count``.
    """
    names = ["low", "high", "step"][:count]
    entry = f"{where}={{{kind}: {values!r}}}"
    if not isinstance(values, (list, tuple)) or len(values) != count or not all(map(is_number, values)):
        raise ValueError(f"{entry} is not allowed; allowed: {{{kind}: [{', '.join(names)}]}} with numbers")
    if values[0] > values[1]:
        raise ValueError(f"{entry} is not allowed: low is above high; allowed: [{values[1]}, {values[0]}]")
    return list(values)


def _multiples(where: str, kind: str, low: Any, high: Any, step: Any) -> tuple[Any, ...]:
    """The multiples of ``step`` within the bounds; whole numbers where all three are."""
    whole = all(isinstance(each, int) for each in (low, high, step))
    if step <= 0 or (kind == "randint" and not whole):
        allowed = "whole numbers" if kind == "randint" else "step > 0"
        raise ValueError(f"{where}={{{kind}: {[low, high, step]!r}}} is not allowed; allowed: {allowed}")
    unit, first, last = (Fraction(str(each)) for each in (step, low, high))  # decimals as they are written
    places = range(math.ceil(first / unit), math.floor(last / unit) + 1)
    if not places or len(places) > MOST:
        what = f"no multiple of {step}" if not places else f"{len(places)} values"
        raise ValueError(f"{where}={{{kind}: {[low, high, step]!r}}} holds {what}; allowed: 1 to {MOST}, or uniform")
    return tuple(int(place * unit) if whole else float(place * unit) for place in places)
