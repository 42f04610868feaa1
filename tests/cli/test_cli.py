"""The command line as a user meets it: one process per call where exit code and streams matter."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from recbole_diffusion import cli

ROOT = Path(__file__).parents[2]
QUICK = ["--show_progress=False", "--state=ERROR", "--epochs=1", "--steps=3", "--dims=[16]", "--data_path=dataset"]
QUICK += ["--load_col={'inter': ['user_id', 'item_id']}", "--train_batch_size", "16"]


def call(*words):
    few = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = [sys.executable, "-m", "recbole_diffusion"]
    return subprocess.run([*start, *words], capture_output=True, text=True, env=few)


def test_run_from_the_script_leaves_its_folder(checkerboard, capsys, monkeypatch):
    """In this process: the imports of a new one take seconds, and test_console has one."""
    script = str(ROOT / "run_recbole_diffusion.py")
    monkeypatch.setattr(sys, "argv", [script, "--model=DiffRec", "--dataset=board", *QUICK, "--seed", "7"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(script, run_name="__main__")
    output, errors = capsys.readouterr()
    assert ended.value.code == 0, errors
    assert "recall@10" in output
    assert "network calls per user" in output
    (folder,) = Path("outputs").iterdir()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["seed"] == 7
    assert manifest["data"]["users"] == 64
    assert manifest["data"]["items"] == 40
    assert len(manifest["data"]["split_sha256"]) == 64
    assert manifest["environment"]["recbole"] == "1.2.1"
    assert manifest["timing"]["epochs"] == 1
    assert "test_result" in json.loads((folder / "metrics.json").read_text())
    assert len(json.loads((folder / "epochs.json").read_text())) == 1
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"] == "DiffRec"
    assert config["dims"] == [16]
    assert Path(manifest["checkpoint"]).is_file()


@pytest.mark.processes
def test_the_folders_config_does_the_same_run_again(checkerboard):
    call("run", "--model=DiffRec", "--dataset=board", *QUICK)
    (folder,) = Path("outputs").iterdir()
    assert cli.main(["run", f"--config_files={folder / 'config.yaml'}"]) == 0
    one, two = (json.loads((each / "metrics.json").read_text()) for each in Path("outputs").iterdir())
    assert one == two


@pytest.mark.processes
def test_progress_shows_users_per_second(checkerboard):
    loud = [word for word in QUICK if "show_progress" not in word and "state" not in word]
    done = call("run", "--model=DiffRec", "--dataset=board", *loud)
    assert "users/s" in done.stderr


def test_dry_run_prints_the_effective_configuration_and_runs_nothing(checkerboard, capsys):
    words = ["run", "--model=DiffRec", "--dataset=board", *QUICK, "--learning_rate", "1e-2", "--dry-run"]
    assert cli.main(words) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["learning_rate"] == 0.01
    assert config["steps"] == 3
    assert not Path("outputs").exists()


def test_command_line_wins_over_files_and_the_later_file_over_the_earlier(checkerboard, capsys):
    Path("a.yaml").write_text("steps: 7\nepochs: 7\nseed: 7\n")
    Path("b.yaml").write_text("steps: 8\nepochs: 8\n")
    assert (
        cli.main(["run", "--model=DiffRec", "--dataset=board", "--config_files=a.yaml b.yaml", *QUICK, "--dry-run"])
        == 0
    )
    config = yaml.safe_load(capsys.readouterr().out)
    assert (config["steps"], config["epochs"], config["seed"]) == (3, 1, 7)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--steps=0"], "steps=0 is not allowed; allowed: int >= 1"),
        (["--noise_schedule=liner"], "noise_schedule='liner' is not allowed; allowed: linear | linear-var"),
        (["--learning_rate=fast"], "learning_rate='fast' is not allowed; allowed: float in [0, inf)"),
        (["--epochs=-1"], "epochs=-1 is not allowed"),
        (["--metrics=['Recal']"], "metrics='Recal' is not allowed"),
        (["--valid_metric=NDCG@7"], "valid_metric='NDCG@7' is not measured; allowed: Recall@10"),
        (["--infer_steps=9"], "inference_steps=9 is more than steps=3"),
        (["--sampling_steps=9"], "sampling_steps=9 is more than steps=3"),
        (["--noise_min=0.9", "--noise_max=0.1"], "noise_min < noise_max"),
        (["--eval_args={'split': {'XS': 1}}"], "eval_args.split={'XS': 1} is not allowed"),
        (["--eval_args={'order': 'XX'}"], "eval_args.order='XX' is not allowed"),
        (["--gpu_id=first"], "gpu_id='first' is not allowed"),
        (["--config_files=nowhere.yaml"], "config file 'nowhere.yaml' cannot be read"),
        (["--resume=nowhere.pth"], "checkpoint 'nowhere.pth' does not exist"),
        (["--dataset=nowhere"], "put the file nowhere.inter"),
        (["--model=DifRec"], "did you mean DiffRec"),
        (["--seed=1", "--seed=2"], "--seed is given twice"),
        (["--seed"], "--seed has no value"),
        (["board"], "'board' is not understood"),
        (["--nproc=two"], "--nproc=two is not allowed"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_slip_is_one_line_and_exit_code_2(words, says, checkerboard, capsys):
    base = ["--model=DiffRec", "--dataset=board", *QUICK]
    replaced = {word.partition("=")[0] for word in words if "=" in word}
    kept = [word for word in base if word.partition("=")[0] not in replaced]
    assert cli.main(["run", *kept, *words]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_flags_with_a_value(checkerboard, capsys):
    words = ["run", "--model=DiffRec", "--dataset=board", *QUICK]
    assert cli.main([*words, "--dry-run=true"]) == 0
    assert not Path("outputs").exists()
    assert cli.main([*words, "--dry-run=maybe"]) == 2
    assert "--dry-run='maybe' is not allowed" in capsys.readouterr().err


def test_what_fails_inside_recbole_is_one_line_too(checkerboard, capsys, monkeypatch):
    def calculate_loss(self, interaction):
        raise KeyError("label")

    monkeypatch.setattr("recbole.model.general_recommender.bpr.BPR.calculate_loss", calculate_loss)
    words = ["run", "--model=BPR", "--dataset=board", *QUICK[:3], "--data_path=dataset"]
    assert cli.main(words) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--debug shows where" in error


def test_a_file_that_is_no_checkpoint(checkerboard, capsys):
    assert cli.main(["run", "--resume=dataset/board/board.inter"]) == 2
    assert "is no checkpoint, or damaged" in capsys.readouterr().err


def test_missing_model_or_dataset(capsys):
    assert cli.main(["run", "--dataset=ml-100k"]) == 2
    assert "--model=NAME" in capsys.readouterr().err
    assert cli.main(["run", "--model=DiffRec"]) == 2
    assert "--dataset=NAME" in capsys.readouterr().err


def test_unknown_key_warns_with_the_nearest(checkerboard, capsys):
    words = ["--learnin_rate=1", "--noice_scale=3", "--zzzz=1", "--eval_args={'splitt': 1}", "--dry-run"]
    assert cli.main(["run", "--model=DiffRec", "--dataset=board", *words]) == 0
    error = capsys.readouterr().err
    assert "did you mean learning_rate?" in error
    assert "did you mean noise_scale?" in error
    assert "'zzzz' is unknown" in error
    assert "'eval_args.splitt' is unknown to RecBole and has no effect; did you mean split?" in error


def test_debug_gives_the_traceback(checkerboard):
    with pytest.raises(ValueError, match="steps=0"):
        cli.main(["run", "--model=DiffRec", "--dataset=board", "--steps=0", "--debug"])


def test_help_lists_the_models_keys(capsys):
    assert cli.main(["run", "--model=DiffRec", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--noise_schedule=linear-var   (linear | linear-var |" in text
    assert "--eval_users_per_batch" in text
    assert cli.main(["run", "--model=LightGCN", "--help"]) == 0
    assert "--n_layers=2" in capsys.readouterr().out
    assert cli.main(["run", "--model=Nope", "--help"]) == 2
    assert cli.main(["--help"]) == 0
    assert cli.main([]) == 2
    assert cli.main(["fly"]) == 2
    assert cli.main(["--version"]) == 0


def test_models_lists_paper_task_and_tags(capsys):
    assert cli.main(["models"]) == 0
    text = capsys.readouterr().out
    assert "Diffusion Recommender Model, SIGIR 2023, https://doi.org/" in text
    assert "general" in text
    assert "new users" in text
    assert cli.main(["models", "--all"]) == 0
    assert "LightGCN" in capsys.readouterr().out


def test_a_failed_run_says_so_in_its_manifest(checkerboard):
    assert cli.main(["run", "--model=DiffRec", "--dataset=board", *QUICK, "--infer_steps=9"]) == 2
    (folder,) = Path("outputs").iterdir()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["status"] == "failed"
    assert "inference_steps=9" in manifest["error"]


@pytest.mark.processes
def test_a_plain_run_imports_no_ray(checkerboard):
    code = (
        "import sys; from recbole_diffusion import cli; code = cli.main(sys.argv[1:]); assert 'ray' not in sys.modules"
    )
    words = ["run", "--model=DiffRec", "--dataset=board", *QUICK]
    done = subprocess.run([sys.executable, "-c", f"{code}; sys.exit(code)", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
