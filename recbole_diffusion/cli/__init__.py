"""The command line, thin: words to settings, errors to one line.

Exit codes: 0 done, 1 failed, 2 a word, setting, file or data set that is not right.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Optional

from recbole_diffusion.cli.options import (
    OF_THE_GROUP,
    OPTIONS,
    UsageError,
    check_spelling,
    config_files,
    only,
    parse,
    places_of,
)
from recbole_diffusion.cli.seeds import seeds_of
from recbole_diffusion.support import libraries

USAGE = """usage: recbole-diffusion COMMAND [options]

  run         train and test a model: run --model=DiffRec --dataset=ml-100k [--key=value ...]
  compare     any models, ours and RecBole's, on one split: statistics, cost, tables and plots
  tune        search a model's settings on the validation split, with Ray or without
  report      the tables and plots of a comparison again
  reproduce   a paper's setting on its own split, beside what the paper reports and a baseline
  convert     the official DiffRec arrays, or a .txt of sequences, as RecBole's files
  models      the models, or one of them: models DiffRec   [--task=sequential; --all: RecBole's own too]
  doctor      what is installed, what is known to fail, and the line that mends it

recbole-diffusion COMMAND --help says more."""

RUN_USAGE = """usage: recbole-diffusion run --model=NAME --dataset=NAME [options] [--key=value ...]

  --model=NAME            ours or RecBole's; recbole:NAME for RecBole's own; package.module:Class
  --dataset=NAME          data_path/NAME/NAME.inter (data_path is 'dataset' unless set); ml-100k comes with RecBole
  --config_files="A B"    yaml files, the later ones win; the command line wins over them
  --resume=FILE           continue an interrupted run from its checkpoint
  --trust-checkpoint      load a checkpoint that holds pickled objects; they can run code
  --nproc=N               train with N processes: on N GPUs (--gpu_id=0,1), or on parts of the CPU
  --no-save               write no checkpoint; the best weights are kept in memory
  --dry-run               print the effective configuration and stop
  --debug                 a traceback instead of one line
  --key=value             any setting; '--key value' too. --help with --model lists the model's own"""

REPRODUCE_USAGE = """usage: recbole-diffusion reproduce MODEL DATASET --data=PATH [options] [--key=value ...]

  --data=PATH             the official arrays: a .npz with train, valid, test (and item_emb), or a folder with
                          train_list.npy, valid_list.npy, test_list.npy (and item_emb.npy); for sequential models a
                          .txt with lines 'user item item ...' or RecBole's .inter (also as .xz or .gz)
  --seeds=3               three runs, with seeds 1, 2 and 3; or a list such as 7,8,9
  --protocol=official     official: arrays as named, to compare with published numbers; time-proper: in the order of
                          time; both. Sequential models have one only: leave-one-out
  --out=FILE              also write the tables there
  --key=value             a setting on top of the published ones

Settings with published numbers:"""

CONVERT_USAGE = """usage: recbole-diffusion convert SOURCE --name=NAME [--to=dataset] [--protocol=official|time-proper]

Writes TO/NAME/NAME.{train,valid,test}.inter from the official arrays (a .npz or a folder of .npy files), or
TO/NAME/NAME.inter from sequences (a .txt), see reproduce --help, and says which settings read them."""


def _run(words: Sequence[str]) -> int:
    options, settings, flags = parse(words)
    if "help" in flags:
        print(_help(options.get("model")))
        return 0
    check_spelling(settings, {*OPTIONS, *OF_THE_GROUP}, options.get("model"))
    group = _group(settings)
    files = config_files(options.pop("config_files", ""))
    resume, model, dataset = (options.get(key) for key in ("resume", "model", "dataset"))
    trust = "trust-checkpoint" in flags
    from recbole_diffusion import distributed, quick_start
    from recbole_diffusion.cards import own_models

    if "dry-run" in flags:
        config = quick_start.configure(model, dataset, files, dict(settings), resume, trust)
        own_models.check_keys(config)
        for note in config.notes:
            print(f"warning: {note}", file=sys.stderr)
        for line in config.overridden:
            print(line, file=sys.stderr)
        print(config.to_yaml(), end="")
        return 0
    saved = "no-save" not in flags
    from recbole_diffusion.training.run_folder import result_table

    options_of_run = {"resume": resume, "trust": trust, **group}
    print(result_table(distributed.run(model, dataset, files, dict(settings), saved, **options_of_run)))
    return 0


def _group(settings: dict[str, str]) -> dict[str, Any]:
    """RecBole's words for several processes, taken out of the settings.

    Raises:
        UsageError: one that is no number.
    """
    found: dict[str, Any] = {"nproc": 1}
    for key in OF_THE_GROUP:
        value = settings.pop(key, None)
        if value is not None and key != "ip" and not value.lstrip("-").isdigit():
            raise UsageError(f"--{key}={value} is not allowed; allowed: a number")
        if value is not None:
            found[key] = value if key == "ip" else int(value)
    return found


def _help(model: Optional[str]) -> str:
    """The usage, and every key of the model and of this package with its default, rule and meaning."""
    from recbole_diffusion import registry
    from recbole_diffusion.settings import schema
    from recbole_diffusion.support import yaml_files

    text = [RUN_USAGE]
    files: list[tuple[str, Path]] = []
    spec = registry.find_spec(model) if model else None
    if spec is not None:
        own = yaml_files.properties() / "model" / f"{spec.name}.yaml"
        files.append((f"keys of {spec.name}", Path(spec.properties) if spec.properties else own))
    elif model:
        name = registry.get_model(model).__name__
        theirs = registry.recbole_folder() / "properties" / "model" / f"{name}.yaml"
        files += [(f"keys of RecBole's {name}", theirs)] if theirs.is_file() else []
    files.append(("keys of this package", yaml_files.properties() / "overall.yaml"))
    for title, file in files:
        text += ["", f"{title}:"]
        for key, entry in schema.read_keys(file).items():
            default = "" if entry.default is None else entry.default
            text.append(f"  --{key}={default}" + (f"   ({entry.rule}) {entry.meaning}" if entry.rule else ""))
    return "\n".join([*text, "", "RecBole's own keys: https://recbole.io/docs/user_guide/config_settings.html"])


def _reproduce(words: Sequence[str]) -> int:
    places, words = places_of(words, 2)
    options, settings, flags = parse(words)
    if "help" in flags or len(places) < 2:
        there = "\n".join(f"  {model} {name}" for model, name in _published())
        print(f"{REPRODUCE_USAGE}\n{there}", file=sys.stdout if "help" in flags else sys.stderr)
        return 0 if "help" in flags else 2
    source, out = settings.pop("data", None), settings.pop("out", None)
    only("reproduce", options, flags)
    if "seed" in settings:
        raise UsageError("--seed is not an option of reproduce; write --seeds=3 for seeds 1 to 3, --seeds=7, for 7")
    if out is not None and not Path(out).absolute().parent.is_dir():
        raise UsageError(f"--out={out} is not allowed; allowed: a file in a folder that is there")
    if source is None:
        raise UsageError("--data=PATH is missing: the official data")
    seeds = seeds_of(settings.pop("seeds", "3"))
    check_spelling(settings, {"data", "seeds", "protocol"}, places[0])
    from recbole_diffusion.experiment import reproduce
    from recbole_diffusion.support.atomic_write import atomic_write_text

    model, name = places
    setting = reproduce.load_setting(model, name)
    protocol = settings.pop("protocol", setting.protocols[0])
    tables = []
    for each in setting.protocols if protocol == "both" else (protocol,):
        rows = reproduce.reproduce(model, name, source, seeds, each, dict(settings))
        tables.append(reproduce.markdown(setting, each, rows))
        print(f"\n{tables[-1]}\n", flush=True)
        if out is not None:
            atomic_write_text(out, "\n\n".join(tables) + "\n")
    return 0


def _published() -> list[tuple[str, str]]:
    """(model, data set) of every published setting; needs no RecBole."""
    from recbole_diffusion.support import yaml_files

    pairs = (file.stem.partition("_") for file in (yaml_files.properties() / "paper").glob("*.yaml"))
    return sorted((model, name) for model, _, name in pairs)


def _convert(words: Sequence[str]) -> int:
    places, words = places_of(words, 1)
    options, settings, flags = parse(words)
    only("convert", options, flags)
    if "help" in flags or not places or "name" not in settings:
        print(CONVERT_USAGE, file=sys.stdout if "help" in flags else sys.stderr)
        return 0 if "help" in flags else 2
    from recbole_diffusion.data import convert

    name, folder, protocol = settings.pop("name"), settings.pop("to", "dataset"), settings.pop("protocol", None)
    if settings:
        raise UsageError(f"--{next(iter(settings))} is not an option of convert")
    if Path(name).name != name or name in {"", ".", ".."}:
        raise UsageError(f"--name={name} is not allowed; allowed: the name of a folder to make in {folder}")
    if {".txt", ".inter"} & set(Path(places[0]).suffixes):
        if protocol is not None:
            raise UsageError("--protocol is for arrays; sequences are written as they are")
        written = convert.write_sequences(places[0], folder, name)
        keys = {"data_path": folder, **convert.LEAVE_ONE_OUT}
    else:
        written = convert.write_split(places[0], folder, name, protocol or "official")
        keys = convert.settings(folder, name)
    print(f"{written}: {', '.join(sorted(file.name for file in written.iterdir() if not file.name.startswith('.')))}")
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in keys.items()}
    print("run it with " + " ".join(f"--{key}={shlex.quote(text)}" for key, text in {"dataset": name, **texts}.items()))
    return 0


def _models(words: Sequence[str]) -> int:
    from recbole_diffusion.cli.models import models

    return models(words)


def _doctor(words: Sequence[str]) -> int:
    _, _, flags = parse(words)
    if "help" in flags:
        print("usage: recbole-diffusion doctor\n\nExit code 1 if a known-bad combination is installed.")
        return 0
    from recbole_diffusion.compat import doctor

    text, good = doctor.report()
    print(text)
    return 0 if good else 1


def _experiments(name: str) -> Callable[[Sequence[str]], int]:
    """A command of :mod:`cli_experiments`, imported when it is called."""

    def command(words: Sequence[str]) -> int:
        from recbole_diffusion.cli import experiments

        found: Callable[[Sequence[str]], int] = getattr(experiments, name)
        return found(words)

    return command


_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "run": _run,
    "compare": _experiments("compare"),
    "tune": _experiments("tune"),
    "report": _experiments("report"),
    "reproduce": _reproduce,
    "convert": _convert,
    "models": _models,
    "doctor": _doctor,
}


def main(words: Optional[Sequence[str]] = None) -> int:
    """The console script; returns the exit code."""
    words = sys.argv[1:] if words is None else list(words)
    if not words or words[0] in {"-h", "--help", "help"}:
        print(USAGE)
        return 0 if words else 2
    if words[0] == "--version":
        from recbole_diffusion import __version__

        print(f"recbole-diffusion {__version__}")
        return 0
    command = _COMMANDS.get(words[0])
    if command is None:
        return _say(f"no command {words[0]!r}; there are {', '.join(_COMMANDS)}", 2)
    debug = "--debug" in words
    try:
        return command(words[1:])
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except BrokenPipeError:  # piped into head
        sys.stderr.close()
        return 0
    except UsageError as error:
        return _say(str(error), 2)
    except Exception as error:
        if debug:
            raise
        return _failed(error)


def _failed(error: Exception) -> int:
    """One line for an error, wherever it was raised."""
    of_library, text = libraries.explain(error), " ".join(str(error).split())
    if of_library is not None:
        return _say(of_library, 1)
    if isinstance(error, (ValueError, NotImplementedError, OSError)):
        return _say(text, 2 if isinstance(error, ValueError) else 1)
    return _say(f"{type(error).__name__}: {text[:300]} (--debug shows where)", 1)


def _say(message: Any, code: int) -> int:
    print(f"recbole-diffusion: {message}", file=sys.stderr)
    return code
