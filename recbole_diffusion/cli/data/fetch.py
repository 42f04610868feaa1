"""The command ``recbole-diffusion data fetch``: download, verify and convert a data set of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_diffusion.cli.command import Command

_EPILOG = """\
The file is downloaded to DATA_PATH/.downloads/NAME, or taken from there where it was put by hand; it stays there.
It is compared with the catalogue's checksum. Where the catalogue has none, its sha256 is recorded when it first comes.
Nothing of a data set is part of this package; its terms and its citation are printed and are in the card."""


#: RecBole's settings of the columns.
_KEYS = {"user": "USER_ID_FIELD", "item": "ITEM_ID_FIELD", "time": "TIME_FIELD"}


def parser() -> Command:
    """Declare the arguments of the command."""
    command = Command("data fetch", "NAME [--data_path=dataset] [--address=URL] [--overwrite]", _EPILOG, settings=False)
    command.positional("name", "a data set of data list, or another one of RecBole's list of addresses")
    command.option("address", "URL,URL", "other addresses of the files, e.g. of a mirror: http, https or file")
    command.option("data_path", "FOLDER", "folder of the data sets; default: dataset", str, "dataset")
    command.flag("overwrite", "replace a data set of that name")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    code = command.print_help_if_needed(words, complete=bool(words) and not words[0].startswith("-"))
    if code is not None:
        return code
    options, _ = command.read(words)
    from recbole_diffusion.data.catalogue import entries, fetching
    from recbole_diffusion.data.stored import describing, files

    entry = entries.find(options.name)
    addresses = options.address.split(",") if options.address else None
    print(f"{entry.title}\nterms: {entry.licence}\ncite: {entry.citation}\npage: {entry.page}")
    fetching.fetch(entry, options.data_path, addresses, options.overwrite)
    stored = files.find(entry.name, options.data_path)
    description = describing.describe(stored)
    print("\n".join(describing.lines({**description, "card": None})))
    more = _settings(stored, options.data_path)
    print(f"run it with: recbole-diffusion run --model=DiffRec --dataset={entry.name}{more}")
    return 0


def _settings(stored: object, data_path: str) -> str:
    """The settings that a run of the data set needs."""
    from recbole_diffusion.data.stored import files

    assert isinstance(stored, files.StoredSet)
    words = "" if stored.inter.is_file() else " --benchmark_filename='[train,valid,test]'"
    first = next(file for file in stored.files() if file.suffix == ".inter")
    fields = files.read(first).fields
    standard = {"user": "user_id", "item": "item_id", "time": "timestamp"}
    own = {role: name for role, name in fields.items() if standard.get(role, name) != name}
    words += "".join(f" --{_KEYS[role]}={name}" for role, name in own.items())
    return words if data_path == "dataset" else f"{words} --data_path={data_path}"
