"""A Ray session: on loopback only, and nothing left of it, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Optional

import psutil
import pytest
from packaging.version import Version

from recbole_diffusion.compat import doctor
from recbole_diffusion.experiment.cluster import head
from recbole_diffusion.experiment.cluster import session as ray_session
from recbole_diffusion.experiment.cluster import session_folder as ray_folder
from recbole_diffusion.experiment.cluster.session import session
from recbole_diffusion.experiment.jobs.calls import KILLED_OR_LOST, NODE_DIED
from recbole_diffusion.experiment.jobs.executor import Done, executor
from recbole_diffusion.experiment.jobs.folder_lock import exclusive_lock
from recbole_diffusion.testing import write_board


def _usable() -> bool:
    try:
        ray_session.import_ray()
    except ValueError:
        return False
    return True


pytestmark = pytest.mark.xdist_group("ray session")  # what listens and runs is looked at
needs_ray = pytest.mark.skipif(not _usable(), reason="no ray that works here")


def _family(pid: Optional[int] = None) -> list[psutil.Process]:
    """A process, this one by default, and all that it and they started."""
    first = psutil.Process(pid)
    return [first, *first.children(recursive=True)]


def _listening(family: list[psutil.Process]) -> set[str]:
    pids = {process.pid for process in family}
    sockets = psutil.net_connections("inet")  # Process.net_connections is missing in the psutil that ray 2.6.3 brings
    addresses = {each.laddr.ip for each in sockets if each.pid in pids and each.status == psutil.CONN_LISTEN}
    return {address.replace("::ffff:", "") for address in addresses}


def _folders() -> set[Path]:
    return set(ray_folder.parent_folder().glob(f"{ray_folder.PREFIX}{os.getpid()}-*"))


def _seen_by_a_worker(_: Any) -> tuple[str, str, list[str]]:
    return os.environ["OMP_NUM_THREADS"], os.environ["CUDA_VISIBLE_DEVICES"], sys.path


@pytest.mark.processes
@needs_ray
def test_a_session_is_on_loopback_only_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")  # a session of our own does not join what this names
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before, shared, others = dict(os.environ), os.listdir("/dev/shm"), _family()
    handler = signal.getsignal(signal.SIGTERM)
    with session(workers=2, threads=3) as ray:
        (folder,) = _folders()
        threads, devices, path = ray.get(ray.remote(_seen_by_a_worker).remote(None))
        family = _family()
        listening, commands = _listening(family), [" ".join(each.cmdline()) for each in family]
        assert ray.cluster_resources()["CPU"] == 2
        assert folder.is_dir()
        with pytest.raises(ValueError, match="Ray runs already in this process"), session(workers=1):
            pass
    assert (threads, devices) == ("3", "")
    assert set(ray_session.search_path()) <= set(path)
    assert listening == {"127.0.0.1"}
    assert not [words for words in commands if "dashboard/dashboard.py" in words]
    assert len(family) > 5
    assert not [each for each in family if each.is_running() and each not in others]
    assert not _folders()
    assert dict(os.environ) == before
    assert signal.getsignal(signal.SIGTERM) is handler
    _wait_for(lambda: {*os.listdir("/dev/shm")} <= {*shared}, "shared memory")  # files of other sessions go at once
    assert list(tmp_path.iterdir()) == []  # no ~/ray_results, no ~/.ray/auth_token
    assert not ray.is_initialized()


STRANGER = """
import sys
import ray
ray.init(address=sys.argv[1], log_to_driver=False)
print("joined", ray.get(ray.remote(lambda: 7).remote()))
"""


@pytest.mark.processes
@needs_ray
@pytest.mark.skipif(
    (doctor.installed()["ray"] or Version("0")) < Version("2.52"), reason="ray has no token before 2.52"
)
def test_a_session_refuses_who_has_another_token_and_writes_its_own_to_no_file() -> None:
    def join(address: str, token: str) -> str:
        variables = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        command = [sys.executable, "-c", STRANGER, address]
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=240).stdout

    with session(workers=1) as ray:
        (folder,) = _folders()
        address, token = ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_TOKEN"]
        assert len(token) == 64
        assert join(address, token) == "joined 7\n"
        assert join(address, "cd" * 32) == ""
        files = [file for file in folder.rglob("*") if file.is_file() and file.stat().st_size < 2**24]
        assert len(files) > 5
        assert not [file for file in files if token.encode() in file.read_bytes()]


@pytest.mark.processes
@needs_ray
def test_an_exception_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    family: list[psutil.Process] = []
    others = _family()

    def fail() -> None:
        family.extend(_family())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), session(workers=1) as ray:
        fail()
    assert not [each for each in family if each.is_running() and each not in others]
    assert not _folders()
    assert not ray.is_initialized()
    assert dict(os.environ) == before


DRIVER = """
    import os, time
    from recbole_diffusion.experiment.jobs.executor import executor

    def forever(_):
        while True:
            time.sleep(0.1)

    def tick():
        print(os.getpid(), ex.running(), flush=True)

    try:
        with executor(workers=1) as ex:
            list(ex.map(forever, [("a", 0), ("b", 1)], tick))
    finally:
        print("left", flush=True)
"""


@needs_ray
@pytest.mark.parametrize(
    ("number", "status"),
    [
        pytest.param("SIGTERM", 143, marks=pytest.mark.processes),
        pytest.param("SIGINT", -signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("SIGKILL", -9, marks=pytest.mark.processes),
    ],
)
def test_a_signal_ends_the_session(number: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    base = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # where no other session removes what we look for
    monkeypatch.setenv("TMPDIR", str(base))
    driver = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DRIVER)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where & in a script started us
    )
    try:
        assert driver.stdout is not None
        assert "['a']" in driver.stdout.readline()
        driver.stdout.readline()
        family = psutil.Process(driver.pid).children(recursive=True)
        assert len(family) > 5
        assert len(list(base.glob(f"{ray_folder.PREFIX}*"))) == 2  # of Ray and of the fork server
        driver.send_signal(getattr(signal, number))
        rest, _ = driver.communicate(timeout=60)
        assert driver.returncode == status
        if number == "SIGKILL":  # Ray's agents try for a minute to tell it, and write to the folder
            ray_folder.remove_stale(base)
        else:
            assert rest.endswith("left\n")
        _, alive = psutil.wait_procs(family, timeout=30)
        assert not alive
        assert not list(base.glob(f"{ray_folder.PREFIX}*"))
    finally:
        driver.kill()
        shutil.rmtree(base, ignore_errors=True)


def test_folders_of_killed_sessions_are_removed_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_folder, "parent_folder", lambda: tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    killed, elsewhere = (tmp_path / f"{ray_folder.PREFIX}{gone.pid}-{end}" for end in ("xxxxxxxx", "yyyyyyyy"))
    living = tmp_path / f"{ray_folder.PREFIX}{os.getppid()}-xxxxxxxx"
    other, nameless = tmp_path / "other-1-xxxxxxxx", tmp_path / f"{ray_folder.PREFIX}abc-xxxxxxxx"
    for each in (killed, elsewhere, living, other, nameless):
        (each / "session").mkdir(parents=True)
        (each / "in-use").touch()
    with open(elsewhere / "in-use") as lock:  # in another container: its process has another number here
        fcntl.flock(lock, fcntl.LOCK_EX)
        with ray_folder.session_folder() as own:
            assert own.is_dir()
            assert own.name.startswith(f"{ray_folder.PREFIX}{os.getpid()}-")
            assert {each.name for each in tmp_path.iterdir()} == {
                each.name for each in (elsewhere, living, other, nameless, own)
            }
            ray_folder.remove_stale(tmp_path)
            assert own.is_dir()
    assert not own.exists()
    with exclusive_lock(tmp_path / "comparison", "comparison"):  # of a command without Ray
        assert not elsewhere.exists()


@pytest.mark.parametrize(
    ("program", "names", "opens", "lives"),
    [
        ("ray::IDLE", False, True, False),
        ("/site-packages/ray/agent.py", True, False, False),
        ("ray::IDLE", False, False, True),  # of another session
        ("tail", True, True, True),
    ],
)
def test_rays_processes_of_a_killed_session_end_and_no_others(
    program: str, names: bool, opens: bool, lives: bool, tmp_path: Path
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder = tmp_path / f"{ray_folder.PREFIX}{gone.pid}-xxxxxxxx"
    folder.mkdir()
    (folder / "in-use").touch()
    words = [program, "-c", "read line", f"--log={folder}/log" if names else "--log=log"]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            words, executable="/bin/sh", stdin=subprocess.PIPE, stdout=log if opens else subprocess.DEVNULL
        )
    try:
        ray_folder.remove_stale(tmp_path)
        assert not folder.exists()
        assert (process.poll() is None) == lives
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("length", "kept"), [(4, True), (150, False)])
def test_a_socket_in_the_folder_has_a_short_enough_name(
    length: int, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = "/" + "t" * (length - 1)
    monkeypatch.setattr("tempfile.tempdir", temporary)
    assert str(ray_folder.parent_folder()) == (temporary if kept else "/tmp")
    longest = "/recdiff-ray-4194304-abcdefgh/session_2026-11-22_20-34-35_520000_4194304/sockets/plasma_store"
    assert len(str(ray_folder.parent_folder()) + longest) <= 107


@pytest.mark.parametrize("workers", [0, -1, True, 1.5, "2", None])
def test_workers_that_are_not_allowed(workers: Any) -> None:
    with pytest.raises(ValueError, match=rf"^workers={re.escape(repr(workers))} is not allowed; allowed: a whole"):
        with session(workers=workers):
            pass


@pytest.mark.parametrize(
    ("python", "numpy", "mend"),
    [((3, 11), "1.26", "recbole-diffusion[pins]"), ((3, 11), "2.1", "ray[tune]>=2.49"), ((3, 12), "1.26", "2.49")],
)
def test_no_ray_is_one_line_with_the_way_out(
    python: tuple[int, int], numpy: str, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = dict.fromkeys(doctor.installed())
    monkeypatch.setattr(doctor, "installed", lambda: {**found, "numpy": Version(numpy)})
    monkeypatch.setattr(sys, "version_info", python)
    with pytest.raises(ValueError, match=re.escape(mend)) as caught, session(workers=1):
        pass
    assert str(caught.value).startswith("ray is not installed; pip install ")
    assert str(caught.value).endswith("the serial executor needs no ray")
    assert "\n" not in str(caught.value)


def test_a_ray_that_cannot_work_is_named_before_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {**doctor.installed(), "ray": Version("2.6.3"), "numpy": Version("2.1")}
    monkeypatch.setattr(doctor, "installed", lambda: versions)
    before = dict(os.environ)
    with pytest.raises(ValueError, match=r"ray 2.6.3 does not import on numpy 2.*mend: pip install"), session(1):
        pass
    assert dict(os.environ) == before


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@needs_ray
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:{port}", "nothing listens on 127.0.0.1:{port}; start a cluster: ray start --head"),
        ("ray://127.0.0.1:10001", "is not allowed; allowed: host:port of the cluster's head, or auto"),
        ("127.0.0.1", "is not allowed; allowed: host:port of the cluster's head, or auto"),
        ("127.0.0.1:²", "is not allowed; allowed: host:port of the cluster's head, or auto"),
        ("127.0.0.1:65536", "is not allowed; allowed: host:port of the cluster's head, or auto"),
        ("a..b:6379", "nothing listens on a..b:6379; start a cluster: ray start --head"),
    ],
)
def test_an_address_where_no_cluster_is(address: str, message: str) -> None:
    port = _free_port()
    before = dict(os.environ)
    with (
        pytest.raises(ValueError, match=re.escape(message.format(port=port))),
        session(address=address.format(port=port)),
    ):
        pass
    assert dict(os.environ) == before


@needs_ray
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, "does not answer as Ray's head does"),  # accepts, and is silent: a head that is stopped
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not answer as Ray's head does"),
        (b"", "does not answer as Ray's head does"),
        (b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", None),
    ],
    ids=["silent", "of the web", "closes", "of gRPC"],
)
def test_a_server_that_is_no_ray_is_one_line_before_ray_tries(
    answer: Optional[bytes], error: Optional[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray 2.6.3 gives up after 150 seconds, ray 2.60 had not after 190."""
    monkeypatch.setattr(head, "_SECONDS", 0.3)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(4)
        port = server.getsockname()[1]
        clients: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):  # the test has ended
                while True:
                    clients.append(server.accept()[0])
                    if answer is not None:
                        clients[-1].recv(64)
                        clients[-1].sendall(answer)
                        clients[-1].close()

        threading.Thread(target=serve, daemon=True).start()
        if error is None:
            assert head.host_and_port(f"127.0.0.1:{port}") == ("127.0.0.1", port)
        else:
            with pytest.raises(ValueError, match=error) as caught, session(address=f"127.0.0.1:{port}"):
                pass
            assert str(caught.value).startswith(f"address='127.0.0.1:{port}': what listens on 127.0.0.1:{port} ")
            assert "\n" not in str(caught.value)
        server.shutdown(socket.SHUT_RDWR)
        for client in clients:
            client.close()


@needs_ray
def test_auto_is_the_cluster_that_the_variable_names(monkeypatch: pytest.MonkeyPatch) -> None:
    port = _free_port()
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with (
        pytest.raises(ValueError, match=f"address='auto': nothing listens on 127.0.0.1:{port}"),
        session(address="auto"),
    ):
        pass


#: `ray start` turns 127.0.0.1 into the network card's address, unless it cannot find that out.
RAY = """
import sys
import ray._private.services as services
services.get_node_ip_address = lambda *args, **kwargs: "127.0.0.1"
from ray.scripts.scripts import main
sys.argv[0] = "ray"
main()
"""


def _start_node(
    out: Path, environment: dict[str, str], *arguments: str, ip: str = "127.0.0.1"
) -> subprocess.Popen[bytes]:
    fixed = (f"--node-ip-address={ip}", "--num-cpus=1", "--object-store-memory=80000000", "--block")
    command = [sys.executable, "-c", RAY, "start", *fixed, *arguments]
    with open(out, "wb") as stream:
        return subprocess.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT)


def _wait_until_started(node: subprocess.Popen[bytes], out: Path) -> None:
    """Wait for a node's raylet, not only for the head's port.

    The port answers seconds before the raylet has made its sockets. A second node that starts meanwhile on the same
    machine takes the same names for its own, and one of the two raylets ends.
    """
    _wait_for(lambda: node.poll() is not None or "Ray runtime started" in out.read_text(), out.name)
    assert node.poll() is None, out.read_text()


def _wait_for(condition: Any, what: str, seconds: float = 180) -> None:
    for _ in range(int(seconds * 2)):
        if condition():
            return
        time.sleep(0.5)
    raise TimeoutError(f"{what}: not within {seconds} s")


def _end(nodes: list[subprocess.Popen[bytes]]) -> None:
    family: list[psutil.Process] = []
    for node in nodes:
        with contextlib.suppress(psutil.NoSuchProcess):
            family.extend(psutil.Process(node.pid).children(recursive=True))
        node.terminate()
    _, alive = psutil.wait_procs(family, timeout=10)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    for node in nodes:
        node.kill()
        node.wait()


def where(seconds: float) -> tuple[str, int, float, list[str], str]:
    """A job: the node, process and start of its run, its arguments and threads. A fork is not connected to Ray."""
    start = time.time()
    time.sleep(seconds)
    return os.environ["RAY_RAYLET_PID"], os.getpid(), start, sys.argv[1:], os.environ["OMP_NUM_THREADS"]


def _drive(address: str, test: int) -> tuple[list[Done], Done, set[str]]:
    """Run jobs on both nodes, then one by ``auto``; also the addresses on which the test's processes listen."""
    with executor(address=address, threads=2) as ex:
        _wait_for(lambda: ex.slots() == 2, "the second node")
        done = list(ex.map(where, [(str(number), 1.0) for number in range(8)]))
        listening = _listening(_family(test))
    with executor(address="auto") as ex:
        (last,) = ex.map(where, [("last", 0.0)])
    return done, last, listening


@contextlib.contextmanager
def _two_nodes(
    monkeypatch: pytest.MonkeyPatch, out: Path, second_ip: str = "127.0.0.1"
) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A cluster of two nodes with a CPU each on this machine; its address and both processes, the head first.

    A driver connects to any node with its own address, 127.0.0.1.
    """
    folder = Path(tempfile.mkdtemp(prefix="rc-", dir="/tmp"))
    address = f"127.0.0.1:{_free_port()}"
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # before 2.52 nobody reads it
    monkeypatch.setenv("RAY_AUTH_TOKEN", "ab" * 32)
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    ports = (f"--port={address.rpartition(':')[2]}", f"--ray-client-server-port={_free_port()}")
    nodes = []
    try:
        nodes.append(_start_node(out / "head", environment, "--head", *ports, "--include-dashboard=false"))
        _wait_until_started(nodes[0], out / "head")
        nodes.append(_start_node(out / "second", environment, f"--address={address}", ip=second_ip))
        yield address, nodes
    finally:
        _end(nodes)
        shutil.rmtree(folder, ignore_errors=True)


@needs_ray
@pytest.mark.processes
def test_two_nodes_share_the_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with _two_nodes(monkeypatch, tmp_path) as (address, nodes):
        # In a process of its own: Ray ends a driver that its raylet does not answer, without an exception.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            done, last, listening = pool.submit(_drive, address, os.getpid()).result()
        assert [node.poll() for node in nodes] == [None, None]  # left running
    assert last.error is None
    assert last.value[0] in {each.value[0] for each in done}
    assert [each.error for each in done] == [None] * 8
    assert sorted(each.key for each in done) == [str(number) for number in range(8)]
    assert len({each.value[0] for each in done}) == 2
    assert len({each.value[1] for each in done}) == 8  # a fresh process each
    assert {(tuple(each.value[3]), each.value[4]) for each in done} == {((), "2")}
    assert listening == {"127.0.0.1"}


def noted_where(argument: tuple[str, str]) -> str:
    """A job of a second that leaves a file with its key, which names its node."""
    folder, key = argument
    node = os.environ["RAY_RAYLET_PID"]
    (Path(folder) / key).write_text(node)
    time.sleep(1.0)
    return node


def _drive_while_a_node_dies(address: str, folder: str) -> tuple[list[Done], list[Done]]:
    """Run jobs on both nodes, then those that failed once more."""
    with executor(address=address) as ex:
        _wait_for(lambda: ex.slots() == 2, "the second node")
        done = list(ex.map(noted_where, [(str(number), (folder, str(number))) for number in range(8)]))
        failed = [each.key for each in done if each.error]
        return done, list(ex.map(noted_where, [(key, (folder, key)) for key in failed]))


def _nodes_of(jobs: Path) -> set[str]:
    return {file.read_text() for file in jobs.iterdir()}


def _pids(node: subprocess.Popen[bytes]) -> set[str]:
    return {str(process.pid) for process in _family(node.pid)}


def _kill_family(node: subprocess.Popen[bytes]) -> None:
    for process in _family(node.pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@needs_ray
@pytest.mark.processes
def test_a_node_that_dies_costs_what_it_ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    with _two_nodes(monkeypatch, tmp_path) as (address, nodes):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            future = pool.submit(_drive_while_a_node_dies, address, str(jobs))
            _wait_for(lambda: _nodes_of(jobs) & _pids(nodes[1]), "work on the second node")
            (second,) = _nodes_of(jobs) & _pids(nodes[1])
            _kill_family(nodes[1])
            at_death = {file.name: file.read_text() for file in jobs.iterdir()}
            done, again = future.result()
        assert nodes[0].poll() is None
    failed = {each.key for each in done if each.error}
    finished_on_second = {each.key for each in done if each.value == second}
    assert sorted(each.key for each in done) == [str(number) for number in range(8)]
    assert failed == {key for key, node in at_death.items() if node == second} - finished_on_second
    assert len(failed) == 1
    assert {each.error for each in done if each.error} == {NODE_DIED}
    assert {(each.key, each.error, each.value == second) for each in again} == {(key, None, False) for key in failed}


def _tune_while_a_node_dies(address: str, data: str, folder: str) -> tuple[dict[int, Any], dict[int, Any], Any]:
    """A tuning on both nodes, then the same one resumed: records, failures and records after the resumption."""
    from recbole_diffusion.experiment.space.search_space import parse
    from recbole_diffusion.experiment.tune import tune
    from recbole_diffusion.testing import SETTINGS

    space = parse({"learning_rate": {"choice": [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]}}, "space.yaml")
    settings = {**SETTINGS, "data_path": data, "epochs": 4, "embedding_size": 8, "train_batch_size": 60}
    given = {"address": address, "folder": folder, "search": "grid", "scheduler": "none", "show": False}
    first = tune("tuned_models:Noted", "board", space=space, settings=settings, **given)
    resumed = tune(resume=folder, address=address, show=False)
    return first.records, first.failures, resumed.records


@needs_ray
@pytest.mark.processes
@pytest.mark.slow
def test_a_node_that_dies_costs_a_tuning_the_trial_that_it_ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("ray.tune")
    noted, data, tests = tmp_path / "noted", write_board(tmp_path / "dataset"), str(Path(__file__).parents[1])
    noted.mkdir()
    monkeypatch.setenv("NOTED_TRIALS", str(noted))  # the nodes and their workers have it too
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(tests)
    with _two_nodes(monkeypatch, tmp_path, second_ip="127.0.0.2") as (address, nodes):
        _wait_until_started(nodes[1], tmp_path / "second")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            future = pool.submit(_tune_while_a_node_dies, address, str(data), str(tmp_path / "here"))
            _wait_for(lambda: future.done() or _nodes_of(noted) & _pids(nodes[1]), "work on the second node")
            second = _pids(nodes[1])
            _kill_family(nodes[1])
            begun = {float(file.name): file.read_text() for file in noted.iterdir()}
            records, failures, resumed = future.result()
        assert nodes[0].poll() is None
    assert len(begun) < 6
    (failed,) = failures.values()
    assert failed["error"] in (NODE_DIED, KILLED_OR_LOST)
    assert begun[failed["chosen"]["learning_rate"]] in second
    assert len(records) == len(resumed) - 1 == 5
    assert {number: resumed[number] for number in records} == records
