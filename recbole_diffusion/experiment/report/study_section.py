"""The table and the plots of a study (steps, ablate, watch, robustness) in the page ``index.html`` of its folder."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Optional

from recbole_diffusion.support import json_files

FILE = "section.json"


@dataclass(frozen=True)
class StudySection:
    """What a page shows of a study. All texts are plain.

    Attributes:
        title: of the section.
        columns, rows: of the table; the first column heads the rows.
        lines: paragraphs under the table.
        pictures: names of svg files in the study's folder.
        files: names of files and pages, relative to the study's folder, which are linked.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    lines: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


def section_of(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], lines: Sequence[str], folder: Path,
    files: Sequence[Path],
) -> StudySection:  # fmt: skip
    """Return the section of a study whose ``files`` lie below ``folder``."""
    names = [Path(os.path.relpath(file, folder)).as_posix() for file in files]
    pictures = [name for name in names if name.endswith(".svg")]
    return StudySection(title, [*columns], [[*row] for row in rows], [*lines], pictures, names)


def write(folder: Path, section: StudySection) -> None:
    """Write ``section.json``, from which :func:`recbole_diffusion.experiment.report.write` makes the page."""
    json_files.write(folder / FILE, asdict(section))


def read(folder: Path) -> Optional[StudySection]:
    """Read ``section.json``; None if the folder holds none.

    Raises:
        ValueError: it is damaged, or a picture lies outside of the folder.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        section = StudySection(**json_files.read(file))
        texts = [section.title, *section.columns, *section.lines, *section.pictures, *section.files]
        texts += [text for row in section.rows for text in row]
        if not all(isinstance(text, str) for text in texts) or not all(section.rows):
            raise ValueError("it holds no table of texts")
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"{str(file)!r} cannot be read ({error}); delete it, and run the study's command again"
        ) from error
    for name in section.pictures:
        if folder.resolve() not in (folder / name).resolve().parents:
            raise ValueError(
                f"{str(file)!r} names the picture {name!r}, which lies outside of its folder; delete the file"
            )
    return section


def as_html(folder: Path, page_folder: Path) -> Optional[str]:
    """Return the section of a study's folder as html; None if the folder holds none.

    Args:
        folder: of the study.
        page_folder: of the page, from which files are linked.

    Raises:
        ValueError: see :func:`read`.
    """
    section = read(folder)
    if section is None:
        return None
    parts = [f"<h2>{html.escape(section.title)}</h2>", _table(section)]
    parts += [f'<p class="quiet">{html.escape(line)}</p>' for line in section.lines]
    parts += [_figure(folder / name, section.title) for name in section.pictures if (folder / name).is_file()]
    links = [(name, Path(os.path.relpath(folder / name, page_folder)).as_posix()) for name in section.files]
    items = "".join(f'<li><a href="{html.escape(link)}">{html.escape(name)}</a></li>' for name, link in links)
    return "\n".join([*parts, f'<ul class="files">{items}</ul>'])


def _table(section: StudySection) -> str:
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in section.columns)
    body = "\n".join(
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td>{html.escape(text)}</td>" for text in row[1:])
        + "</tr>"
        for row in section.rows
    )
    return (
        f'<div class="wide" role="region" aria-label="{html.escape(section.title)}" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _figure(file: Path, title: str) -> str:
    """A plot as an image inside the page: nothing in it can run."""
    image = base64.b64encode(file.read_bytes()).decode()
    caption = html.escape(f"{title}: {file.stem}")
    return f'<figure><img alt="{caption}" src="data:image/svg+xml;base64,{image}"></figure>'
