"""The command ``recbole-diffusion ablate``: what carries the result of a trained model."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from recbole_diffusion.cli.command import Command, integer
from recbole_diffusion.cli.option_names import UsageError
from recbole_diffusion.cli.resources import add_resources, resources_of
from recbole_diffusion.cli.seeds import seeds_of
from recbole_diffusion.cli.study_options import add_options, command_line, listed, print_result

_EPILOG = """\
Nothing is trained unless --train is set. Parts of the reverse process are replaced, and the result is compared with the
full chain user by user:

  one call                  one step of the model's own solver
  no call                   the start of the reverse process, without the network
  no noise                  every normal draw at inference is 0
  x_t = noise, x_t = 0      the network sees noise alone, or zeros
  x_t = target              the network sees the held-out items: a leak, far better only if the network reads x_t
  another user's condition  the network has the condition of another user
  another seed              other noise at inference

--train also trains the model again, with the checkpoint's settings and on its split: as it is, without diffusion, with
loss weights of 1, and without each part of its loss, as the model's card names them. All have the same seeds and
budget.

examples:
  recbole-diffusion ablate outputs/DDRM-.../checkpoint.pth
  recbole-diffusion ablate saved/DiffRec-....pth --train --seeds=3 --epochs=40

--key=value             a setting, e.g. data_path, gpu_id, eval_batch_size"""
_OF_TRAINING = ("seeds", "epochs", "stopping_step", "workers", "address", "threads", "cpus", "gpus")


def parser() -> Command:
    """Declare the arguments of the command."""
    command = Command("ablate", "CHECKPOINT [--train --seeds=3 --epochs=40] [options]", _EPILOG)
    command.positional("checkpoint", "checkpoint of a diffusion model")
    command.flag("train", "train the model again without each of its parts")
    command.option("seeds", "3", "with --train: number of seeds, or a list; default: 3")
    command.option("epochs", "40", "with --train: epochs of each training; default: the checkpoint's", integer)
    command.option(
        "stopping_step", "10", "with --train: validations without improvement; default: the checkpoint's", integer
    )
    add_resources(command)
    command.option("page", "FILE.md", "markdown page whose block of the model is written again")
    add_options(command, "test")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code: 1 if a training failed."""
    command = parser()
    code = command.print_help_if_needed(words, complete=bool(words) and not words[0].startswith("-"))
    if code is not None:
        return code
    options, settings = command.read(words)
    for name in _OF_TRAINING:
        if not options.train and getattr(options, name) is not None:
            raise UsageError(f"--{name} has no effect without --train")
    from recbole_diffusion.experiment import study
    from recbole_diffusion.experiment.jobs.resources import Resources

    budget = {key: getattr(options, key) for key in ("epochs", "stopping_step") if getattr(options, key) is not None}
    result = study.ablate(
        options.checkpoint,
        split=options.split,
        folder=options.folder,
        metrics=listed(options.metrics),
        topk=listed(options.topk, int),
        config_dict=settings,
        trust=options.trust_checkpoint,
        train=options.train,
        seeds=seeds_of(options.seeds or "3"),
        budget=budget,
        resources=Resources(**resources_of(options)),
        page=options.page,
        command=command_line("ablate", words),
    )
    print_result(result)
    if result.failed:
        print(f"{result.failed} trainings failed; the same command with --folder tries them again", file=sys.stderr)
    return 1 if result.failed else 0
