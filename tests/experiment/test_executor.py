"""Jobs one after the other or on Ray: the same numbers, the same one-line errors, and the others go on."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import executor_jobs
import pytest
import torch
from threadpoolctl import threadpool_info

from recbole_diffusion.experiment.cluster.session import import_ray, search_path, session
from recbole_diffusion.experiment.jobs import executor as module
from recbole_diffusion.experiment.jobs import ray_executor
from recbole_diffusion.experiment.jobs.executor import KILLED, Done, OnRay, Serial, executor, limit_threads, one_line

pytestmark = pytest.mark.xdist_group("ray executor")  # one Ray for all


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One session for the module: its start takes seconds."""
    try:
        import_ray()
    except ValueError as error:
        pytest.skip(str(error))
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.chdir(tmp_path_factory.mktemp("ray"))  # where its workers stand: a test's folder is removed
            started = stack.enter_context(session(workers=2))
        yield started


@pytest.fixture(params=["serial", pytest.param("ray", marks=pytest.mark.processes)])
def either(request: pytest.FixtureRequest) -> Any:
    """Both executors; Ray's without a fresh process for each job, which takes half a second each."""
    return Serial() if request.param == "serial" else OnRay(request.getfixturevalue("ray"), fresh=False)


ERRORS = {
    "lines": r"epochs=0 is not allowed; allowed: from 1",
    "bare": r"ValueError",
    "key": r"KeyError: 'loss'",
    "memory": r"out of memory: Unable to allocate .*",
    "gpu": r"out of memory: CUDA out of memory. Tried to allocate 9 GiB",
    "cpu": r"out of memory: .*(can't allocate|not enough).*",
    "exit": r"SystemExit: could not download",
    "none": None,
}


def test_each_job_gives_its_value_or_one_line(either: Any) -> None:
    done = {each.key: each for each in either.map(executor_jobs.fail, [(kind, kind) for kind in ERRORS])}
    assert set(done) == set(ERRORS)
    for kind, expected in ERRORS.items():
        if expected is None:
            assert done[kind][:3] == (kind, kind, None)
        else:
            assert done[kind].value is None
            assert re.fullmatch(expected, done[kind].error or ""), done[kind]
        assert 0 <= done[kind].seconds < 600


def test_no_jobs(either: Any) -> None:
    assert list(either.map(executor_jobs.double, [])) == []


def test_more_jobs_than_slots(either: Any) -> None:
    done = list(either.map(executor_jobs.double, [(f"job {number}", number) for number in range(20)]))
    assert {each.key: each.value for each in done} == {f"job {number}": 2 * number for number in range(20)}
    assert either.running() == []


def test_large_results_come_through_and_can_be_written_to(either: Any) -> None:
    rows = 2_000_000  # 16 MB each; together more than Ray's store holds
    for each in either.map(executor_jobs.arrays, [(str(number), rows) for number in range(15)]):
        each.value["ndcg@10"] += 1
        assert each.value["ndcg@10"][-1] == rows


@pytest.mark.processes
def test_a_worker_sees_no_arguments_no_gpu_and_its_threads(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["compare", "--epochs=3"])
    (done,) = OnRay(ray, threads=1, fresh=False).map(executor_jobs.watch, [("a", None)])
    assert done.value[1:] == ([], "", "1", 1, 1)


def test_what_a_worker_does_before_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """The function that Ray runs, in this process."""
    monkeypatch.setattr(sys, "argv", ["compare", "--epochs=3"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "7")
    call = pickle.dumps((executor_jobs.watch, None))
    value, error = pickle.loads(ray_executor._worker_function()((search_path(), 1, False, False, None), call))
    assert (value[1:], error) == (([], "", "1", 1, 1), None)


def test_a_result_that_cannot_be_pickled_is_that_calls_error() -> None:
    call = pickle.dumps((executor_jobs.unpicklable, 0))
    assert pickle.loads(ray_executor.call_pickled(call, 1)) == (None, "TypeError: not this one")


@pytest.mark.processes
@pytest.mark.parametrize(("fresh", "processes"), [(True, {4}), (False, {1, 2})])
def test_a_fresh_process_for_each_job(fresh: bool, processes: Any, ray: Any) -> None:
    seen = [
        each.value for each in OnRay(ray, fresh=fresh).map(executor_jobs.pid, [(str(number), 0) for number in range(4)])
    ]
    assert len(set(seen)) in processes
    assert os.getpid() not in seen


@pytest.mark.processes
@pytest.mark.parametrize("fresh", [True, False])
def test_a_killed_worker_takes_nobody_along(fresh: bool, ray: Any, tmp_path: Path, capfd: Any) -> None:
    jobs = [(what, (what, tmp_path)) for what in ("dies", "kills", "third", "fourth")]
    done = {each.key: each for each in OnRay(ray, fresh=fresh).map(executor_jobs.wait_or_die, jobs)}
    assert done["dies"][:3] == ("dies", None, KILLED)
    assert [done[what][1:3] for what in ("kills", "third", "fourth")] == [
        (what, None) for what in ("kills", "third", "fourth")
    ]
    assert capfd.readouterr() == ("", "")  # newer Rays would print a paragraph


@pytest.mark.processes
def test_a_result_that_cannot_be_sent_is_that_jobs_error(ray: Any) -> None:
    done = list(OnRay(ray, fresh=False).map(executor_jobs.unpicklable, [("a", 0), ("b", 1)]))
    assert [each.error for each in done] == ["TypeError: not this one"] * 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/self/clear_refs")
@pytest.mark.parametrize("name", ["serial", pytest.param("ray", marks=pytest.mark.processes)])
def test_peak_memory_is_the_jobs_own(name: str, request: pytest.FixtureRequest) -> None:
    on_ray = name == "ray"
    either: Any = OnRay(request.getfixturevalue("ray"), fresh=False, cpus=2) if on_ray else Serial()  # one worker
    large, small = (each.value for each in either.map(executor_jobs.peak_mib, [("large", 400), ("small", 1)]))
    assert small < large - 300


@pytest.mark.processes
def test_running_and_ticks_while_jobs_run(ray: Any, tmp_path: Path) -> None:
    """Three jobs on two slots: the third is not running, however early Ray has been given it."""
    on_ray, seen = OnRay(ray, fresh=False), []

    def tick() -> None:
        seen.append(on_ray.running())
        if len(seen) == 2:
            (tmp_path / "go").touch()

    done = list(on_ray.map(executor_jobs.held, [(key, tmp_path / "go") for key in "abc"], tick))
    assert seen[:2] == [["a", "b"], ["a", "b"]]  # the second without any job having ended
    assert {each.error for each in done} == {None}
    assert on_ray.slots() == 2


def test_serial_running_and_ticks() -> None:
    serial, seen = Serial(), []
    jobs = [("a", 1), ("b", 2)]
    for each in serial.map(executor_jobs.double, jobs, tick=lambda: seen.append(serial.running())):
        seen.append(each.key)
        assert serial.running() == []
    assert seen == [["a"], "a", ["b"], "b"]


def of_machines(*resources: dict[str, float], dead: Any = None) -> Any:
    """What a Ray tells of its machines; ``dead``: the resources of one that has ended."""
    nodes = [{"Alive": True, "Resources": each} for each in resources]
    nodes += [{"Alive": False, "Resources": dead}] if dead else []
    unused = {"put": lambda value: None, "remote": lambda **options: lambda function: function}
    return types.SimpleNamespace(nodes=lambda: nodes, **unused)


@pytest.mark.parametrize(("cpus", "slots"), [(1.0, 2), (0.5, 4), (2.0, 1), (0.3, 6)])
def test_room_is_counted_in_whole_jobs(cpus: float, slots: int) -> None:
    assert OnRay(of_machines({"CPU": 2.0}), cpus=cpus).slots() == slots


@pytest.mark.processes
def test_room_of_a_session(ray: Any) -> None:
    assert [OnRay(ray, cpus=cpus).slots() for cpus in (1.0, 0.3)] == [2, 6]


def test_room_is_counted_machine_by_machine() -> None:
    small, big = {"CPU": 3.0}, {"CPU": 8.0, "GPU": 1.0}
    ray = of_machines(small, small, big, dead=big)
    assert OnRay(ray, cpus=2).slots() == 1 + 1 + 4
    assert OnRay(ray, cpus=2, gpus=0.5).slots() == 2
    with pytest.raises(ValueError, match=r"cpus=1.0, gpus=2: no machine of this Ray has that many"):
        OnRay(ray, gpus=2)


def test_ctrl_c_in_a_serial_job_is_not_its_error() -> None:
    with pytest.raises(KeyboardInterrupt):
        list(Serial().map(executor_jobs.interrupted, [("a", 0)]))


@pytest.mark.processes
def test_ctrl_c_cancels_what_runs(ray: Any, tmp_path: Path) -> None:
    on_ray = OnRay(ray, fresh=False)

    def tick() -> None:
        if (tmp_path / "pid").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(on_ray.map(executor_jobs.wait_or_die, [("dies", ("dies", tmp_path))], tick))
    assert on_ray.running() == []
    dead = int((tmp_path / "pid").read_text())
    for _ in range(200):
        with contextlib.suppress(ProcessLookupError):
            os.kill(dead, 0)
            time.sleep(0.1)
            continue
        break
    with pytest.raises(ProcessLookupError):
        os.kill(dead, 0)
    assert [each.value for each in on_ray.map(executor_jobs.double, [("next", 4)])] == [8]


@pytest.mark.processes
def test_serial_and_ray_give_equal_numbers(ray: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    settings.update(epochs=3, folder=str(tmp_path), data_path=str(tmp_path / "dataset"), metric_decimal_place=12)
    jobs = [(str(seed), {**settings, "seed": seed}) for seed in (1, 2)]
    serial = {each.key: each for each in Serial().map(executor_jobs.train, jobs)}
    jobs = [(str(seed), {**settings, "seed": seed}) for seed in (1, 2)]
    on_ray = {each.key: each for each in OnRay(ray).map(executor_jobs.train, jobs)}
    assert {key: each.error for key, each in serial.items()} == {"1": None, "2": None}
    assert {key: each[:3] for key, each in on_ray.items()} == {key: each[:3] for key, each in serial.items()}
    assert serial["1"].value != serial["2"].value


def test_threads_are_limited_while_a_job_runs_and_then_as_before() -> None:
    torch.set_num_threads(2)
    try:
        with limit_threads(1):
            assert torch.get_num_threads() == 1
            assert {pool["num_threads"] for pool in threadpool_info()} == {1}
        assert torch.get_num_threads() == 2
        (done,) = Serial(threads=3).map(lambda _: torch.get_num_threads(), [("a", 0)])
        assert done.value == 3
        with pytest.raises(ZeroDivisionError), limit_threads(1):
            _ = 1 // 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_without_workers_there_is_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "session", lambda *args, **kwargs: pytest.fail("a session"))
    with executor(threads=2) as given:
        assert isinstance(given, Serial)
        assert given.threads == 2
        assert given.slots() == 1
        assert [each[:3] for each in given.map(executor_jobs.double, [("a", 3)])] == [Done("a", 6, None, 0.0)[:3]]


@pytest.mark.processes
def test_the_arguments_reach_ray(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    @contextlib.contextmanager
    def given(*args: Any, **kwargs: Any) -> Iterator[Any]:
        seen.append((args, kwargs))
        yield ray

    monkeypatch.setattr(module, "session", given)
    with executor(workers=2, address=None, threads=2, cpus=0.5) as on_ray:
        assert isinstance(on_ray, OnRay)
        assert on_ray.slots() == 4
        (done,) = on_ray.map(executor_jobs.watch, [("a", None)])
        assert done.value[3:5] == ("2", 2)
    with executor(address="auto"):
        pass
    assert seen == [((2, None, 2), {}), ((None, "auto", 1), {})]


@pytest.mark.parametrize(("name", "value"), [("cpus", 0), ("cpus", float("nan")), ("gpus", -1), ("cpus", "1")])
def test_resources_that_are_not_allowed(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}={re.escape(repr(value))} is not allowed; allowed: a number from"):
        with executor(**{name: value}):
            pass


def test_an_error_is_one_line_of_a_bearable_length() -> None:
    assert one_line(RuntimeError("a\n\n   b\tc")) == "RuntimeError: a b c"
    assert len(one_line(RuntimeError("x" * 9999))) <= 500
    assert one_line(RuntimeError()) == "RuntimeError"
    assert one_line(ValueError("runs out of memory of its past")) == "runs out of memory of its past"
    assert one_line(MemoryError()) == "out of memory: MemoryError"
