"""Read search spaces from yaml files and from RecBole's ``.hyper`` files.

A yaml file holds one key per line. All bounds are included::

    key: {choice: [a, b, ...]}
    key: {uniform: [low, high]}
    key: {loguniform: [low, high]}
    key: {quniform: [low, high, step]}     the multiples of ``step``
    key: {randint: [low, high]}

A ``.hyper`` file holds ``key kind values`` per line. The bounds of its ``loguniform`` are natural logarithms, as in
RecBole.
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
    canonical_json,
    is_number,
)
from recbole_diffusion.settings import schema
from recbole_diffusion.support import yaml_files

__all__ = ["NOT_TUNED", "Choice", "Interval", "Settings", "Space", "available", "canonical_json", "load", "parse"]


def available() -> list[str]:
    """Names of the models with a search space in ``properties/hyper``, sorted."""
    return sorted(file.stem for file in (yaml_files.properties() / "hyper").glob("*.yaml"))


def load(source: Union[str, Path, type]) -> Space:
    """Load the search space of a model, or of a file.

    Args:
        source: a model as :func:`recbole_diffusion.run` takes it, whose file is ``properties/hyper/<model>.yaml``; or a
            file that ends with ``.yaml``, ``.yml``, or RecBole's ``.hyper`` or ``.test``.

    Raises:
        ValueError: no such model or file, or a file that holds no search space; one line with file, key, value and
            way out.
    """
    if isinstance(source, Path) or (isinstance(source, str) and _is_file(source)):
        return _read(Path(source))
    spec = registry.find_spec(source)
    name = spec.name if spec else registry.get_model(source).__name__
    file = yaml_files.properties() / "hyper" / f"{name}.yaml"
    # RecBole's model of the same name has other keys than ours, which the file is for.
    is_recbole_namesake = spec is None and name in registry.specs()
    if is_recbole_namesake or not file.is_file():
        raise ValueError(
            f"there is no search space for {source if isinstance(source, str) else name}; give one with --space=FILE, "
            f"lines such as 'learning_rate: {{loguniform: [1e-4, 1e-2]}}'; models with one: {', '.join(available())}"
        )
    return _read(file)


def _is_file(source: str) -> bool:
    """Return whether ``source`` names a file and not a model."""
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
    """Convert a line ``key kind values`` to an entry of a yaml file."""
    words = line.split()
    if len(words) < 3:
        raise ValueError(f"{file}: {line.strip()!r} is not understood; allowed: key kind values, as in RecBole")
    key, kind, text = words[0], words[1], " ".join(words[2:])
    try:
        values = ast.literal_eval(text if kind == "choice" else f"[{text}]")
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"{file}: {key} {kind} {text} is not understood; allowed: Python's literals") from error
    if kind == "choice":  # strings of lists, '[64,64]', are what RecBole's Config evaluates
        values = [schema.parse_value(value) if isinstance(value, str) else value for value in values]
    if kind == "loguniform":
        values = [math.exp(bound) for bound in _bounds(f"{file}: {key}", kind, values, 2)]
    return key, {kind: values}


def parse(entries: Mapping[str, Any], source: str) -> Space:
    """Make a search space of the entries of a yaml file.

    Args:
        entries: by key, e.g. ``{"learning_rate": {"loguniform": [1e-4, 1e-2]}}``.
        source: the file's name, for messages.

    Raises:
        ValueError: see :func:`load`.
    """
    if not entries:
        raise ValueError(f"{source} holds no key; allowed: lines such as 'learning_rate: {{choice: [1e-4, 1e-3]}}'")
    return Space({str(key): _dimension(f"{source}: {key}", entry) for key, entry in entries.items()}, source)


KINDS = ("choice", "uniform", "loguniform", "quniform", "randint")
#: Largest number of values of one key. Each value is checked before anything is trained.
MAX_VALUES = 1000


def _dimension(where: str, entry: Any) -> Dimension:
    if not isinstance(entry, Mapping) or len(entry) != 1 or next(iter(entry)) not in KINDS:
        nearest_kind = schema.nearest(str(next(iter(entry))), KINDS) if isinstance(entry, Mapping) and entry else None
        hint = f" (did you mean {nearest_kind}?)" if nearest_kind else ""
        raise ValueError(f"{where}={entry!r} is not allowed; allowed: one of {{{' | '.join(KINDS)}: [...]}}{hint}")
    kind, values = next(iter(entry.items()))
    if kind == "choice":
        if not isinstance(values, (list, tuple)) or not values:
            raise ValueError(
                f"{where}={entry!r} is not allowed; allowed: {{choice: [a, b, ...]}} with a value at least"
            )
        return Choice(tuple({canonical_json(value): value for value in values}.values()))
    low, high, *step = _bounds(where, kind, values, 3 if kind == "quniform" else 2)
    if kind == "loguniform" and low <= 0:
        raise ValueError(f"{where}={entry!r} is not allowed: a logarithm; allowed: low > 0")
    if kind in {"uniform", "loguniform"}:
        return Interval(float(low), float(high), kind == "loguniform") if low < high else Choice((float(low),))
    return Choice(_multiples(where, kind, low, high, step[0] if step else 1))


def _bounds(where: str, kind: str, values: Any, count: int) -> list[Any]:
    """Check the bounds of an interval, and its step where ``count`` is 3.

    Returns:
        The values as a list.

    Raises:
        ValueError: not ``count`` finite numbers, or a lower bound above the upper one.
    """
    names = ["low", "high", "step"][:count]
    entry = f"{where}={{{kind}: {values!r}}}"
    if not isinstance(values, (list, tuple)) or len(values) != count or not all(map(is_number, values)):
        raise ValueError(f"{entry} is not allowed; allowed: {{{kind}: [{', '.join(names)}]}} with numbers")
    if values[0] > values[1]:
        raise ValueError(f"{entry} is not allowed: low is above high; allowed: [{values[1]}, {values[0]}]")
    return list(values)


def _multiples(where: str, kind: str, low: Any, high: Any, step: Any) -> tuple[Any, ...]:
    """Return the multiples of ``step`` within the bounds; ints if bounds and step are ints, else floats."""
    are_integers = all(isinstance(number, int) for number in (low, high, step))
    if step <= 0 or (kind == "randint" and not are_integers):
        allowed = "whole numbers" if kind == "randint" else "step > 0"
        raise ValueError(f"{where}={{{kind}: {[low, high, step]!r}}} is not allowed; allowed: {allowed}")
    # Fractions of the written decimals: 0.3 / 0.1 is not 3 in floating point.
    unit, first, last = (Fraction(str(number)) for number in (step, low, high))
    factors = range(math.ceil(first / unit), math.floor(last / unit) + 1)
    if not factors or len(factors) > MAX_VALUES:
        content = f"no multiple of {step}" if not factors else f"{len(factors)} values"
        raise ValueError(
            f"{where}={{{kind}: {[low, high, step]!r}}} holds {content}; allowed: 1 to {MAX_VALUES}, or uniform"
        )
    return tuple(int(factor * unit) if are_integers else float(factor * unit) for factor in factors)
