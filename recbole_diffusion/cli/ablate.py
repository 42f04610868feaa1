"""The command ``recbole-diffusion ablate``: what carries the result of a trained model."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_diffusion.cli.command import Command
from recbole_diffusion.cli.study_options import add_options, command_line, listed, print_result

_EPILOG = """\
Nothing is trained. Parts of the reverse process are replaced, and the result is compared with the full chain user by
user:

  one call                  one step of the model's own solver
  no call                   the start of the reverse process, without the network
  no noise                  every normal draw at inference is 0
  x_t = noise, x_t = 0      the network sees noise alone, or zeros
  x_t = target              the network sees the held-out items: a leak, far better only if the network reads x_t
  another user's condition  the network has the condition of another user
  another seed              other noise at inference

example:
  recbole-diffusion ablate outputs/DDRM-.../checkpoint.pth

--key=value             a setting, e.g. data_path, gpu_id, eval_batch_size"""


def parser() -> Command:
    """Declare the arguments of the command."""
    command = Command("ablate", "CHECKPOINT [options]", _EPILOG)
    command.positional("checkpoint", "checkpoint of a diffusion model")
    add_options(command, "test")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    code = command.print_help_if_needed(words, complete=bool(words) and not words[0].startswith("-"))
    if code is not None:
        return code
    options, settings = command.read(words)
    from recbole_diffusion.experiment import study

    result = study.ablate(
        options.checkpoint,
        split=options.split,
        folder=options.folder,
        metrics=listed(options.metrics),
        topk=listed(options.topk, int),
        config_dict=settings,
        trust=options.trust_checkpoint,
        command=command_line("ablate", words),
    )
    return print_result(result)
