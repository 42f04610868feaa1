"""Download of files, with checksums; and archives unpacked so that no file leaves the folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, Optional
from urllib.parse import urlsplit

from recbole_diffusion.support import terminal
from recbole_diffusion.support.atomic_write import atomic_write

_SCHEMES = ("http", "https", "file")
_SECONDS = 30.0
_BLOCK = 1 << 20


def download(address: str, file: Path) -> None:
    """Download a file; it appears under its name once it is complete. A bar shows the progress in a terminal.

    Raises:
        OSError: the address cannot be read, or the connection ends early.
        ValueError: an address of another scheme.
    """
    if urlsplit(address).scheme not in _SCHEMES:
        raise ValueError(f"{address!r} is no address of http, https or file")
    with urllib.request.urlopen(address, timeout=_SECONDS) as response:
        total = int(response.headers.get("Content-Length") or 0)
        atomic_write(file, lambda target: _copy(response, target, total, file.name))


def _copy(response: Any, target: IO[bytes], total: int, name: str) -> None:
    received = 0
    with _bar(total, name) as advance:
        while True:
            block = response.read(_BLOCK)
            if not block:
                break
            target.write(block)
            received += len(block)
            advance(len(block))
    if total and received != total:
        raise OSError(f"the connection ended after {received:,} of {total:,} bytes")


@contextlib.contextmanager
def _bar(total: int, name: str) -> Iterator[Any]:
    from tqdm import tqdm

    with tqdm(
        total=total or None, unit="B", unit_scale=True, desc=name, disable=not terminal.is_terminal(sys.stderr)
    ) as bar:
        yield bar.update


def digest(file: Path, algorithm: str = "sha256") -> str:
    """The hash of a file."""
    content = hashlib.new(algorithm)
    with open(file, "rb") as stream:
        for block in iter(lambda: stream.read(_BLOCK), b""):
            content.update(block)
    return content.hexdigest()


def verify(file: Path, checksum: str) -> None:
    """Compare a file with a checksum, ``md5:…`` or ``sha256:…``.

    Raises:
        ValueError: they differ.
    """
    algorithm, _, expected = checksum.partition(":")
    actual = digest(file, algorithm)
    if actual != expected:
        raise ValueError(
            f"{file} has the {algorithm} {actual}, expected is {expected}: it is damaged, or another file; remove it "
            "and fetch it again"
        )


def is_archive(file: Path) -> bool:
    """Whether a file is a zip or tar archive."""
    return zipfile.is_zipfile(file) or tarfile.is_tarfile(file)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the files of a zip or tar archive below a folder. Links and devices are not unpacked.

    Raises:
        ValueError: a member would lie outside of the folder, or the archive is damaged; nothing is unpacked then.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as content:
                infos = [info for info in content.infolist() if not info.is_dir()]
                targets = [_target(archive, info.filename, folder) for info in infos]
                for info, target in zip(infos, targets):
                    with content.open(info) as member:
                        _write_member(member, target)
            return
        with tarfile.open(archive) as packed:
            members = [member for member in packed.getmembers() if member.isfile()]
            targets = [_target(archive, member.name, folder) for member in members]
            for member_info, target in zip(members, targets):
                stream = packed.extractfile(member_info)
                if stream is not None:
                    _write_member(stream, target)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise ValueError(f"{archive} cannot be unpacked: {error}; remove it and fetch it again") from error


def _target(archive: Path, name: str, folder: Path) -> Path:
    """The path of a member below ``folder``."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
        raise ValueError(f"{archive}: its member {name!r} would be written outside of the folder; it is not unpacked")
    target = folder.joinpath(*path.parts)
    if os.path.commonpath([folder.resolve(), target.resolve()]) != str(folder.resolve()):
        raise ValueError(f"{archive}: its member {name!r} would be written outside of the folder; it is not unpacked")
    return target


def _write_member(member: Any, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "wb") as file:
        shutil.copyfileobj(member, file)


def reason_of(error: Exception) -> Optional[str]:
    """Why a download failed, in a few words."""
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return " ".join(str(reason).split())
