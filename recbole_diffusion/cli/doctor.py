"""The command ``recbole-diffusion doctor``: installed libraries, known problems, and their fixes."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_diffusion.cli.command import Command

_EPILOG = """\
It prints the installed libraries, the known problems with them, and how to fix these.
The exit code is 1 if a combination is installed that is known to fail."""


def parser() -> Command:
    """Declare the arguments of the command."""
    return Command("doctor", "", _EPILOG, settings=False)


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    code = command.print_help_if_needed(words)
    if code is not None:
        return code
    command.read(words)
    from recbole_diffusion.compat import doctor

    text, good = doctor.report()
    print(text)
    return 0 if good else 1
