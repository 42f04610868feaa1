"""Reader of RecBole's saved data sets and loaders, which are pickles: it does nothing but what such files need.

A pickle may call anything that can be imported. Here a file can name what :mod:`recbole_diffusion.data.saved_names`
lists, and use each name in one way. It calls only functions that build arrays, tensors, frames and enumerations. It
sets attributes only of instances that it made, and replaces no method. Of functions and classes its data hold only
methods of the loaders and, in the settings, the model's class and that of the yaml reader.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Collection
from enum import Enum
from types import MethodType
from typing import Any, BinaryIO, Callable

import numpy as np
import pandas as pd
from recbole.data.dataset.dataset import Dataset

from recbole_diffusion.data.saved_names import CodeFound, Named, Use, find

#: Attributes of the settings that are classes.
_CLASS_ATTRIBUTES = frozenset({"model_class", "yaml_loader"})
#: Opcodes that saved data do not have.
_UNUSED = (
    *(pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.PERSID, pickle.BINPERSID),
    *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER, pickle.BYTEARRAY8),
)
#: The state of a DataFrame.
_FRAME_STATE = frozenset({"_mgr", "_typ", "_metadata", "attrs", "_flags"})


def load(stream: BinaryIO, classes: Collection[type]) -> Any:
    """Read a pickle.

    Args:
        stream: of the file.
        classes: of the run's model and data set, which the file may name.

    Raises:
        CodeFound: the file names or calls anything else.
    """
    return _Unpickler(stream, classes).load()


#: Python's own unpickler, whose calls can be checked.
_Base: Any = vars(pickle)["_Unpickler"]


class _Unpickler(_Base):
    """The unpickler.

    Attributes:
        made: the instances that the file made, by their ids.
    """

    def __init__(self, stream: BinaryIO, classes: Collection[type]) -> None:
        super().__init__(stream)
        self._classes = {(kind.__module__, kind.__qualname__): kind for kind in classes}
        self.made: dict[int, Any] = {}

    def find_class(self, module: str, name: str) -> Named:
        kind = self._classes.get((module, name))
        if kind is None:
            return find(module, name)
        return Named(kind, Use.MAKE if issubclass(kind, Dataset) else Use.HOLD, f"{module}.{name}")

    def _call(self) -> None:
        """The opcode REDUCE: a call."""
        arguments = self.stack.pop()
        function = self.stack[-1]
        _check(type(function) is Named and function.use is Use.CALL and type(arguments) is tuple, "calls", function)
        if isinstance(function.value, type) and issubclass(function.value, Enum):
            _check(len(arguments) == 1, "calls", function)  # two arguments would make a new enumeration
        self.stack[-1] = function.value(*map(_argument, arguments))

    def _make(self) -> None:
        """The opcode NEWOBJ: an instance without a call of its constructor. Only named tuples have arguments."""
        arguments = self.stack.pop()
        kind = self.stack[-1]
        _check(type(kind) is Named and kind.use is Use.MAKE and type(arguments) is tuple, "makes", kind)
        _check(not arguments or issubclass(kind.value, tuple), "makes", kind)
        self.stack[-1] = kind.value.__new__(kind.value, *arguments)
        self.made[id(self.stack[-1])] = self.stack[-1]

    def _build(self) -> None:
        """The opcode BUILD: the state of an object."""
        state = self.stack.pop()
        owner = self.stack[-1]
        if type(owner) is np.ndarray:
            owner.__setstate__(state)
        elif isinstance(owner, np.dtype):
            _check_dtype(owner, state)
        elif type(owner) is pd.arrays.StringArray:
            is_content = type(state) is tuple and all(isinstance(part, (np.ndarray, pd.StringDtype)) for part in state)
            _check(is_content and len(state) == 2, "sets the state of", owner)
            owner.__setstate__(state)
        elif id(owner) not in self.made:
            _check(False, "sets the state of", owner)
        elif type(owner) is pd.DataFrame:
            _check(type(state) is dict and _FRAME_STATE.issuperset(state), "sets the state of", owner)
            owner.__setstate__(state)
        else:
            _set_attributes(owner, state)

    def _refused(self) -> None:
        raise CodeFound("it uses an opcode that saved data do not have")

    dispatch = {
        **_Base.dispatch,
        pickle.REDUCE[0]: _call,
        pickle.NEWOBJ[0]: _make,
        pickle.BUILD[0]: _build,
        **dict.fromkeys((opcode[0] for opcode in _UNUSED), _refused),
    }


def _filled(opcode: bytes, kinds: tuple[type, ...], place: Callable[[Any], Any]) -> None:
    """Let an opcode that fills a container, which would call methods of any object, take only ``kinds``."""
    fill = _Base.dispatch[opcode[0]]

    def checked(unpickler: _Unpickler) -> None:
        _check(type(place(unpickler)) in kinds, "fills", place(unpickler))
        fill(unpickler)

    _Unpickler.dispatch[opcode[0]] = checked


_filled(pickle.APPEND, (list,), lambda unpickler: unpickler.stack[-2])
_filled(pickle.APPENDS, (list,), lambda unpickler: unpickler.metastack[-1][-1])
_filled(pickle.ADDITEMS, (set,), lambda unpickler: unpickler.metastack[-1][-1])
_filled(pickle.SETITEM, (dict, OrderedDict), lambda unpickler: unpickler.stack[-3])
_filled(pickle.SETITEMS, (dict, OrderedDict), lambda unpickler: unpickler.metastack[-1][-1])


def _check(condition: bool, verb: str, target: Any) -> None:
    """Raise CodeFound unless ``condition``."""
    if not condition:
        text = target.text if type(target) is Named else f"{type(target).__module__}.{type(target).__qualname__}"
        raise CodeFound(f"it {verb} {text[:100]!r}")


def _argument(value: Any) -> Any:
    return value.value if type(value) is Named and value.use is Use.PASS else value


def _set_attributes(owner: Any, state: Any) -> None:
    """Set the attributes of an instance as ``object`` does, without its own ``__setstate__``."""
    kind = type(owner)
    is_plain = not hasattr(kind, "__setstate__") and type(state) is dict and all(type(name) is str for name in state)
    _check(is_plain and hasattr(owner, "__dict__"), "sets the state of", owner)
    for name, value in state.items():
        method = getattr(kind, name, None)
        is_its_own = type(value) is MethodType and value.__self__ is owner and value.__func__ is method
        if callable(method) and not is_its_own:
            raise CodeFound(f"it replaces {f'{kind.__module__}.{kind.__qualname__}.{name}'[:100]!r}")
        if type(value) is Named and value.use is Use.HOLD and name in _CLASS_ATTRIBUTES:
            value = value.value
        vars(owner)[name] = value


def _check_dtype(kind: Any, state: Any) -> None:
    """Refuse the state of a dtype that its name does not already give; numpy would take any, and read objects there.

    Raises:
        CodeFound: it is another.
    """
    expected = np.dtype(kind.str).__reduce__()[2]
    _check(type(state) is tuple and (state[0], *state[2:]) == (expected[0], *expected[2:]), "sets the state of", kind)
    _check(state[1] in ("|", "<", ">", "="), "sets the state of", kind)
    kind.__setstate__(state)
