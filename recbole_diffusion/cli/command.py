"""The options of one command: argparse writes the help and converts the values, every other word is a setting.

argparse alone would take ``--eval_args={'mode': 'full'}`` for a positional argument, because of the space, and the
last of two values for one key; so :func:`recbole_diffusion.cli.options.parse` reads the words first.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Optional

from recbole_diffusion.cli.option_names import UsageError, nearest_option
from recbole_diffusion.cli.options import parse, places_of

#: Flags of every command; ``main`` and :meth:`Command.usage_asked` look for them.
COMMON_FLAGS = frozenset({"help", "debug"})


class Command(argparse.ArgumentParser):
    """A command with its positional arguments, options and flags.

    Args:
        name: of the command.
        usage: what follows the name in the first line of the help.
        epilog: the end of the help.
        settings: whether other ``--key=value`` are settings of a run; without, they are errors.

    Attributes:
        options, flags, places: names that :meth:`option`, :meth:`flag` and :meth:`place` have declared.
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
        self.places: list[str] = []

    def option(
        self, name: str, metavar: str, meaning: str, kind: Callable[[str], Any] = str, default: Any = None
    ) -> None:
        """Declare ``--name=VALUE``."""
        self.options.append(name)
        self.add_argument(f"--{name}", metavar=metavar, type=kind, default=default, help=meaning.replace("%", "%%"))

    def flag(self, name: str, meaning: str) -> None:
        """Declare ``--name``, which takes no value, or True or False."""
        self.flags.append(name)
        self.add_argument(f"--{name}", action="store_true", help=meaning)

    def place(self, name: str, meaning: str, default: Optional[str] = None) -> None:
        """Declare a positional argument; with a default it may be left out."""
        self.places.append(name)
        more: dict[str, Any] = {} if default is None else {"nargs": "?", "default": default}
        self.add_argument(name, metavar=name.upper(), help=meaning, **more)

    def usage_asked(self, words: Sequence[str], enough: bool = True) -> Optional[int]:
        """Print the help where it is asked for, or where the words are not ``enough``; None where neither is so.

        Returns:
            The exit code: 0 for ``--help``, 2 for too few words.
        """
        asked = bool({"-h", "--help"} & {*words})
        if not asked and enough:
            return None
        print(self.format_help().rstrip(), file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2

    def read(self, words: Sequence[str]) -> tuple[argparse.Namespace, dict[str, str]]:
        """The command's own options, and the settings.

        Raises:
            UsageError: a word that is not understood, another command's option, a value of another kind.
        """
        places, rest = places_of(words, len(self.places))
        reserved, settings, flags = parse(rest)
        for word in [
            *(key for key in reserved if key not in self.options),
            *sorted(flags - {*self.flags} - COMMON_FLAGS),
        ]:
            self._refuse(word)
        given = {**reserved, **settings}
        own = {key: given.pop(key) for key in self.options if key in given}
        if given and not self.takes_settings:
            self._refuse(next(iter(given)))
        words = [*(f"--{key}={value}" for key, value in own.items()), *(f"--{flag}" for flag in flags - COMMON_FLAGS)]
        try:
            return self.parse_args([*places, *words]), given
        except argparse.ArgumentError as error:
            key = str(error.argument_name).lstrip("-")
            raise UsageError(f"--{key}={own.get(key)} is not allowed; allowed: {error.message}") from None

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print before it exits."""
        raise UsageError(message)

    def _refuse(self, word: str) -> NoReturn:
        near = nearest_option(word, [*self.options, *self.flags])
        raise UsageError(f"--{word} is not an option of {self.name}" + (f"; did you mean --{near}?" if near else ""))


class _Help(argparse.RawDescriptionHelpFormatter):
    """``--key=VALUE`` as everywhere else in the documentation, in lines of 120 letters."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=118)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        text = super()._format_action_invocation(action)
        return text.replace(" ", "=", 1) if action.option_strings else text


def whole(text: str) -> int:
    """An int, for :meth:`Command.option`."""
    return int(_number(text, int))


def real(text: str) -> float:
    """A float, for :meth:`Command.option`."""
    return float(_number(text, float))


def _number(text: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError("a number") from None
