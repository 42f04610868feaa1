"""``recbole-diffusion runs``: the runs of a folder as a table, or as csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recbole_diffusion.cli.command import Command
from recbole_diffusion.cli.option_names import UsageError

_EPILOG = """\
The newest run comes first. Metrics are those of the test split, in brackets those of the validation split. A run whose
process has gone is 'interrupted', one whose files cannot be read is 'damaged'."""


def parser() -> Command:
    """The options of the command."""
    command = Command("runs", "[FOLDER] [--metric=A,B] [--csv] [--out=FILE]", _EPILOG, settings=False)
    command.place("folder", "with the folders of the runs (outputs)", default="outputs")
    command.option("metric", "A,B", "metrics of the table; without: the first three of the newest run")
    command.flag("csv", "csv with the metrics of both splits")
    command.option("out", "FILE", "write there; csv where the name ends with .csv")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    command = parser()
    code = command.usage_asked(words)
    if code is not None:
        return code
    options, _ = command.read(words)
    if options.out is not None and not Path(options.out).absolute().parent.is_dir():
        raise UsageError(f"--out={options.out} is not allowed; allowed: a file in a folder that is there")
    from recbole_diffusion.experiment import runs
    from recbole_diffusion.support.atomic_write import atomic_write_text

    found = runs.find(Path(options.folder))
    metrics = options.metric.split(",") if options.metric else runs.metrics_of(found)
    if options.csv or str(options.out or "").endswith(".csv"):
        text = runs.as_csv(found)
    elif not found:
        text = f"no runs in {options.folder}\n"
    else:
        text = runs.as_table(found, metrics) + "\n"
    if options.out is None:
        print(text, end="")
    else:
        atomic_write_text(options.out, text)
    return 0
