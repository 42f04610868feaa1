"""The data card: a data set's source, columns, dropped rows and counts, as json and as markdown."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any, Optional

from recbole_diffusion.data.importing import statistics
from recbole_diffusion.support.atomic_write import atomic_write_text
from recbole_diffusion.support.json_values import nan_to_null
from recbole_diffusion.support.versions import version

FORMAT = 1


def stamp() -> dict[str, Optional[str]]:
    """The entries ``version``, of this package, and ``created``, now in UTC."""
    now = datetime.datetime.now(datetime.timezone.utc).timestamp()
    return {"version": version("recbole-diffusion"), "created": statistics.iso(now)}


def card_file(folder: Path, name: str, suffix: str = "json") -> Path:
    """The file of a data set's card."""
    return folder / f"{name}.card.{suffix}"


def write(folder: Path, name: str, content: dict[str, Any]) -> None:
    """Write ``<name>.card.json`` and ``<name>.card.md``."""
    card = {"format": FORMAT, "name": name, **content}
    write_json(card_file(folder, name), card)
    atomic_write_text(card_file(folder, name, "md"), as_markdown(card))


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write plain values as json."""
    atomic_write_text(file, json.dumps(nan_to_null(content), indent=2, ensure_ascii=True) + "\n")


def read(folder: Path, name: str) -> Optional[dict[str, Any]]:
    """Read a card; None where there is none.

    Raises:
        ValueError: it is damaged, or of a later version.
    """
    file = card_file(folder, name)
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read: {error}; remove it to do without the card") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ValueError(f"{file} is no data card of this version (format {FORMAT}); remove it to do without the card")
    return card


def as_markdown(card: dict[str, Any]) -> str:
    """Format a card for readers."""
    source = card["source"]
    parts = [
        f"# {card['name']}",
        "",
        f"Made by recbole-diffusion {card['version']} on {card['created']} from `{source['name']}`"
        + (f" (sha256 {source['sha256']})." if source.get("sha256") else "."),
        "",
        "## Counts",
        "",
        *(f"- {line}" for line in statistics.lines(card["counts"])),
        "",
    ]
    if card.get("columns"):
        parts += ["## Columns", "", "| column | from | chosen by |", "| --- | --- | --- |"]
        parts += [
            f"| {name} | {entry['from']} | {'its name' if entry['guessed'] else 'option'} |"
            for name, entry in card["columns"].items()
        ]
        parts.append("")
    parts += ["## Rows", "", *(f"- {line}" for line in row_lines(card)), ""]
    if card.get("notes"):
        parts += ["## Notes", "", *(f"- {note}" for note in card["notes"]), ""]
    for key in ("licence", "citation"):
        if card.get(key):
            parts += [f"## {key.capitalize()}", "", str(card[key]).strip(), ""]
    parts += ["## Files", "", *(f"- `{file}`, sha256 {digest}" for file, digest in card["files"].items())]
    return "\n".join(parts) + "\n"


def row_lines(card: dict[str, Any]) -> list[str]:
    """The account of the rows: read, dropped by reason in order, written."""
    lines = [f"{card['source']['rows']:,} read"]
    lines += [f"{step['rows']:,} dropped: {step['reason']}" for step in card["steps"]]
    return [*lines, f"{card['counts']['interactions']:,} written"]
