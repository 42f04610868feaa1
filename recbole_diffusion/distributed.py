"""One training on several devices: start a process for each, see to their end, bring back the result or the reason.

What the processes tell each other is in :mod:`recbole_diffusion.training.data_parallel`; when to use this and when
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
import tempfile
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

#: Seconds that the other processes have to end by themselves after one has failed.
GRACE = 5.0


class Group(NamedTuple):
    """The processes of this machine, and how they find the others.

    Attributes:
        nproc: processes here.
        world_size: processes on all machines.
        offset: the number of the first one here.
        address: ``host:port`` of the first process of all; None: all are here and meet in a file.
        gpus: the GPU of each process here, as CUDA_VISIBLE_DEVICES takes it; empty: the CPU.
    """

    nproc: int
    world_size: int
    offset: int = 0
    address: Optional[str] = None
    gpus: tuple[str, ...] = ()


class ProcessTraceback(Exception):
    """Where a process failed; the cause of the error that :func:`launch` raises."""


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
) -> dict[str, Any]:
    """:func:`recbole_diffusion.run` with the training shared among processes, one for each GPU or for a few CPU cores.

    ``train_batch_size`` is that of all processes together, as in RecBole: each takes its part of every batch.

    Args:
        model, dataset, config_file_list, config_dict, saved, resume, trust: see :func:`recbole_diffusion.run`.
        nproc: processes on this machine.
        world_size: processes on all machines; -1: there is only this one.
        ip, port: where the first process of all listens. Not needed on one machine.
        group_offset: how many of the processes are on the machines before this one.

    Returns:
        The result of the first process; on a machine that is not the first one, without its folder.

    Raises:
        ValueError: as :func:`recbole_diffusion.run`; a group that is not possible.
        RuntimeError: a process was killed. Other errors of a process have their own type.
    """
    from recbole_diffusion import quick_start

    group = Group(nproc, nproc if world_size == -1 else world_size, group_offset)
    arguments = (model, dataset, config_file_list, dict(config_dict or {}), saved)
    if group.world_size == nproc == 1:
        return quick_start.run(*arguments, resume=resume, trust=trust)
    group = _checked(group, ip, port)
    config = quick_start.configure(*arguments[:4], resume, trust)
    _check_model(config)
    group = group._replace(gpus=_gpus(config, nproc))
    result: dict[str, Any] = launch(_run_part, (arguments, {"resume": resume, "trust": trust}), group)[0]
    return result


def launch(function: Callable[..., Any], arguments: tuple[Any, ...], group: Group) -> list[Any]:
    """Call ``function(*arguments)`` in each process of this machine, in a process group; what each returned.

    Args:
        function: of a module, so that other processes find it.
        arguments: anything that can be pickled.

    Raises:
        RuntimeError: a process was killed. Other errors of a process have their own type, and the traceback as cause.
    """
    with tempfile.TemporaryDirectory(prefix="recbole-diffusion-") as folder:
        threads = max(1, torch.get_num_threads() // group.nproc)
        job = (function, arguments, group, Path(folder), threads)
        context: Any = torch.multiprocessing.spawn(_process, job, nprocs=group.nproc, join=False)
        try:
            _watch(context.processes)
            killed = [each.exitcode for each in context.processes if (each.exitcode or 0) < 0]
        finally:
            _end(context.processes)
        return _outcome(Path(folder), group.nproc, killed)


def _checked(group: Group, ip: str, port: Optional[int]) -> Group:
    """With its address.

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
    """Whether there is something to share.

    Raises:
        ValueError: the model is not trained by gradients, or its loaders were saved for one process.
    """
    if config["MODEL_TYPE"] in (ModelType.TRADITIONAL, ModelType.DECISIONTREE):
        raise ValueError(f"nproc is of no use to {config['model']}, which is not trained by gradients; leave nproc out")
    for key in ("save_dataloaders", "dataloaders_save_path"):
        if config[key]:
            raise ValueError(
                f"{key}={config[key]!r} is not allowed with nproc: loaders are of one process; leave it out"
            )


def _gpus(config: Config, nproc: int) -> tuple[str, ...]:
    """A GPU for each process, among the visible ones; none on the CPU.

    Raises:
        ValueError: ``gpu_id`` names fewer, or others than there are.
    """
    if config["device"].type != "cuda":
        return ()
    named = [each.strip() for each in config["gpu_id"].split(",")]
    there = [str(number) for number in range(torch.cuda.device_count())]
    if len({*named} & {*there}) < max(nproc, len(named)):
        raise ValueError(
            f"gpu_id={config['gpu_id']!r} is not allowed with nproc={nproc}, which needs as many GPUs; "
            f"allowed: {nproc} of {','.join(there)}, or use_gpu: False"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else there
    return tuple(names[int(each)] for each in named[:nproc])


def _run_part(arguments: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """One process's part of :func:`run`. All but the first are silent, and their run folder goes with them."""
    from recbole_diffusion import quick_start

    model, dataset, files, settings, saved = arguments
    rank, local_rank = torch.distributed.get_rank(), int(os.environ["LOCAL_RANK"])
    settings = {**settings, "local_rank": local_rank, "world_size": torch.distributed.get_world_size()}
    if rank == 0:
        return quick_start.run(model, dataset, files, settings, saved, **options)
    warnings.simplefilter("ignore")
    settings.update(state="error", show_progress=False, log_wandb=False, save_dataset=False)
    with tempfile.TemporaryDirectory(prefix="recbole-diffusion-") as folder:
        result = quick_start.run(model, dataset, files, {**settings, "output_dir": folder}, saved, **options)
    return {**result, "folder": None}


def _process(
    local_rank: int, function: Callable[..., Any], arguments: tuple[Any, ...], group: Group, folder: Path, threads: int
) -> None:
    """What a process does: join the group, call the function, leave its result or its error in ``folder``."""
    _end_with_parent()
    try:
        _join(local_rank, group, folder, threads)
        result = function(*arguments)
        torch.distributed.barrier()  # nobody leaves while another still listens
        torch.distributed.destroy_process_group()
    except Exception as error:
        kinds = [each.__name__ for each in type(error).__mro__]
        text = " ".join(str(error).split())
        report = {"time": time.time_ns(), "kinds": kinds, "text": text, "trace": traceback.format_exc()}
        atomic_write_text(folder / f"error-{local_rank}.json", json.dumps(report))
        sys.stderr.flush()
        os._exit(1)  # without waiting for threads of a group that has lost a member
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


def _join(local_rank: int, group: Group, folder: Path, threads: int) -> None:
    os.environ["LOCAL_RANK"] = str(local_rank)
    if group.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = group.gpus[local_rank]
    else:
        torch.set_num_threads(threads)
    options: dict[str, Any] = {"init_method": f"tcp://{group.address}"}
    if group.address is None:
        options = {"store": torch.distributed.FileStore(str(folder / "meeting"), group.world_size)}
        for name in [name for _, name in socket.if_nameindex() if name.startswith("lo")][:1]:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
    torch.distributed.init_process_group(
        "nccl" if group.gpus else "gloo", rank=group.offset + local_rank, world_size=group.world_size, **options
    )


def _watch(processes: Sequence[Any]) -> None:
    """Until all have ended, or one has failed and the others have had their time to notice."""
    while True:
        codes = [each.exitcode for each in processes]  # once: one that ends from here on wakes us up
        if any(codes) or None not in codes:
            break
        wait([each.sentinel for each, code in zip(processes, codes) if code is None])
    for each in processes:
        each.join(GRACE)


def _end(processes: Sequence[Any]) -> None:
    """Leave no process behind: ask, then insist."""
    for each in processes:
        if each.is_alive():
            os.kill(each.pid, signal.SIGTERM if _ignores_interrupts() else signal.SIGINT)
    for each in processes:
        each.join(GRACE)
        if each.is_alive():
            each.kill()
            each.join()


def _outcome(folder: Path, nproc: int, killed: Sequence[int]) -> list[Any]:
    """The results; the first error, since those of the others follow from it."""
    reports = [json.loads(file.read_text()) for file in folder.glob("error-*.json")]
    if killed:
        name = signal.Signals(-killed[0]).name
        hint = ": out of memory?" if name == "SIGKILL" else ""
        raise RuntimeError(f"one of the {nproc} processes was killed by {name}{hint}")
    if reports:
        first = min(reports, key=lambda report: report["time"])
        raise _error(first["kinds"], first["text"]) from ProcessTraceback(first["trace"])
    files = [folder / f"result-{number}.pickle" for number in range(nproc)]
    if not all(file.is_file() for file in files):
        raise RuntimeError(f"one of the {nproc} processes ended without a result")
    return [pickle.loads(file.read_bytes()) for file in files]


def _error(kinds: Sequence[str], text: str) -> Exception:
    """An error of the nearest type that Python itself has."""
    for kind in kinds:
        found = getattr(builtins, kind, None)
        if isinstance(found, type) and issubclass(found, Exception):
            said = text if kind == kinds[0] or found is ValueError else f"{kinds[0]}: {text}"
            try:
                return found(said)
            except TypeError:  # one that wants more than a text
                continue
    return RuntimeError(f"{kinds[0]}: {text}")
