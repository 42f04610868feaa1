"""The command ``recbole-diffusion report``: write the tables and plots of a comparison again."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_diffusion.cli.command import Command
from recbole_diffusion.cli.resources import short_path


def parser() -> Command:
    """Declare the arguments of the command."""
    command = Command(
        "report",
        "FOLDER [--metric=NDCG@10] [--reference=MODEL]",
        "Writes FOLDER/report. The comparison may be unfinished.",
        settings=False,
    )
    command.positional("folder", "folder of a comparison, outputs/compare-...")
    command.option("metric", "NDCG@10", "main metric of the report")
    command.option("reference", "MODEL", "model with which the others are compared; default: the best one")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    code = command.print_help_if_needed(words, complete=bool(words) and not words[0].startswith("-"))
    if code is not None:
        return code
    options, _ = command.read(words)
    from recbole_diffusion.experiment import report
    from recbole_diffusion.experiment.jobs.store import Store

    store = Store(options.folder, new=False)
    files = report.write(store.folder, options.metric, options.reference)
    print(report.summary(store, options.metric, options.reference))
    print("\n" + "\n".join(map(short_path, files)))
    return 0
