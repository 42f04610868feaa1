"""The split that lists and checkpoints are evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from recbole.utils import ModelType

from recbole_diffusion.data import item_categories, pipeline
from recbole_diffusion.evaluation.split_data import SplitData, unique_pairs

PHASES = ("train", "valid", "test")


class EvaluationSplit(NamedTuple):
    """A split with one part that is evaluated.

    Attributes:
        config: the settings that made it.
        dataset: RecBole's.
        phase: the evaluated part, one of :data:`PHASES`.
        data: training pairs, and the targets of the evaluated part.
        past: (user, item) of the parts before it, (n, 2).
        counts: numbers and hash, see :func:`recbole_diffusion.data.pipeline.describe`.
    """

    config: Any
    dataset: Any
    phase: str
    data: SplitData
    past: np.ndarray
    counts: dict[str, Any]

    @property
    def masks(self) -> bool:
        """Whether an evaluation of this split masks the items of a user's past."""
        config = self.config
        if config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
            return bool(config["mask_history"]) and self.phase != "train"
        return not config["repeatable"]

    def masked_items(self) -> str:
        """The masked items in words."""
        mode = self.config["eval_args"]["mode"]["test" if self.phase == "train" else self.phase]
        if mode == "labeled":
            return "nothing is ranked: scores of rows are compared with labels"
        if mode != "full":
            return f"ranked among the targets and sampled items only ({mode})"
        earlier = {"train": "", "valid": "train", "test": "train and valid"}[self.phase]
        if not self.masks:
            return "ranked among all items, those of the user's past included"
        return f"ranked among all items{f' but those of the user in {earlier}' if earlier else ''}"


def make(config: Any, dataset: Any, loaders: Sequence[Any], phase: str) -> EvaluationSplit:
    """Collect what the evaluation of one part needs.

    Args:
        config, dataset, loaders: see :func:`recbole_diffusion.quick_start.prepare`.
        phase: one of :data:`PHASES`.

    Raises:
        ValueError: that part is empty.
    """
    train = pipeline.interactions(loaders[0])
    valid, test = pipeline.pairs(loaders[1]), pipeline.pairs(loaders[2])
    targets = {"train": train, "valid": valid, "test": test}[phase]
    if not len(targets):
        raise ValueError(f"the {phase} split of {config['dataset']!r} is empty: nothing to evaluate")
    past = {"train": train[:0], "valid": train, "test": np.concatenate([train, valid])}[phase]
    names = [np.asarray(dataset.field2id_token[field], dtype=str) for field in (dataset.uid_field, dataset.iid_field)]
    data = SplitData(
        dataset.user_num,
        dataset.item_num,
        train,
        unique_pairs(targets, dataset.item_num),
        item_categories.read(config, dataset),
        *names,
    )
    return EvaluationSplit(config, dataset, phase, data, past, pipeline.describe(dataset, loaders))
