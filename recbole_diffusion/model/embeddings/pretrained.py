"""``dataset.pretrained``: how a model gets embeddings, or a whole recommender, that was trained before it.

The models only ask for it. :mod:`recbole_diffusion.pretraining` puts it on the train data set, and trains or reads what
the keys ``pretrain``, ``base_model``, ``base_config`` and ``base_checkpoint`` name.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional, Protocol

from recbole_diffusion.model.embeddings.tables import Embeddings


class Trained(NamedTuple):
    """Another recommender after its training: its embeddings, and how to get it back to train on."""

    embeddings: Embeddings
    rebuild: Callable[[], Any]


class Pretrained(Protocol):
    """The attribute ``pretrained`` of a train data set. Each method works when it is called, not before."""

    def embeddings(self) -> Embeddings:
        """The embeddings that the key ``pretrain`` names, in the ids of the data set."""
        ...

    def base(self) -> Trained:
        """The recommender of ``base_model``, ``base_config`` and ``base_checkpoint``, trained."""
        ...

    def untrained_base(self) -> Any:
        """The same recommender with weights that a checkpoint is about to fill."""
        ...


def pretrained(dataset: Any, need: str) -> Pretrained:
    """The object on a data set.

    Args:
        dataset: the train data set.
        need: what needs what, for the error.

    Raises:
        ValueError: the data set was not prepared by this package.
    """
    found: Optional[Pretrained] = getattr(dataset, "pretrained", None)
    if found is None:
        raise ValueError(
            f"{need}, which recbole_diffusion.run (or enable() and RecBole's quick_start) trains or reads on the run's "
            "own train split"
        )
    return found
