"""The command ``recbole-diffusion data``: import, describe, check, export, split, list and fetch data sets."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from recbole_diffusion.cli.command import Command
from recbole_diffusion.cli.option_names import UsageError

#: The subcommands: their module in this folder, and their meaning.
SUBCOMMANDS: dict[str, tuple[str, str]] = {
    "import": ("import_table", "a csv, parquet or json-lines file becomes a data set, with a data card"),
    "describe": ("describe", "count users, items, interactions, lengths; show the card"),
    "check": ("check", "load a data set as a run does, and count the rows that are lost"),
    "export": ("export", "write a data set as csv, parquet or json lines, with the original ids"),
    "split": ("split", "write train, valid and test files: by ratio, leave-one-out, time, cold items, cold users"),
    "list": ("list_sets", "list the data sets here and those that can be fetched"),
    "fetch": ("fetch", "download a data set of the catalogue, verify and convert it"),
}


def parser() -> Command:
    """Declare the arguments of the command."""
    lines = [f"{name:10} {meaning}" for name, (_, meaning) in SUBCOMMANDS.items()]
    epilog = "\n".join([*lines, "", "example: recbole-diffusion data import ratings.csv --name=shop"])
    epilog += "\noptions of a subcommand: recbole-diffusion data SUBCOMMAND --help"
    return Command("data", "SUBCOMMAND [options]", epilog, settings=False)


def main(words: Sequence[str]) -> int:
    """Run the subcommand, and return the exit code."""
    if not words or words[0] in {"-h", "--help"}:
        print(parser().format_help().rstrip(), file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] not in SUBCOMMANDS:
        raise UsageError(f"unknown subcommand {words[0]!r} of data; subcommands: {', '.join(SUBCOMMANDS)}")
    module = importlib.import_module(f"{__name__}.{SUBCOMMANDS[words[0]][0]}")
    return int(module.main(words[1:]))
