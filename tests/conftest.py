"""Small data that the tests make themselves, a folder of their own, and nothing left behind in RecBole."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from recbole_diffusion import bridge
from recbole_diffusion.compat import repairs
from recbole_diffusion.testing import HEADER, SETTINGS, build, write_board, write_inter

__all__ = ["HEADER", "write_inter"]  # the tests import them from here

torch.set_num_threads(1)  # the data is tiny; two threads only wait for each other
# No deadline: no test asserts wall-clock time. The folder fixture is per test, which suits the properties here.
hypothesis_settings.register_profile(
    "here", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
hypothesis_settings.load_profile("here")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs write saved/ and outputs/: into the test's folder. Repairs and registration end with the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pytest"])  # RecBole's own Config reads it
    before = dict(vars(np))
    yield
    for name in set(vars(np)) - set(before):  # RecBole's own Config puts np.float and others there
        if not isinstance(vars(np)[name], ModuleType):  # a part of numpy that is loaded when it is needed
            delattr(np, name)
    vars(np).update(before)
    bridge.disable()
    repairs.undo()
    logging.getLogger().handlers = [h for h in logging.getLogger().handlers if type(h).__name__ != "FileHandler"]


#: What a sequential model reads of RecBole's own settings, for models built without a Config.
SEQUENTIAL_FIELDS: dict[str, Any] = {
    "USER_ID_FIELD": "user_id",
    "ITEM_ID_FIELD": "item_id",
    "LIST_SUFFIX": "_list",
    "ITEM_LIST_LENGTH_FIELD": "item_length",
    "NEG_PREFIX": "neg_",
    "device": torch.device("cpu"),
    "eval_seed": 1,
}
#: Settings for quick runs in the test's folder.
SMALL: dict[str, Any] = {"data_path": "dataset", **SETTINGS}


@pytest.fixture
def checkerboard(tmp_path: Path) -> Path:
    """64 users, 40 items: users like the items of their own parity; each leaves out a few of them."""
    return write_board(tmp_path / "dataset")


@pytest.fixture
def settings(checkerboard: Path) -> dict[str, Any]:
    """Settings for quick runs on the checkerboard."""
    return dict(SMALL)


@pytest.fixture
def built(settings: dict[str, Any]) -> Callable[..., Any]:
    """``built(model, **settings)``: (config, model, dataset, loaders) on the checkerboard, untrained."""

    return lambda model, **more: build(model, {**settings, **more})


def near(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to 1e-5 of the largest value, at least of 1."""
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5 * max(1.0, float(expected.abs().max())))


FROZEN_DATA = Path(__file__).parent / "frozen"


def frozen_network(arrays: Any, prefix: str, width: int = 8) -> dict[str, torch.Tensor]:
    """DDRM's and HDRM's official parameters of one network as ConditionalMLP's: the first layer split by its inputs."""
    theirs = {key[len(prefix) :]: torch.from_numpy(arrays[key]) for key in arrays.files if key.startswith(prefix)}
    first = theirs.pop("in_layers.0.weight")
    state = {f"time.{part}": theirs.pop(f"emb_layer.{part}") for part in ("weight", "bias")}
    state["input.weight"], state["time_input.weight"] = first[:, :width], first[:, width : width + 10]
    state["condition.weight"], state["input.bias"] = first[:, width + 10 :], theirs.pop("in_layers.0.bias")
    layers = sorted({key.rsplit(".", 1)[0] for key in theirs})  # in_layers before out_layers
    for place, layer in enumerate(layers):
        name = "output" if place == len(layers) - 1 else f"hidden.{place}"
        state |= {f"{name}.{part}": theirs[f"{layer}.{part}"] for part in ("weight", "bias")}
    return state
