"""``recbole-diffusion doctor``: what is installed, what is known to fail, and how to fix it."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_diffusion.cli.command import Command


def parser() -> Command:
    """The options of the command."""
    return Command("doctor", "", "Exit code 1 if a known-bad combination is installed.", settings=False)


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    command = parser()
    code = command.usage_asked(words)
    if code is not None:
        return code
    command.read(words)
    from recbole_diffusion.compat import doctor

    text, good = doctor.report()
    print(text)
    return 0 if good else 1
