"""The outputs of a tuning: the result, the table of its trials, the best settings as yaml files."""

from __future__ import annotations

import csv
import io
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from recbole_diffusion import quick_start
from recbole_diffusion.experiment.defaults import CHOICE
from recbole_diffusion.support import yaml_files
from recbole_diffusion.support.atomic_write import atomic_write_text
from recbole_diffusion.support.csv_cells import inert

if TYPE_CHECKING:
    from recbole_diffusion.experiment.tune.trials import Record
    from recbole_diffusion.experiment.tune.tuning_plan import TuningPlan


class NoTrialFinished(RuntimeError):
    """Every trial failed, or the best could not be trained anew; the message holds the first reason, in one line."""


@dataclass(frozen=True)
class TuneResult:
    """The result of a tuning.

    Attributes:
        best: the configuration of the best trial.
        trial: number of the best trial; 0 has the model's defaults, unless the search was a grid.
        metric: the validation metric by which the trials were compared.
        valid_score: the best trial's value of the metric.
        test: test metrics of the best configuration, trained anew, by seed; empty if the test split is empty.
        records: records of the trials that finished or were stopped, by number.
        failures: records of the trials that failed, by number.
        folder: folder of the tuning.
        file: its ``best.yaml``.
        notes: notes for the user.
    """

    best: dict[str, Any]
    trial: int
    metric: str
    valid_score: float
    test: dict[int, dict[str, float]]
    records: dict[int, Record]
    failures: dict[int, Record]
    folder: Path
    file: Path
    notes: list[str]

    def summary(self) -> str:
        """Return the result as lines of text."""
        return _summary(self)


def _summary(result: TuneResult) -> str:
    """The counts, the best configuration, and its test metrics: mean and sample standard deviation over the seeds."""
    stopped = sum(record["status"] == "stopped" for record in result.records.values())
    counts = f"{len(result.records)} trials ({stopped} stopped early), {len(result.failures)} failed"
    chosen = ", ".join(f"{key}: {_rounded(value)}" for key, value in result.best.items())
    seeds = list(result.test)
    lines = [
        f"{counts}; best by validation: trial {result.trial}, {result.metric} {result.valid_score:.4f}",
        f"  {chosen}",
        f"test, trained anew with seed {', '.join(map(str, seeds))}:" if seeds else "nothing was tested",
    ]
    for metric in result.test[seeds[0]] if seeds else ():
        values = [result.test[seed][metric] for seed in seeds]
        deviation = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
        lines.append(f"  {metric:18} {fmean(values):.4f}{deviation}")
    return "\n".join([*lines, *(f"note: {note}" for note in result.notes), f"folder: {result.folder}"])


def _rounded(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)


def write_best(folder: Path, plan: TuningPlan, best: Record, metric: str, threads: int) -> Path:
    """Write ``best.yaml`` and ``best-full.yaml``.

    ``best.yaml`` holds the given settings, the chosen ones and the seeds: enough for ``run --config_files`` to repeat
    the tested run. Other settings can be set beside it. ``best-full.yaml`` holds every setting.

    Args:
        folder: folder of the tuning.
        plan: its plan.
        best: record of the best trial.
        metric: the validation metric.
        threads: threads of the trials, on which the last digits depend.

    Returns:
        Path of ``best.yaml``.
    """
    seeds = {"seed": plan.seeds[0], "split_seed": plan.settings["split_seed"]}
    settings = {
        "model": plan.model,
        "dataset": plan.dataset,
        **CHOICE,
        **plan.given,
        **seeds,
        **best["chosen"],
    }
    config = quick_start.configure(config_dict=settings)
    file, full_file = folder / "best.yaml", folder / "best-full.yaml"
    chosen = "".join(f"#   {key}: {json.dumps(value)}\n" for key, value in best["chosen"].items())
    head = (
        f"# The best of a tuning: trial {best['trial']}, {metric} {best['valid_score']:.6f} on the validation split. "
        f"Chosen were\n{chosen}"
        "# The rest is what the tuning was given (files, command line) and what it decided (seeds, valid_metric).\n"
        f"# Run: recbole-diffusion run --config_files={shlex.quote(str(file))}\n"
        f"# In a comparison: --models={shlex.quote(f'{plan.model}@{file}')}\n"
        f"# Every other setting is its default; all of them are in {full_file.name}.\n"
        f"# The same numbers to the last digit need OMP_NUM_THREADS={threads}.\n"
    )
    full_head = (
        f"# Every setting of the best of a tuning, defaults and this machine's choices included: to look things up.\n"
        f"# To run it again, or as a model's file in a comparison, take {file.name}.\n"
    )
    text = yaml_files.dump_yaml(_to_yaml_values(settings), sort_keys=True, default_flow_style=None)
    atomic_write_text(file, head + text)
    atomic_write_text(full_file, full_head + config.to_yaml())
    return file


def _to_yaml_values(settings: dict[str, Any]) -> dict[str, Any]:
    """Convert numpy's numbers, tuples and paths to types that yaml can write."""
    text = json.dumps(settings, default=lambda value: value.item() if hasattr(value, "item") else str(value))
    values: dict[str, Any] = json.loads(text)
    return values


def write_trials(result: TuneResult, keys: list[str]) -> None:
    """Write ``trials.csv``: a row for each trial, by number.

    Args:
        result: the result of the tuning.
        keys: the keys of the search space, a column each.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["trial", *keys, result.metric, "epochs", "seconds", "status", "reason"])
    for number, record in sorted({**result.records, **result.failures}.items()):
        timing = record.get("timing") or {}
        values = [record["chosen"].get(key) for key in keys]
        columns = [value if isinstance(value, (int, float, str)) else json.dumps(value) for value in values]
        seconds = timing.get("wall_s", timing.get("total_s"))
        outcome = [record.get("valid_score"), timing.get("epochs"), seconds, record["status"], record.get("error", "")]
        writer.writerow(map(inert, [number, *columns, *outcome]))
    atomic_write_text(result.folder / "trials.csv", text.getvalue())
