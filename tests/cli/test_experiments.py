"""compare, tune and report as commands."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path

import pytest
import yaml

from recbole_diffusion import cli
from recbole_diffusion.experiment.compare import comparison as module
from recbole_diffusion.experiment.jobs.store import Store

pytestmark = pytest.mark.usefixtures("no_plots")

COMMON = ["--dataset=board", "--epochs=1", "--data_path=dataset", "--train_batch_size=16", "--topk=[5,10]"]
COMMON += ["--load_col={'inter': ['user_id', 'item_id', 'timestamp']}"]


def compare(*words):
    return cli.main(["compare", *COMMON, *words])


def test_compare_prints_the_table_and_writes_the_report(checkerboard, figures, capsys):
    assert (
        compare("--models=EASE,DiffRec", "--seeds=2", "--DiffRec.steps=3", "--DiffRec.dims=[8]", "--folder=here") == 0
    )
    out = capsys.readouterr().out
    assert "EASE" in out
    assert "report: here/report" in out
    if importlib.util.find_spec("matplotlib"):
        assert Path("here/report/accuracy-board.svg").is_file()
    with open("here/report/results.csv", newline="") as file:
        assert {row["model"] for row in csv.DictReader(file)} == {"EASE", "DiffRec"}
    plan = Store("here").plan()
    assert plan["seeds"] == [1, 2]
    assert plan["command"].startswith("recbole-diffusion compare --dataset=board")
    record = Store("here").record(plan["models"][1]["runs"]["board"][0])
    assert (record["settings"]["steps"], record["settings"]["topk"]) == (3, [5, 10])
    assert "steps" not in Store("here").record(plan["models"][0]["runs"]["board"][0])["settings"]


def test_seeds_are_a_number_of_them_or_a_list(checkerboard):
    compare("--models=EASE", "--seeds=7,9", "--folder=one")
    assert Store("one").plan()["seeds"] == [7, 9]
    compare("--models=EASE", "--seeds=4,", "--folder=two")
    assert Store("two").plan()["seeds"] == [4]


def test_files_are_for_all_and_the_command_line_wins(checkerboard):
    Path("a.yaml").write_text("reg_weight: 3.0\nepochs: 7\nvalid_metric: NDCG@5\n")
    Path("b.yaml").write_text("reg_weight: 4.0\n")
    compare("--models=EASE", "--seeds=1", "--folder=here", "--config_files=a.yaml b.yaml")
    plan = Store("here").plan()
    settings = Store("here").record(plan["models"][0]["runs"]["board"][0])["settings"]
    assert (settings["reg_weight"], settings["epochs"], settings["valid_metric"]) == (4.0, 1, "NDCG@5")


def test_without_a_folder_it_is_new_and_named(checkerboard):
    compare("--models=EASE", "--seeds=1")
    (folder,) = Path("outputs").iterdir()
    assert folder.name.startswith("compare-board-")


def test_a_failure_is_exit_code_one_and_resume_goes_on(checkerboard, capsys, monkeypatch):
    original = module.run_one
    monkeypatch.setattr(module, "run_one", lambda job: original(job) if job.spec.label == "EASE" else 1 / 0)
    assert compare("--models=EASE,Pop", "--seeds=1", "--folder=here") == 1
    assert "try them again with --resume=here" in capsys.readouterr().err
    monkeypatch.setattr(module, "run_one", original)
    assert cli.main(["compare", "--resume=here"]) == 0
    assert "finished before" in capsys.readouterr().err


def test_ctrl_c_says_how_to_go_on(checkerboard, capsys, monkeypatch):
    def stop(job):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run_one", stop)
    assert compare("--models=EASE", "--seeds=1", "--folder=here") == 130
    assert "--resume=here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--models=EASY"], "did you mean EASE"),
        (["--models=EASE", "--seeds=x"], "--seeds=x is not allowed"),
        (["--models=EASE", "--seeds=0"], "--seeds=0 is not allowed"),
        (["--models=EASE", "--tune=x"], "--tune=x is not allowed"),
        (["--models=EASE", "--workers=0"], "workers"),
        (["--models=EASE", "--seed=3"], "allowed: seeds"),
        (["--models=EASE", "--BPR.steps=3"], "which is not among the models"),
        (["--models=EASE", "--no-save"], "--no-save is not an option of compare"),
        (["--models=EASE", "--topk=[10,3]", "--valid_metric=NDCG@7"], "--topk is given twice"),
        (["--resume=here", "--models=EASE"], "--models is not allowed with --resume"),
        (["--models=EASE", "--config_files=gone.yaml"], "gone.yaml"),
    ],
)
def test_a_slip_is_one_line_and_exit_code_two(checkerboard, capsys, words, message):
    assert compare(*words) == 2
    err = capsys.readouterr().err.strip()
    assert message in err
    assert "\n" not in err


@pytest.mark.parametrize("command", ["compare", "tune", "report"])
def test_help_and_bare_commands(command, capsys):
    assert cli.main([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: recbole-diffusion {command}")
    assert cli.main([command]) == 2
    assert capsys.readouterr().err.startswith(f"usage: recbole-diffusion {command}")


def test_report_again_with_another_metric_and_reference(checkerboard, capsys):
    compare("--models=EASE,Pop", "--seeds=1", "--folder=here")
    capsys.readouterr()
    assert cli.main(["report", "here", "--metric=Recall@5", "--reference=Pop"]) == 0
    assert "Pop" in capsys.readouterr().out
    text = Path("here/report/results.md").read_text()
    assert "differs from Pop" in text


def test_a_slip_of_report_is_one_line(checkerboard, capsys):
    compare("--models=EASE,Pop", "--seeds=1", "--folder=here")
    capsys.readouterr()
    for words, message in (
        (["nowhere"], "is not the folder of a comparison"),
        (["dataset"], "is not the folder of a comparison"),
        (["here", "--metric=Recall@700"], "topk=700 is more than"),
        (["here", "--reference=EASY"], "EASY"),
        (["here", "--seeds=3"], "--seeds is not an option of report"),
    ):
        assert cli.main(["report", *words]) == 2
        err = capsys.readouterr().err.strip()
        assert message in err
        assert "\n" not in err


def test_a_wrong_report_leaves_the_folder_as_it_was(checkerboard):
    before = sorted(Path("dataset").rglob("*"))
    cli.main(["report", "dataset"])
    assert sorted(Path("dataset").rglob("*")) == before


def test_tune_writes_a_file_that_run_takes_and_that_gives_its_test(checkerboard, capsys):
    Path("space.yaml").write_text("reg_weight: {choice: [1.0, 50.0, 1000.0]}\n")
    words = ["--model=EASE", *COMMON, "--executor=serial", "--trials=4", "--space=space.yaml", "--folder=here"]
    assert cli.main(["tune", *words, "--metric_decimal_place=6"]) == 0
    out = capsys.readouterr().out
    best = yaml.safe_load(Path("here/best.yaml").read_text())
    assert best["reg_weight"] in (1.0, 50.0, 250.0, 1000.0)
    assert cli.main(["run", "--config_files=here/best.yaml", "--no-save", "--show_progress=False"]) == 0
    (folder,) = [each for each in Path("outputs").iterdir() if each.name.startswith("EASE")]
    test = json.loads((folder / "metrics.json").read_text())["test_result"]
    assert f"{test['ndcg@10']:.4f}" in out
    assert compare("--models=EASE@here/best.yaml,EASE", "--seeds=1", "--folder=there") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model=EASE", "--search=rnadom", "--executor=serial"], "search='rnadom' is not allowed"),
        (["--model=EASE", "--trials=x"], "--trials=x is not allowed"),
        (["--model=EASE", "--trials=0", "--executor=serial"], "trials=0"),
        (["--model=EASE", "--cpus=2"], "--cpus is not an option of tune"),
        (["--model=Pop", "--executor=serial"], "there is no search space for Pop"),
        (["--resume=here", "--epochs=3"], "is not allowed with --resume"),
    ],
)
def test_a_slip_of_tune_is_one_line(checkerboard, capsys, words, message):
    with_data = words if "--resume=here" in words else [*words, *COMMON]
    assert cli.main(["tune", *with_data]) == 2
    err = capsys.readouterr().err.strip()
    assert message in err
    assert "\n" not in err
