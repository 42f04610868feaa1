"""The request of a comparison, in the form in which comparison.json keeps it for ``--resume``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from recbole_diffusion.experiment.jobs.moved_paths import moved_settings
from recbole_diffusion.settings.precedence import GIVEN, Source


@dataclass
class ComparisonRequest:
    """The arguments of :func:`compare`, with the content of files and with absolute paths.

    Attributes:
        models: words, see :func:`recbole_diffusion.experiment.compare.model_entries.parse_entries`.
        contents: the content of each file in ``models``, by word.
        datasets, seeds, tune, metric, reference: as :func:`compare` takes them.
        files: name and content of each config file.
        settings: for all models; they win over files.
        own: settings for single models, by label.
    """

    models: list[str]
    contents: dict[str, dict[str, Any]]
    datasets: list[str]
    seeds: list[int]
    files: list[tuple[str, dict[str, Any]]]
    settings: dict[str, Any]
    own: dict[str, dict[str, Any]]
    tune: int
    metric: Optional[str]
    reference: Optional[str]

    def __post_init__(self) -> None:
        """Check what needs no data.

        Raises:
            ValueError: no or repeated seeds or data sets, a negative number of trials.
        """
        if len(set(self.seeds)) < max(len(self.seeds), 1):
            raise ValueError(f"seeds={self.seeds!r} is not allowed; allowed: one or more, each once")
        if len(set(self.datasets)) < max(len(self.datasets), 1):
            raise ValueError(f"dataset={','.join(self.datasets)!r} is not allowed; allowed: one or more, each once")
        if self.tune < 0:
            raise ValueError(f"tune={self.tune} is not allowed; allowed: a number of trials, or 0")

    @property
    def sources(self) -> list[Source]:
        """The sources of the settings for all models; later ones win, the last one was passed directly."""
        return [*(Source(name, content) for name, content in self.files), Source(GIVEN, self.settings)]

    def after_move(self, before: str, now: Path) -> ComparisonRequest:
        """Return the request with its paths found again after the folder has moved from ``before`` to ``now``."""
        return ComparisonRequest(
            **{
                **vars(self),
                "contents": {word: moved_settings(content, before, now) for word, content in self.contents.items()},
                "files": [(name, moved_settings(content, before, now)) for name, content in self.files],
                "settings": moved_settings(self.settings, before, now),
                "own": {label: moved_settings(settings, before, now) for label, settings in self.own.items()},
            }
        )
