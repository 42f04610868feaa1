"""The command ``recbole-diffusion card``: the model card of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recbole_diffusion.cli.command import Command
from recbole_diffusion.cli.option_names import UsageError


def parser() -> Command:
    """Declare the arguments of the command."""
    command = Command(
        "card",
        "CHECKPOINT [--out=FILE.md] [--evaluate]",
        "The facts are those of the checkpoint and of its run's folder, outputs/RUN.\n"
        "--key=value with --evaluate: a setting that differs from the checkpoint's, such as --data_path",
    )
    command.positional("checkpoint", "checkpoint of a run, outputs/RUN/checkpoint.pth")
    command.option("out", "FILE", "markdown file; default: the standard output")
    command.flag("evaluate", "load the data and measure the metrics again, with their intervals over users")
    command.flag("trust-checkpoint", "load a checkpoint that holds pickled objects; they can run code")
    command.flag("debug", "print the traceback of an error")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    code = command.print_help_if_needed(words, complete=bool(words) and not words[0].startswith("-"))
    if code is not None:
        return code
    options, settings = command.read(words)
    if settings and not options.evaluate:
        raise UsageError(f"--{next(iter(settings))} is not an option of card without --evaluate")
    if options.out is not None and not Path(options.out).absolute().parent.is_dir():
        raise UsageError(f"--out={options.out} is not allowed; allowed: a file in an existing folder")
    from recbole_diffusion import quick_start
    from recbole_diffusion.serving import measurement, model_card, run_facts
    from recbole_diffusion.support.atomic_write import atomic_write_text

    facts, measured = run_facts.read(Path(options.checkpoint), options.trust_checkpoint), None
    if options.evaluate:
        loaded = quick_start.load(options.checkpoint, options.trust_checkpoint, dict(settings))
        evaluated = {split: measurement.evaluate(loaded, split) for split in ("valid", "test")}
        measured = {split: values for split, values in evaluated.items() if values.metrics}
    text = model_card.make(facts, measured)
    if options.out is None:
        print(text, end="")
    else:
        atomic_write_text(options.out, text)
    return 0
