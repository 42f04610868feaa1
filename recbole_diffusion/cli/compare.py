"""``recbole-diffusion compare``: any models on one split."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Any, Callable

from recbole_diffusion.cli import option_names
from recbole_diffusion.cli.command import Command, whole
from recbole_diffusion.cli.option_names import UsageError
from recbole_diffusion.cli.options import config_files
from recbole_diffusion.cli.resources import add_resources, default_folder, resources_of, shown
from recbole_diffusion.cli.seeds import seeds_of

_EPILOG = """\
One split for all models and seeds, its hash printed; full ranking; with a sequential model leave-one-out in time.
FOLDER/report holds the tables (csv, json, md, tex) and plots (png, svg)."""


def parser() -> Command:
    """The options of the command."""
    command = Command("compare", "--models=A,B,C --dataset=NAME [options] [--[MODEL.]key=value]", _EPILOG)
    command.option(
        "models",
        "LIST",
        "ours and RecBole's: LightGCN, recbole:DiffRec, DDRM:BPR (DDRM over BPR), DiffuRec@quick (a preset), "
        "DiffRec@FILE.yaml (settings of its own, such as tune's best.yaml)",
    )
    command.option("dataset", "NAME", "or several with commas between them")
    command.option("seeds", "3", "how many, from 1; or a list such as 7,8,9")
    command.option(
        "tune",
        "N",
        "N trials for each model first, chosen between on the validation split: its defaults, then draws from its "
        "search space",
        whole,
    )
    add_resources(command)
    command.option(
        "folder", "FOLDER", "where results are kept (outputs/compare-...); a run that is there already is not repeated"
    )
    command.option(
        "resume",
        "FOLDER",
        "go on with that comparison: what failed or was not reached; no models or data set beside it",
    )
    command.option("metric", "NDCG@10", "main metric of the report")
    command.option("reference", "MODEL", "the report tests against this model instead of the best")
    command.option(
        "config_files",
        '"A B"',
        "yaml files for every model; DiffRec@FILE.yaml wins over them for its model, --key=value over both, "
        "--MODEL.key=value over all; where they differ, a note says which value is used",
    )
    command.flag("debug", "a traceback instead of one line")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command; returns the exit code, 1 if a run failed."""
    command = parser()
    code = command.usage_asked(words, enough=bool(words))
    if code is not None:
        return code
    options, settings = command.read(words)
    where = resources_of(options)
    files = config_files(options.config_files or "")
    if options.resume is not None:
        beside = ("metric", "reference", "models", "dataset", "seeds", "tune", "folder")
        for word in [*(word for word in beside if getattr(options, word) is not None), *settings]:
            raise UsageError(f"--{word} is not allowed with --resume, which goes on with what was asked")
        return _compared(lambda module: module.resume(options.resume, where), options.resume)
    for word in ("models", "dataset"):
        if not getattr(options, word):
            raise UsageError(f"--{word} is not set; recbole-diffusion compare --help")
    common, own = _by_label(settings)
    models = options.models.split(",")
    option_names.check("compare", common, [word.strip().partition("@")[0] for word in models])
    path = options.folder or default_folder("compare", options.dataset)
    arguments = {
        "models": models,
        "datasets": [name.strip() for name in options.dataset.split(",") if name.strip()],
        "seeds": seeds_of(options.seeds or "3"),
        "settings": common,
        "files": files,
        "own": own,
        "tune": options.tune or 0,
        "command": "recbole-diffusion compare " + shlex.join(words),
        "metric": options.metric,
        "reference": options.reference,
    }
    return _compared(lambda module: module.compare(**arguments, folder=path, resources=module.Resources(**where)), path)


def _compared(work: Callable[[Any], Any], folder: str) -> int:
    """Do the work, then the report; 1 if a run failed."""
    from recbole_diffusion.experiment import compare, report

    try:
        store = work(compare)
    except KeyboardInterrupt:
        print(
            f"interrupted; go on with: recbole-diffusion compare --resume={shlex.quote(str(folder))}", file=sys.stderr
        )
        return 130
    asked = store.plan()["asked"]
    files = report.write(store.folder, asked["metric"], asked["reference"])
    print(report.summary(store, asked["metric"], asked["reference"]))
    print(f"\nreport: {shown(files[0].parent) if files else folder}")
    keys = [key for model in store.plan()["models"] for keys in model["runs"].values() for key in keys]
    failed = [key for key in keys if store.record(key) is None]
    if failed:
        print(f"{len(failed)} runs failed; try them again with --resume={shlex.quote(str(folder))}", file=sys.stderr)
    return 1 if failed else 0


def _by_label(settings: dict[str, str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Settings for all models, and those written ``--MODEL.key=value`` by model."""
    common: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {}
    for word, value in settings.items():
        label, dot, key = word.rpartition(".")
        if dot:
            own.setdefault(label, {})[key] = value
        else:
            common[key] = value
    return common, own
