"""Make and check the parts of the documentation that come from the cards: ``models --write``, ``models --check``.

README.md holds the table of models and the paragraph on licences, CITATION.cff the references, and
docs/models/README.md the index of the models' pages, each between two markers. The rest of these files is not touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from recbole_diffusion.cards.card import Card, Paper
from recbole_diffusion.cards.model_spec import ModelSpec
from recbole_diffusion.support.atomic_write import atomic_write_text

Cards = Sequence[Card]


class GeneratedPart(NamedTuple):
    """A generated part of a file.

    Attributes:
        file: path, relative to the repository.
        name: name in the markers.
        make: function that makes the text from the cards.
    """

    file: str
    name: str
    make: Callable[[Cards], str]


def write(root: Path, specs: Sequence[ModelSpec]) -> list[Path]:
    """Make the generated parts again.

    Args:
        root: folder of the repository.
        specs: the models.

    Returns:
        The files that changed.

    Raises:
        ValueError: a file without its markers.
    """
    written = []
    for part in PARTS:
        file = root / part.file
        before = file.read_text(encoding="utf-8")
        match = _markers(part).search(before)
        if match is None:
            raise ValueError(f"{part.file} has no markers {_begin(part)!r} and {_end(part)!r}")
        after = before[: match.start(1)] + part.make(cards_of(specs)) + before[match.end(1) :]
        if after != before:
            atomic_write_text(file, after)
            written.append(file)
    return written


def drifts(root: Path, specs: Sequence[ModelSpec]) -> list[str]:
    """Compare the repository with the cards.

    Args:
        root: folder of the repository.
        specs: the models.

    Returns:
        One line for each generated part that differs, each missing field, and each missing file that a card names.
    """
    return [*_stale(root, cards_of(specs)), *_missing(root, cards_of(specs))]


def cards_of(specs: Sequence[ModelSpec]) -> list[Card]:
    """Return the cards sorted by task, diffusion models first, year of the paper and name."""
    cards = [spec.card for spec in specs if spec.card is not None]
    return sorted(cards, key=lambda card: (card.task, not card.diffusion, _year(card), card.name))


def _year(card: Card) -> int:
    return (card.paper.year or 0) if card.paper is not None else 0


def _stale(root: Path, cards: Cards) -> Iterator[str]:
    """The generated parts that differ from the cards."""
    for part in PARTS:
        file = root / part.file
        match = _markers(part).search(file.read_text(encoding="utf-8")) if file.is_file() else None
        if match is None:
            yield f"{part.file}: no markers {_begin(part)!r} and {_end(part)!r}"
        elif match[1] != part.make(cards):
            yield f"{part.file}: {part.name} differs from the cards at {_first_difference(match[1], part.make(cards))}"


def _first_difference(written: str, generated: str) -> str:
    pairs = zip([*written.splitlines(), "(end)"], [*generated.splitlines(), "(end)"])
    line, expected = next((pair for pair in pairs if pair[0] != pair[1]), ("an empty line", ""))
    return f"{line[:80]!r}, wanted {expected[:80]!r}; recbole-diffusion models --write makes it again"


def _missing(root: Path, cards: Cards) -> Iterator[str]:
    """The missing fields and files of the models."""
    for card in cards:
        card_file, module = f"properties/card/{card.name}.yaml", card.path.partition(":")[0].replace(".", "/")
        required = (*(() if card.yardstick else ("paper",)), "nfe", "page", "tags")
        yield from (f"{card_file}: {key} is missing" for key in required if not getattr(card, key))
        if not card.contract.quick:
            yield f"{card_file}: contract.quick is missing; the contract suite trains with it"
        files = {"class": f"{module}.py", "page": card.page, "parity.test": card.parity and card.parity.test}
        files |= {"keys": f"properties/model/{card.name}.yaml", "search space": f"properties/hyper/{card.name}.yaml"}
        for key, name in files.items():
            if name and not (root / name).is_file():
                yield f"{card_file}: {key}: {name} is not there"
        yield from _missing_commits(root, card, [name for name in (files["class"], files["page"]) if name])


def _missing_commits(root: Path, card: Card, files: Sequence[str]) -> Iterator[str]:
    """The files, of the model's module and page, that do not name the commit of the official code."""
    code = card.code
    if code is None:
        return
    for name in files:
        if (root / name).is_file() and code.commit not in (root / name).read_text(encoding="utf-8"):
            yield f"{name}: does not name {code.repository}'s commit {code.commit}, as {card.name}'s card does"


# The generated parts


def table(cards: Cards) -> str:
    """Make the README's table of models."""
    head = "model | paper | kind | network calls per user | parity with the official code"
    return _table(head, (_row(card) for card in cards))


def index(cards: Cards) -> str:
    """Make the index in docs/models: a table of the models with their inputs, and links relative to that folder."""
    head, rows = "model | paper | kind | needs | network calls per user", []
    for card in cards:
        needs = ", ".join(need.replace("_", " ") for need in card.needs) or "interactions only"
        link = _link(card, Path(card.page or "").name)
        rows.append(f"{link} | {_cited(card)} | {_kind(card)} | {needs} | {card.nfe}")
    return _table(head, rows)


def _table(head: str, rows: Iterable[str]) -> str:
    rule = " | ".join(["---"] * (head.count("|") + 1))
    return "\n".join(["\n", *(f"| {row} |" for row in (head, rule, *rows)), "\n"])


def _row(card: Card) -> str:
    parity = "none"
    if card.code is not None and card.parity is not None:
        tolerance = f"{card.parity.tolerance:.0e}".replace("e-0", "e-")
        parity = (
            f"{tolerance} at [{card.code.commit}](https://github.com/{card.code.repository}/tree/{card.code.commit})"
        )
    return f"{_link(card, card.page or '')} | {_cited(card)} | {_kind(card)} | {card.nfe} | {parity}"


def _link(card: Card, page: str) -> str:
    return f"[{card.name}]({page})"


def _cited(card: Card) -> str:
    return f"[{card.paper.title}]({card.paper.url}), {card.paper.where}" if card.paper else "none"


def _kind(card: Card) -> str:
    return ", ".join([card.task, *card.tags])


def licences(cards: Cards) -> str:
    """Make the README's sentence on the licences of the official repositories."""
    by_licence: dict[str, list[str]] = {}
    for card in cards:
        if card.code is not None and card.code.repository not in by_licence.setdefault(card.code.licence, []):
            by_licence[card.code.licence].append(card.code.repository)
    groups = [
        f"{', '.join(names)} ({'no licence' if licence == 'none' else licence})"
        for licence, names in sorted(by_licence.items(), reverse=True)
    ]
    return f"\n\nNothing but numbers is taken from the reference repositories: {'; '.join(groups)}.\n\n"


def references(cards: Cards) -> str:
    """Make the references of CITATION.cff; a paper of several models appears once."""
    papers = {card.paper.url: card.paper for card in cards if card.paper is not None}
    return "\n" + "".join(map(_reference, papers.values())) + "  "


def _reference(paper: Paper) -> str:
    quoted = f'"{paper.title}"' if ":" in paper.title else paper.title
    lines = [f"  - type: {'article' if paper.journal else 'conference-paper'}", f"    title: {quoted}", "    authors:"]
    for author in paper.authors:
        family, _, given = author.partition(", ")
        lines.append(f"      - {{family-names: {family}, given-names: {given}}}")
    if paper.journal is not None:
        lines.append(f"    journal: {paper.journal.name}")
        numbers = {"volume": paper.journal.volume, "issue": paper.journal.issue}
        lines += [f"    {key}: {value}" for key, value in numbers.items() if value is not None]
    else:
        lines.append(f"    conference: {{name: {paper.venue}}}")
    lines.append(f"    year: {paper.year}")
    prefix = "https://doi.org/"
    doi = paper.url.startswith(prefix)
    lines.append(f"    doi: {paper.url[len(prefix) :]}" if doi else f"    url: {paper.url}")
    return "\n".join(lines) + "\n"


PARTS = (
    GeneratedPart("README.md", "models", table),
    GeneratedPart("README.md", "licences", licences),
    GeneratedPart("docs/models/README.md", "models", index),
    GeneratedPart("CITATION.cff", "models", references),
)


def _begin(part: GeneratedPart) -> str:
    return f"# {part.name}: begin" if part.file.endswith(".cff") else f"<!-- {part.name}: begin -->"


def _end(part: GeneratedPart) -> str:
    return _begin(part).replace("begin", "end")


def _markers(part: GeneratedPart) -> re.Pattern[str]:
    """The pattern of a part. Its group 1 is the text between the markers, from the end of the first marker's line."""
    return re.compile(f"{re.escape(_begin(part))}[^\n]*?(\n.*?){re.escape(_end(part))}", re.DOTALL)
