"""The command ``recbole-diffusion models``: list the models, show a card, check the texts that come from the cards."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from recbole_diffusion import registry
from recbole_diffusion.cards import documents
from recbole_diffusion.cards.card import TASKS
from recbole_diffusion.cards.model_spec import ModelSpec
from recbole_diffusion.cli.command import Command
from recbole_diffusion.cli.option_names import UsageError
from recbole_diffusion.support import yaml_files

_EPILOG = """\
--check and --write need a clone of the repository, installed by pip install -e .
They cover README.md, CITATION.cff, docs/models/README.md and the models' files."""


def parser() -> Command:
    """Declare the arguments of the command."""
    command = Command("models", "[NAME] [--task=sequential] [--all]", _EPILOG, settings=False)
    command.positional("name", "describe this model; default: list all models", default="")
    command.option("task", "TASK", "list the models of one task: general or sequential")
    command.flag("all", "list RecBole's own models too")
    command.flag("check", "print a line for each text that differs from the cards; exit code 1 if one differs")
    command.flag("write", "write the texts that come from the cards again, then check them")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    code = command.print_help_if_needed(words)
    if code is not None:
        return code
    options, _ = command.read(words)
    if options.task not in (None, *TASKS):
        raise UsageError(f"--task={options.task} is not allowed; allowed: {', '.join(TASKS)}")
    if options.check or options.write:
        return _documents(options.write)
    if options.name:
        print(_described(_spec(options.name)))
        return 0
    for _, spec in sorted(registry.specs().items()):
        if options.task in (None, spec.task):
            print(_listed(spec))
    if options.all:
        names = " ".join(registry.recbole_model_names())
        print(f"\nRecBole's own (--model=NAME; with a name of ours: --model=recbole:NAME):\n  {names}")
    return 0


def _spec(name: str) -> ModelSpec:
    spec = registry.find_spec(name)
    if spec is None:
        registry.get_model(name)  # raises an error with similar names if there is no such model
        raise UsageError(f"{name} is RecBole's and has no card; its keys: recbole-diffusion run --model={name} --help")
    return spec


def _listed(spec: ModelSpec) -> str:
    paper = f"{spec.paper.title}, {spec.paper.where}, {spec.paper.url}" if spec.paper else "no paper"
    return f"{spec.name:12} {spec.task:11} {paper}\n{'':12} {', '.join(spec.tags)}"


def _described(spec: ModelSpec) -> str:
    """Format the metadata of one model, a line each, without those that are not known."""
    card, paper = spec.card, spec.paper
    process = card.process if card is not None and spec.diffusion else None
    facts = {
        "class": spec.path,
        "task": spec.task,
        "diffusion": f"yes ({process})" if process else "yes" if spec.diffusion else "no",
        "needs": ", ".join(need.replace("_", " ") for need in spec.needs) or "interactions only",
        "training rows": "one per user" if spec.loader == "user" else None,
        "data set": spec.dataset,
        "trainer": spec.trainer,
        "network calls": f"{card.nfe} (per user and ranking)" if card is not None and card.nfe else None,
        "paper": f"{paper.title}. {paper.where}. {paper.url}" if paper else None,
        "authors": "; ".join(paper.authors) if paper else None,
        "code": spec.code,
        "code's licence": card.code.licence if card is not None and card.code else None,
        "parity": f"{card.parity.tolerance:g}, {card.parity.test}" if card is not None and card.parity else None,
        "in short": ", ".join(spec.tags),
        "page": card.page if card is not None else None,
        "keys": f"{spec.defaults}; recbole-diffusion run --model={spec.name} --help",
    }
    known = {name: str(value) for name, value in facts.items() if value}
    return "\n".join([spec.name, *(_fact(name, text) for name, text in known.items())])


def _fact(name: str, text: str) -> str:
    return textwrap.fill(f"  {name:15} {text}", 120, subsequent_indent=" " * 18, break_on_hyphens=False)


def _documents(write: bool) -> int:
    """Check the texts that come from the cards; before that write them again if ``write``."""
    root = yaml_files.properties().parent
    if not (root / "pyproject.toml").is_file():
        raise UsageError("models --check and --write need a clone of the repository, installed by pip install -e .")
    for file in documents.write(root, registry.ours()) if write else ():
        print(f"written: {Path(file).relative_to(root)}")
    drifts = documents.drifts(root, registry.ours())
    for line in drifts:
        print(line, file=sys.stderr)
    return 1 if drifts else 0
