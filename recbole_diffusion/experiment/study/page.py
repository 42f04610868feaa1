"""The block of a markdown page that an ablation writes again.

The block of a model lies between two comments, ``<!-- ablate DiffRec -->`` and ``<!-- /ablate DiffRec -->``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Union

from recbole_diffusion.experiment.study.results import StudyResult
from recbole_diffusion.support.atomic_write import atomic_write_text


def check(page: Union[str, Path], model: str) -> str:
    """Return the page's text.

    Raises:
        ValueError: the page cannot be read, or does not have the model's block exactly once.
    """
    try:
        text = Path(page).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"page {str(page)!r} cannot be read: {error}") from None
    if len(_block(model).findall(text)) != 1:
        raise ValueError(
            f"page {str(page)!r} does not have one block of {model}; write the lines '<!-- ablate {model} -->' and "
            f"'<!-- /ablate {model} -->' where its table belongs"
        )
    return text


def write(page: Union[str, Path], model: str, result: StudyResult, command: str) -> None:
    """Write the table of an ablation into the model's block; the rest of the page stays.

    Raises:
        ValueError: see :func:`check`.
    """
    text = check(page, model)
    notes = "".join(f"\n\n{note}" for note in result.notes)
    command_lines = f"```\n{command}\n```\n\n" if command else ""
    content = f"{command_lines}{result.head}\n\n{result.markdown()}\n\n{result.tests()}{notes}\n"
    block = f"<!-- ablate {model} -->\n{content}<!-- /ablate {model} -->"
    atomic_write_text(Path(page), _block(model).sub(lambda _: block, text))
    result.files.append(Path(page))


def _block(model: str) -> re.Pattern[str]:
    name = re.escape(model)
    return re.compile(rf"<!-- ablate {name} -->.*?<!-- /ablate {name} -->", re.DOTALL)
