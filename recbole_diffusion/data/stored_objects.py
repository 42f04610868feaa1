"""Data sets as arrays and json: a file format for RecBole's data sets that runs no code when it is read.

The attributes of a data set are plain values, arrays, tensors and a few known classes. Each becomes a node of json;
arrays and texts are members of an npz file, to which the nodes refer. An object that several data sets share is written
once and shared again when it is read. The class of a data set is not taken from the file: the reader passes it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from enum import Enum
from logging import Logger, getLogger
from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType

from recbole_diffusion.data.account import Account, Dropped
from recbole_diffusion.data.presplit import WholeLists

#: Version of the format.
FORMAT = 1
_ENUMS: dict[str, Any] = {"FeatureType": FeatureType, "FeatureSource": FeatureSource}
#: Bytes that texts may take in memory whatever their size in the file, and bytes per byte there beyond that.
_ALWAYS_ALLOWED, _LARGEST_RATIO = 2**26, 200
_PLAIN = (bool, int, float, str, type(None))


class NotStorable(TypeError):
    """An attribute of the data set has a type that the format does not know."""


def pack(datasets: Sequence[Any]) -> dict[str, np.ndarray]:
    """Convert data sets of one class to arrays, for ``np.savez``.

    Raises:
        NotStorable: a data set has an attribute of another type.
    """
    writer = _Writer()
    nodes = [writer.node({**vars(dataset), "config": None}) for dataset in datasets]
    content = json.dumps({"format": FORMAT, "datasets": nodes, "shared": writer.shared})
    return {**writer.arrays, "content": np.frombuffer(content.encode(), dtype=np.uint8)}


def unpack(arrays: Mapping[str, np.ndarray], kind: type) -> list[Any]:
    """Convert arrays of :func:`pack` to data sets.

    Args:
        arrays: by name.
        kind: class of the data sets.

    Raises:
        ValueError, KeyError, TypeError, IndexError: the arrays are not those of :func:`pack`.
    """
    content = json.loads(arrays["content"].tobytes().decode())
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']!r}; this version reads {FORMAT}")
    reader = _Reader(arrays, content["shared"])
    datasets = []
    for node in content["datasets"]:
        dataset: Any = object.__new__(kind)
        vars(dataset).update(reader.value(node))
        datasets.append(dataset)
    return datasets


class _Writer:
    """Conversion of objects to nodes.

    Attributes:
        arrays: by name.
        shared: the node of each object that may be shared, by number.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.shared: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._alive: list[Any] = []  # an id is that of one object as long as the object lives

    def node(self, value: Any) -> Any:
        """The node of a value: the value itself if json can hold it, else ``[kind, content]``."""
        if type(value) in _PLAIN:
            return value
        if isinstance(value, np.generic):
            return self._scalar(value)
        if isinstance(value, Enum) and type(value) in _ENUMS.values():
            return ["enum", [type(value).__name__, value.name]]
        if isinstance(value, Logger):
            return ["logger", None]
        if id(value) not in self._numbers:
            self._alive.append(value)
            content = self._content(value)
            self._numbers[id(value)] = len(self.shared)
            self.shared.append(content)
        return ["shared", self._numbers[id(value)]]

    def _content(self, value: Any) -> Any:
        """The node of an object that may be shared.

        Raises:
            NotStorable: its type is not known.
        """
        kind = type(value)
        if kind is np.ndarray:
            return ["array", self._array(value)]
        if kind is torch.Tensor:
            return ["tensor", self._array(value.numpy())]
        if kind is Interaction:
            return ["interaction", self.node(value.interaction)]
        if kind is dict:
            return self._mapping(value)
        if kind in (list, tuple, set):
            return [kind.__name__, [self.node(item) for item in value]]
        if kind is Account:
            dropped = [[entry.reason, entry.rows, entry.requested] for entry in value.dropped]
            return ["account", {"files": value.files, "dropped": dropped, "notes": value.notes}]
        if kind is defaultdict and value.default_factory is int:  # the lengths of lists in pre-split files
            return ["numbers", [[self.node(key), self.node(number)] for key, number in value.items()]]
        if kind is WholeLists:
            return ["whole_lists", [self.node(array) for array in value]]
        raise NotStorable(f"{kind.__module__}.{kind.__qualname__}")

    def _mapping(self, value: dict[Any, Any]) -> Any:
        """A dict; one from names to consecutive numbers, such as RecBole's of tokens, is stored as an array."""
        keys, numbered = list(value), all(type(number) is int for number in value.values())
        if keys and numbered and all(isinstance(key, str) for key in keys) and [*value.values()] == [*range(len(keys))]:
            return ["numbering", self._array(np.array([str(key) for key in keys], dtype=object))]
        return ["dict", [[self.node(key), self.node(item)] for key, item in value.items()]]

    def _scalar(self, value: np.generic) -> Any:
        if isinstance(value, np.str_):
            return ["str_", str(value)]
        return ["scalar", self._array(np.asarray(value))]

    def _array(self, value: np.ndarray) -> Any:
        """The name of a stored array; texts are stored as UTF-8 with their lengths, since numpy pads them."""
        name = f"a{len(self.arrays)}"
        if value.dtype.kind in "OU":
            texts = value.ravel().tolist()
            if not all(type(text) is str for text in texts):
                raise NotStorable(f"an array of {sorted({type(text).__name__ for text in texts})}")
            encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
            self.arrays[name] = np.frombuffer(bytearray().join(encoded), dtype=np.uint8)
            self.arrays[f"{name}.lengths"] = np.array([len(text) for text in encoded], dtype=np.int64)
            return {"texts": name, "shape": list(value.shape), "dtype": value.dtype.str}
        if value.dtype.kind not in "biuf":
            raise NotStorable(f"an array of {value.dtype}")
        self.arrays[name] = value
        return {"values": name}


class _Reader:
    """Conversion of nodes to objects.

    Args:
        arrays: by name.
        nodes: of the objects that may be shared, by number.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], nodes: list[Any]) -> None:
        self._arrays, self._objects = arrays, []
        for node in nodes:  # an object's parts have lower numbers
            self._objects.append(self._object(*node))

    def value(self, node: Any) -> Any:
        """The value of a node."""
        if not isinstance(node, list):
            return node
        kind, content = node
        if kind == "shared":
            return self._objects[content]
        if kind == "enum":
            return _ENUMS[content[0]][content[1]]
        if kind == "str_":
            return np.str_(content)
        if kind == "scalar":
            return self._array(content)[()]
        if kind == "logger":
            return getLogger()
        raise ValueError(f"unknown kind {kind!r}")

    def _object(self, kind: str, content: Any) -> Any:
        if kind == "array":
            return self._array(content)
        if kind == "tensor":
            return torch.from_numpy(self._array(content))
        if kind == "interaction":
            return Interaction(self.value(content))
        if kind == "numbering":
            return {token: number for number, token in enumerate(self._array(content))}
        if kind == "dict":
            return {self.value(key): self.value(item) for key, item in content}
        if kind in ("list", "tuple", "set"):
            return {"list": list, "tuple": tuple, "set": set}[kind](self.value(item) for item in content)
        if kind == "account":
            return Account(content["files"], [Dropped(*entry) for entry in content["dropped"]], content["notes"])
        if kind == "numbers":
            return defaultdict(int, {self.value(key): self.value(number) for key, number in content})
        if kind == "whole_lists":
            return WholeLists(*map(self.value, content))
        raise ValueError(f"unknown kind {kind!r}")

    def _array(self, content: dict[str, Any]) -> np.ndarray:
        if "values" in content:
            return self._arrays[content["values"]]
        name = content["texts"]
        ends = np.cumsum(self._arrays[f"{name}.lengths"]).tolist()
        joined = self._arrays[name].tobytes()
        starts = [0, *ends[:-1]]
        texts = [joined[start:end].decode("utf-8", "surrogatepass") for start, end in zip(starts, ends)]
        kind = np.dtype(content["dtype"])
        if kind.itemsize * len(texts) > max(_ALWAYS_ALLOWED, _LARGEST_RATIO * len(joined)):
            raise ValueError(f"{len(joined)} bytes of texts would take {kind.itemsize * len(texts)} in memory")
        result = np.empty(len(texts), dtype=object)
        result[:] = texts
        return result.astype(kind).reshape(content["shape"])
