"""The command ``recbole-diffusion convert``: convert official arrays, or sequences, to RecBole's files."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_diffusion.cli.command import Command
from recbole_diffusion.cli.option_names import UsageError

if TYPE_CHECKING:
    from recbole_diffusion.data.user_split import UserSplit

_EPILOG = """\
From arrays and splits by user it writes TO/NAME/NAME.{train,valid,test}.inter, from sequences TO/NAME/NAME.inter.
It prints the settings that read these files. reproduce --help describes the formats of the source."""


def parser() -> Command:
    """Declare the arguments of the command."""
    usage = "SOURCE --name=NAME [--to=dataset] [--protocol=official|time-proper]"
    command = Command("convert", usage, _EPILOG, settings=False)
    command.positional(
        "source",
        "arrays: a .npz or a folder of .npy files\n"
        "sequences: a .txt, RecBole's .inter, or the dataset.pkl of DiffuRec, FMRec or ADRec\n"
        "split by user: a folder with train_data.txt, valid_data.txt, test_data.txt (PreferDiff), or with\n"
        "train_data.df, val_data.df, test_data.df (DreamRec)",
    )
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
    from recbole_diffusion.data import convert, user_split

    name, folder, source = options.name, options.to, options.source
    if Path(name).name != name or name in {"", ".", ".."}:
        raise UsageError(f"--name={name} is not allowed; allowed: the name of a folder to make in {folder}")
    if user_split.is_user_split(source):
        if options.protocol is not None:
            raise UsageError("--protocol is for arrays; a split by user is written as it is")
        written, split = user_split.write_user_split(source, folder, name)
        print_rows(split)
        keys = user_split.settings(folder)
    elif {".txt", ".inter", ".pkl"} & set(Path(source).suffixes):
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


def print_rows(split: UserSplit) -> None:
    """Print the rows of each part, and how many without a history are left out."""
    rows = ", ".join(f"{len(part_rows)} {part}" for part, part_rows in split.rows.items())
    empty = sum(split.without_history.values())
    print(f"rows: {rows}" + (f"; {empty} rows without a history are left out" if empty else ""))
