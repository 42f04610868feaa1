"""Reader of RecBole's saved data sets and loaders, which are pickles: it calls nothing but what such files need.

A pickle may call anything that can be imported. Here it can name classes of RecBole, of this package and of the run's
model, and call only functions that build arrays, tensors, frames and enumerations.
"""

from __future__ import annotations

import io
import pickle
from enum import Enum
from typing import Any, BinaryIO

import torch

#: Functions and classes beside RecBole's and ours that a file may name. All of them only build values.
_NAMES = {
    *(("builtins", name) for name in ("slice", "set", "frozenset", "getattr")),
    *(("collections", name) for name in ("OrderedDict", "Counter", "defaultdict")),
    ("logging", "getLogger"),
    ("_codecs", "encode"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("pandas._libs.internals", "_unpickle_block"),
    ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"),
    ("pandas.core.frame", "DataFrame"),
    ("pandas.core.indexes.base", "Index"),
    ("pandas.core.indexes.base", "_new_Index"),
    ("pandas.core.indexes.numeric", "Int64Index"),
    ("pandas.core.indexes.range", "RangeIndex"),
    ("pandas.core.internals.managers", "BlockManager"),
    ("pandas.arrays", "StringArray"),
    *(("pandas", name) for name in ("DataFrame", "Index", "RangeIndex", "StringDtype")),
    ("scipy.sparse._coo", "coo_matrix"),
    ("scipy.sparse._csr", "csr_matrix"),
    ("yaml.loader", "FullLoader"),  # an attribute of RecBole's Config; its constructor parses nothing
    ("torch", "device"),
    ("torch", "Size"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch.storage", "_load_from_bytes"),
    *(("torch.utils.data.sampler", f"{name}Sampler") for name in ("Batch", "Random", "Sequential")),
}
#: Packages of which a file may name classes, to make instances without a call, and enumerations, to look up members.
_PACKAGES = ("recbole", "recbole_diffusion")
#: What a file may look up by ``getattr``: functions of loaders and samplers that these keep.
_LOOKED_UP = frozenset({"collate_fn", *(f"_neg_sample_by_{kind}_wise_sampling" for kind in ("pair", "point"))})


class CodeFound(pickle.UnpicklingError):
    """The file names or calls what could run code."""


def load(stream: BinaryIO, model_class: type) -> Any:
    """Read a pickle.

    Args:
        stream: of the file.
        model_class: class of the run's model, which the file may name.

    Raises:
        CodeFound: the file names or calls anything else.
    """
    return _Unpickler(stream, model_class).load()


#: Python's own unpickler, whose calls can be checked.
_Base: Any = vars(pickle)["_Unpickler"]


class _Unpickler(_Base):
    def __init__(self, stream: BinaryIO, model_class: type) -> None:
        super().__init__(stream)
        self._model_class = model_class

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == (self._model_class.__module__, self._model_class.__qualname__):
            return self._model_class
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _tensor_storage
        if (module, name) == ("builtins", "getattr"):
            return _attribute
        if (module, name) in _NAMES:
            return super().find_class(module, name)
        if module.partition(".")[0] in _PACKAGES and "." not in name:
            value = super().find_class(module, name)
            if isinstance(value, type):
                return value
        raise CodeFound(f"it names {module}.{name}, which could run code")

    def _checked_reduce(self) -> None:
        """The opcode REDUCE: a call. Classes of RecBole, ours and the model's are not called, but enumerations."""
        function = self.stack[-2]
        is_known_class = isinstance(function, type) and (
            function.__module__.partition(".")[0] in _PACKAGES or function is self._model_class
        )
        if is_known_class and not issubclass(function, Enum):
            raise CodeFound(f"it calls {function.__module__}.{function.__qualname__}")
        if not callable(function) or getattr(function, "__self__", None).__class__.__module__.startswith("recbole"):
            raise CodeFound("it calls a method")
        super().load_reduce()

    def _refused(self) -> None:
        raise CodeFound("it calls a class")

    dispatch = {
        **_Base.dispatch,
        pickle.REDUCE[0]: _checked_reduce,
        pickle.INST[0]: _refused,
        pickle.OBJ[0]: _refused,
    }


def _attribute(owner: Any, name: str) -> Any:
    """``getattr`` of the functions that loaders keep."""
    if name not in _LOOKED_UP or not type(owner).__module__.startswith(_PACKAGES):
        raise CodeFound(f"it looks up {name!r}")
    return getattr(owner, name)


def _tensor_storage(content: bytes) -> Any:
    """torch's reader of a tensor's numbers, which would unpickle any object in them."""
    return torch.load(io.BytesIO(content), weights_only=True)
