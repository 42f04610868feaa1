"""The runs of a model on a data set: tuning trials and tested runs, with the fingerprints that their keys hold."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from typing import Any, Optional

from recbole_diffusion.experiment.compare import plan
from recbole_diffusion.experiment.compare.models_on_datasets import ModelOnDataset
from recbole_diffusion.experiment.jobs.fingerprint import DECIDING, code_fingerprint, files_fingerprint
from recbole_diffusion.experiment.jobs.run_spec import RunSpec
from recbole_diffusion.experiment.space import search_space
from recbole_diffusion.experiment.space.dimensions import canonical_json


class RunPlanner:
    """Make the specifications of runs.

    Args:
        seeds: of the tested runs; trials have the first one.
        common: settings for all models.
        passed_keys: keys of ``common`` that win over a model's file and are not tuned.
    """

    def __init__(self, seeds: list[int], common: Mapping[str, Any], passed_keys: Collection[str]) -> None:
        self.seeds, self.common, self.passed_keys = seeds, common, passed_keys
        self._code_fingerprints: dict[str, str] = {}

    def settings(self, pair: ModelOnDataset) -> dict[str, Any]:
        """Return the settings of the model's runs, without those that trials choose."""
        location = {"data_path": pair.data_path} if pair.data_path else {}
        return {**pair.entry.merged_settings(self.common, self.passed_keys), **location}

    def spec(self, pair: ModelOnDataset, chosen: Mapping[str, Any], seed: int, trial: Optional[int] = None) -> RunSpec:
        """Return the specification of a run; ``chosen`` are the settings that tuning chose."""
        entry, settings = pair.entry, {**self.settings(pair), **chosen}
        basis = {"code": self._code_fingerprint(entry.model, settings), "files": files_fingerprint(settings)}
        if pair.split is not None:
            basis.update(split=pair.split.counts["split_sha256"], data=pair.split.counts["files_sha256"])
        basis = {name: fingerprint for name, fingerprint in basis.items() if fingerprint}
        return RunSpec(entry.label, entry.model, pair.dataset, seed, settings, trial, basis)

    def final_specs(self, pair: ModelOnDataset, chosen: Mapping[str, Any]) -> list[RunSpec]:
        """Return the tested runs, one for each seed."""
        return [self.spec(pair, chosen, seed) for seed in self.seeds]

    def trial_specs(self, pair: ModelOnDataset, count: int) -> list[RunSpec]:
        """Return the tuning trials: one with the model's defaults, then draws from its search space.

        Returns:
            ``count`` trials, or fewer if the space has no more points.

        Raises:
            ValueError: the model has no search space, or every key of it is given.
        """
        space = search_space.load(pair.entry.model).without([*pair.entry.settings, *self.passed_keys])
        if not space.dimensions:
            raise ValueError("every key of its space is given")
        space.check(pair.entry.model, pair.dataset, self.settings(pair))
        config = plan.configure_model(pair.entry, pair.dataset, self.common, self.passed_keys)
        defaults = {key: config[key] for key in space.dimensions}
        others = (draw for draw in space.sample(count, seed=0) if canonical_json(draw) != canonical_json(defaults))
        draws = [{}, *itertools.islice(others, count - 1)]
        return [self.spec(pair, draw, self.seeds[0], number) for number, draw in enumerate(draws)]

    def _code_fingerprint(self, model: str, settings: Mapping[str, Any]) -> str:
        """The code's fingerprint, computed once for all runs of the same code."""
        which = str((model, [settings.get(key) for key in DECIDING]))
        if which not in self._code_fingerprints:
            self._code_fingerprints[which] = code_fingerprint(model, settings)
        return self._code_fingerprints[which]
