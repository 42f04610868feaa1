"""A fork server: one thread and no CUDA before a fork, a clean child for each job, nothing left behind."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fork_jobs
import psutil
import pytest

from recbole_diffusion.experiment.cluster.session import search_path
from recbole_diffusion.experiment.jobs import fork_server as module
from recbole_diffusion.experiment.jobs.executor import PRELOAD
from recbole_diffusion.experiment.jobs.fork_server import JobRequest, call, fork_server

pytestmark = [
    pytest.mark.skipif(not module.AVAILABLE, reason="no fork server on this platform"),
    pytest.mark.xdist_group("fork server"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """One server for the module, with everything imported that trainings need."""
    with fork_server(search_path(), PRELOAD) as address:
        yield address


def ask(address: str, function: Any, *arguments: Any, **environment: str) -> Any:
    answer = call(address, JobRequest(function, arguments, {**os.environ, **environment}, os.getcwd()))
    return None if answer is None else pickle.loads(answer)


@pytest.mark.processes
def test_the_server_has_one_thread_no_cuda_and_all_imports_when_it_forks(server: str) -> None:
    state = ask(server, fork_jobs.state_of_parent)
    assert state["threads"] == 1
    assert state["cuda_initialised"] is False
    assert state["bad_fork"] is False
    assert {"torch", "torch._dynamo", "recbole.trainer", "recbole_diffusion.quick_start"} <= set(state["loaded"])


def test_a_child_is_clean_and_stands_where_it_is_sent(server: str, tmp_path: Path) -> None:
    first = ask(server, fork_jobs.leave_traces, FORK_TEST="one")
    second = ask(server, fork_jobs.leave_traces, FORK_TEST="two")
    assert first["traces"] == second["traces"] == []
    assert (first["variable"], second["variable"]) == ("one", "two")
    assert first["pid"] != second["pid"]
    assert first["directory"] == str(tmp_path)
    assert first["drawn"] != second["drawn"]  # numpy's global state is not shared
    assert "FORK_TEST" not in os.environ


def test_threads_of_a_child_are_as_many_as_it_asks_for(server: str) -> None:
    assert ask(server, fork_jobs.product_with_threads, 2) == ask(server, fork_jobs.product_with_threads, 1)


def test_children_run_at_the_same_time_and_a_killed_one_costs_its_own_job(server: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        dies = pool.submit(ask, server, fork_jobs.wait_for_ever, tmp_path / "pid")
        lives = pool.submit(ask, server, fork_jobs.wait_for, tmp_path / "go")
        wait_until((tmp_path / "pid").exists)
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        assert dies.result(timeout=60) is None
        (tmp_path / "go").touch()
        assert lives.result(timeout=60) == "came"
    assert ask(server, fork_jobs.wait_for, tmp_path / "go") == "came"


def test_an_answer_of_many_megabytes(server: str) -> None:
    assert ask(server, fork_jobs.many_bytes, 2**25) == bytes(2**25)


def test_no_dead_children_are_kept(server: str) -> None:
    parent = psutil.Process(ask(server, fork_jobs.parent))
    wait_until(lambda: not parent.children())


def test_no_server_is_an_error_that_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        ask(str(tmp_path / "none"), fork_jobs.parent)


def test_a_failing_preload_leaves_the_server_working() -> None:
    with fork_server(search_path(), "not_a_module:nothing") as address:
        assert ask(address, fork_jobs.parent) != os.getpid()


@pytest.mark.processes
def test_the_end_of_the_block_ends_server_and_children_and_removes_the_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        with fork_server(search_path()) as address:
            waiting = pool.submit(ask, address, fork_jobs.wait_for_ever, tmp_path / "pid")
            wait_until((tmp_path / "pid").exists)
            child = psutil.Process(int((tmp_path / "pid").read_text()))
            parent = child.parent()
        assert waiting.result(timeout=60) is None
    assert not Path(address).parent.exists()
    assert parent is not None
    assert not psutil.wait_procs([child, parent], timeout=60)[1]


OWNER = """
    import sys
    from recbole_diffusion.experiment.cluster.session import search_path
    from recbole_diffusion.experiment.jobs.fork_server import JobRequest, call, fork_server
    import fork_jobs, os
    from pathlib import Path

    with fork_server(search_path()) as address:
        call(address, JobRequest(fork_jobs.wait_for_ever, (Path(sys.argv[1]),), dict(os.environ), os.getcwd()))
"""


@pytest.mark.processes
def test_a_killed_owner_takes_server_and_children_along(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(fork_jobs.__file__).parent), *search_path()])
    command = [sys.executable, "-c", textwrap.dedent(OWNER), str(tmp_path / "pid")]
    owner = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})
    wait_until((tmp_path / "pid").exists)
    family = psutil.Process(owner.pid).children(recursive=True)
    assert len(family) == 2
    owner.kill()
    owner.wait()
    assert not psutil.wait_procs(family, timeout=60)[1]


def wait_until(condition: Any, seconds: float = 120) -> None:
    for _ in range(int(seconds * 20)):
        if condition():
            return
        time.sleep(0.05)
    raise TimeoutError
