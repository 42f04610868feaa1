"""Where a run writes: to output_dir and checkpoint_dir only, and what killed runs left there is swept."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from recbole_diffusion import cli, load, run
from recbole_diffusion.experiment.compare import compare
from recbole_diffusion.experiment.tune import tune
from recbole_diffusion.training.run_folder import check_folders

QUICK = {"epochs": 1, "steps": 3, "dims": [16], "train_batch_size": 512}


def places(tmp_path, settings):
    """Settings with every folder elsewhere, by absolute paths."""
    own = {"data_path": str(tmp_path / "dataset"), "output_dir": str(tmp_path / "out")}
    return {**settings, **QUICK, **own, "checkpoint_dir": str(tmp_path / "saved")}


@pytest.fixture
def elsewhere(tmp_path, settings, monkeypatch):
    """The working folder stays empty; settings name others."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield places(tmp_path, settings)
    assert list(Path().iterdir()) == []


def test_a_run_and_what_follows_it_write_nothing_to_the_working_folder(elsewhere, tmp_path):
    result = run("DiffRec", "board", config_dict={**elsewhere, "state": "INFO", "save_last_every": 1})
    assert Path(result["folder"]).parent == tmp_path / "out"
    assert "Finished training" in Path(result["folder"], "run.log").read_text()
    assert load(result["checkpoint"]).config["model"] == "DiffRec"
    again = run(resume=result["checkpoint"], config_dict={"epochs": 2})
    assert again["timing"]["epochs"] == 2
    assert {each.name for each in tmp_path.iterdir()} == {"dataset", "here", "out", "saved"}


@pytest.mark.parametrize("model", ["EASE", "NCL", "MultiVAE", "SASRec", "DDRM"])
def test_models_with_trainers_of_their_own_and_with_a_base(model, elsewhere):
    if model == "NCL":
        pytest.importorskip("faiss")
    more = {"train_neg_sample_args": None} if model == "SASRec" else {}
    more = {"base_config": {"epochs": 1, "embedding_size": 8}} if model == "DDRM" else more
    more = {"warm_up_step": 1, "num_clusters": 4} if model == "NCL" else more
    result = run(model, "board", config_dict={**elsewhere, **more})
    events = [each.relative_to(result["folder"]).parent for each in Path(result["folder"]).rglob("events*")]
    base = {"tensorboard/pretrain"} if model == "DDRM" else set()
    assert {str(each) for each in events if "." not in each.name} == {"tensorboard", *base}  # 123.4: hyperparameters


def test_compare_and_tune_write_to_their_folder_only(elsewhere, tmp_path):
    small = {key: value for key, value in elsewhere.items() if key not in {"checkpoint_dir", "output_dir"}}
    compare(["DiffRec", "EASE"], ["board"], [1], tmp_path / "comparison", {**small, "topk": [5, 10]})
    space = tmp_path / "space.yaml"
    space.write_text("learning_rate: {choice: [0.01, 0.1]}")
    result = tune("DiffRec", "board", 2, space, small, executor="serial", folder=tmp_path / "tuning", show=False)
    assert len(result.records) == 2


def test_tensorboards_writer_is_a_real_one(elsewhere):
    """The losses can be read back."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    result = run("DiffRec", "board", config_dict={**elsewhere, "epochs": 3})
    events = reader.EventAccumulator(str(Path(result["folder"], "tensorboard"))).Reload()
    losses = [row.value for row in events.Scalars("Loss/Train")]
    assert losses == pytest.approx([row["train_loss"] for row in result["epochs"]], rel=1e-6)


def test_recbole_writes_where_it_always_did_after_a_run(elsewhere):
    from recbole.trainer import trainer
    from recbole.utils import get_tensorboard

    run("DiffRec", "board", config_dict=elsewhere)
    assert trainer.get_tensorboard is get_tensorboard


CANNOT = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--inh-caps=-dac_override"]


SEVERAL = "import json, sys; from recbole_diffusion.cli import main; print(list(map(main, json.loads(sys.argv[1]))))"


def words_of(settings):
    return [f"--{key}={value}" for key, value in settings.items()]


@pytest.mark.processes
def test_a_working_folder_that_cannot_be_written(settings, tmp_path):
    """In a process for which permissions count also where we are root."""
    rights = CANNOT if os.getuid() == 0 else []
    if rights and subprocess.run([*rights, "true"], capture_output=True, check=False).returncode:
        pytest.skip("root, and no setpriv")
    (tmp_path / "read-only").mkdir(mode=0o555)
    own = places(tmp_path, settings)
    start = ["run", "--model=DiffRec", "--dataset=board", "--data_path=nowhere"]
    calls = [["run", "--model=DiffRec", "--dataset=board", *words_of(own)]]
    calls += [[*start, f"--output_dir={tmp_path}/out"], [*start, f"--checkpoint_dir={tmp_path}/saved"]]
    few = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*rights, sys.executable, "-c", SEVERAL, json.dumps(calls)],
        cwd=tmp_path / "read-only",
        env=few,
        capture_output=True,
        text=True,
    )
    assert done.stdout.endswith("[0, 2, 2]\n"), done.stderr
    assert list((tmp_path / "read-only").iterdir()) == []
    for key, folder in (("checkpoint_dir", "saved"), ("output_dir", "outputs")):
        says = f"{key}='{folder}' cannot be written: Permission denied in '{tmp_path / 'read-only'}'"
        assert f"recbole-diffusion: {says}; give --{key}=FOLDER with one that can\n" in done.stderr


@pytest.mark.parametrize("key", ["output_dir", "checkpoint_dir", "pretrain_dir"])
def test_a_file_in_the_place_of_a_folder(key, settings, tmp_path, capsys):
    Path("file").write_text("x")
    own = {**places(tmp_path, settings), key: "file/x"}
    assert cli.main(["run", "--model=DiffRec", "--dataset=board", *words_of(own)]) == 2
    assert f"{key}='file/x' cannot be written: Not a directory in '{tmp_path / 'file'}'" in capsys.readouterr().err
    assert Path("file").read_text() == "x"


def test_without_a_checkpoint_its_folder_need_not_be_writable(settings, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("recbole_diffusion.training.run_folder._check_writable", lambda key, folder: asked.append(key))
    (tmp_path / "saved").mkdir()
    own = {"output_dir": "out", "checkpoint_dir": "saved", "prepared_data": None, "pretrain_dir": None}
    check_folders(own, saved=False)
    assert asked == ["output_dir"]
    check_folders(own, saved=True)
    assert asked == ["output_dir", "output_dir", "checkpoint_dir"]


# What killed runs leave


def left_in(*folders):
    """A temporary file of a killed writer in each."""
    files = []
    for folder in map(Path, folders):
        folder.mkdir(parents=True, exist_ok=True)
        files.append(folder / ".x.pth.writing-4194305-0123abcd.tmp")
        files[-1].write_text("half")
    return files


@pytest.mark.parametrize("shared", [True, False])
def test_the_next_run_sweeps_every_folder_that_it_may_write_to(shared, elsewhere, tmp_path):
    names = ("out", "out/earlier", "saved", "bases" if shared else "saved/pretrain", "prepared")
    files = left_in(*(tmp_path / name for name in names))
    others = left_in(tmp_path / "another")
    more = {"pretrain_dir": str(tmp_path / "bases")} if shared else {}
    kept = tmp_path / "saved" / "model.pth"
    kept.write_text("x")
    run("DiffRec", "board", config_dict={**elsewhere, **more, "prepared_data": str(tmp_path / "prepared")})
    assert not [file for file in files if file.exists()]
    assert others[0].exists()
    assert kept.exists()


def test_a_comparison_sweeps_its_folder_and_all_below(elsewhere, tmp_path):
    files = left_in(tmp_path / "comparison", tmp_path / "comparison" / "runs")
    (tmp_path / "comparison" / ".lock").touch()
    small = {key: value for key, value in elsewhere.items() if key not in {"checkpoint_dir", "output_dir"}}
    compare(["EASE"], ["board"], [1], tmp_path / "comparison", small)
    assert not [file for file in files if file.exists()]


@pytest.mark.parametrize(
    ("model", "ending"), [("DiffRec", ".pth"), ("DiffRec", "manifest.json"), ("DDRM", ".npz"), ("DiffRec", ".prepared")]
)
def test_a_run_that_is_killed_within_a_write_leaves_no_half_file_and_the_next_one_cleans_up(
    model, ending, elsewhere, tmp_path, monkeypatch
):
    """SIGKILL when the temporary file is written and not yet renamed: of a checkpoint, a base, prepared data."""
    own = {**elsewhere, "prepared_data": str(tmp_path / "prepared"), "base_config": {"epochs": 1, "embedding_size": 8}}
    own = own if model == "DDRM" else {key: value for key, value in own.items() if key != "base_config"}
    child = os.fork()
    if child == 0:
        rename = os.replace

        def killed(source, target):
            if str(target).endswith(ending):
                os.kill(os.getpid(), signal.SIGKILL)
            rename(source, target)

        monkeypatch.setattr(os, "replace", killed)
        with contextlib.suppress(BaseException):
            run(model, "board", config_dict=own)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (left,) = tmp_path.rglob("*.tmp")
    assert ending in left.name
    assert not [each for each in left.parent.iterdir() if each.name.endswith(ending)]
    result = run(model, "board", config_dict=own)
    assert not list(tmp_path.rglob("*.tmp"))
    assert load(result["checkpoint"]).config["model"] == model
