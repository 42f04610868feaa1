"""The command ``recbole-diffusion report``: write the tables and plots of a comparison again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from recbole_diffusion.cli.command import Command
from recbole_diffusion.cli.option_names import UsageError
from recbole_diffusion.cli.resources import short_path

_EPILOG = """\
Nothing is trained. The comparison may be unfinished.
Metrics and cut-offs that the runs did not measure are computed from their kept lists (compare --keep-lists).
index.html shows everything in a browser; it is one file without links to the network."""


def parser() -> Command:
    """Declare the arguments of the command."""
    command = Command(
        "report", "FOLDER [--metric=NDCG@10] [--topk=1,5,50] [--reference=MODEL]", _EPILOG, settings=False
    )
    command.positional("folder", "folder of a comparison, outputs/compare-...")
    command.option("metric", "NDCG@10", "main metric of the report")
    command.option("topk", "1,5,50", "cut-offs of the metrics; default: those of the comparison")
    command.option("columns", "A,B", "metrics of the tables, e.g. Recall@20,NDCG,Coverage; default: all")
    command.option("reference", "MODEL", "model with which the others are compared; default: the best one")
    command.option("formats", "png,svg,pdf", "file formats of the plots; default: all three")
    command.option("out", "FOLDER", "folder of the report; default: report in the comparison's folder")
    command.flag("per-user", "write the metrics of each user in each run to per_user-DATASET.csv")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    code = command.print_help_if_needed(words, complete=bool(words) and not words[0].startswith("-"))
    if code is not None:
        return code
    values, _ = command.read(words)
    cut_offs = _cut_offs(values.topk)
    from recbole_diffusion.experiment import report
    from recbole_diffusion.experiment.jobs.store import Store

    options = report.ReportOptions(
        values.metric,
        values.reference,
        cut_offs,
        _split(values.columns),
        _split(values.formats) or report.ReportOptions.formats,
        values.out,
        values.per_user,
    )
    store = Store(values.folder, new=False)
    comparison = options.read(store.folder)
    files = report.write(store.folder, options, comparison)
    print(report.summary(store.folder, options, comparison))
    print("\n" + "\n".join(map(short_path, files)))
    return 0


def _split(text: Optional[str]) -> Optional[list[str]]:
    return [word.strip() for word in text.split(",") if word.strip()] if text is not None else None


def _cut_offs(text: Optional[str]) -> Optional[list[int]]:
    """The cut-offs in a text such as ``1,5,50``; None without one."""
    words = _split(text)
    if words is None:
        return None
    if not words or not all(word.isascii() and word.isdigit() and int(word) for word in words):
        raise UsageError(f"--topk={text} is not allowed; allowed: whole numbers from 1, such as 1,5,50")
    return list(dict.fromkeys(map(int, words)))
