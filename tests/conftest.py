"""Small data that the tests make themselves, a folder of their own, and nothing left behind in RecBole."""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Callable, Optional

import numpy as np
import pytest

from recbole_diffusion.testing import HEADER, SETTINGS, write_board, write_inter

if TYPE_CHECKING:
    import torch

__all__ = ["HEADER", "write_inter"]  # the tests import them from here

#: Bytes that shared memory must have free for the tests' folders, which take some 300 MB. A container has 64 MB of it.
_ROOM = 4 << 30


def _has_room(memory: str) -> bool:
    """Whether a folder is there, can be written to, lets files be executed, and is large enough."""
    if not os.access(memory, os.W_OK) or os.statvfs(memory).f_flag & os.ST_NOEXEC:
        return False
    return shutil.disk_usage(memory).free >= _ROOM


# The tests' folders in memory: each small run writes and syncs twenty files, at milliseconds each on a disk.
if "PYTEST_DEBUG_TEMPROOT" not in os.environ and _has_room("/dev/shm"):
    os.environ["PYTEST_DEBUG_TEMPROOT"] = "/dev/shm"


def pytest_configure(config: pytest.Config) -> None:
    """Set up the process that runs tests. That which only starts pytest-xdist's processes imports no torch."""
    if not hasattr(config, "workerinput") and config.getoption("numprocesses", None):
        return
    gc.disable()  # until all is imported
    import torch
    from hypothesis import HealthCheck, settings

    torch.set_num_threads(1)  # the data is tiny; two threads only wait for each other
    _seed_no_absent_device(torch)
    _measure_load_without_waiting()
    # No deadline: no test asserts wall-clock time. The folder fixture is per test, which suits the properties here.
    settings.register_profile(
        "here", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    settings.load_profile("here")


def _seed_no_absent_device(torch: ModuleType) -> None:
    """Leave the seeds of absent devices out.

    For each of them torch keeps the stack of the caller, as text, until the device is used: 2 ms per seed under pytest.
    """
    for name in ("cuda", "xpu", "mtia"):
        device = getattr(torch, name, None)
        if device is not None and hasattr(device, "manual_seed_all") and not device.is_available():
            device.manual_seed = device.manual_seed_all = lambda seed: None


def _measure_load_without_waiting() -> None:
    """Let RecBole's table of the environment show the load since the last call; it waits a second for it."""
    import psutil

    cpu_percent = psutil.cpu_percent
    psutil.cpu_percent = lambda interval=None, percpu=False: cpu_percent(None, percpu)


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_xdist_auto_num_workers(config: pytest.Config) -> Optional[int]:
    """Processes of ``-n auto``: one per core, at most four; none for files that are named, which then start at once."""
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None
    if any(argument.partition("::")[0].endswith(".py") for argument in config.args):
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 4) if cores > 1 else 0


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse a pytest under which pytest-xdist does not see the groups: tests of processes would disturb each other."""
    gc.freeze()  # modules stay; the collector would search them at every turn
    gc.enable()
    grouped = [item for item in session.items if item.get_closest_marker("xdist_group")]
    if hasattr(session.config, "workerinput") and any("@" not in item.nodeid for item in grouped):
        raise pytest.UsageError(
            "this pytest-xdist ignores xdist_group with this pytest; install pytest<9.2, or use -n 0"
        )


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs write saved/ and outputs/: into the test's folder. Repairs and registration end with the test."""
    from recbole_diffusion import bridge
    from recbole_diffusion.compat import repairs

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pytest"])  # RecBole's own Config reads it
    yield
    bridge.disable()
    repairs.undo()
    logging.getLogger().handlers = [h for h in logging.getLogger().handlers if type(h).__name__ != "FileHandler"]
    assert "float" not in vars(np), "RecBole's own Config was made: ask for the fixture numpy_restored"


def undraw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let figures be made and their files be written, but not drawn, which takes half a second each."""
    if importlib.util.find_spec("matplotlib"):
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, file, **_: file.write(b"not drawn"))


@pytest.fixture(autouse=True)
def _figures_undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave figures undrawn, except in tests of plots, which ask for the fixture ``drawn``.

    Only tests of experiments make figures; the others need no import. Fixtures of modules come before this one, and
    call :func:`undraw` themselves.
    """
    if "drawn" not in request.fixturenames and "recbole_diffusion.experiment" in sys.modules:
        undraw(monkeypatch)


def leave_out_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the plots of reports, whose layout takes seconds."""
    monkeypatch.setattr("recbole_diffusion.experiment.report.files._draw_function", lambda: None)


@pytest.fixture
def no_plots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the plots of reports, but in tests that ask for the fixture ``drawn`` or ``figures``."""
    if not {"drawn", "figures"} & {*request.fixturenames}:
        leave_out_plots(monkeypatch)


@pytest.fixture
def figures() -> None:
    """Make the figures of this test."""


@pytest.fixture
def drawn() -> None:
    """Draw the figures of this test."""


@pytest.fixture
def numpy_restored() -> Iterator[None]:
    """RecBole's own Config puts np.float and others into numpy; with the test they go."""
    before = dict(vars(np))
    yield
    for name in set(vars(np)) - set(before):
        if not isinstance(vars(np)[name], ModuleType):  # a part of numpy that is loaded when it is needed
            delattr(np, name)
    vars(np).update(before)


@pytest.fixture(scope="session")
def shared_bases(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ``pretrain_dir`` for all tests of a session, those of its other processes included."""
    folder = tmp_path_factory.getbasetemp()
    return str((folder.parent if os.environ.get("PYTEST_XDIST_WORKER") else folder) / "bases")


#: Settings for quick runs in the test's folder: two batches of users, 27 of interactions, and two of RecBole's five
#: metrics, whose tests over users take longer than the runs.
SMALL: dict[str, Any] = {"data_path": "dataset", **SETTINGS, "train_batch_size": 32, "metrics": ["Recall", "NDCG"]}


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
    from recbole_diffusion.testing import build

    return lambda model, **more: build(model, {**settings, **more})


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run of this process ends at once and with the same score: for tests of which runs there are."""

    from recbole_diffusion import quick_start

    def run(*_: Any, test: bool = True, **__: Any) -> dict[str, Any]:
        score = {"ndcg@10": 0.5}
        found: dict[str, Any] = {"best_valid_result": score, "best_valid_score": 0.5, "valid_score_bigger": True}
        found |= {"test_result": score if test else None, "per_user": None, "epochs": [], "warnings": []}
        return {**found, "data": {}, "timing": {"epochs": 1, "total_s": 1.0, "from_scratch_s": 1.0}}

    monkeypatch.setattr(quick_start, "run", run)


def near(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to 1e-5 of the largest value, at least of 1."""
    import torch

    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5 * max(1.0, float(expected.abs().max())))


FROZEN_DATA = Path(__file__).parent / "frozen"


def frozen_network(arrays: Any, prefix: str, width: int = 8) -> dict[str, torch.Tensor]:
    """DDRM's and HDRM's official parameters of one network as ConditionalMLP's: the first layer split by its inputs."""
    import torch

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
