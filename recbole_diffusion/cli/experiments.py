"""The command lines of compare, tune and report: words to arguments."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Callable

from recbole_diffusion.cli import option_names
from recbole_diffusion.cli.option_names import UsageError
from recbole_diffusion.cli.options import config_files, only, parse, places_of
from recbole_diffusion.cli.seeds import seeds_of

RESOURCES = """\
  --workers=N             so many at once on this machine, each in a process of Ray's; without: one by one, no Ray
  --address=auto          a Ray cluster that is there (host:port, or auto); it must see this folder and the data
  --threads=1             of each training, with Ray and without: equal threads, equal numbers
  --cpus=1 --gpus=0       what a training takes of Ray's resources; fractions share a GPU"""

COMPARE_USAGE = f"""usage: recbole-diffusion compare --models=A,B,C --dataset=NAME [options] [--[MODEL.]key=value]

  --models=LIST           ours and RecBole's: LightGCN, recbole:DiffRec, DDRM:BPR (DDRM over BPR), DiffuRec@quick (a
                          preset), DiffRec@FILE.yaml (settings of its own, such as tune's best.yaml)
  --dataset=NAME          or several with commas between them
  --seeds=3               so many, from 1; or a list such as 7,8,9
  --tune=N                N trials for each model first, chosen between on the validation split: its defaults, then
                          draws from its search space
{RESOURCES}
  --folder=FOLDER         where results are kept (outputs/compare-...); a cell that is there already is not run again
  --resume=FOLDER         go on with that comparison: what failed or was not reached; no models or data set beside it
  --metric=NDCG@10        main metric of the report   --reference=MODEL   tested against it instead of the best
  --config_files="A B"    yaml files for every model; DiffRec@FILE.yaml wins over them for its model, --key=value over
                          both, --MODEL.key=value over all; where they differ, a note says which value is used
  --debug                 a traceback instead of one line

One split for all models and seeds, its hash printed; full ranking; with a sequential model leave-one-out in time.
FOLDER/report holds the tables (csv, json, md, tex) and plots (png, svg)."""

REPORT_USAGE = """usage: recbole-diffusion report FOLDER [--metric=NDCG@10] [--reference=MODEL]

Writes FOLDER/report again, also of a comparison that has not finished."""

TUNE_USAGE = """usage: recbole-diffusion tune --model=NAME --dataset=NAME [options] [--key=value ...]

  --model, --dataset      as for run
  --trials=20             the budget; the model's defaults are the first trial, unless the search is a grid
  --space=FILE            what to choose from: yaml, or RecBole's .hyper; without: properties/hyper/NAME.yaml
  --search=random         random | grid | optuna | hyperopt (the last two need Ray and their library)
  --scheduler=asha        asha | median | none: trials that are behind are stopped on their validation score. Without
                          Ray median or none
  --grace=N               epochs that no trial is stopped before (the patience, stopping_step * eval_step)
  --workers=N             trials at once on this machine, on Ray   --address=auto   a Ray cluster instead
  --executor=serial       one trial after the other in this process, without Ray
  --threads=1 --gpus=0    of each trial
  --seeds=3               seeds of the tested runs of the best settings (the one of the trials)
  --folder=FOLDER         where the tuning is kept (outputs/tune-...)   --resume=FOLDER   go on with it
  --config_files="A B"    yaml files for every trial; --key=value wins over them and is not tuned

Chosen by NDCG@10 on the validation split (--valid_metric=...); the test split is read once, at the end.
FOLDER/best.yaml is for run --config_files and compare --models=NAME@FOLDER/best.yaml; best-full.yaml holds all keys."""

_OF_TUNE: dict[str, Callable[[str], Any]] = {"trials": int, "grace": int, "seed": int}
_OF_TUNE.update(dict.fromkeys(("space", "search", "scheduler", "folder", "executor"), str))
_WHERE: dict[str, Callable[[str], Any]] = {"workers": int, "address": str, "threads": int, "cpus": float, "gpus": float}


def compare(words: Sequence[str]) -> int:
    """``recbole-diffusion compare``; 1 if a cell failed."""
    options, settings, flags = parse(words)
    if "help" in flags or not words:
        print(COMPARE_USAGE, file=sys.stdout if "help" in flags else sys.stderr)
        return 0 if "help" in flags else 2
    metric, reference = settings.pop("metric", None), settings.pop("reference", None)
    where = _resources(settings)
    again = options.pop("resume", None)
    files = config_files(options.pop("config_files", ""))
    dataset = options.pop("dataset", None)
    models, seeds = settings.pop("models", None), settings.pop("seeds", None)
    tune, folder = settings.pop("tune", None), settings.pop("folder", None)
    option_names.check("compare", options)
    only("compare", options, flags)
    if again is not None:
        given = {
            "metric": metric,
            "reference": reference,
            "models": models,
            "dataset": dataset,
            "seeds": seeds,
            "tune": tune,
            "folder": folder,
        }
        for word in [*(word for word, value in given.items() if value is not None), *settings]:
            raise UsageError(f"--{word} is not allowed with --resume, which goes on with what was asked")
        return _compared(lambda module: module.resume(again, where), again)
    for word, value in (("models", models), ("dataset", dataset)):
        if not value:
            raise UsageError(f"--{word} is not set; recbole-diffusion compare --help")
    common, own = _by_label(settings)
    option_names.check("compare", common, [word.strip().partition("@")[0] for word in str(models).split(",")])
    path = folder or default_folder("compare", str(dataset))
    arguments = {
        "models": str(models).split(","),
        "datasets": [each.strip() for each in str(dataset).split(",") if each.strip()],
        "seeds": seeds_of(seeds or "3"),
        "settings": common,
        "files": files,
        "own": own,
        "tune": _number("tune", tune or "0", int),
        "command": "recbole-diffusion compare " + shlex.join(words),
        "metric": metric,
        "reference": reference,
    }
    return _compared(lambda module: module.compare(**arguments, folder=path, resources=module.Resources(**where)), path)


def _compared(work: Callable[[Any], Any], folder: str) -> int:
    """Do the work, then the report; 1 if a cell failed."""
    from recbole_diffusion.experiment import compare as module
    from recbole_diffusion.experiment import report as reports

    try:
        store = work(module)
    except KeyboardInterrupt:
        print(
            f"interrupted; go on with: recbole-diffusion compare --resume={shlex.quote(str(folder))}", file=sys.stderr
        )
        return 130
    wanted = store.plan()["asked"]
    files = reports.write(store.folder, wanted["metric"], wanted["reference"])
    print(reports.summary(store, wanted["metric"], wanted["reference"]))
    print(f"\nreport: {_shown(files[0].parent) if files else folder}")
    failed = [key for model in store.plan()["models"] for keys in model["cells"].values() for key in keys]
    failed = [key for key in failed if store.cell(key) is None]
    if failed:
        print(f"{len(failed)} runs failed; try them again with --resume={shlex.quote(str(folder))}", file=sys.stderr)
    return 1 if failed else 0


def report(words: Sequence[str]) -> int:
    """``recbole-diffusion report``."""
    places, words = places_of(words, 1)
    options, settings, flags = parse(words)
    if "help" in flags or not places:
        print(REPORT_USAGE, file=sys.stdout if "help" in flags else sys.stderr)
        return 0 if "help" in flags else 2
    only("report", options, flags)
    metric, reference = settings.pop("metric", None), settings.pop("reference", None)
    for word in settings:
        raise UsageError(f"--{word} is not an option of report")
    from recbole_diffusion.experiment import report as reports
    from recbole_diffusion.experiment.jobs.store import Store

    store = Store(places[0], new=False)
    files = reports.write(store.folder, metric, reference)
    print(reports.summary(store, metric, reference))
    print("\n" + "\n".join(map(_shown, files)))
    return 0


def tune(words: Sequence[str]) -> int:
    """``recbole-diffusion tune``; 1 if every trial failed."""
    options, settings, flags = parse(words)
    if "help" in flags or not words:
        print(TUNE_USAGE, file=sys.stdout if "help" in flags else sys.stderr)
        return 0 if "help" in flags else 2
    where = _resources(settings)
    arguments: dict[str, Any] = {word: options.pop(word, None) for word in ("model", "dataset", "resume")}
    arguments["files"] = config_files(options.pop("config_files", ""))
    only("tune", options, flags)
    for word, kind in _OF_TUNE.items():
        if word in settings:
            arguments[word] = _number(word, settings.pop(word), kind)
    if "seeds" in settings:
        arguments["seeds"] = seeds_of(settings.pop("seeds"))
    if "cpus" in where:
        raise UsageError("--cpus is not an option of tune, whose trials take one CPU slot each")
    if "gpus" in where:
        arguments["gpus_per_trial"] = where.pop("gpus")
    if arguments["resume"] is not None:
        more = [word for word in arguments if arguments[word] and word not in {"resume", "trials", "executor"}]
        for word in [*settings, *("config_files" if word == "files" else word for word in more)]:
            raise UsageError(f"--{word} is not allowed with --resume, which goes on with what was asked")
    option_names.check("tune", settings, [str(arguments["model"])])
    from recbole_diffusion.experiment.tune import NoTrialFinished
    from recbole_diffusion.experiment.tune import tune as search

    try:
        result = search(settings=dict(settings), **where, **arguments)
    except NoTrialFinished as error:
        print(f"recbole-diffusion: {error}", file=sys.stderr)
        return 1
    print(result.summary())
    return 0


def _shown(path: Path) -> str:
    """The path from here, where it lies below; else all of it."""
    short = os.path.relpath(path)
    return str(path) if short.startswith(os.pardir) else short


def _resources(settings: dict[str, str]) -> dict[str, Any]:
    """The words that say where trainings run, taken out of ``settings``."""
    return {word: _number(word, settings.pop(word), kind) for word, kind in _WHERE.items() if word in settings}


def _number(word: str, text: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"--{word}={text} is not allowed; allowed: a number") from None


def _by_label(settings: dict[str, str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Settings for all, and those written ``--MODEL.key=value``."""
    common: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {}
    for word, value in settings.items():
        label, dot, key = word.rpartition(".")
        if dot:
            own.setdefault(label, {})[key] = value
        else:
            common[key] = value
    return common, own


def default_folder(command: str, name: str) -> str:
    """``outputs/COMMAND-NAME-TIME``."""
    return os.path.join("outputs", f"{command}-{name.replace(',', '+')}-{datetime.now():%Y%m%d-%H%M%S}")
