"""The arguments of one command. argparse writes the help and converts the values; other arguments are settings.

:func:`recbole_diffusion.cli.options.parse` splits the arguments first. argparse alone would take
``--eval_args={'mode': 'full'}`` for a positional argument, because of the space, and would silently use the last of two
values for one key.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Optional

from recbole_diffusion.cli.option_names import UsageError, nearest_option
from recbole_diffusion.cli.options import parse, split_positionals

#: Flags of every command; ``main`` and :meth:`Command.print_help_if_needed` read them.
COMMON_FLAGS = frozenset({"help", "debug"})


class Command(argparse.ArgumentParser):
    """A command with its positional arguments, options and flags.

    Args:
        name: name of the command.
        usage: text after the name in the first line of the help.
        epilog: the end of the help.
        settings: whether other ``--key=value`` are settings of a run, and not errors.

    Attributes:
        options, flags, positionals: names that :meth:`option`, :meth:`flag` and :meth:`positional` have declared.
    """

    def __init__(self, name: str, usage: str, epilog: str = "", settings: bool = True) -> None:
        super().__init__(
            f"recbole-diffusion {name}",
            f"recbole-diffusion {name} {usage}".rstrip(),
            epilog=epilog,
            add_help=False,
            allow_abbrev=False,
            exit_on_error=False,
            formatter_class=_Help,
        )
        self._optionals.title = "options"  # Python 3.9 calls them optional arguments
        self.name, self.takes_settings = name, settings
        self.options: list[str] = []
        self.flags: list[str] = []
        self.positionals: list[str] = []

    def option(
        self, name: str, metavar: str, meaning: str, kind: Callable[[str], Any] = str, default: Any = None
    ) -> None:
        """Declare ``--name=VALUE``.

        Args:
            name: name of the option.
            metavar: example of a value, or a word for it, for the help.
            meaning: text of the help; its line breaks are kept.
            kind: function that converts the value.
            default: value where the option is not given.
        """
        self.options.append(name)
        self.add_argument(f"--{name}", metavar=metavar, type=kind, default=default, help=meaning.replace("%", "%%"))

    def flag(self, name: str, meaning: str) -> None:
        """Declare ``--name``, which takes no value, or True or False."""
        self.flags.append(name)
        self.add_argument(f"--{name}", action="store_true", help=meaning)

    def positional(self, name: str, meaning: str, default: Optional[str] = None) -> None:
        """Declare a positional argument; with a default it is optional."""
        self.positionals.append(name)
        optional: dict[str, Any] = {} if default is None else {"nargs": "?", "default": default}
        self.add_argument(name, metavar=name.upper(), help=meaning, **optional)

    def print_help_if_needed(self, words: Sequence[str], complete: bool = True) -> Optional[int]:
        """Print the help if ``--help`` is given or arguments are missing.

        Args:
            words: the arguments.
            complete: whether no argument is missing.

        Returns:
            The exit code: 0 for ``--help``, 2 for missing arguments; None if nothing was printed.
        """
        requested = bool({"-h", "--help"} & {*words})
        if not requested and complete:
            return None
        print(self.format_help().rstrip(), file=sys.stdout if requested else sys.stderr)
        return 0 if requested else 2

    def read(self, words: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
        """Parse the arguments.

        Returns:
            The command's own options, and the settings as texts.

        Raises:
            UsageError: an argument that is not understood, an option of another command, or a value of a wrong type.
        """
        positionals, rest = split_positionals(words, len(self.positionals))
        common_options, settings, flags = parse(rest)
        unknown = [key for key in common_options if key not in self.options]
        for name in [*unknown, *sorted(flags - {*self.flags} - COMMON_FLAGS)]:
            self._refuse(name)
        settings = {**common_options, **settings}
        options = {key: settings.pop(key) for key in self.options if key in settings}
        if settings and not self.takes_settings:
            self._refuse(next(iter(settings)))
        option_words = [f"--{key}={value}" for key, value in options.items()]
        flag_words = [f"--{flag}" for flag in flags - COMMON_FLAGS]
        try:
            return self.parse_args([*positionals, *option_words, *flag_words]), settings
        except argparse.ArgumentError as error:
            key = str(error.argument_name).lstrip("-")
            raise UsageError(f"--{key}={options.get(key)} is not allowed; allowed: {error.message}") from None

    def error(self, message: str) -> NoReturn:
        """Raise argparse's error, which argparse would print before it exits."""
        raise UsageError(message)

    def _refuse(self, name: str) -> NoReturn:
        nearest = nearest_option(name, [*self.options, *self.flags])
        hint = f"; did you mean --{nearest}?" if nearest else ""
        raise UsageError(f"--{name} is not an option of {self.name}{hint}")


class _Help(argparse.RawDescriptionHelpFormatter):
    """The format of the help: ``--key=VALUE``, lines of at most 118 characters, and the line breaks of the texts."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=118)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        text = super()._format_action_invocation(action)
        return text.replace(" ", "=", 1) if action.option_strings else text

    def _split_lines(self, text: str, width: int) -> list[str]:
        return [line for paragraph in text.splitlines() for line in textwrap.wrap(paragraph, width)]


def integer(text: str) -> int:
    """Convert a value to int, for :meth:`Command.option`."""
    return int(_convert(text, int))


def real_number(text: str) -> float:
    """Convert a value to float, for :meth:`Command.option`."""
    return float(_convert(text, float))


def _convert(text: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError("a number") from None
