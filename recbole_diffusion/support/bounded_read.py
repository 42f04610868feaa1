"""Reading of packed content that may come from strangers: a small file may unpack to a thousand times its size."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from typing import Any, Callable, Protocol

_BLOCK = 2**22
#: The first bytes of packed content, and what unpacks one stream of it; gzip's streams are read by its own reader.
_GZIP, _PACKED = b"\x1f\x8b", {b"\xfd7zXZ": lzma.LZMADecompressor, b"BZh": bz2.BZ2Decompressor}
#: Bytes that packed content may take unpacked whatever its size, and its bytes per packed byte beyond that.
_ALWAYS_UNPACKED, _LARGEST_RATIO = 2**30, 200


class Readable(Protocol):
    """What is read in blocks."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes; none at the end."""


class TooLarge(ValueError):
    """Packed content takes too much memory unpacked."""


def most_unpacked(packed: int) -> int:
    """Return the most bytes that content of ``packed`` bytes may take unpacked."""
    return max(_ALWAYS_UNPACKED, _LARGEST_RATIO * packed)


def unpack(raw: bytes, packed: bool = False) -> bytes:
    """Unpack gzip, xz and bzip2; the first bytes tell the format.

    A file may hold several streams, one after the other. All are unpacked: Python's ``bz2.open`` and ``lzma.open`` stop
    at the first one that is damaged, as if the file ended there.

    Args:
        raw: the content of a file.
        packed: False: other content is returned as it is.

    Raises:
        OSError, EOFError, lzma.LZMAError, zlib.error: it is damaged.
        TooLarge: it unpacks to too much.
    """
    largest = most_unpacked(len(raw))
    if raw.startswith(_GZIP):
        with gzip.open(io.BytesIO(raw)) as stream:
            return read_bounded(stream, largest)
    for magic, decompressor in _PACKED.items():
        if raw.startswith(magic):
            return read_bounded(_Streams(raw, decompressor), largest)
    if packed:
        raise OSError("it is not packed by gzip, xz or bzip2")
    return raw


class _Streams:
    """The content of one packed stream after the other, read in blocks."""

    def __init__(self, raw: bytes, decompressor: Callable[[], Any]) -> None:
        self._rest, self._decompressor = raw, decompressor
        self._unpacker = decompressor()

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes, at least one unless the content has ended."""
        while True:
            if self._unpacker.eof:
                self._rest = self._unpacker.unused_data.lstrip(b"\0")  # xz may be padded
                if not self._rest:
                    return b""
                self._unpacker = self._decompressor()
            block: bytes = self._unpacker.decompress(self._rest, size)
            self._rest = b""
            if block:
                return block
            if not self._unpacker.eof and self._unpacker.needs_input:
                raise EOFError("it ends in the middle")


def read_bounded(stream: Readable, largest: int) -> bytes:
    """Read a stream to its end, block by block: nothing is reserved for what may not come.

    Args:
        stream: unpacks as it is read.
        largest: the most bytes that it may hold.

    Raises:
        TooLarge: it holds more.
    """
    blocks, total = [], 0
    while block := stream.read(_BLOCK):
        total += len(block)
        if total > largest:
            raise TooLarge(f"unpack to more than {largest}")
        blocks.append(block)
    return b"".join(blocks)
