"""Fixtures of the contract suite: one folder, one set of settings and one training for each tested model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import pytest
from recbole.trainer import TraditionalTrainer

from recbole_diffusion import quick_start, registry
from recbole_diffusion.compat import repairs
from recbole_diffusion.testing.board import SETTINGS, write_board
from recbole_diffusion.testing.building import ablations, noisy, quick, trainer_of


class Trained(NamedTuple):
    """Result of a run with the quick settings, and the contents of its checkpoint."""

    result: dict[str, Any]
    config: Any
    model: Any
    dataset: Any
    loaders: tuple[Any, Any, Any]


def _class_fixture(function: Callable[..., Any]) -> Any:
    """Make a class-scoped fixture from a method of the class.

    pytest wants a classmethod here, but those of Python 3.9 have no ``__name__``; its pytest takes plain methods.
    """
    method: Any = classmethod(function) if sys.version_info >= (3, 10) else function
    return pytest.fixture(scope="class")(method)


class ModelCase:
    """Attributes and fixtures that the tests of one model share.

    Attributes:
        model: the model's name, as for ``--model``; registered by an entry point or ``register_model``.
        quick: settings with which the model learns the checkerboard; None: those of its card.
        noisy: additional settings with noise at inference, one case each; None: those of its card.
    """

    model: str
    quick: Optional[dict[str, Any]] = None
    noisy: Optional[list[dict[str, Any]]] = None

    @classmethod
    def quick_settings(cls) -> dict[str, Any]:
        """Return ``quick``, from the class or the card."""
        return quick(cls.model) if cls.quick is None else cls.quick

    @classmethod
    def noisy_settings(cls) -> list[dict[str, Any]]:
        """Return ``noisy``, from the class or the card."""
        return noisy(cls.model) if cls.noisy is None else cls.noisy

    @classmethod
    def is_closed_form(cls) -> bool:
        """Return whether the model is fitted when it is built, and not trained by gradients."""
        model_type = getattr(registry.get_model(cls.model), "type", None)
        return issubclass(registry.get_trainer(model_type, cls.model, cls.model), TraditionalTrainer)

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Parametrize ``extra_settings`` by none and each of the noisy ones, ``ablation`` by the card's ablations."""
        if "extra_settings" in metafunc.fixturenames:
            metafunc.parametrize("extra_settings", [{}, *self.noisy_settings()], ids=str)
        if "ablation" in metafunc.fixturenames:
            metafunc.parametrize("ablation", ablations(self.model).values(), ids=ablations(self.model))

    @_class_fixture
    def folder(cls, tmp_path_factory: Any) -> Path:
        """Folder of the class, with the data and everything that the runs write."""
        folder: Path = tmp_path_factory.mktemp(cls.model)
        write_board(folder / "dataset")
        return folder

    @_class_fixture
    def keys(cls, folder: Path) -> dict[str, Any]:
        """Settings of all tests of the class, which share pretrained models by ``checkpoint_dir``."""
        subfolders = {"data_path": "dataset", "checkpoint_dir": "saved", "output_dir": "outputs"}
        paths = {key: str(folder / name) for key, name in subfolders.items()}
        return {**SETTINGS, **paths, "stopping_step": 60, **cls.quick_settings()}

    @_class_fixture
    def trained(cls, keys: dict[str, Any]) -> Trained:
        """The only training of the class. Tests must not change its model."""
        result = quick_start.run(cls.model, "board", config_dict=keys)
        config, model, dataset, *loaders = quick_start.load(result["checkpoint"])
        return Trained(result, config, model, dataset, tuple(loaders))

    @pytest.fixture(autouse=True)
    def _isolate(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["pytest"])
        repairs.apply()  # another test may have reverted them


def evaluating_trainer(trained: Trained) -> Any:
    """Make a trainer that has collected the training data for its metrics, as at the end of a training."""
    trainer = trainer_of(trained.config, trained.model)
    trainer._collect_of(trained.loaders[0])
    return trainer
