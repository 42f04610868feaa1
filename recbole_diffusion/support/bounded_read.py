"""Reading of packed content that may come from strangers: a small file may unpack to a thousand times its size."""

from __future__ import annotations

from typing import IO

_BLOCK = 2**22


def read_bounded(stream: IO[bytes], largest: int) -> bytes:
    """Read a stream to its end, block by block: nothing is reserved for what may not come.

    Args:
        stream: unpacks as it is read.
        largest: the most bytes that it may hold.

    Raises:
        ValueError: it holds more.
    """
    blocks, total = [], 0
    while block := stream.read(_BLOCK):
        total += len(block)
        if total > largest:
            raise ValueError(f"it unpacks to more than {largest} bytes")
        blocks.append(block)
    return b"".join(blocks)
