"""The specification of one run, and the key under which a store keeps its record."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from recbole_diffusion.settings import scopes


@dataclass(frozen=True)
class RunSpec:
    """One run: a training of one model with its settings, a data set and a seed.

    Attributes:
        label: the model's name in tables, e.g. ``DDRM:BPR``.
        model: the model, as :func:`recbole_diffusion.run` takes it.
        dataset: the data set's name.
        seed: of the training; the split has a seed of its own.
        settings: ``config_dict`` of the run, as plain values; paths are absolute.
        trial: the number of a tuning trial, which sees the validation split only; None for a run that is tested.
        basis: fingerprints of the data and the code that the numbers depend on beside the settings.
    """

    label: str
    model: str
    dataset: str
    seed: int
    settings: dict[str, Any]
    trial: Optional[int] = None
    basis: dict[str, str] = field(default_factory=dict)

    #: Settings that change no number.
    NO_EFFECT = scopes.without_effect()
    #: Settings that may name a file: its content is in ``basis``, and its folder changes no number.
    OF_FILES = scopes.keys(scopes.Scope.CONTENT)

    @property
    def key(self) -> str:
        """The run's hash, 20 hexadecimal digits. The label and the folders of named files are not part of it."""
        content = asdict(self)
        del content["label"]
        content["settings"] = {
            key: Path(value).name if key in self.OF_FILES and isinstance(value, str) else value
            for key, value in self.settings.items()
            if key not in self.NO_EFFECT
        }
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:20]
