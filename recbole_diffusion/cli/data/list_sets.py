"""The command ``recbole-diffusion data list``: data sets that are here, and those of the catalogue."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_diffusion.cli.command import Command


def parser() -> Command:
    """Declare the arguments of the command."""
    epilog = "RecBole's own list of addresses has more names, which data fetch takes too."
    command = Command("data list", "[NAME] [--data_path=dataset]", epilog, settings=False)
    command.positional("name", "a data set of the catalogue, to describe it", default="")
    command.option("data_path", "FOLDER", "folder of the data sets; default: dataset", str, "dataset")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    code = command.print_help_if_needed(words)
    if code is not None:
        return code
    options, _ = command.read(words)
    from recbole_diffusion.data.catalogue import entries

    if options.name:
        print("\n".join(_described(entries.find(options.name))))
        return 0
    print(f"in {options.data_path}:")
    print("\n".join(_local(Path(options.data_path))) or "  none")
    print("\ncatalogue (data list NAME describes one, data fetch NAME fetches it):")
    print("\n".join(_listed(entry) for entry in entries.entries().values()))
    return 0


def _local(data_path: Path) -> list[str]:
    """A line for each data set in the folder."""
    from recbole_diffusion.data.importing import card

    lines = []
    folders = sorted(path for path in data_path.iterdir() if path.is_dir()) if data_path.is_dir() else []
    for folder in folders:
        if folder.name[0] == "." or not any(folder.glob(f"{folder.name}.*inter")):
            continue
        content = card.read(folder, folder.name)
        counts = content["counts"] if content else None
        listed = "no card" if counts is None else _sizes(counts["users"], counts["items"], counts["interactions"])
        lines.append(f"  {folder.name:24} {listed}")
    return lines


def _sizes(users: Any, items: Any, interactions: Any) -> str:
    known = ((users, "users"), (items, "items"), (interactions, "interactions"))
    return ", ".join(f"{number:,} {what}" for number, what in known if number is not None)


def _listed(entry: Any) -> str:
    sizes = _sizes(entry.users, entry.item_count, entry.interactions)
    return f"  {entry.name:24} {entry.title}{f' ({sizes})' if sizes else ''}{'; by hand' if entry.by_hand else ''}"


def _described(entry: Any) -> list[str]:
    addresses = "by hand, see the page" if entry.by_hand else ", ".join(entry.addresses)
    known = {
        "title": entry.title,
        "sizes": _sizes(entry.users, entry.item_count, entry.interactions),
        "papers of": ", ".join(entry.papers),
        "files": ", ".join(entry.files),
        "address": addresses,
        "checksum": ", ".join(entry.checksum.values()) or "not known for certain; recorded when the file first comes",
        "terms": entry.licence,
        "page": entry.page,
        "cite": entry.citation,
    }
    lines = [
        textwrap.fill(f"  {key:10} {text}", 120, subsequent_indent=" " * 13) for key, text in known.items() if text
    ]
    return [entry.name, *lines]
