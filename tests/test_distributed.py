"""One training in two processes: gloo on the CPU, against what one process gives.

Starting two processes takes seconds, so that one pair answers several questions.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from recbole_diffusion import distributed, quick_start, registry, run
from recbole_diffusion.data import names
from recbole_diffusion.distributed import Group
from recbole_diffusion.support import trusted_files
from recbole_diffusion.testing import quick, split
from recbole_diffusion.training import checkpoint, data_parallel
from recbole_diffusion.training.trainer import trainer_class

pytestmark = pytest.mark.xdist_group("ranks")
PAIR = Group(2, 2)
TOPK = ["Recall", "NDCG", "MRR", "AveragePopularity"]
OF_ALL = ["ItemCoverage", "GiniIndex", "ShannonEntropy", "TailPercentage", "GAUC"]
PLAIN = {"steps": 3, "dims": [16], "epochs": 2}


@pytest.fixture
def odd(checkerboard: Path) -> Path:
    """The checkerboard without its last user: 63 do not divide among two."""
    file = checkerboard / "board" / "board.inter"
    file.write_text("".join(line for line in file.open() if not line.startswith("u63\t")))
    return checkerboard


# What two processes exchange


class _Net(nn.Module):
    """Four parameters: of all rows, of the second process only, in float64, of nobody."""

    def __init__(self, averaged: bool) -> None:
        super().__init__()
        self.averaged = averaged
        self.w, self.second, self.unused = (nn.Parameter(torch.ones(2)) for _ in range(3))
        self.exact = nn.Parameter(torch.ones(1, dtype=torch.float64))
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.register_buffer("seen", torch.zeros(2))
        self.register_buffer("sparse", torch.eye(2).to_sparse())

    def loss(self, rows: torch.Tensor, rank: int) -> torch.Tensor:
        each = (rows @ self.w) ** 2 * self.exact + self.frozen
        return (each.mean() if self.averaged else each.sum()) + (self.second.sum() if rank else 0)


def _settings(**more: Any) -> dict[str, Any]:
    return {"single_spec": False, "local_rank": dist.get_rank(), "device": torch.device("cpu"), "seed": 3, **more}


def _collective(net: nn.Module) -> data_parallel.DataParallelMixin:
    return data_parallel.DataParallelMixin(_settings(reproducibility=True, model="Net", checkpoint_dir="saved"), net)


ROWS = torch.arange(12.0).view(6, 2) / 10


def _exchange() -> dict[str, Any]:
    rank, found = dist.get_rank(), {}
    for averaged in (True, False):
        net = _Net(averaged)
        with torch.no_grad():
            net.w.fill_(1.0 + rank)  # the second process starts elsewhere, and gets the first one's weights
        torch.manual_seed(3)
        trainer = _collective(net)
        found["draw"] = data_parallel.all_gather_rows(torch.rand(1), 2)
        loss = net.loss(ROWS[rank::2], rank) + trainer.sync_grad_loss()
        loss.backward()
        found[averaged] = {name: each.grad for name, each in net.named_parameters()}
        found["mean", averaged] = trainer.reduce_losses(float(loss.detach())), trainer.reduce_losses((1.0 + rank, 2.0))
    net.seen.fill_(5.0 + rank)
    with torch.no_grad():
        net.w.add_(1e-6 * rank)  # what rounding might do: there has been an averaging
    trainer.sync_buffers()
    found["agreed"] = net.seen.clone(), data_parallel.all_gather_rows(net.w.detach()[None], 2)
    with torch.no_grad():
        net.w.add_(1e-6 * rank)
    try:
        trainer.sync_buffers()
    except ValueError as error:
        found["refused"] = str(error)
    found["rows"] = data_parallel.all_gather_rows(torch.tensor([[0, 10], [2, 12], [4, 14]]) + rank, 5)
    found["first"] = trainer.broadcast_from_rank0(("of", rank))
    return found


@pytest.mark.processes
def test_what_two_processes_exchange():
    mine, other = distributed.launch(_exchange, (), PAIR)
    for averaged in (True, False):
        net = _Net(averaged)
        net.loss(ROWS, 0).backward()
        share = 0.5 if averaged else 1.0
        for found in (mine, other):
            torch.testing.assert_close(found[averaged]["w"], net.w.grad)
            torch.testing.assert_close(found[averaged]["exact"], net.exact.grad)
            torch.testing.assert_close(found[averaged]["second"], torch.full((2,), share))
            assert found[averaged]["unused"] is None
            assert found[averaged]["frozen"] is None
            of_rows = float(net.loss(ROWS, 0).detach()) + 2 * share
            assert found["mean", averaged][0] == pytest.approx(of_rows, rel=1e-6)
            assert found["mean", averaged][1] == ((1.5, 2.0) if averaged else (3.0, 4.0))
    torch.manual_seed(3)
    assert mine["draw"][0] == torch.rand(1)  # as one process
    assert mine["draw"][0] != mine["draw"][1]
    for found in (mine, other):
        assert found["agreed"][0].tolist() == [5.0, 5.0]
        assert torch.equal(*found["agreed"][1])
        assert "Net does not average the gradients" in found["refused"]
        assert found["rows"].tolist() == [[0, 10], [1, 11], [2, 12], [3, 13], [4, 14]]
        assert found["first"] == ("of", 0)


# Batches and evaluation


def _prepared(model: str, settings: dict[str, Any], path: str) -> Any:
    """(trainer, loaders) of a checkpoint, in one process or as one of two."""
    if dist.is_initialized():
        settings = {**settings, "local_rank": dist.get_rank(), "world_size": dist.get_world_size()}
    config = quick_start.configure(config_dict=settings, resume=path)
    _, loaders = quick_start.prepare(config)
    state = checkpoint.read(path)["state_dict"]
    net = quick_start.build_model(config, loaders, state)
    net.load_state_dict(state)
    trainer = trainer_class(registry.get_trainer(config["MODEL_TYPE"], model, model))(config, net)
    return trainer, loaders


def _evaluated(jobs: list[tuple[str, dict[str, Any], str]]) -> list[Any]:
    found = []
    for model, settings, path in jobs:
        trainer, loaders = _prepared(model, settings, path)
        trainer._collect_of(loaders[0])
        trainer.list_length = 15
        results = [trainer.evaluate(loader, load_best_model=False) for loader in loaders[1:]]
        batches = [[batch["user_id"].tolist() for batch in loaders[0]] for _ in range(2)]
        found.append((results, trainer.per_user, trainer.evaluation["users"], batches, trainer.lists))
    return found


@pytest.mark.processes
def test_evaluation_and_batches_are_those_of_one_process(odd, settings):
    """Every user counts once, also for metrics of all users together; every row of every batch is there."""
    jobs = []
    cases: list[tuple[str, dict[str, Any]]] = [
        ("DiffRec", {**PLAIN, "sampling_noise": True}),
        ("DiffRec", {**PLAIN, "eval_args": {"mode": "uni10", "split": {"RS": [8, 1, 1]}}}),
        ("CDDRec", {**quick("CDDRec"), "eval_noise": True, "mask_history": True}),
        ("BPR", {"embedding_size": 8}),
    ]
    for model, more in cases:
        metrics = TOPK + ([] if "eval_args" in more else OF_ALL)
        own = {**settings, **more, "epochs": 1, "metrics": metrics}
        path = run(model, "board", config_dict=own)["checkpoint"]
        trusted_files.trust_file(path)
        jobs.append((model, {}, path))
    one = _evaluated(jobs)
    pair = distributed.launch(_evaluated, (jobs,), PAIR)
    for (results, per_user, users, batches, lists), mine, other in zip(one, *pair):
        assert users == 63
        for found in (mine, other):
            assert found[2] == 63
            assert np.array_equal(per_user.users, found[1].users)
            assert lists.items.shape == (63, 15)
            assert all(np.array_equal(*both) for both in zip(lists[:4], found[4]))
            for key, values in per_user.metrics.items():
                np.testing.assert_allclose(found[1].metrics[key], values, atol=1e-6)
            for expected, actual in zip(results, found[0]):
                assert actual == pytest.approx(expected, abs=1e-6)
        for epoch, mine_epoch, other_epoch in zip(batches, mine[3], other[3]):
            assert len(mine_epoch) == len(other_epoch) == len(epoch)
            together = [_interleaved(*both) for both in zip(mine_epoch, other_epoch)]
            extra = len(together[-1]) - len(epoch[-1])
            assert extra == sum(map(len, epoch)) % 2
            assert [*together[:-1], together[-1][: len(epoch[-1])]] == epoch
        assert batches[0] != batches[1]


def _interleaved(one: list[int], two: list[int]) -> list[int]:
    return [row for both in zip(one, two) for row in both]


# Training


def _trained(jobs: list[tuple[str, dict[str, Any], dict[str, Any]]]) -> list[dict[str, Any]]:
    """Several runs, one after another, in the same processes; a resume of "<n>" is that of the n-th run's last file."""
    found: list[dict[str, Any]] = []
    for model, settings, options in jobs:
        options = {"resume": None, "trust": False, "saved": True} | options
        if isinstance(options["resume"], int):
            options["resume"] = found[options["resume"]]["checkpoint"].replace(".pth", "-last.pth")
        saved = options.pop("saved")
        if dist.is_initialized():
            found.append(distributed._run_on_rank((model, "board", None, settings, saved), options))
        else:
            found.append(run(model, "board", config_dict=settings, saved=saved, **options))
    return found


def _weights(result: dict[str, Any]) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = checkpoint.read(result["checkpoint"], trust=True)["state_dict"]
    return weights


#: Nothing drawn: one step, no noise, no dropout.
FIXED = {"steps": 1, "noise_scale": 0, "dims": [16], "dropout_prob": 0.0, "timestep_sampling": "uniform"}


@pytest.mark.processes
def test_training_equals_one_process_and_resumes(settings):
    still = {**settings, **FIXED, "epochs": 4, "learner": "sgd", "learning_rate": 0.5, "stopping_step": 99}
    clipped = {**still, "clip_grad_norm": {"max_norm": 0.05}, "metric_decimal_place": 4}
    drawn = {**settings, "steps": 5, "dims": [16], "history_num_per_term": 1000, "dropout_prob": 0.5}
    drawn |= {"save_last_every": 1, "stopping_step": 99, "learning_rate": 0.01}
    jobs = [
        ("DiffRec", still, {}),
        ("DiffRec", clipped, {}),
        ("DiffRec", {**drawn, "epochs": 4}, {}),
        ("DiffRec", {**drawn, "epochs": 2}, {}),
        ("DiffRec", {"epochs": 4}, {"resume": 3}),
        ("DiffRec", {**drawn, "epochs": 4}, {"saved": False}),
    ]
    one = _trained(jobs[:2])
    mine, other = distributed.launch(_trained, (jobs,), PAIR)
    for expected, actual in zip(one, mine):
        assert actual["test_result"] == pytest.approx(expected["test_result"], abs=1e-5)
        for row, found in zip(expected["epochs"], actual["epochs"]):
            assert found["train_loss"] == pytest.approx(row["train_loss"], rel=1e-5)
            assert found["best"] == row["best"]
        weights = _weights(actual)
        for name, value in _weights(expected).items():
            torch.testing.assert_close(weights[name], value, rtol=1e-5, atol=1e-6)
    assert one[0]["epochs"][0]["train_loss"] != pytest.approx(one[1]["epochs"][-1]["train_loss"], rel=1e-3)

    whole, half, resumed, memory = mine[2:]
    for name, value in _weights(whole).items():
        assert torch.equal(_weights(resumed)[name], value), name
    assert resumed["test_result"] == whole["test_result"] == memory["test_result"]
    assert len(resumed["epochs"]) == 4
    assert memory["checkpoint"] is None
    assert half["checkpoint"] != resumed["checkpoint"]
    stored = checkpoint.read(resumed["checkpoint"])
    assert stored["data"]["split_sha256"] == whole["data"]["split_sha256"]
    assert sorted(names.unpack(stored, "").names["item_id"]) == sorted(f"i{item}" for item in range(40))
    best = max(row["epoch"] for row in whole["epochs"] if row["best"])
    assert int(_weights(whole)["diffusion.timesteps.count"].sum()) == 64 * best  # the losses of both processes
    for first, second in zip(mine, other):
        assert first["test_result"] == second["test_result"]
        assert second["folder"] is None
        assert second["checkpoint"] == first["checkpoint"]


@pytest.mark.processes
def test_a_run_leaves_one_of_each(checkerboard, settings):
    result = distributed.run("MultiVAE", "board", config_dict={**settings, "epochs": 2, "state": "info"}, nproc=2)
    assert Path(result["folder"]).is_dir()
    assert len(list(Path("outputs").iterdir())) == 1
    assert [str(log.parent) for log in Path().rglob("*.log")] == [result["folder"]]
    events = [file for file in Path().rglob("events*") if file.is_file()]
    assert {file.parts[:3] for file in events} == {(*Path(result["folder"]).parts, "tensorboard")}
    assert len({file.name.split(".")[-2] for file in events}) == 1  # process ids
    assert len([file for file in Path("saved").iterdir() if file.suffix == ".pth"]) == 1
    assert np.isfinite([row["train_loss"] for row in result["epochs"]]).all()
    again = run("MultiVAE", "board", config_file_list=[Path(result["folder"]) / "config.yaml"])
    assert again["timing"]["epochs"] == 2  # what is left behind is for any number of processes


def _split(model: str) -> dict[str, Any]:
    return {"split": split(model), "order": "RO" if "RS" in split(model) else "TO"}


@pytest.mark.parametrize(
    "names",
    [  # rows, sequences, triples on a base, pretrained tables, RecBole's; all of ours with --all
        pytest.param(("DiffRec", "DiffuRec", "DDRM", "LDiffRec", "LightGCN"), marks=pytest.mark.processes, id="kinds"),
        pytest.param((), marks=pytest.mark.slow, id="all"),
    ],
)
def test_every_model_learns_in_two_processes(names, settings):
    """The checkerboard's items are found; that one process finds them is the contract suite's and ``run``'s to show."""
    jobs = []
    settings |= {"stopping_step": 60, "mask_history": True, "metrics": ["NDCG", "Hit"]}
    for name in sorted(spec.name for spec in registry.ours()):
        jobs.append((name, {**settings, **quick(name), "eval_args": _split(name)}, {}))
    theirs = {"epochs": 30, "learning_rate": 0.01, "train_batch_size": 128}
    for name in ("BPR", "LightGCN", "MultiVAE", "recbole:DiffRec"):
        jobs.append((name, {**settings, **theirs}, {}))
    jobs.append(("SASRec", {**settings, **theirs, "MAX_ITEM_LIST_LENGTH": 12, "train_neg_sample_args": None}, {}))
    jobs = [job for job in jobs if not names or job[0] in names]
    mine, other = distributed.launch(_trained, (jobs,), PAIR)
    for (name, *_), actual, second in zip(jobs, mine, other):
        assert actual["test_result"] == second["test_result"]
        assert np.isfinite([row["train_loss"] for row in actual["epochs"]]).all()
        assert actual["test_result"]["hit@10"] > 0.95, name


# Errors


def _fails(folder: str) -> None:
    rank = dist.get_rank()
    Path(folder, f"pid-{rank}").write_text(str(os.getpid()))
    dist.barrier()
    if rank == 1:
        raise checkpoint.UntrustedFile("key=1 is not allowed;\n  allowed: 2")
    dist.barrier()  # would wait for ever


def _is_killed(folder: str) -> None:
    rank = dist.get_rank()
    Path(folder, f"pid-{rank}").write_text(str(os.getpid()))
    dist.barrier()
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def _alive(folder: Path) -> list[int]:
    found = []
    for file in folder.glob("pid-*"):
        try:
            os.kill(int(file.read_text()), 0)
            found.append(int(file.read_text()))
        except ProcessLookupError:
            pass
    return found


@pytest.mark.processes
@pytest.mark.parametrize(
    ("function", "kind", "says"),
    [
        (_fails, ValueError, "key=1 is not allowed; allowed: 2"),
        (_is_killed, RuntimeError, "one of the 2 ranks was killed by SIGKILL: out of memory?"),
    ],
)
def test_an_error_is_that_of_the_process_that_failed(function, kind, says, tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "GRACE", 1.0)
    with pytest.raises(kind) as error:
        distributed.launch(function, (str(tmp_path),), PAIR)
    assert type(error.value) is kind
    assert str(error.value) == says
    if kind is ValueError:
        assert "in _fails" in str(error.value.__cause__)
    assert len(list(tmp_path.glob("pid-*"))) == 2
    assert _alive(tmp_path) == []


class _Ends:
    """Ends between the first look at it and the second."""

    def __init__(self, sentinel: int, codes: list[Any]) -> None:
        self.sentinel, self.codes = sentinel, codes

    @property
    def exitcode(self) -> Any:
        return self.codes.pop(0) if len(self.codes) > 1 else self.codes[0]

    def join(self, seconds: float) -> None:
        pass


@pytest.mark.parametrize("code", [-9, 1, 0])
def test_an_end_between_two_looks_is_not_missed(code, monkeypatch):
    waited = []
    monkeypatch.setattr(distributed, "wait", lambda sentinels: waited.append([*sentinels]))
    distributed._wait_for([_Ends(7, [None, None, 0]), _Ends(8, [None, code])])
    assert waited == ([[7, 8]] if code else [[7, 8], [7]])


@pytest.mark.processes
def test_two_machines_meet_at_a_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(distributed.launch, _exchange, (), Group(1, 2, n, address)) for n in (1, 0)]
        (other,), (mine,) = (each.result() for each in both)
    for found in (mine, other):
        assert found["first"] == ("of", 0)
        assert found["rows"].tolist() == [[0, 10], [1, 11], [2, 12], [3, 13], [4, 14]]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["UsageError", "ValueError", "Exception", "BaseException"], ValueError("text")),
        (["DistBackendError", "RuntimeError", "Exception"], RuntimeError("DistBackendError: text")),
        (["OSError", "Exception"], OSError("text")),
        (["UnicodeDecodeError", "UnicodeError", "ValueError"], UnicodeError("UnicodeDecodeError: text")),
        (["Odd"], RuntimeError("Odd: text")),
    ],
)
def test_an_error_keeps_its_type_where_python_has_it(kinds, expected):
    found = distributed._rebuild_error(kinds, "text")
    assert type(found) is type(expected)
    assert str(found) == str(expected)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"nproc": 0}, "nproc=0 is not allowed; allowed: int >= 1"),
        ({"nproc": 2, "world_size": 3, "group_offset": 2, "port": 1}, "world_size=3 is not allowed with nproc=2"),
        ({"nproc": 1, "world_size": 2}, "port is not set"),
    ],
)
def test_a_group_that_is_not_possible(options, says, settings):
    with pytest.raises(ValueError, match=says):
        distributed.run("DiffRec", "board", config_dict=settings, **options)


@pytest.mark.parametrize(
    ("model", "more", "says"),
    [
        ("EASE", {}, "nproc is of no use to EASE"),
        ("DiffRec", {"steps": 0}, "steps=0 is not allowed"),
        ("DiffRec", {"save_dataloaders": True}, "save_dataloaders=True is not allowed with nproc"),
    ],
)
def test_what_can_be_known_before_is_said_before(model, more, says, settings, monkeypatch):
    monkeypatch.setattr(distributed, "launch", lambda *_: pytest.fail("processes were started"))
    with pytest.raises(ValueError, match=says):
        distributed.run(model, "board", config_dict={**settings, **more}, nproc=2)


def test_local_rank_is_nothing_to_set(settings):
    with pytest.raises(ValueError, match="local_rank is set by --nproc; leave it out"):
        run("DiffRec", "board", config_dict={**settings, "local_rank": 1})


def test_one_process_takes_the_plain_way(settings, monkeypatch):
    monkeypatch.setattr(distributed, "launch", lambda *_: pytest.fail("processes were started"))
    result = distributed.run("DiffRec", "board", config_dict={**settings, **PLAIN}, nproc=1)
    assert result["test_result"] == run("DiffRec", "board", config_dict={**settings, **PLAIN})["test_result"]


class _Gpus(dict):
    """As much of a Config as is asked."""


@pytest.mark.parametrize(
    ("gpu_id", "visible", "expected"),
    [("1,0", None, ("1", "0")), ("0, 2", "4,5,GPU-x", ("4", "GPU-x")), ("0,1,2", "4,5,6", ("4", "5"))],
)
def test_each_process_has_a_gpu_of_its_own(gpu_id, visible, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    config: Any = _Gpus(device=torch.device("cuda", 0), gpu_id=gpu_id)
    assert distributed._choose_gpus(config, 2) == expected


@pytest.mark.parametrize("gpu_id", ["0", "0,0", "0,3", "0,x"])
def test_too_few_gpus_are_refused(gpu_id, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    config: Any = _Gpus(device=torch.device("cuda", 0), gpu_id=gpu_id)
    with pytest.raises(ValueError, match=f"gpu_id='{gpu_id}' is not allowed with nproc=2"):
        distributed._choose_gpus(config, 2)


SCRIPT = """
import os, sys
from pathlib import Path
import torch.distributed as dist
from recbole_diffusion import distributed

def waits():
    Path(f"pid-{dist.get_rank()}").write_text(str(os.getpid()))
    dist.barrier() if dist.get_rank() else __import__("time").sleep(600)

if __name__ == "__main__":
    distributed.launch(waits, (), distributed.Group(2, 2))
"""


@pytest.mark.parametrize(
    ("how", "interrupt"),
    [
        pytest.param(signal.SIGINT, signal.SIG_DFL, marks=pytest.mark.processes),
        pytest.param(signal.SIGKILL, signal.SIG_DFL, marks=pytest.mark.slow),
        pytest.param(
            signal.SIGKILL, signal.SIG_IGN, marks=pytest.mark.processes
        ),  # as nohup and & in a script start it
        pytest.param(signal.SIGTERM, signal.SIG_IGN, marks=pytest.mark.slow),
    ],
)
def test_nothing_is_left_running(how, interrupt, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    parent = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, interrupt),
    )
    try:
        for _ in range(600):
            if len(list(tmp_path.glob("pid-*"))) == 2:
                break
            time.sleep(0.1)
        time.sleep(1)
        parent.send_signal(how)
        parent.wait(60)
        for _ in range(300):
            if not _alive(tmp_path):
                break
            time.sleep(0.1)
        assert _alive(tmp_path) == []
    finally:
        for left in (parent.pid, *_alive(tmp_path)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)
