"""``recbole-diffusion convert``: official arrays, or sequences, as RecBole's files."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from recbole_diffusion.cli.command import Command
from recbole_diffusion.cli.option_names import UsageError

_EPILOG = """\
Writes TO/NAME/NAME.{train,valid,test}.inter from the official arrays (a .npz or a folder of .npy files), or
TO/NAME/NAME.inter from sequences (a .txt), see reproduce --help, and says which settings read them."""


def parser() -> Command:
    """The options of the command."""
    usage = "SOURCE --name=NAME [--to=dataset] [--protocol=official|time-proper]"
    command = Command("convert", usage, _EPILOG, settings=False)
    command.place("source", "a .npz, a folder of .npy files, a .txt of sequences or RecBole's .inter")
    command.option("name", "NAME", "of the data set that is written")
    command.option("to", "dataset", "folder of the data sets", default="dataset")
    command.option(
        "protocol", "official", "official: arrays as named; time-proper: in the order of time; not for sequences"
    )
    return command


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    command = parser()
    named = any(word.partition("=")[0] == "--name" for word in words)
    code = command.usage_asked(words, enough=named and not words[0].startswith("-"))
    if code is not None:
        return code
    options, _ = command.read(words)
    from recbole_diffusion.data import convert

    name, folder, source = options.name, options.to, options.source
    if Path(name).name != name or name in {"", ".", ".."}:
        raise UsageError(f"--name={name} is not allowed; allowed: the name of a folder to make in {folder}")
    if {".txt", ".inter"} & set(Path(source).suffixes):
        if options.protocol is not None:
            raise UsageError("--protocol is for arrays; sequences are written as they are")
        written = convert.write_sequences(source, folder, name)
        keys = {"data_path": folder, **convert.LEAVE_ONE_OUT}
    else:
        written = convert.write_split(source, folder, name, options.protocol or "official")
        keys = convert.settings(folder, name)
    print(f"{written}: {', '.join(sorted(file.name for file in written.iterdir() if not file.name.startswith('.')))}")
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in keys.items()}
    print("run it with " + " ".join(f"--{key}={shlex.quote(text)}" for key, text in {"dataset": name, **texts}.items()))
    return 0
