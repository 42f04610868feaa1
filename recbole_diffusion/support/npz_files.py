"""Reader of npz and npy files that may come from strangers: no code runs, no header reserves much memory.

numpy allocates what a header promises before it reads the data, and a deflated member may grow a thousandfold. Here the
headers are compared with the sizes of the members first. The checksums of all members are verified, so that a damaged
file is an error and never another number.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Union

import numpy as np

from recbole_diffusion.support.bounded_read import most_unpacked, read_bounded

#: The record at an archive's end: its signature, and the number of members at an offset; 0xFFFF where they are more.
_END, _MEMBERS, _MORE = b"PK\x05\x06", 10, 0xFFFF
#: The longest record with its comment, in bytes.
_LONGEST_END = 22 + 2**16
#: What numpy writes. The methods of others unpack a block of any size at once.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


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
                _check_members(archive, stream)
                _check_sizes(archive, os.fstat(stream.fileno()).st_size)
                return {_name(info): _member(archive, info) for info in archive.infolist()}
        except (ValueError, MemoryError):
            raise
        except Exception as error:  # zipfile and zlib raise many types on damaged files
            raise ValueError(f"it is damaged: {' '.join(str(error).split()) or type(error).__name__}") from error


def _check_members(archive: zipfile.ZipFile, stream: BinaryIO) -> None:
    """Check that the archive's directory lists as many members as were written, each once.

    In the directory a flipped bit in the length of an entry's comment would make the entries behind it a part of it.

    Raises:
        ValueError: it does not.
    """
    stream.seek(-min(_LONGEST_END, stream.seek(0, os.SEEK_END)), os.SEEK_END)
    end = stream.read()
    (count,) = struct.unpack_from("<H", end, end.rindex(_END) + _MEMBERS)
    infos = archive.infolist()
    if count not in (len(infos), _MORE) or len({info.filename for info in infos}) < len(infos):
        raise ValueError(f"it is damaged: its directory lists {len(infos)} arrays of {count}")
    if any(info.compress_type not in _METHODS for info in infos):
        raise ValueError("its arrays are packed by another method than numpy's")


def _check_sizes(archive: zipfile.ZipFile, size: int) -> None:
    """Check that the members are no larger than an archive of ``size`` bytes may hold.

    Raises:
        ValueError: they are.
    """
    total = sum(info.file_size for info in archive.infolist())
    if total > most_unpacked(size):
        raise ValueError(f"its {size} bytes would become {total} in memory")


def _name(info: zipfile.ZipInfo) -> str:
    return info.filename[: -len(".npy")] if info.filename.endswith(".npy") else info.filename


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Read one array; zipfile compares its checksum, and the directory may promise less than follows."""
    with archive.open(info) as member:
        return _array(io.BytesIO(read_bounded(member, info.file_size)), info.file_size)


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
