"""The names that a saved data set of RecBole may hold, each with the one use that a file may make of it."""

from __future__ import annotations

import importlib
import io
import pickle
import re
import zipfile
from dataclasses import dataclass
from enum import Enum
from typing import Any, Optional

import numpy as np
import pandas as pd
import torch
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader


class CodeFound(pickle.UnpicklingError):
    """The file names or calls what could run code."""


class Use(Enum):
    """What a file may do with what it names."""

    CALL = "call it"
    MAKE = "make an instance, without its constructor"
    PASS = "pass it to what it calls"
    HOLD = "hold it in an attribute of the settings"


@dataclass(frozen=True)
class Named:
    """What a file named. It is no function, class or container: what a file leaves in its data cannot be called.

    Attributes:
        value: the function or class.
        use: the one that a file may make of it.
        text: its name, for messages.
    """

    value: Any
    use: Use
    text: str


#: Functions and classes that only build values, and RecBole's enumerations.
_CALLED = {
    ("builtins", "getattr"),
    ("builtins", "slice"),
    ("collections", "OrderedDict"),
    ("logging", "getLogger"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"),
    ("pandas._libs.internals", "_unpickle_block"),
    ("pandas.core.indexes.base", "_new_Index"),
    ("pandas.core.internals.managers", "BlockManager"),
    ("pandas", "StringDtype"),
    ("torch", "device"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch.storage", "_load_from_bytes"),
    *(
        ("recbole.utils.enum_type", name)
        for name in ("EvaluatorType", "FeatureSource", "FeatureType", "InputType", "KGDataLoaderState", "ModelType")
    ),
}
#: Classes that are arguments of these functions.
_PASSED = {
    ("numpy", "ndarray"),
    ("pandas.arrays", "StringArray"),
    ("pandas.core.indexes.base", "Index"),
    ("pandas.core.indexes.numeric", "Int64Index"),
    ("pandas.core.indexes.range", "RangeIndex"),
    ("pandas", "Index"),
    ("pandas", "RangeIndex"),
}
#: Classes of the objects in a file, by module.
_MADE = {
    "pandas": ("DataFrame",),
    "pandas.core.frame": ("DataFrame",),
    "torch.utils.data.sampler": ("BatchSampler", "RandomSampler", "SequentialSampler"),
    "recbole.config.configurator": ("Config",),
    "recbole.data.interaction": ("Interaction",),
    "recbole.data.dataset.dataset": ("Dataset",),
    "recbole.data.dataset.sequential_dataset": ("SequentialDataset",),
    "recbole.data.dataset.kg_dataset": ("KnowledgeBasedDataset",),
    "recbole.data.dataset.kg_seq_dataset": ("KGSeqDataset",),
    "recbole.data.dataset.decisiontree_dataset": ("DecisionTreeDataset",),
    "recbole.data.dataset.customized_dataset": ("GRU4RecKGDataset", "KSRDataset", "DIENDataset"),
    "recbole.data.dataloader.general_dataloader": (
        *("TrainDataLoader", "NegSampleEvalDataLoader", "FullSortEvalDataLoader"),
    ),
    "recbole.data.dataloader.knowledge_dataloader": ("KGDataLoader", "KnowledgeBasedDataLoader"),
    "recbole.data.dataloader.user_dataloader": ("UserDataLoader",),
    "recbole.data.transform": (
        *("Equal", "MaskItemSequence", "InverseItemSequence", "CropItemSequence", "ReorderItemSequence"),
        "UserDefinedTransform",
    ),
    "recbole.sampler.sampler": ("Sampler", "KGSampler", "RepeatableSampler", "SeqSampler"),
    "recbole_diffusion.cards.card": ("Card", "Code", "Contract", "Journal", "Nfe", "Paper", "Parity"),
    "recbole_diffusion.cards.model_spec": ("ModelSpec",),
    "recbole_diffusion.data.account": ("Account", "Dropped"),
    "recbole_diffusion.data.loaders": ("FullSortLoader", "ItemLists", "KnowledgeLoader", "UserLoader"),
    "recbole_diffusion.data.sequences": ("TargetsDataset", "UserSequenceDataset"),
    "recbole_diffusion.settings.config": ("Config",),
    "recbole_diffusion.settings.precedence": ("Source",),
    "recbole_diffusion.settings.schema": ("Key",),
}
#: Classes that the settings in a file hold, beside the model's.
_HELD = {("yaml.loader", "FullLoader"), ("recbole_diffusion.support.yaml_files", "YamlLoader")}
#: Packages whose classes may be the model's class in the settings.
_MODELS = ("recbole.model.", "recbole_diffusion.model.")
#: What a file may look up by ``getattr``: functions of loaders that these keep.
_LOOKED_UP = frozenset({"collate_fn", *(f"_neg_sample_by_{kind}_wise_sampling" for kind in ("pair", "point"))})


def find(module: str, name: str) -> Named:
    """Import what a file names.

    Raises:
        CodeFound: a file must not name it.
        ImportError, AttributeError: it does not exist here.
    """
    text = f"{module}.{name}"
    use = _use(module, name)
    value = None if use is None else getattr(importlib.import_module(module), name)
    is_library = module.partition(".")[0] not in {"recbole", "recbole_diffusion"}
    if use is None or not (is_library or _is_class_of(value, module, name)):
        raise CodeFound(f"it names {text[:100]!r}, which could run code")
    return Named(_REPLACED.get((module, name), value), use, text)


def _use(module: str, name: str) -> Optional[Use]:
    """The use of a name; None if a file must not hold it."""
    if (module, name) in _CALLED:
        return Use.CALL
    if (module, name) in _PASSED:
        return Use.PASS
    if name in _MADE.get(module, ()):
        return Use.MAKE
    is_model = module.startswith(_MODELS) and name.isidentifier()
    return Use.HOLD if is_model or (module, name) in _HELD else None


def _is_class_of(value: Any, module: str, name: str) -> bool:
    """Whether a module defines the class; a module also has the names that it imports."""
    return isinstance(value, type) and (value.__module__, value.__qualname__) == (module, name)


def _attribute(owner: Any, name: str) -> Any:
    """``getattr`` of the functions that loaders keep: those of the class, whatever the instance holds."""
    if type(name) is not str or name not in _LOOKED_UP or not isinstance(owner, AbstractDataLoader):
        raise CodeFound(f"it looks up {str(name)[:100]!r}")
    return getattr(type(owner), name).__get__(owner)


def _tensor_storage(content: bytes) -> Any:
    """torch's reader of a tensor's numbers, which would unpickle any object in them, and unpack any archive."""
    if type(content) is not bytes or zipfile.is_zipfile(io.BytesIO(content)):
        raise CodeFound("it holds a tensor in an archive, which could take any memory")
    return torch.load(io.BytesIO(content), weights_only=True)


def _scalar(kind: Any, content: Any = None) -> Any:
    """A number or text of numpy's; without content numpy would make one of any size."""
    is_right = isinstance(kind, np.dtype) and not kind.hasobject and type(content) is bytes
    if not is_right or kind.itemsize != len(content):
        raise CodeFound("it holds a number of numpy's without its bytes")
    if len(content) > _LARGEST_SCALAR:
        raise CodeFound(f"it holds a text of {len(content)} bytes as a number")
    return np.frombuffer(content, kind)[0] if content else kind.type()


def _index(kind: Any, content: Any) -> Any:
    """pandas' maker of an index: of an array, or of the ends of a range. A range as an array could take any memory."""
    holds = content.get("data") if type(content) is dict else None
    if kind is pd.RangeIndex:
        is_right = type(content) is dict and {"start", "stop", "step", "name"}.issuperset(content)
    else:
        is_right = isinstance(holds, (np.ndarray, pd.api.extensions.ExtensionArray))
    if not is_right:
        raise CodeFound("it makes an index of something else than an array")
    return _NEW_INDEX(kind, content)


def _dtype(text: str, *options: Any) -> Any:
    """The dtype of a name without fields."""
    if type(text) is not str or not re.fullmatch(r"[|<>=]?[?bBiufcmMOSUV]\d*", text):
        raise CodeFound(f"it asks for the dtype {str(text)[:100]!r}")
    return np.dtype(text, *options)


_NEW_INDEX: Any = importlib.import_module("pandas.core.indexes.base")._new_Index
#: The most bytes of one of numpy's numbers or texts in a file, which may hold it many times at a few bytes each.
_LARGEST_SCALAR = 1024
_REPLACED: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    ("pandas.core.indexes.base", "_new_Index"): _index,
    ("builtins", "getattr"): _attribute,
    ("numpy", "dtype"): _dtype,
    ("torch.storage", "_load_from_bytes"): _tensor_storage,
}
