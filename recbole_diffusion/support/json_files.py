"""Json files with a checksum, so that a damaged number is an error and never another number."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Union

from recbole_diffusion.support.atomic_write import atomic_write_text
from recbole_diffusion.support.json_values import nan_to_null

#: The key of the checksum, the last one of a file's mapping.
CHECKSUM = "sha256"


def write(file: Union[str, Path], content: dict[str, Any]) -> None:
    """Write a mapping atomically, with the checksum of its content; the folder is created if needed."""
    file = Path(file)
    plain = json.loads(json.dumps(nan_to_null(content), default=str))
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(file, json.dumps({**plain, CHECKSUM: _checksum(plain)}, indent=1) + "\n")


def read(file: Union[str, Path]) -> dict[str, Any]:
    """Read a mapping; without its checksum, which files of earlier versions lack.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no json, holds no mapping or differs from its checksum; one line without the file's name.
    """
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("it holds no mapping")
    last = next(reversed(content), None)
    has_checksum, checksum = CHECKSUM in content, content.pop(CHECKSUM, None)
    if not has_checksum and last is not None and content[last] == _checksum(content, last):
        raise ValueError("it was changed or damaged: the name of its checksum")
    if has_checksum and checksum != _checksum(content):
        raise ValueError("it was changed or damaged: its content differs from its checksum")
    return content


def checksum_of(content: bytes) -> str:
    """The sha256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def check(file: Path, checksums: Any) -> None:
    """Compare a file with its checksum, if ``checksums`` is a mapping that names the file.

    Raises:
        OSError: the file cannot be read.
        ValueError: they differ.
    """
    is_listed = isinstance(checksums, dict) and file.name in checksums
    if is_listed and checksum_of(file.read_bytes()) != checksums[file.name]:
        raise ValueError(f"{file.name} was changed or damaged: it differs from its checksum in manifest.json")


def _checksum(content: dict[str, Any], without: str = "") -> str:
    """The sha256 of values that json can hold, of all keys but ``without``."""
    plain = {key: value for key, value in content.items() if key != without}
    return checksum_of(json.dumps(plain, sort_keys=True).encode())
