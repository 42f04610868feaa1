"""``dataset.pretrained``: access to embeddings, or to a whole recommender, trained before the model.

Models only use the protocol of this module. :mod:`recbole_diffusion.pretraining` sets the attribute on the train data
set. It trains or loads the models of the keys ``pretrain``, ``base_model``, ``base_config`` and ``base_checkpoint``.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional, Protocol

from recbole_diffusion.model.embeddings.tables import Embeddings


class TrainedModel(NamedTuple):
    """A trained recommender: its ``embeddings``, and a function that rebuilds it for further training."""

    embeddings: Embeddings
    rebuild: Callable[[], Any]


class Pretrained(Protocol):
    """The attribute ``pretrained`` of a train data set. Nothing is trained or loaded before a method is called."""

    def embeddings(self) -> Embeddings:
        """Train or load the model of the key ``pretrain``; its embeddings, in the ids of the data set."""
        ...

    def base(self) -> TrainedModel:
        """Train or load the model of ``base_model``, ``base_config`` and ``base_checkpoint``."""
        ...

    def untrained_base(self) -> Any:
        """Build the same model untrained, for weights that a checkpoint provides."""
        ...


def pretrained(dataset: Any, need: str) -> Pretrained:
    """Return the attribute ``pretrained`` of a data set.

    Args:
        dataset: the train data set.
        need: beginning of the error message, e.g. "base_model needs another recommender".

    Raises:
        ValueError: this package did not prepare the data set.
    """
    access: Optional[Pretrained] = getattr(dataset, "pretrained", None)
    if access is None:
        raise ValueError(
            f"{need}, which recbole_diffusion.run (or enable() and RecBole's quick_start) trains or reads on the run's "
            "own train split"
        )
    return access
