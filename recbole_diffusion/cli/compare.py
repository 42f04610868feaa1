"""The command ``recbole-diffusion compare``: several models on one split."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Any, Callable

from recbole_diffusion.cli import option_names
from recbole_diffusion.cli.command import Command, integer
from recbole_diffusion.cli.option_names import UsageError
from recbole_diffusion.cli.options import config_files
from recbole_diffusion.cli.resources import add_resources, default_folder, resources_of, short_path
from recbole_diffusion.cli.seeds import seeds_of

_EPILOG = """\
All models and seeds have one split, whose hash is printed. Every model ranks all items.
With a sequential model the split is leave-one-out in the order of time.
FOLDER/report holds index.html, for the browser, tables (csv, json, md, tex) and plots (png, svg, pdf)."""


def parser() -> Command:
    """Declare the arguments of the command."""
    command = Command("compare", "--models=A,B,C --dataset=NAME [options] [--[MODEL.]key=value]", _EPILOG)
    command.option(
        "models",
        "LIST",
        "models with commas between them\n"
        "LightGCN: a model of this package, or else of RecBole\n"
        "recbole:DiffRec: RecBole's model of that name\n"
        "DDRM:BPR: DDRM with BPR as its base model\n"
        "DiffuRec@quick: with the settings of a preset\n"
        "DiffRec@FILE.yaml: with the settings of a file, such as tune's best.yaml",
    )
    command.option("dataset", "NAME", "data set, or several with commas between them")
    command.option("seeds", "3", "number of seeds (3: seeds 1, 2 and 3), or a list such as 7,8,9")
    command.option(
        "tune",
        "N",
        "first try N configurations of each model: its defaults, then draws from its search space\n"
        "the best one on the validation split is trained and tested with every seed",
        integer,
    )
    command.flag("yardsticks", "add the models without training that suit, see docs/models/yardsticks.md")
    add_resources(command)
    command.option(
        "folder", "FOLDER", "folder of the results; default: outputs/compare-...\nfinished runs in it are not repeated"
    )
    command.option(
        "resume",
        "FOLDER",
        "continue the comparison in this folder: run what failed or was not reached\n"
        "models, data sets and settings cannot be changed",
    )
    command.option("metric", "NDCG@10", "main metric of the report")
    command.option("reference", "MODEL", "model with which the report compares the others; default: the best one")
    command.option(
        "keep-lists",
        "100",
        "length of the recommended lists that each run keeps, for metrics of the report at other cut-offs; 0: none",
        integer,
    )
    command.option(
        "config_files",
        '"A B"',
        "yaml files of settings for every model\n"
        "DiffRec@FILE.yaml wins over them, --key=value over both, --MODEL.key=value over all\n"
        "where they differ, a note names the value that is used",
    )
    command.flag("debug", "print the traceback of an error")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code: 1 if a run failed."""
    command = parser()
    code = command.print_help_if_needed(words, complete=bool(words))
    if code is not None:
        return code
    options, settings = command.read(words)
    resources = resources_of(options)
    files = config_files(options.config_files or "")
    if options.resume is not None:
        fixed_options = ("metric", "reference", "models", "dataset", "seeds", "tune", "folder", "keep-lists")
        passed = [name for name in fixed_options if getattr(options, name.replace("-", "_")) is not None]
        for name in [*passed, *settings]:
            raise UsageError(f"--{name} is not allowed with --resume, which continues with the earlier settings")
        return _run_and_report(lambda module: module.resume(options.resume, resources), options.resume)
    for name in ("models", "dataset"):
        if not getattr(options, name):
            raise UsageError(f"--{name} is not set; recbole-diffusion compare --help")
    common, own = split_by_label(settings)
    if options.keep_lists is not None:
        common["keep_lists"] = options.keep_lists
    models = options.models.split(",")
    if options.yardsticks:
        from recbole_diffusion.experiment.compare import yardsticks

        models = yardsticks.add(models)
    option_names.check("compare", common, [name.strip().partition("@")[0] for name in models])
    folder = options.folder or default_folder("compare", options.dataset)
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
    return _run_and_report(
        lambda module: module.compare(**arguments, folder=folder, resources=module.Resources(**resources)), folder
    )


def _run_and_report(compare_models: Callable[[Any], Any], folder: str) -> int:
    """Run a comparison, write and print its report, and return the exit code.

    Args:
        compare_models: function of the module ``compare`` that returns the store.
        folder: folder of the comparison.
    """
    from recbole_diffusion.experiment import compare, report

    try:
        store = compare_models(compare)
    except KeyboardInterrupt:
        print(
            f"interrupted; go on with: recbole-diffusion compare --resume={shlex.quote(str(folder))}", file=sys.stderr
        )
        return 130
    request = store.plan()["asked"]
    options = report.ReportOptions(request["metric"], request["reference"])
    comparison = options.read(store.folder)
    files = report.write(store.folder, options, comparison)
    print(report.summary(store.folder, options, comparison))
    print(f"\nreport: {short_path(files[0].parent / 'index.html') if files else folder}")
    keys = [key for model in store.plan()["models"] for keys in model["runs"].values() for key in keys]
    failed = [key for key in keys if store.record(key) is None]
    if failed:
        print(f"{len(failed)} runs failed; try them again with --resume={shlex.quote(str(folder))}", file=sys.stderr)
    return 1 if failed else 0


def split_by_label(settings: dict[str, str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Split settings into those of all models, and those of one model, ``--MODEL.key=value``, by model."""
    common: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        label, dot, key = name.rpartition(".")
        if dot:
            own.setdefault(label, {})[key] = value
        else:
            common[key] = value
    return common, own
