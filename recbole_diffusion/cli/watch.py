"""The command ``recbole-diffusion watch``: users' rankings along the reverse process."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_diffusion.cli.command import Command
from recbole_diffusion.cli.resources import short_path
from recbole_diffusion.cli.study_options import command_line, listed

_EPILOG = """\
After each step of the reverse process the items are ranked by the state that it has reached. For each user: the rank of
the held-out items, the entropy of the scores, and the overlap of the first 10 items with the last step's.

example:
  recbole-diffusion watch outputs/DiffRec-.../checkpoint.pth --users=196,186

--key=value             a setting, e.g. data_path, gpu_id"""


def parser() -> Command:
    """Declare the arguments of the command."""
    command = Command("watch", "CHECKPOINT [--users=u1,u2] [options]", _EPILOG)
    command.positional("checkpoint", "checkpoint of a model with a reverse process")
    command.option("users", "u1,u2", "names of users, as in the data's files; default: the first five")
    command.option("split", "test", "part whose items are held out: valid or test", default="test")
    command.option("folder", "FOLDER", "where the csv files and plots go; default: outputs/watch-...")
    command.flag("trust-checkpoint", "load a checkpoint that holds pickled objects; they can run code")
    command.flag("debug", "print the traceback of an error")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    code = command.print_help_if_needed(words, complete=bool(words) and not words[0].startswith("-"))
    if code is not None:
        return code
    options, settings = command.read(words)
    from recbole_diffusion.experiment import study

    trajectory, files = study.watch(
        options.checkpoint,
        listed(options.users),
        split=options.split,
        folder=options.folder,
        config_dict=settings,
        trust=options.trust_checkpoint,
        command=command_line("watch", words),
    )
    print(trajectory.text())
    print("\n" + "\n".join(map(short_path, files)))
    return 0
