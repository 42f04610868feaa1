"""The command ``recbole-diffusion data describe``: counts of a data set."""

from __future__ import annotations

import json
from collections.abc import Sequence

from recbole_diffusion.cli.command import Command


def parser() -> Command:
    """Declare the arguments of the command."""
    epilog = "Users and items are those of user_id and item_id, or of columns with other known names."
    command = Command("data describe", "NAME [--data_path=dataset] [--json]", epilog, settings=False)
    command.positional("name", "the data set; ml-100k comes with RecBole")
    command.option("data_path", "FOLDER", "folder of the data sets; default: dataset", str, "dataset")
    command.flag("json", "print the counts as json")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    code = command.print_help_if_needed(words, complete=bool(words) and not words[0].startswith("-"))
    if code is not None:
        return code
    options, _ = command.read(words)
    from recbole_diffusion.data.stored import describing, files
    from recbole_diffusion.support.json_values import nan_to_null

    description = describing.describe(files.find(options.name, options.data_path))
    if options.json:
        print(json.dumps(nan_to_null(description), indent=2))
    else:
        print("\n".join(describing.lines(description)))
    return 0
