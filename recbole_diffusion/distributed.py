"""Data-parallel training: start one worker per device, watch the workers, return the result or raise the error.

The collectives of the training are in :mod:`recbole_diffusion.training.data_parallel`. When to use this and when to run
several trainings at once: docs/several_devices.md.
"""

from __future__ import annotations

import builtins
import json
import os
import pickle
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, Union

import torch
from recbole.utils import ModelType

from recbole_diffusion.settings.config import Config
from recbole_diffusion.support.atomic_write import atomic_write, atomic_write_text
from recbole_diffusion.support.temporary_folder import temporary_folder

#: Seconds that the other ranks have to end by themselves after one rank has failed.
GRACE = 5.0


class Group(NamedTuple):
    """The ranks of this machine, and their rendezvous with the other machines.

    Attributes:
        nproc: number of ranks on this machine.
        world_size: number of ranks on all machines.
        offset: the first rank of this machine.
        address: ``host:port`` of rank 0; None where all ranks are on this machine and meet in a file.
        gpus: the GPU of each rank of this machine, in the form of CUDA_VISIBLE_DEVICES; empty on the CPU.
    """

    nproc: int
    world_size: int
    offset: int = 0
    address: Optional[str] = None
    gpus: tuple[str, ...] = ()


class RankTraceback(Exception):
    """The traceback of the rank that failed; the cause of the error that :func:`launch` raises."""


def run(
    model: Union[str, type, None] = None,
    dataset: Optional[str] = None,
    config_file_list: Optional[Sequence[Union[str, Path]]] = None,
    config_dict: Optional[dict[str, Any]] = None,
    saved: bool = True,
    *,
    nproc: int = 2,
    world_size: int = -1,
    ip: str = "localhost",
    port: Optional[int] = None,
    group_offset: int = 0,
    resume: Union[str, Path, None] = None,
    trust: bool = False,
    like: Union[str, Path, None] = None,
) -> dict[str, Any]:
    """Train one model as :func:`recbole_diffusion.run` does, on several ranks: one per GPU, or per few CPU cores.

    ``train_batch_size`` is the global batch size, as in RecBole: each rank takes its shard of every batch.

    Args:
        model, dataset, config_file_list, config_dict, saved, resume, trust, like: see :func:`recbole_diffusion.run`.
        nproc: number of ranks on this machine.
        world_size: number of ranks on all machines; -1: this machine is the only one.
        ip, port: where rank 0 listens. Not needed on one machine.
        group_offset: number of ranks on the machines before this one.

    Returns:
        The result of the first rank of this machine. On a machine without rank 0, its ``folder`` is None.

    Raises:
        ValueError: as :func:`recbole_diffusion.run`; numbers of ranks that do not fit together.
        RuntimeError: a rank was killed. Other errors of a rank keep their type.
    """
    from recbole_diffusion import quick_start

    group = Group(nproc, nproc if world_size == -1 else world_size, group_offset)
    arguments = (model, dataset, config_file_list, dict(config_dict or {}), saved)
    if group.world_size == nproc == 1:
        return quick_start.run(*arguments, resume=resume, trust=trust, like=like)
    group = _with_address(group, ip, port)
    config = quick_start.configure(*arguments[:4], resume, trust, like)
    _check_model(config)
    group = group._replace(gpus=_choose_gpus(config, nproc))
    keywords = {"resume": resume, "trust": trust, "like": like}
    result: dict[str, Any] = launch(_run_on_rank, (arguments, keywords), group)[0]
    return result


def launch(function: Callable[..., Any], arguments: tuple[Any, ...], group: Group) -> list[Any]:
    """Call ``function(*arguments)`` on each rank of this machine, within a process group of torch.

    Args:
        function: a function of a module, so that the workers can import it.
        arguments: anything that can be pickled.
        group: how many ranks, and where they meet.

    Returns:
        The return value of each rank of this machine.

    Raises:
        RuntimeError: a rank was killed. Other errors of a rank keep their type and have the traceback as their cause.
    """
    with temporary_folder() as folder:
        threads = max(1, torch.get_num_threads() // group.nproc)
        job = (function, arguments, group, folder, threads)
        context: Any = torch.multiprocessing.spawn(_worker, job, nprocs=group.nproc, join=False)
        try:
            _wait_for(context.processes)
            signals = [worker.exitcode for worker in context.processes if (worker.exitcode or 0) < 0]
        finally:
            _terminate(context.processes)
        return _results(folder, group.nproc, signals)


def _with_address(group: Group, ip: str, port: Optional[int]) -> Group:
    """Check the numbers of ranks and add the address of rank 0.

    Raises:
        ValueError: numbers that do not fit together.
    """
    nproc, world_size, offset = group[:3]
    if nproc < 1:
        raise ValueError(f"nproc={nproc} is not allowed; allowed: int >= 1")
    if world_size < 1 or not 0 <= offset <= world_size - nproc:
        raise ValueError(
            f"world_size={world_size} is not allowed with nproc={nproc} and group_offset={offset}; "
            f"allowed: at least their sum"
        )
    if world_size > nproc and port is None:
        raise ValueError("port is not set; give --port=NUMBER, the same on all machines, and --ip of the first one")
    return group if port is None else group._replace(address=f"{ip}:{port}")


def _check_model(config: Config) -> None:
    """Check that the training can be data-parallel.

    Raises:
        ValueError: the model is not trained by gradients, or its loaders were saved for one process.
    """
    if config["MODEL_TYPE"] in (ModelType.TRADITIONAL, ModelType.DECISIONTREE):
        raise ValueError(f"nproc is of no use to {config['model']}, which is not trained by gradients; leave nproc out")
    for key in ("save_dataloaders", "dataloaders_save_path"):
        if config[key]:
            raise ValueError(
                f"{key}={config[key]!r} is not allowed with nproc: saved loaders belong to one process; leave it out"
            )


def _choose_gpus(config: Config, nproc: int) -> tuple[str, ...]:
    """The GPU of each rank, among the visible ones; empty on the CPU.

    Raises:
        ValueError: ``gpu_id`` has fewer numbers than ranks, or numbers that are not visible.
    """
    if config["device"].type != "cuda":
        return ()
    numbers = [number.strip() for number in config["gpu_id"].split(",")]
    visible_numbers = [str(number) for number in range(torch.cuda.device_count())]
    if len({*numbers} & {*visible_numbers}) < max(nproc, len(numbers)):
        raise ValueError(
            f"gpu_id={config['gpu_id']!r} is not allowed with nproc={nproc}, which needs as many GPUs; "
            f"allowed: {nproc} of {','.join(visible_numbers)}, or use_gpu: False"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else visible_numbers
    return tuple(names[int(number)] for number in numbers[:nproc])


def _run_on_rank(arguments: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Execute :func:`run` on this rank. Ranks above 0 print nothing and delete their run folder."""
    from recbole_diffusion import quick_start

    model, dataset, files, settings, saved = arguments
    rank, local_rank = torch.distributed.get_rank(), int(os.environ["LOCAL_RANK"])
    settings = {**settings, "local_rank": local_rank, "world_size": torch.distributed.get_world_size()}
    if rank == 0:
        return quick_start.run(model, dataset, files, settings, saved, **options)
    warnings.simplefilter("ignore")
    settings.update(state="error", show_progress=False, log_wandb=False, save_dataset=False)
    with temporary_folder() as folder:
        result = quick_start.run(model, dataset, files, {**settings, "output_dir": str(folder)}, saved, **options)
    return {**result, "folder": None}


def _worker(
    local_rank: int, function: Callable[..., Any], arguments: tuple[Any, ...], group: Group, folder: Path, threads: int
) -> None:
    """Main function of a worker: join the group, call the function, write its result or its error to ``folder``."""
    _end_with_parent()
    try:
        _init_process_group(local_rank, group, folder, threads)
        result = function(*arguments)
        torch.distributed.barrier()  # a rank that leaves early would break the others' connections
        torch.distributed.destroy_process_group()
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        text = " ".join(str(error).split())
        report = {"time": time.time_ns(), "kinds": kinds, "text": text, "trace": traceback.format_exc()}
        atomic_write_text(folder / f"error-{local_rank}.json", json.dumps(report))
        sys.stderr.flush()
        os._exit(1)  # a normal exit would wait for threads of a group that has lost a member
    content = pickle.dumps(result)
    atomic_write(folder / f"result-{local_rank}.pickle", lambda file: file.write(content))


def _end_with_parent() -> None:
    """Have the kernel end this rank with its parent.

    torch asks for SIGINT, which a command started by ``nohup``, or by ``&`` in a script, ignores.
    """
    set_death_signal = getattr(torch.multiprocessing, "_prctl_pr_set_pdeathsig", None)  # Linux only
    if set_death_signal is not None and _ignores_interrupts():
        set_death_signal(signal.SIGTERM)


def _ignores_interrupts() -> bool:
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def _init_process_group(local_rank: int, group: Group, folder: Path, threads: int) -> None:
    """Initialise torch.distributed on this rank: nccl with GPUs, else gloo with ``threads`` threads."""
    os.environ["LOCAL_RANK"] = str(local_rank)
    if group.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = group.gpus[local_rank]
    else:
        torch.set_num_threads(threads)
    options: dict[str, Any] = {"init_method": f"tcp://{group.address}"}
    if group.address is None:
        options = {"store": torch.distributed.FileStore(str(folder / "rendezvous"), group.world_size)}
        loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
        if loopback:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0])
    torch.distributed.init_process_group(
        "nccl" if group.gpus else "gloo", rank=group.offset + local_rank, world_size=group.world_size, **options
    )


def _wait_for(workers: Sequence[Any]) -> None:
    """Wait until all workers have ended, or one has failed and the others have had :data:`GRACE` seconds to notice."""
    while True:
        codes = [worker.exitcode for worker in workers]  # read once: the end of a worker after this wakes wait()
        if any(codes) or None not in codes:
            break
        wait([worker.sentinel for worker, code in zip(workers, codes) if code is None])
    for worker in workers:
        worker.join(GRACE)


def _terminate(workers: Sequence[Any]) -> None:
    """End all workers: SIGINT first, SIGKILL after :data:`GRACE` seconds."""
    for worker in workers:
        if worker.is_alive():
            os.kill(worker.pid, signal.SIGTERM if _ignores_interrupts() else signal.SIGINT)
    for worker in workers:
        worker.join(GRACE)
        if worker.is_alive():
            worker.kill()
            worker.join()


def _results(folder: Path, nproc: int, signals: Sequence[int]) -> list[Any]:
    """Read the results of the ranks, or raise the first error; the other ranks' errors follow from it.

    Args:
        folder: where the workers wrote their results and errors.
        nproc: number of ranks on this machine.
        signals: negative exit codes of killed workers.

    Raises:
        RuntimeError: a rank was killed, or ended without a result. Other errors of a rank keep their type.
    """
    reports = [json.loads(file.read_text()) for file in folder.glob("error-*.json")]
    if signals:
        name = signal.Signals(-signals[0]).name
        hint = ": out of memory?" if name == "SIGKILL" else ""
        raise RuntimeError(f"one of the {nproc} ranks was killed by {name}{hint}")
    if reports:
        first = min(reports, key=lambda report: report["time"])
        raise _rebuild_error(first["kinds"], first["text"]) from RankTraceback(first["trace"])
    files = [folder / f"result-{local_rank}.pickle" for local_rank in range(nproc)]
    if not all(file.is_file() for file in files):
        raise RuntimeError(f"one of the {nproc} ranks ended without a result")
    return [pickle.loads(file.read_bytes()) for file in files]


def _rebuild_error(kinds: Sequence[str], text: str) -> Exception:
    """An error of the nearest built-in type.

    Args:
        kinds: class names of the error and its bases, in method resolution order.
        text: its message.
    """
    for kind in kinds:
        error_class = getattr(builtins, kind, None)
        if isinstance(error_class, type) and issubclass(error_class, Exception):
            message = text if kind == kinds[0] or error_class is ValueError else f"{kinds[0]}: {text}"
            try:
                return error_class(message)
            except TypeError:  # a class that needs more arguments than a message
                continue
    return RuntimeError(f"{kinds[0]}: {text}")
