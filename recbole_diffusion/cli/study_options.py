"""Options and output of the commands that study one checkpoint: ``steps``, ``ablate``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any, Callable, Optional

from recbole_diffusion.cli.command import Command
from recbole_diffusion.cli.option_names import UsageError
from recbole_diffusion.cli.resources import short_path


def add_options(command: Command, split: str) -> None:
    """Declare the options that all studies have; ``split`` is the default of ``--split``."""
    command.option("split", "valid", f"part that is evaluated: valid or test; default: {split}", default=split)
    command.option("topk", "5,10,50", "cut-offs; default: those of the checkpoint")
    command.option("metrics", "Recall,NDCG", "metrics; default: those of the checkpoint")
    command.option("folder", "FOLDER", "folder of the study; what it holds is not evaluated again")
    command.flag("trust-checkpoint", "load a checkpoint that holds pickled objects; they can run code")
    command.flag("debug", "print the traceback of an error")


def listed(text: Optional[str], kind: Callable[[str], Any] = str) -> Optional[list[Any]]:
    """Split ``a,b`` or ``[a,b]`` into values.

    Raises:
        UsageError: a value of another kind, or none.
    """
    if text is None:
        return None
    words = [word.strip() for word in text.strip("[]").split(",") if word.strip()]
    try:
        values = [kind(word) for word in words]
    except ValueError:
        raise UsageError(f"{text!r} is not allowed; allowed: numbers with commas, e.g. 5,10") from None
    if not values:
        raise UsageError(f"{text!r} is not allowed; allowed: values with commas")
    return values


def command_line(name: str, words: Sequence[str]) -> str:
    """The command line, for the record."""
    return " ".join(["recbole-diffusion", name, *map(shlex.quote, words)])


def print_result(result: Any) -> int:
    """Print a study's result and its files; return the exit code."""
    print(result.text())
    print("\n" + "\n".join(short_path(file) for file in result.files if file.parent == result.folder))
    print(f"report: {short_path(result.folder / 'report')}")
    return 0
