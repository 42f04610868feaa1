"""The command ``recbole-diffusion convert``: convert official arrays, or sequences, to RecBole's files."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from recbole_diffusion.cli.command import Command
from recbole_diffusion.cli.option_names import UsageError

_EPILOG = """\
From arrays it writes TO/NAME/NAME.{train,valid,test}.inter, from sequences TO/NAME/NAME.inter.
It prints the settings that read these files. reproduce --help describes the formats of the source."""


def parser() -> Command:
    """Declare the arguments of the command."""
    usage = "SOURCE --name=NAME [--to=dataset] [--protocol=official|time-proper]"
    command = Command("convert", usage, _EPILOG, settings=False)
    command.positional("source", "arrays: a .npz or a folder of .npy files\nsequences: a .txt or RecBole's .inter")
    command.option("name", "NAME", "name of the new data set")
    command.option("to", "dataset", "folder of the data sets; default: dataset", default="dataset")
    command.option(
        "protocol",
        "official",
        "for arrays only\nofficial: arrays as they are named (default)\ntime-proper: arrays in the order of time",
    )
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    has_name = any(word.partition("=")[0] == "--name" for word in words)
    code = command.print_help_if_needed(words, complete=has_name and not words[0].startswith("-"))
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
