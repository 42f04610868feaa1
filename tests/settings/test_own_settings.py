"""What a run keeps of its settings: the user's words, complete, and the same in print, config.yaml and checkpoint."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from recbole.config import Config as RecBoleConfig
from recbole.trainer import Trainer

from recbole_diffusion import cli, load, quick_start, run
from recbole_diffusion.compat import repairs
from recbole_diffusion.pretraining import bases
from recbole_diffusion.settings import schema
from recbole_diffusion.settings.config import Config, plain_settings
from recbole_diffusion.training import checkpoint
from recbole_diffusion.training.trainer import trainer_class


class Machine:
    """A machine with so many GPUs, as far as torch says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch

    def has(self, gpus: int) -> None:
        self.patch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        self.patch.setattr(torch.cuda, "device_count", lambda: gpus)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_a_run_without_a_gpu_does_not_keep_its_reruns_on_the_cpu(machine, settings):
    machine.has(0)
    result = run("BPR", "board", config_dict={**settings, "epochs": 1})
    file = Path(result["folder"]) / "config.yaml"
    stored = checkpoint.read(result["checkpoint"])["config"]
    for own in (yaml.safe_load(file.read_text()), stored):
        assert (own["use_gpu"], own["gpu_id"]) == (True, "0")
        assert not {"device", "local_rank", "world_size", "single_spec"} & {*own}
    machine.has(1)
    assert quick_start.configure(config_file_list=[file])["device"] == torch.device("cuda", 0)
    assert quick_start.configure(resume=result["checkpoint"])["device"] == torch.device("cuda", 0)
    assert Config(config_dict=stored)["device"] == torch.device("cuda", 0)
    base = bases.base_config(quick_start.configure(config_file_list=[file]), "LightGCN", {})
    assert base["device"] == torch.device("cuda", 0)


def test_a_run_with_a_gpu_can_be_gone_on_with_without_one(machine, settings):
    machine.has(2)
    config = quick_start.configure("BPR", "board", config_dict={**settings, "gpu_id": "1"})
    assert config["device"] == torch.device("cuda", 1)
    machine.has(0)
    assert quick_start.configure(config_dict=config.plain())["device"] == torch.device("cpu")
    machine.has(2)
    assert quick_start.configure(config_dict=config.plain())["device"] == torch.device("cuda", 1)
    machine.has(1)
    with pytest.raises(ValueError, match=r"gpu_id='1' is not allowed; allowed: 0\.\.0"):
        quick_start.configure(config_dict=config.plain())


@pytest.mark.parametrize("words", [{"use_gpu": False}, {"gpu_id": ""}, {"gpu_id": None}])
def test_an_order_for_the_cpu_stays_one(words, machine, settings):
    machine.has(0)
    config = quick_start.configure("BPR", "board", config_dict={**settings, **words})
    machine.has(1)
    assert quick_start.configure(config_dict=config.plain())["device"] == torch.device("cpu")


def test_the_trainer_asks_the_device_and_not_the_setting(machine, settings, built):
    """RecBole's asks torch and use_gpu, and then shows the memory of a GPU that gpu_id: '' does not use."""
    config, model, *_ = built("BPR", gpu_id="")
    machine.has(1)
    assert trainer_class(Trainer)(config, model).gpu_available is False


def test_a_process_of_several_takes_its_one_gpu_and_keeps_gpu_id(machine, settings, monkeypatch):
    """Each process of --nproc=2 --gpu_id=2,3 sees one GPU, which has number 0 there."""
    machine.has(1)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "nccl")
    own = {**settings, "gpu_id": "2,3", "local_rank": 1, "world_size": 2}
    config = quick_start.configure("BPR", "board", config_dict=own)
    assert (config["device"], config["single_spec"], config["world_size"]) == (torch.device("cuda", 0), False, 2)
    assert config.plain()["gpu_id"] == "2,3"
    assert not {"local_rank", "world_size"} & {*config.plain()}
    assert bases.base_config(config, "LightGCN", {})["device"] == torch.device("cuda", 0)


def test_settings_of_recboles_own_config_name_the_packaged_data(monkeypatch, numpy_restored):
    """RecBole stores where its package lies on the machine that trained."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # which RecBole's Config overwrites
    repairs.apply()
    theirs = RecBoleConfig(model="BPR", dataset="ml-100k", config_dict={})
    assert plain_settings(theirs)["data_path"] == "recbole"
    theirs = RecBoleConfig(model="BPR", dataset="board", config_dict={})
    assert plain_settings(theirs)["data_path"] == "dataset"


def test_a_folder_can_be_moved(settings, tmp_path, monkeypatch):
    """Data, checkpoint and settings, with paths as they were given."""
    result = run("BPR", "board", config_dict={**settings, "epochs": 1})
    monkeypatch.chdir("/")
    shutil.copytree(tmp_path, tmp_path / "moved" / "here", ignore=shutil.ignore_patterns("moved"))
    shutil.rmtree(tmp_path / "dataset")
    monkeypatch.chdir(tmp_path / "moved" / "here")
    own = yaml.safe_load((Path(result["folder"]) / "config.yaml").read_text())
    assert (own["data_path"], own["checkpoint_dir"], own["output_dir"]) == ("dataset", "saved", "outputs")
    again = run(config_file_list=[Path(result["folder"]) / "config.yaml"])
    assert again["test_result"] == result["test_result"]
    assert load(result["checkpoint"]).config["data_path"] == "dataset/board"
    assert run(resume=result["checkpoint"], config_dict={"epochs": 2})["data"] == result["data"]


QUICK = {"epochs": 1, "steps": 2, "dims": [8], "eval_step": 1}


def _base(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with a base from a file, or columns that are loaded beside those of load_col."""
    less = {"load_col": {"inter": ["user_id", "item_id"]}}
    if kind in {"LightGCN", "BPR"}:
        own = {"epochs": 1, "embedding_size": 8, **({"n_layers": 1} if kind == "LightGCN" else {})}
        return {"model": "DDRM", "base_checkpoint": run(kind, "board", config_dict={**settings, **own})["checkpoint"]}
    if kind == "tables":
        draw = np.random.default_rng(0)
        users, items = np.array([f"u{n}" for n in range(64)]), np.array([f"i{n}" for n in range(40)])
        tables = {"user": draw.normal(size=(64, 6)), "item": draw.normal(size=(40, 6))}
        np.savez("tables.npz", user_token=users, item_token=items, **tables)
        return {"model": "DDRM", "base_checkpoint": "tables.npz"}
    more: dict[str, dict[str, Any]] = {
        "time": {"model": "SASRec", "n_layers": 1, "hidden_size": 8, "inner_size": 8, "n_heads": 1},
        "needs time": {"model": "TDiffRec"},
        "filter": {"model": "Pop", "val_interval": {"timestamp": "[1000005000,inf)"}},
        "threshold": {"model": "BPR", "threshold": {"rating": 3}},
        "quick": {"model": "DDRM", "preset": "quick", "base_config": {"epochs": 1}},
    }
    return {**less, **more[kind]}


@pytest.mark.parametrize(
    "kind", ["LightGCN", "BPR", "tables", "time", "needs time", "filter", "threshold", "quick"], ids=str
)
def test_print_file_and_checkpoint_agree_and_the_run_repeats(kind, settings, capsys, caplog):
    keys = {**settings, **QUICK, **_base(kind, settings), "state": "INFO"}
    model = keys.pop("model")
    if model in {"SASRec", "Pop", "BPR"}:
        keys = {key: value for key, value in keys.items() if key not in {"steps", "dims"}}
    words = [f"--{key}={value}" for key, value in keys.items()]
    assert cli.main(["run", f"--model={model}", "--dataset=board", *words, "--dry-run"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    caplog.clear()
    result = run(model, "board", config_dict=keys)
    file = Path(result["folder"]) / "config.yaml"
    own = yaml.safe_load(file.read_text())
    assert printed == own == checkpoint.read(result["checkpoint"])["config"]
    for key in ("load_col", "base_model", "base_config"):
        if key in own:
            assert _logged(caplog.text, key) == own[key]
    assert run(config_file_list=[file])["test_result"] == result["test_result"]
    Path("printed.yaml").write_text(yaml.safe_dump(printed))
    assert run(config_file_list=["printed.yaml"])["test_result"] == result["test_result"]
    if kind in {"LightGCN", "BPR"}:
        assert own["base_model"] == kind
        assert own["base_config"]["embedding_size"] == 8
        Path(keys["base_checkpoint"]).unlink()  # the run's own weights are enough
        assert load(result["checkpoint"]).model.base.user.shape == (65, 8)


def _logged(text: str, key: str) -> Any:
    """The value of a key in RecBole's print of the configuration."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    value = re.search(rf"^{key} = (.*)$", plain, re.MULTILINE)
    assert value is not None
    return schema.parse_value(value[1])


def test_the_line_of_sources_that_differ(settings, tmp_path, capsys, caplog):
    (tmp_path / "a.yaml").write_text("learning_rate: 0.001\nepochs: 5\nmodel: BPR\n")
    (tmp_path / "b.yaml").write_text("learning_rate: 0.002\nseed: 3\n")
    words = ["run", "--model=Pop", "--dataset=board", "--config_files=a.yaml b.yaml", "--epochs=1", "--seed=3"]
    assert cli.main([*words, "--dry-run"]) == 0
    out, error = capsys.readouterr()
    own = yaml.safe_load(out)
    assert (own["model"], own["learning_rate"], own["epochs"], own["seed"]) == ("Pop", 0.002, 1, 3)
    lines = error.splitlines()
    assert [line for line in lines if "learning_rate" in line and "0.002 (b.yaml)" in line and "0.001 (a.yaml)" in line]
    assert [line for line in lines if "epochs" in line and "command line" in line and "5 (a.yaml)" in line]
    assert [line for line in lines if "model" in line and "'BPR' (a.yaml)" in line]
    assert not [line for line in lines if "seed" in line]
    keys = {**settings, "state": "INFO", "epochs": 1}
    result = run("Pop", "board", config_file_list=["a.yaml", "b.yaml"], config_dict=keys)
    assert result["warnings"] == []
    assert "learning_rate" in "".join(
        record.getMessage() for record in caplog.records if "(b.yaml)" in record.getMessage()
    )


def test_precedence_from_defaults_to_the_command_line(settings, tmp_path):
    """defaults < model's file < preset < checkpoint < config files < given."""
    result = run("DDRM", "board", config_dict={**settings, **QUICK, "base_config": {"epochs": 1}, "seed": 4})
    (tmp_path / "a.yaml").write_text("epochs: 7\nstopping_step: 6\n")
    (tmp_path / "b.yaml").write_text("epochs: 8\n")
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    config = quick_start.configure(resume=result["checkpoint"], config_file_list=files, config_dict={"epochs": "9"})
    found = {key: config[key] for key in ("epochs", "stopping_step", "seed", "steps", "infer_factor", "learner")}
    expected = {"epochs": 9, "stopping_step": 6, "seed": 4, "steps": 2, "infer_factor": 1.25, "learner": "adam"}
    assert found == expected
    assert [line for line in config.overridden if "epochs" in line and "checkpoint" in line and "b.yaml" in line]
    small = quick_start.configure("DDRM", "board", config_file_list=files, config_dict={**settings, "preset": "quick"})
    assert (small["dims"], small["epochs"]) == ([100, 300], 8)
