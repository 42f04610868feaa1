"""``recbole-diffusion report``: the tables and plots of a comparison again."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_diffusion.cli.command import Command
from recbole_diffusion.cli.resources import shown


def parser() -> Command:
    """The options of the command."""
    command = Command(
        "report",
        "FOLDER [--metric=NDCG@10] [--reference=MODEL]",
        "Writes FOLDER/report again, also of a comparison that has not finished.",
        settings=False,
    )
    command.place("folder", "of a comparison, outputs/compare-...")
    command.option("metric", "NDCG@10", "main metric")
    command.option("reference", "MODEL", "tested against it instead of the best")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    command = parser()
    code = command.usage_asked(words, enough=bool(words) and not words[0].startswith("-"))
    if code is not None:
        return code
    options, _ = command.read(words)
    from recbole_diffusion.experiment import report
    from recbole_diffusion.experiment.jobs.store import Store

    store = Store(options.folder, new=False)
    files = report.write(store.folder, options.metric, options.reference)
    print(report.summary(store, options.metric, options.reference))
    print("\n" + "\n".join(map(shown, files)))
    return 0
