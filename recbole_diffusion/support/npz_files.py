"""Reader of npz and npy files that may come from strangers: no code runs, no header reserves much memory.

numpy allocates what a header promises before it reads the data, and a deflated member may grow a thousandfold. Here the
headers are compared with the sizes of the members first. The checksums of all members are verified, so that a damaged
file is an error and never another number.
"""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Union

import numpy as np

#: Bytes that an archive may hold whatever its own size, and its uncompressed bytes per byte beyond that.
_ALWAYS_ALLOWED, _LARGEST_RATIO = 2**30, 200


def read(file: Union[str, Path]) -> dict[str, np.ndarray]:
    """Read all arrays of an npz file, or the one of an npy file under the name ``""``.

    Returns:
        The arrays by name.

    Raises:
        OSError: the file does not exist or cannot be read.
        ValueError: it is damaged, holds objects, or promises more than it can hold; one line without the file's name.
    """
    with open(file, "rb") as stream:
        if stream.read(4) not in (b"PK\x03\x04", b"PK\x05\x06"):
            stream.seek(0)
            return {"": _array(stream, os.fstat(stream.fileno()).st_size)}
        try:
            with zipfile.ZipFile(stream) as archive:
                _check_sizes(archive, os.fstat(stream.fileno()).st_size)
                return {_name(info): _member(archive, info) for info in archive.infolist()}
        except (ValueError, MemoryError):
            raise
        except Exception as error:  # zipfile and zlib raise many types on damaged files
            raise ValueError(f"it is damaged: {' '.join(str(error).split()) or type(error).__name__}") from error


def _check_sizes(archive: zipfile.ZipFile, size: int) -> None:
    """Check that the members are no larger than an archive of ``size`` bytes may hold.

    Raises:
        ValueError: they are.
    """
    total = sum(info.file_size for info in archive.infolist())
    if total > max(_ALWAYS_ALLOWED, _LARGEST_RATIO * size):
        raise ValueError(f"its {size} bytes would become {total} in memory")


def _name(info: zipfile.ZipInfo) -> str:
    return info.filename[: -len(".npy")] if info.filename.endswith(".npy") else info.filename


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Read one array; zipfile compares its checksum."""
    with archive.open(info) as member:
        return _array(io.BytesIO(member.read()), info.file_size)


def _array(stream: BinaryIO, size: int) -> np.ndarray:
    """Read the array of an npy stream of ``size`` bytes, if its header fits that size.

    Raises:
        ValueError: it does not, or the array holds objects.
    """
    shape, _, dtype = _header(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which could run code; save numbers or strings")
    count = 1
    for length in shape:
        count *= length
    if count and not dtype.itemsize:
        raise ValueError(f"its header promises {count} values without a size")
    promised = count * dtype.itemsize
    if promised != size - stream.tell():
        raise ValueError(f"its header promises {promised} bytes of data, {size - stream.tell()} follow")
    stream.seek(0)
    array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _header(stream: BinaryIO) -> Any:
    """Shape, order and dtype of an npy stream.

    Raises:
        ValueError: it is no npy stream.
    """
    try:
        major, _ = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        return read_header(stream)
    except Exception as error:  # numpy parses the header by ast, which raises many types
        raise ValueError("it is no file of numpy's, or damaged") from error
