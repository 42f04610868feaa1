"""Fetch a data set of the catalogue: download or take what is there, verify, unpack, convert, write the card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

from recbole_diffusion.data import convert
from recbole_diffusion.data.catalogue import download
from recbole_diffusion.data.catalogue.entries import Entry
from recbole_diffusion.data.importing import atomic_output, card, importer, sources
from recbole_diffusion.data.importing.request import Request
from recbole_diffusion.data.stored import describing, files
from recbole_diffusion.support.temporary_folder import temporary_folder

#: Folder of downloaded files, in ``data_path``.
DOWNLOADS = ".downloads"
_RECORD = "checksums.json"
#: Beginning of the names of temporary folders beside the downloaded files.
_UNPACKED = ".unpacked-"
_KINDS = (".inter", ".user", ".item", ".kg", ".link", ".net")


def fetch(
    entry: Entry,
    data_path: str = "dataset",
    addresses: Optional[list[str]] = None,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Fetch a data set.

    Args:
        entry: the data set.
        data_path: folder of the data sets.
        addresses: other addresses of its files, e.g. of a mirror; None: those of the catalogue.
        overwrite: replace a data set of that name.
        say: called with a line for each step.

    Returns:
        The data set's folder.

    Raises:
        ValueError: a file is missing and cannot be downloaded; a checksum differs; the data set exists.
    """
    folder = Path(data_path) / entry.name
    atomic_output.check_free(folder, entry.name, overwrite)
    downloads = Path(data_path) / DOWNLOADS / entry.name
    downloads.mkdir(parents=True, exist_ok=True)
    for address in addresses or entry.addresses:
        _obtain(entry, address, downloads, say)
    names = [address.rpartition("/")[2] for address in addresses or entry.addresses]
    facts = {
        "licence": entry.licence,
        "citation": entry.citation,
        "page": entry.page,
        "downloads": {name: f"sha256:{download.digest(downloads / name)}" for name in names},
        "addresses": addresses or entry.addresses,
    }
    with temporary_folder(_UNPACKED, downloads) as temporary:
        unpacked = temporary / "files"  # beside the lock of the temporary folder
        unpacked.mkdir()
        _unpack(entry, downloads, names, unpacked)
        _CONVERT[entry.format](entry, unpacked, folder, facts, overwrite)
    return folder


def _obtain(entry: Entry, address: str, downloads: Path, say: Callable[[str], None]) -> None:
    """Take a file that is there, or download it; verify it."""
    file = downloads / address.rpartition("/")[2]
    if file.is_file():
        say(f"{file}: taken, it is there")
    elif entry.by_hand and "://" not in address:
        raise ValueError(
            f"{entry.name} cannot be downloaded directly: get {', '.join(entry.files)} from {entry.page}, put them "
            f"into {downloads} and run data fetch {entry.name} again"
        )
    else:
        say(f"downloading {address}")
        try:
            download.download(address, file)
        except OSError as error:
            raise ValueError(
                f"{entry.name} could not be downloaded from {address} ({download.reason_of(error)}); put {file.name} "
                f"into {downloads} and run data fetch {entry.name} again"
            ) from error
    _verify(entry, file, say)


def _verify(entry: Entry, file: Path, say: Callable[[str], None]) -> None:
    """Compare the file with the catalogue's checksum, or else with the one that was recorded when it first came."""
    record = file.parent / _RECORD
    recorded: dict[str, str] = json.loads(record.read_text()) if record.is_file() else {}
    checksum = entry.checksum.get(file.name)
    if checksum is not None:
        download.verify(file, checksum)
        say(f"{file.name}: {checksum.partition(':')[0]} as in the catalogue")
    elif file.name in recorded:
        download.verify(file, recorded[file.name])
        say(f"{file.name}: sha256 as when it first came; the catalogue has no checksum of it")
    else:
        recorded[file.name] = f"sha256:{download.digest(file)}"
        card.write_json(record, recorded)
        say(f"{file.name}: {recorded[file.name]} recorded; the catalogue has no checksum to compare it with")


def _unpack(entry: Entry, downloads: Path, names: list[str], unpacked: Path) -> None:
    for name in [*names, *(name for name in entry.optional if (downloads / name).is_file())]:
        file = downloads / name
        if entry.format != "diffrec" and download.is_archive(file):
            download.unpack(file, unpacked)
        else:
            shutil.copyfile(file, unpacked / name)


def _member(entry: Entry, unpacked: Path, name: str) -> Path:
    """A member of the archive, by its path or by its name alone."""
    if (unpacked / name).is_file():
        return unpacked / name
    others = sorted(unpacked.rglob(Path(name).name))
    if len(others) == 1:
        return others[0]
    raise ValueError(f"{entry.name}: the downloaded file holds no {name}; {_listed(unpacked)}")


def _listed(unpacked: Path) -> str:
    names = sorted(str(file.relative_to(unpacked)) for file in unpacked.rglob("*") if file.is_file())
    return f"in it: {', '.join(names[:10])}{', …' if len(names) > 10 else ''}"


def _from_table(entry: Entry, unpacked: Path, folder: Path, facts: dict[str, Any], overwrite: bool) -> None:
    request = Request(name=entry.name, data_path=folder.parent, overwrite=overwrite, facts=facts, **entry.arguments)
    items = None if entry.items is None else _member(entry, unpacked, entry.items)
    importer.import_file(_member(entry, unpacked, str(entry.table)), request, sources.RECOGNISED, items)


def _from_atomic(entry: Entry, unpacked: Path, folder: Path, facts: dict[str, Any], overwrite: bool) -> None:
    """Copy RecBole's files under the data set's name."""
    files_of = [file for file in sorted(unpacked.rglob("*")) if file.suffix in _KINDS]
    found = {file.suffix: file for file in files_of}
    if ".inter" not in found or len(found) < len(files_of):
        number = "several files of one kind" if ".inter" in found else "no .inter file"
        raise ValueError(f"{entry.name}: the downloaded file holds {number}; {_listed(unpacked)}")
    with atomic_output.staged(folder, entry.name, overwrite) as stage:
        for suffix, file in found.items():
            shutil.copyfile(file, stage / f"{entry.name}{suffix}")
        _write_card(entry, stage, facts)


def _from_sequences(entry: Entry, unpacked: Path, folder: Path, facts: dict[str, Any], overwrite: bool) -> None:
    """Convert one line a user to interactions, whose times are positions."""
    with atomic_output.staged(folder, entry.name, overwrite) as stage:
        made = convert.write_sequences(_member(entry, unpacked, entry.files[0]), stage / "made", entry.name)
        _move(made, stage)
        _write_card(entry, stage, facts)


def _from_arrays(entry: Entry, unpacked: Path, folder: Path, facts: dict[str, Any], overwrite: bool) -> None:
    """Convert DiffRec's arrays to pre-split files, as the command ``convert`` does."""
    with atomic_output.staged(folder, entry.name, overwrite) as stage:
        _move(convert.write_split(unpacked, stage / "made", entry.name), stage)
        _write_card(entry, stage, facts)


def _move(made: Path, stage: Path) -> None:
    for file in list(made.iterdir()):
        file.replace(stage / file.name)
    shutil.rmtree(made.parent)


def _write_card(entry: Entry, stage: Path, facts: dict[str, Any]) -> None:
    """Write the card of files that are copied or converted row by row."""
    stored = files.StoredSet(entry.name, stage, False, None)
    tables = [files.read(path) for path in stored.files() if path.suffix == ".inter"]
    by_file = {table.path.name: describing.count(table) for table in tables}
    counts = next(iter(by_file.values())) if len(by_file) == 1 else describing.count_together(tables)
    content = {
        **card.stamp(),
        "source": {"name": ", ".join(facts["downloads"]), "sha256": None, "rows": sum(t.table.rows for t in tables)},
        "columns": {},
        "steps": [],
        "notes": [],
        "renamed": {},
        "counts": counts,
        "counts_by_file": by_file,
        **facts,
        "files": {path.name: files.sha256(path) for path in stored.files()},
    }
    card.write(stage, entry.name, content)


_CONVERT: dict[str, Callable[[Entry, Path, Path, dict[str, Any], bool], None]] = {
    "table": _from_table,
    "atomic": _from_atomic,
    "sequences": _from_sequences,
    "diffrec": _from_arrays,
}
