"""The record at the end of a saved data set: what the pickle before it was made of, and its checksum.

A file is the pickle, the record as json, its length (8 bytes, little-endian) and a mark. Unpicklers read the pickle
only.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any, BinaryIO, Optional

_MARK = b"recbole-diffusion/saved/1"


def write(stream: Any, saved: Any, record: dict[str, Any]) -> None:
    """Write the pickle of ``saved``, and the record with the pickle's checksum."""
    hashed = _Hashed(stream)
    pickle.dump(saved, hashed, protocol=4)
    text = json.dumps({**record, "sha256": hashed.sha256.hexdigest()}).encode()
    stream.write(text + len(text).to_bytes(8, "little") + _MARK)


class _Hashed:
    """A stream whose content is hashed while it is written."""

    def __init__(self, stream: Any) -> None:
        self._stream, self.sha256 = stream, hashlib.sha256()

    def write(self, content: Any) -> int:
        self.sha256.update(content)
        written: int = self._stream.write(content)
        return written


def read(file: Path) -> tuple[Optional[dict[str, Any]], str]:
    """Read the record of a saved file, and compare the pickle with its checksum.

    Returns:
        The record, None if the file has none; and what is damaged, empty if nothing is. Files of earlier versions have
        no checksum in their record.
    """
    trailer_size, file_size = len(_MARK) + 8, file.stat().st_size
    with open(file, "rb") as stream:
        stream.seek(max(file_size - trailer_size, 0))
        length, mark = stream.read(8), stream.read()
        if mark != _MARK:
            return None, ""
        pickled = file_size - trailer_size - int.from_bytes(length, "little")
        if pickled < 0:
            return None, "the length of its record"
        stream.seek(pickled)
        try:
            record = json.loads(stream.read()[:-trailer_size])
        except (ValueError, RecursionError):
            return None, "its record"
        if not (isinstance(record, dict) and isinstance(record.get("content"), dict) and "ids" in record):
            return None, "its record"
        if "sha256" in record and _sha256(stream, pickled) != record["sha256"]:
            return None, "its content differs from its checksum"
    return record, ""


def _sha256(stream: BinaryIO, size: int) -> str:
    """The sha256 of the first ``size`` bytes."""
    stream.seek(0)
    digest = hashlib.sha256()
    while size and (block := stream.read(min(size, 2**22))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()
