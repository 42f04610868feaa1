"""A space of settings: what each key may be, drawn from, walked through, and handed to searches."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional, Union

from recbole_diffusion.settings import scopes

Settings = dict[str, Any]
#: Keys that change what is measured, or on which rows: scores of different values do not compare.
NOT_TUNED = scopes.keys(scopes.Scope.MEASURED)


@dataclass(frozen=True)
class Choice:
    """Some values, each once."""

    values: tuple[Any, ...]

    @property
    def ordered(self) -> bool:
        """Whether they are numbers in their order, of which a search that learns can make use."""
        return all(map(is_number, self.values)) and list(self.values) == sorted(self.values)

    @property
    def probes(self) -> tuple[Any, ...]:
        """What to check before anything runs: every value."""
        return self.values

    def draw(self, generator: random.Random) -> Any:
        """One of the values."""
        return self.values[generator.randrange(len(self.values))]


@dataclass(frozen=True)
class Interval:
    """The numbers between two bounds, uniform or, with ``log``, uniform in their logarithms."""

    low: float
    high: float
    log: bool = False

    @property
    def probes(self) -> tuple[float, ...]:
        """What to check before anything runs: the bounds, and a number between them that is not whole."""
        return self.low, self.low + 0.381966 * (self.high - self.low), self.high

    def draw(self, generator: random.Random) -> float:
        """A number between the bounds, which rounding cannot leave."""
        if not self.log:
            return generator.uniform(self.low, self.high)
        value = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        return min(max(value, self.low), self.high)


Dimension = Union[Choice, Interval]


@dataclass(frozen=True)
class Space:
    """Keys and what each may be.

    Attributes:
        dimensions: by key, in the order of the file.
        source: the file's name, for messages.
    """

    dimensions: dict[str, Dimension]
    source: str

    @property
    def size(self) -> Optional[int]:
        """How many configurations there are; None where a key is continuous."""
        lengths = [len(each.values) if isinstance(each, Choice) else None for each in self.dimensions.values()]
        return None if None in lengths else math.prod(length for length in lengths if length is not None)

    def at(self, place: int) -> Settings:
        """A configuration of the grid by its place; the last key changes fastest."""
        found: Settings = {}
        for key, dimension in reversed(self._finite().items()):
            place, digit = divmod(place, len(dimension.values))
            found[key] = dimension.values[digit]
        return {key: found[key] for key in self.dimensions}

    def grid(self) -> Iterator[Settings]:
        """Every configuration, in the order of the file; the last key changes fastest.

        Raises:
            ValueError: a key is continuous.
        """
        dimensions = self._finite()
        return (dict(zip(dimensions, each)) for each in itertools.product(*(d.values for d in dimensions.values())))

    def _finite(self) -> dict[str, Choice]:
        for key, each in self.dimensions.items():
            if isinstance(each, Interval):
                raise ValueError(
                    f"{self.source}: {key} is continuous, which has no grid; allowed: {key}: {{choice: [...]}}, "
                    "or search=random"
                )
        return {key: each for key, each in self.dimensions.items() if isinstance(each, Choice)}

    def sample(self, count: int, seed: int) -> list[Settings]:
        """Configurations drawn at random, none of them twice; all of the space where ``count`` exceeds its size.

        The first ones do not depend on ``count``.
        """
        generator = random.Random(seed)
        if self.size is None:
            return list(itertools.islice(self._drawn(generator), count))
        places: dict[int, None] = {}
        while len(places) < min(count, self.size):
            places[generator.randrange(self.size)] = None
        return [self.at(place) for place in places]

    def _drawn(self, generator: random.Random) -> Iterator[Settings]:
        seen: set[str] = set()
        while True:
            each = {key: dimension.draw(generator) for key, dimension in self.dimensions.items()}
            if identity(each) not in seen:
                seen.add(identity(each))
                yield each

    def fix(self, keys: Iterable[str]) -> Space:
        """The space without these keys."""
        gone = set(keys)
        return Space({key: each for key, each in self.dimensions.items() if key not in gone}, self.source)

    def plain(self) -> dict[str, dict[str, list[Any]]]:
        """As in a yaml file; :func:`parse` reads it again."""
        return {key: _entry(each) for key, each in self.dimensions.items()}

    def to_ray(self, tune: Any) -> dict[str, Any]:
        """The space for the searches of ``ray.tune``, Optuna's and HyperOpt's among them: of a choice its places."""
        return {key: _to_ray(each, tune) for key, each in self.dimensions.items()}

    def encode(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration as a point of :meth:`to_ray`.

        Raises:
            ValueError, KeyError: it is not of this space.
        """
        point: dict[str, Any] = {}
        for key, each in self.dimensions.items():
            if isinstance(each, Choice):
                point[key] = list(map(identity, each.values)).index(identity(chosen[key]))
            elif each.low <= chosen[key] <= each.high:
                point[key] = float(chosen[key])
            else:
                raise ValueError(f"{key}={chosen[key]!r} is not within {each.low} and {each.high}")
        return point

    def decode(self, point: Mapping[str, Any]) -> Settings:
        """A point of :meth:`to_ray` as a configuration."""
        return {
            key: each.values[int(point[key])] if isinstance(each, Choice) else float(point[key])
            for key, each in self.dimensions.items()
        }

    def check(self, model: Any, dataset: str, settings: Optional[Settings] = None) -> None:
        """Ask the model's Config about every value; of an interval about both bounds and a point between them.

        Raises:
            ValueError: the model knows no such key, or refuses a value, or the key changes what is measured; one line
                with the file.
        """
        from recbole_diffusion.quick_start import configure

        common = dict(settings or {})
        for key, dimension in self.dimensions.items():
            if key in NOT_TUNED:
                raise ValueError(
                    f"{self.source}: {key} changes what is measured and cannot be tuned; give it as --{key}=VALUE"
                )
            for value in dimension.probes:
                try:
                    config = configure(model, dataset, config_dict={**common, key: value})
                except ValueError as error:
                    raise ValueError(f"{self.source}: {error}") from error
                unknown = [note for note in config.notes if note.startswith(f"key {key!r} ")]
                if unknown:
                    raise ValueError(f"{self.source}: {unknown[0]}")


def identity(chosen: Any) -> str:
    """Equal for equal settings only: 1, 1.0 and True differ."""
    return json.dumps(chosen, sort_keys=True, default=str)


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and not a truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _entry(dimension: Dimension) -> dict[str, list[Any]]:
    if isinstance(dimension, Choice):
        return {"choice": list(dimension.values)}
    return {"loguniform" if dimension.log else "uniform": [dimension.low, dimension.high]}


def _to_ray(dimension: Dimension, tune: Any) -> Any:
    if isinstance(dimension, Interval):
        return (tune.loguniform if dimension.log else tune.uniform)(dimension.low, dimension.high)
    count = len(dimension.values)
    return tune.randint(0, count) if dimension.ordered and count > 1 else tune.choice(list(range(count)))
