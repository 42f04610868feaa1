"""Tunings and comparisons without a test split end well and say so; what is to choose needs a validation split."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from conftest import HEADER, SMALL, write_inter

from recbole_diffusion import cli, run
from recbole_diffusion.experiment.compare import compare
from recbole_diffusion.experiment.report.reading import read

pytestmark = pytest.mark.usefixtures("no_plots")

NO_TEST = ["{split: {RS: [0.8,0.2,0]}}", "{order: TO, split: {LS: valid_only}}"]
NO_VALID = ["{split: {RS: [0.8,0,0.2]}}", "{order: TO, split: {LS: test_only}}"]
COMMON = ["--dataset=board", "--epochs=1", "--data_path=dataset", "--folder=here", "--state=ERROR", "--topk=[5,10]"]
COMMON += ["--load_col={'inter': ['user_id', 'item_id', 'timestamp']}"]
TUNE = ["tune", "--model=EASE", "--trials=2", *COMMON]


@pytest.fixture
def files():
    """Three splits as files, ``part`` of them empty."""

    def write(part):
        rows = [(f"u{u}", f"i{i}", 5.0, 100 * u + i) for u in range(20) for i in range(20) if i % 2 == u % 2]
        for place, name in enumerate(("train", "valid", "test")):
            of_part = (
                [] if name == part else [row for n, row in enumerate(rows) if (n % 5 >= 3) + (n % 5 == 4) == place]
            )
            write_inter(Path("dataset"), "board", of_part, HEADER)
            Path("dataset/board/board.inter").rename(f"dataset/board/board.{name}.inter")
        return "--benchmark_filename=['train','valid','test']"

    return write


ON_RAY = pytest.param("--workers=1", f"--eval_args={NO_TEST[0]}", marks=pytest.mark.processes)


@pytest.mark.parametrize(
    ("where", "args"),
    [("--executor=serial", args) for args in (*(f"--eval_args={each}" for each in NO_TEST), "files")] + [ON_RAY],
)
def test_a_tuning_without_a_test_split_gives_the_best_settings(checkerboard, files, capsys, args, where):
    if where != "--executor=serial":
        pytest.importorskip("ray.tune")
    assert cli.main([*TUNE, where, files("test") if args == "files" else args]) == 0
    said = capsys.readouterr()
    assert "nothing was tested" in said.out.splitlines()
    assert "nothing was tested: the test split of 'board' is empty" in said.err
    best = yaml.safe_load(Path("here/best.yaml").read_text())
    kept = json.loads(Path("here/tune.json").read_text())
    assert best["reg_weight"] == kept["best"]["chosen"]["reg_weight"]
    assert kept["test"] == {}
    assert len(list(Path("here/runs").glob("*.json"))) == 2  # the trials: nothing is trained to be tested


@pytest.mark.parametrize("args", [f"--eval_args={each}" for each in NO_VALID] + ["files"])
@pytest.mark.parametrize("command", ["tune", "compare"])
def test_nothing_to_choose_by_is_said_before_a_trial(checkerboard, files, capsys, args, command):
    words = [*TUNE, "--executor=serial"] if command == "tune" else ["compare", "--models=EASE,Pop", "--tune=2", *COMMON]
    assert cli.main([*words, files("valid") if args == "files" else args]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "of 'board' is empty: nothing to choose settings by" in line
    assert not Path("here").exists()


@pytest.mark.parametrize("tune", [0, 2])
def test_a_comparison_without_a_test_split_says_so(checkerboard, capsys, tune):
    words = ["compare", "--models=EASE,BPR", f"--tune={tune}", "--seeds=2", *COMMON, f"--eval_args={NO_TEST[0]}"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "Note: nothing was tested: the test split of 'board' is empty" in out
    results = read("here").results["board"]
    assert [len(each.runs) for each in results] == [2, 2]
    assert [each.missing for each in results] == [[], []]
    assert all(each.users is None for each in results)  # not those of the validation split
    scores = ", ".join(f"{each.label} {each.valid_score:.4f}" for each in results)
    text = Path("here/report/results.md").read_text()
    assert f"no test scores; ndcg@10 on the validation split: {scores}" in text
    with open("here/report/per_seed.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert {row["ndcg@10"] for row in rows} == {row["test_users_per_s"] for row in rows} == {""}
    assert not Path("here/report/significance.csv").exists()


def test_a_comparison_without_validation_tests_the_last_epoch(checkerboard):
    args = {"split": {"RS": [0.8, 0.0, 0.2]}, "order": "RO", "group_by": "user", "mode": "full"}
    store = compare(["BPR"], ["board"], [1], "here", {**SMALL, "epochs": 2, "eval_args": args})
    note = "nothing is validated: that split of 'board' is empty; every model is tested at its last epoch"
    assert note in store.plan()["notes"]
    (result,) = read("here").results["board"]
    assert result.runs[0]["timing"]["best_epoch"] is None
    assert result.mean("ndcg@10") > 0


def test_a_run_without_a_test_split_has_no_users(settings):
    """The last evaluation is that of the validation split, and its users are not the test's."""
    args = {"split": {"RS": [0.8, 0.2, 0.0]}, "order": "RO", "group_by": "user", "mode": "full"}
    result = run("EASE", "board", config_dict={**settings, "eval_args": args, "save_per_user": True}, saved=False)
    assert (result["test_result"], result["per_user"], result["timing"]["test_users_per_s"]) == (None, None, None)
    assert result["best_valid_result"]["ndcg@10"] > 0
    assert not (Path(result["folder"]) / "per_user.csv").exists()
