"""What the recommendations need of a loaded model. :class:`recbole_diffusion.quick_start.Loaded` has it."""

from __future__ import annotations

from typing import Any, Protocol

#: The splits by name, in the order of the loaders.
PHASES = ("train", "valid", "test")


class Trained(Protocol):
    """A model in evaluation mode, with its settings and data."""

    @property
    def config(self) -> Any:
        """The settings of the run."""
        ...

    @property
    def model(self) -> Any:
        """The model."""
        ...

    @property
    def dataset(self) -> Any:
        """RecBole's data set."""
        ...

    @property
    def train_data(self) -> Any:
        """The loader of the train split."""
        ...

    @property
    def valid_data(self) -> Any:
        """The loader of the validation split."""
        ...

    @property
    def test_data(self) -> Any:
        """The loader of the test split."""
        ...


def loaders_of(trained: Trained) -> tuple[Any, Any, Any]:
    """The loaders in the order of :data:`PHASES`."""
    return trained.train_data, trained.valid_data, trained.test_data


def is_sequential(trained: Trained) -> bool:
    """Whether the model scores from a sequence of items."""
    from recbole.utils import ModelType

    return bool(trained.config["MODEL_TYPE"] == ModelType.SEQUENTIAL)
