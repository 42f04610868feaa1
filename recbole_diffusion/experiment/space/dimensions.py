"""A search space: the allowed values of each key, random draws, the grid, and points for Ray's searches."""

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
#: Keys that change the metrics or the measured rows. Scores under different values of these are not comparable.
NOT_TUNED = scopes.keys(scopes.Scope.MEASURED)
#: Position of the probe between two bounds, as a fraction of their distance; chosen so that no whole number comes out.
_INNER_PROBE = 0.381966


@dataclass(frozen=True)
class Choice:
    """A finite set of values.

    Attributes:
        values: different values, in the order of the file.
    """

    values: tuple[Any, ...]

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers in ascending order; adaptive searches make use of the order."""
        return all(map(is_number, self.values)) and list(self.values) == sorted(self.values)

    @property
    def probes(self) -> tuple[Any, ...]:
        """The values to check before anything is trained: all of them."""
        return self.values

    def draw(self, generator: random.Random) -> Any:
        """Draw one of the values uniformly."""
        return self.values[generator.randrange(len(self.values))]


@dataclass(frozen=True)
class Interval:
    """A uniform or log-uniform distribution.

    Attributes:
        low, high: bounds, included.
        log: log-uniform instead of uniform.
    """

    low: float
    high: float
    log: bool = False

    @property
    def probes(self) -> tuple[float, ...]:
        """The values to check before anything is trained: both bounds and a number between them that is not whole."""
        return self.low, self.low + _INNER_PROBE * (self.high - self.low), self.high

    def draw(self, generator: random.Random) -> float:
        """Draw a number. It is clipped to the bounds, since exp(log(x)) may exceed x by a rounding error."""
        if not self.log:
            return generator.uniform(self.low, self.high)
        value = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
        return min(max(value, self.low), self.high)


Dimension = Union[Choice, Interval]


@dataclass(frozen=True)
class Space:
    """A search space.

    Attributes:
        dimensions: the distribution of each key, in the order of the file.
        source: the file's name, for messages.
    """

    dimensions: dict[str, Dimension]
    source: str

    @property
    def size(self) -> Optional[int]:
        """Number of configurations; None if a key is continuous."""
        lengths = [len(d.values) if isinstance(d, Choice) else None for d in self.dimensions.values()]
        return None if None in lengths else math.prod(length for length in lengths if length is not None)

    def at(self, index: int) -> Settings:
        """Return the configuration at an index of the grid, from 0. The last key changes fastest.

        Raises:
            ValueError: a key is continuous.
        """
        reversed_settings: Settings = {}
        for key, choice in reversed(self._choices().items()):
            index, digit = divmod(index, len(choice.values))
            reversed_settings[key] = choice.values[digit]
        return {key: reversed_settings[key] for key in self.dimensions}

    def grid(self) -> Iterator[Settings]:
        """Iterate over all configurations in the order of the file. The last key changes fastest.

        Raises:
            ValueError: a key is continuous.
        """
        choices = self._choices()
        combinations = itertools.product(*(choice.values for choice in choices.values()))
        return (dict(zip(choices, values)) for values in combinations)

    def _choices(self) -> dict[str, Choice]:
        """The dimensions of a finite space.

        Raises:
            ValueError: a key is continuous.
        """
        for key, dimension in self.dimensions.items():
            if isinstance(dimension, Interval):
                raise ValueError(
                    f"{self.source}: {key} is continuous, which has no grid; allowed: {key}: {{choice: [...]}}, "
                    "or search=random"
                )
        return {key: dimension for key, dimension in self.dimensions.items() if isinstance(dimension, Choice)}

    def sample(self, count: int, seed: int) -> list[Settings]:
        """Draw different configurations at random; the whole space if ``count`` exceeds its size.

        The first configurations do not depend on ``count``.
        """
        generator = random.Random(seed)
        if self.size is None:
            return list(itertools.islice(self._distinct_draws(generator), count))
        indices: dict[int, None] = {}
        while len(indices) < min(count, self.size):
            indices[generator.randrange(self.size)] = None
        return [self.at(index) for index in indices]

    def _distinct_draws(self, generator: random.Random) -> Iterator[Settings]:
        drawn: set[str] = set()
        while True:
            settings = {key: dimension.draw(generator) for key, dimension in self.dimensions.items()}
            if canonical_json(settings) not in drawn:
                drawn.add(canonical_json(settings))
                yield settings

    def without(self, keys: Iterable[str]) -> Space:
        """Return the space without some keys."""
        removed = set(keys)
        return Space({key: value for key, value in self.dimensions.items() if key not in removed}, self.source)

    def to_entries(self) -> dict[str, dict[str, list[Any]]]:
        """Return the entries of a yaml file, which :func:`parse` reads again."""
        return {key: _entry(dimension) for key, dimension in self.dimensions.items()}

    def to_ray(self, tune: Any) -> dict[str, Any]:
        """Return the space in the terms of ``ray.tune``, for Optuna and HyperOpt too.

        A :class:`Choice` becomes the indices of its values, so that values of any type are possible.
        """
        return {key: _to_ray(dimension, tune) for key, dimension in self.dimensions.items()}

    def encode(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Convert a configuration to a point of :meth:`to_ray`.

        Raises:
            ValueError, KeyError: the configuration lies outside of this space.
        """
        point: dict[str, Any] = {}
        for key, dimension in self.dimensions.items():
            if isinstance(dimension, Choice):
                point[key] = list(map(canonical_json, dimension.values)).index(canonical_json(chosen[key]))
            elif dimension.low <= chosen[key] <= dimension.high:
                point[key] = float(chosen[key])
            else:
                raise ValueError(f"{key}={chosen[key]!r} is not within {dimension.low} and {dimension.high}")
        return point

    def decode(self, point: Mapping[str, Any]) -> Settings:
        """Convert a point of :meth:`to_ray` to a configuration."""
        return {
            key: dimension.values[int(point[key])] if isinstance(dimension, Choice) else float(point[key])
            for key, dimension in self.dimensions.items()
        }

    def check(self, model: Any, dataset: str, settings: Optional[Settings] = None) -> None:
        """Check the probes of every key with the model's Config, before anything is trained.

        Args:
            model, dataset: as :func:`recbole_diffusion.run` takes them.
            settings: the other settings of a trial.

        Raises:
            ValueError: a key that the model does not know, a value that it refuses, or a key of :data:`NOT_TUNED`;
                one line that names the file.
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


def canonical_json(value: Any) -> str:
    """Return a text that is equal for equal values only: 1, 1.0 and True have different texts."""
    return json.dumps(value, sort_keys=True, default=str)


def is_number(value: Any) -> bool:
    """Return whether a value is a finite int or float; a bool is none."""
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
