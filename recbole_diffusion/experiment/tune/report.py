"""What a tuning leaves for people: the result, a table of its trials, the best settings as yaml."""

from __future__ import annotations

import csv
import io
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import yaml

from recbole_diffusion import quick_start
from recbole_diffusion.experiment.defaults import CHOICE
from recbole_diffusion.support.atomic_write import atomic_write_text

if TYPE_CHECKING:
    from recbole_diffusion.experiment.tune.request import TuningPlan
    from recbole_diffusion.experiment.tune.trials import Record


class NoTrialFinished(RuntimeError):
    """Every trial failed; the message is the first reason, in one line."""


@dataclass(frozen=True)
class TuneResult:
    """What came of a tuning.

    Attributes:
        best: the chosen settings of the best trial.
        trial: its number; 0 is the model's defaults, unless the search was a grid.
        metric, valid_score: what the trials were judged by, and the best trial's score.
        test: the test metrics of each seed, trained anew with the best settings; empty where there was nothing to test.
        records, failures: of the trials, by number.
        folder, file: of the tuning, and its ``best.yaml``.
        notes: what a reader must know.
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
        """The result for people."""
        return _summary(self)


def _summary(result: TuneResult) -> str:
    """The best settings, and its test metrics: of one seed, or mean and sample standard deviation of several."""
    stopped = sum(record["status"] == "stopped" for record in result.records.values())
    counts = f"{len(result.records)} trials ({stopped} stopped early), {len(result.failures)} failed"
    chosen = ", ".join(f"{key}: {_short(value)}" for key, value in result.best.items())
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


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)


def write_best(folder: Path, request: TuningPlan, best: Record, metric: str, threads: int) -> Path:
    """Write ``best.yaml`` and ``best-full.yaml``.

    The first holds what was given, chosen or decided by the tuning: enough for ``run --config_files`` to give the
    tested numbers again, and no more, so that what it does not name can be set beside it. The second holds every
    setting.

    Returns:
        The first.
    """
    decided = {"seed": request.seeds[0], "split_seed": request.settings["split_seed"]}
    settings = {
        "model": request.model,
        "dataset": request.dataset,
        **CHOICE,
        **request.given,
        **decided,
        **best["chosen"],
    }
    config = quick_start.configure(config_dict=settings)
    file, full = folder / "best.yaml", folder / "best-full.yaml"
    chosen = "".join(f"#   {key}: {json.dumps(value)}\n" for key, value in best["chosen"].items())
    head = (
        f"# The best of a tuning: trial {best['trial']}, {metric} {best['valid_score']:.6f} on the validation split. "
        f"Chosen were\n{chosen}"
        "# The rest is what the tuning was given (files, command line) and what it decided (seeds, valid_metric).\n"
        f"# Run: recbole-diffusion run --config_files={shlex.quote(str(file))}\n"
        f"# In a comparison: --models={shlex.quote(f'{request.model}@{file}')}\n"
        f"# Every other setting is its default; all of them are in {full.name}.\n"
        f"# The same numbers to the last digit need OMP_NUM_THREADS={threads}.\n"
    )
    whole = (
        f"# Every setting of the best of a tuning, defaults and this machine's choices included: to look things up.\n"
        f"# To run it again, or as a model's file in a comparison, take {file.name}.\n"
    )
    text = yaml.safe_dump(_plain(settings), sort_keys=True, allow_unicode=True, default_flow_style=None)
    atomic_write_text(file, head + text)
    atomic_write_text(full, whole + config.to_yaml())
    return file


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Values that yaml knows."""
    text = json.dumps(settings, default=lambda value: value.item() if hasattr(value, "item") else str(value))
    plain: dict[str, Any] = json.loads(text)
    return plain


def write_trials(result: TuneResult, keys: list[str]) -> None:
    """``trials.csv``: a row for each trial, in their order."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["trial", *keys, result.metric, "epochs", "seconds", "status", "reason"])
    for number, record in sorted({**result.records, **result.failures}.items()):
        timing = record.get("timing") or {}
        values = [record["chosen"].get(key) for key in keys]
        cells = [value if isinstance(value, (int, float, str)) else json.dumps(value) for value in values]
        seconds = timing.get("wall_s", timing.get("total_s"))
        ends = [record.get("valid_score"), timing.get("epochs"), seconds, record["status"], record.get("error", "")]
        writer.writerow([number, *cells, *ends])
    atomic_write_text(result.folder / "trials.csv", out.getvalue())
