"""The command ``recbole-diffusion robustness``: models with more and more noise in the training split."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from recbole_diffusion.cli import option_names
from recbole_diffusion.cli.command import Command, real_number
from recbole_diffusion.cli.compare import split_by_label
from recbole_diffusion.cli.option_names import UsageError
from recbole_diffusion.cli.options import config_files
from recbole_diffusion.cli.resources import add_resources, default_folder, resources_of, short_path
from recbole_diffusion.cli.seeds import seeds_of
from recbole_diffusion.cli.study_options import listed

_EPILOG = """\
Noise is added to the training split only; validation and test stay clean and are the same at every ratio. All models
have the same noise. Each ratio is a comparison in FOLDER/ratio-...; a second call goes on where the first one stopped.

  random    pairs of a user and an item without interaction
  natural   interactions that are filtered out: with --below=4 those with a rating below 4

In sequences a random item follows the interaction whose user it has, a natural one lies at its own time.

examples:
  recbole-diffusion robustness --models=LightGCN,MultiVAE,EASE,DiffRec --dataset=ml-100k --ratios=0,0.1,0.2,0.3
  recbole-diffusion robustness --models=EASE,DiffRec --dataset=ml-100k --noise=natural --below=4

--key=value             a setting of all models, as compare takes it"""


def parser() -> Command:
    """Declare the arguments of the command."""
    command = Command("robustness", "--models=A,B --dataset=NAME [options] [--[MODEL.]key=value]", _EPILOG)
    command.option("models", "LIST", "models with commas between them, as compare takes them")
    command.option("dataset", "NAME", "data set")
    command.option("noise", "random", "random or natural", default="random")
    command.option(
        "ratios", "0,0.1,0.2,0.3", "added interactions, as shares of the training split", default="0,0.1,0.2,0.3"
    )
    command.option("below", "4", "with --noise=natural: ratings below it are noise", real_number)
    command.option(
        "seeds", "3", "number of seeds of the trainings, or a list; the noise is the same for all", default="3"
    )
    command.flag("yardsticks", "add the models without training that suit, see docs/models/yardsticks.md")
    add_resources(command)
    command.option("folder", "FOLDER", "folder of the results; finished runs in it are not repeated")
    command.option("metric", "NDCG@10", "main metric")
    command.option("reference", "MODEL", "model with which the others are compared; default: the best at each ratio")
    command.option("config_files", '"A B"', "yaml files of settings for every model")
    command.flag("debug", "print the traceback of an error")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code: 1 if a run failed."""
    command = parser()
    code = command.print_help_if_needed(words, complete=bool(words))
    if code is not None:
        return code
    options, settings = command.read(words)
    for name in ("models", "dataset"):
        if not getattr(options, name):
            raise UsageError(f"--{name} is not set; recbole-diffusion robustness --help")
    common, own = split_by_label(settings)
    models = options.models.split(",")
    if options.yardsticks:
        from recbole_diffusion.experiment.compare import yardsticks

        models = yardsticks.add(models)
    option_names.check("robustness", common, [name.strip().partition("@")[0] for name in models])
    folder = options.folder or default_folder("robustness", options.dataset)
    from recbole_diffusion.experiment import robustness
    from recbole_diffusion.settings.config import parse_setting

    try:
        result = robustness.robustness(
            models, options.dataset, options.noise, listed(options.ratios, float) or [], seeds_of(options.seeds),
            folder,
            {key: parse_setting(key, value) for key, value in common.items()}, own, options.below,
            robustness.Resources(**resources_of(options)), options.metric, options.reference,
            config_files(options.config_files or ""), "recbole-diffusion robustness " + shlex.join(words),
        )  # fmt: skip
    except KeyboardInterrupt:
        print(f"interrupted; the same command with --folder={shlex.quote(folder)} goes on", file=sys.stderr)
        return 130
    print("\n".join([*result.heads, "", result.table(), "", result.caption(), ""]))
    print("\n".join(map(short_path, result.files)))
    if result.failed:
        print(f"{result.failed} runs failed; the same command with --folder={folder} tries them again", file=sys.stderr)
    return 1 if result.failed else 0
