"""The checks of ``gpu.py``: that every model trains, ranks, resumes and travels between devices as it should."""

from __future__ import annotations

import collections
import copy
import os
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional

import torch
from gpu_report import Row, forget_peak, peak_note, synchronise

from recbole_diffusion import quick_start, registry
from recbole_diffusion.testing.board import SETTINGS, write_board
from recbole_diffusion.testing.building import Built, build, quick, train, trainer_of, users_of
from recbole_diffusion.training import numerics

Keys = dict[str, Any]
TOP = 10
#: Seconds of a check on a GPU, mostly for the start of kernels and for reading the data.
ESTIMATE = 2.0
#: Scores of two devices may differ by this, relative to the largest of a row: float32 products of another order.
TOLERANCE = 1e-4


def models() -> list[str]:
    """Our models, as registered."""
    return [name for name, spec in registry.specs().items() if spec.card is not None]


def checks(
    device: torch.device, names: Optional[list[str]] = None
) -> Iterator[tuple[str, float, Callable[[], list[Row]]]]:
    """Names, seconds and functions, in the order in which they are to run; they write into the working folder."""
    write_board(Path("dataset"))
    keys = {**SETTINGS, "data_path": "dataset", "use_gpu": device.type == "cuda", "state": "ERROR", "eval_step": 1}
    for model in names or models():
        settings = {**keys, **quick(model), "epochs": 2}
        for name, check in (
            ("trains one epoch", _trains),
            ("scores as on the CPU", _scores),
            ("two runs are equal", _repeats),
            ("resumes bit for bit", _resumes),
            ("checkpoint opens on the other device", _travels),
            ("synchronisations in a step", _synchronisations),
            ("bfloat16", partial(_mixed, "bfloat16")),
            ("float16", partial(_mixed, "float16")),
        ):
            yield f"{model}: {name}", ESTIMATE, partial(check, f"{model}: {name}", model, settings, device)


def _verdict(right: bool) -> str:
    return "pass" if right else "fail"


def _trains(name: str, model: str, settings: Keys, device: torch.device) -> list[Row]:
    forget_peak(device)
    built = build(model, {**settings, "epochs": 1})
    trainer = train(built)
    where = {parameter.device.type for parameter in built.model.parameters()}
    loss = trainer.epochs_done[-1]["train_loss"]
    finite = all(bool(torch.isfinite(parameter).all()) for parameter in built.model.parameters())
    right = finite and where == {device.type} and loss == loss
    return [
        Row(
            "check",
            name,
            f"loss {loss:.4f}",
            verdict=_verdict(right),
            note=peak_note(device),
            numbers={"loss": loss},
        )
    ]


_plain: dict[str, tuple[Built, Any]] = {}


def _plainly_trained(model: str, settings: Keys) -> tuple[Built, Any]:
    """The model trained with the shared settings, and its trainer: once for all checks that need it."""
    if model not in _plain:
        _plain.clear()  # the last model's memory
        built = build(model, settings)
        _plain[model] = built, train(built)
    return _plain[model]


def _scored(built: Built) -> torch.Tensor:
    built.model.eval()
    batch = users_of(built.loaders, 32).to(built.config["device"])
    return built.model.full_sort_predict(batch).view(len(batch), -1)[:, 1:].float().cpu()


def _scores(name: str, model: str, settings: Keys, device: torch.device) -> list[Row]:
    """Deterministic inference: the noise of a GPU's generator is another one than the CPU's."""
    built, _ = _plainly_trained(model, settings)
    twin = build(model, {**settings, "use_gpu": False})
    twin.model.load_state_dict(copy.deepcopy({key: value.cpu() for key, value in built.model.state_dict().items()}))
    mine, theirs = _scored(built), _scored(twin)
    error = float(((mine - theirs).abs().amax(1) / theirs.abs().amax(1)).max())
    first, second = (each.topk(TOP).indices for each in (mine, theirs))
    overlap = float((first[:, :, None] == second[:, None, :]).any(2).float().mean())
    right = error <= TOLERANCE and overlap == 1.0
    return [Row("check", name, f"{error:.1e}", f"overlap of the top {TOP}: {overlap:.4f}", verdict=_verdict(right))]


def _weights(built: Built) -> list[torch.Tensor]:
    return [value.detach().cpu().clone() for value in built.model.state_dict().values()]


def _different(one: list[torch.Tensor], other: list[torch.Tensor]) -> int:
    return sum(not torch.equal(a, b) for a, b in zip(one, other))


def _repeats(name: str, model: str, settings: Keys, device: torch.device) -> list[Row]:
    settings = {**settings, "deterministic": True}
    runs = []
    for _ in range(2):
        with numerics.deterministic(True):
            built = build(model, settings)
            train(built)
            runs.append(_weights(built))
    count = _different(*runs)
    return [Row("check", name, f"{count} tensors differ", f"of {len(runs[0])}", verdict=_verdict(count == 0))]


def _resumes(name: str, model: str, settings: Keys, device: torch.device) -> list[Row]:
    """Three epochs at once, against one and then two, from the checkpoint on."""
    folder = {"checkpoint_dir": f"saved-{model}", "output_dir": "outputs", "deterministic": True, "save_last_every": 1}
    settings = {**settings, **folder, "stopping_step": 100}
    straight = quick_start.run(model, "board", config_dict={**settings, "epochs": 3})
    first = quick_start.run(model, "board", config_dict={**settings, "epochs": 1})
    last = first["checkpoint"][: -len(".pth")] + "-last.pth"
    second = quick_start.run(config_dict={"epochs": 3}, resume=last if os.path.exists(last) else first["checkpoint"])
    losses = [[row["train_loss"] for row in result["epochs"]] for result in (straight, second)]
    same = losses[0] == losses[1] and straight["test_result"] == second["test_result"]
    text = " ".join(f"{loss:.6f}" for loss in losses[1])
    return [Row("check", name, text, verdict=_verdict(same), note="" if same else f"without a stop {losses[0]}")]


def _travels(name: str, model: str, settings: Keys, device: torch.device) -> list[Row]:
    """A checkpoint of this device is loaded on the CPU, and one of the CPU here; scores as the saved model's."""
    rows, here = [], device.type == "cuda"
    for made, opened in ((here, False), (False, here)):
        keys = {**settings, "use_gpu": made, "epochs": 1, "checkpoint_dir": "saved", "output_dir": "outputs"}
        result = quick_start.run(model, "board", config_dict=keys)
        scores = []
        for on_gpu in (made, opened):
            loaded = quick_start.load(result["checkpoint"], config_dict={"use_gpu": on_gpu})
            config, net, dataset, *loaders = loaded
            scores.append(_scored(Built(config, net, dataset, tuple(loaders))))
            wanted = "cuda" if on_gpu else "cpu"
            if config["device"].type != wanted:
                return [Row("check", name, f"on {config['device']}", verdict="fail", note=f"asked for {wanted}")]
        rows.append(float(((scores[0] - scores[1]).abs().amax(1) / scores[0].abs().amax(1)).max()))
    text = f"{rows[0]:.1e}, {rows[1]:.1e}"
    return [Row("check", name, text, "there and back", verdict=_verdict(max(rows) <= TOLERANCE))]


def _synchronisations(name: str, model: str, settings: Keys, device: torch.device) -> list[Row]:
    """In the forward pass, the backward pass and the update, after a warm-up of three steps."""
    built = build(model, settings)
    trainer = trainer_of(built.config, built.model)
    built.model.train()
    batches = [batch.to(built.config["device"]) for _, batch in zip(range(4), _endless(built.loaders[0]))]

    def step(batch: Any) -> None:
        trainer.optimizer.zero_grad()
        losses = built.model.calculate_loss(batch)
        (sum(losses) if isinstance(losses, tuple) else losses).backward()
        trainer.optimizer.step()

    for batch in batches[:3]:
        step(batch)
    synchronise(device)
    places = collections.Counter(synchronising(lambda: step(batches[3]), device))
    note = "; ".join(f"{place} ({count})" if count > 1 else place for place, count in places.items())
    return [Row("check", name, str(sum(places.values())), note=note, numbers={"places": dict(places)})]


def _endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def synchronising(task: Callable[[], object], device: torch.device) -> list[str]:
    """Where a call made the host wait for the device, as ``file:line``."""
    if device.type != "cuda":
        from recbole_diffusion.testing.synchronisation import Synchronisations

        with Synchronisations() as found:
            task()
        return [str(place) for place in found.places]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            task()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return [f"{Path(each.filename).name}:{each.lineno}" for each in caught if "called a synchronizing" in str(each.message)]


def _mixed(kind: str, name: str, model: str, settings: Keys, device: torch.device) -> list[Row]:
    """RecBole's ``enable_amp`` in one type; float16 with the gradients scaled, which the CPU cannot."""
    if kind == "float16" and device.type == "cpu":
        return [Row("check", name, verdict="skipped", note="autocast on the CPU is for bfloat16")]
    amp = {"enable_amp": True, "amp_dtype": kind, "enable_scaler": kind == "float16"}
    built = build(model, {**settings, **amp})
    trainer = train(built)
    _, plain = _plainly_trained(model, settings)
    losses = [trainer.epochs_done[-1]["train_loss"] for trainer in (trainer, plain)]
    finite = all(bool(torch.isfinite(parameter).all()) for parameter in built.model.parameters())
    return [
        Row(
            "check",
            name,
            f"loss {losses[0]:.4f}",
            f"float32 {losses[1]:.4f}",
            verdict=_verdict(finite and losses[0] == losses[0]),
        )
    ]
