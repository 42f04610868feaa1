"""The command ``recbole-diffusion runs``: list the runs of a folder, as a table or as csv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recbole_diffusion.cli.command import Command
from recbole_diffusion.cli.option_names import UsageError

_EPILOG = """\
The newest run comes first.
The metrics are those of the test split. Those of the validation split are in brackets, where nothing was tested.
interrupted: the process has ended without a result
damaged: a file of the run cannot be read"""


def parser() -> Command:
    """Declare the arguments of the command."""
    command = Command("runs", "[FOLDER] [--metric=A,B] [--csv] [--out=FILE]", _EPILOG, settings=False)
    command.positional("folder", "folder that holds the folders of the runs; default: outputs", default="outputs")
    command.option("metric", "A,B", "metrics of the table; default: the first three of the newest run")
    command.flag("csv", "print csv, with the metrics of both splits")
    command.option("out", "FILE", "write to this file; csv if its name ends with .csv")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    code = command.print_help_if_needed(words)
    if code is not None:
        return code
    options, _ = command.read(words)
    if options.out is not None and not Path(options.out).absolute().parent.is_dir():
        raise UsageError(f"--out={options.out} is not allowed; allowed: a file in an existing folder")
    from recbole_diffusion.experiment import runs
    from recbole_diffusion.support.atomic_write import atomic_write_text

    run_list = runs.find(Path(options.folder))
    metrics = options.metric.split(",") if options.metric else runs.metrics_of(run_list)
    if options.csv or str(options.out or "").endswith(".csv"):
        text = runs.as_csv(run_list)
    elif not run_list:
        text = f"no runs in {options.folder}\n"
    else:
        text = runs.as_table(run_list, metrics) + "\n"
    if options.out is None:
        print(text, end="")
    else:
        atomic_write_text(options.out, text)
    return 0
