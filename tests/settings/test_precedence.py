"""Where a setting comes from: one order of sources in run, compare and tune, and a note where they differ."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from conftest import SMALL

from recbole_diffusion import cli, run
from recbole_diffusion.experiment.compare import compare
from recbole_diffusion.experiment.compare import comparison as module
from recbole_diffusion.experiment.compare.model_entries import parse_entries
from recbole_diffusion.experiment.jobs.run_job import Outcome
from recbole_diffusion.experiment.tune import tune
from recbole_diffusion.settings import precedence
from recbole_diffusion.settings.config import Config
from recbole_diffusion.settings.precedence import Source
from recbole_diffusion.training.run_log import LOG

pytestmark = pytest.mark.usefixtures("no_plots")

QUICK = {key: value for key, value in SMALL.items() if key not in {"state", "train_batch_size"}}


@pytest.fixture
def ran(monkeypatch):
    """The settings of every run by label; nothing is trained."""
    seen = {}

    def keep(job):
        spec = job.spec
        seen.setdefault(spec.label, []).append({**spec.settings, "trial": spec.trial})
        timing = {"wall_s": 1.0, "total_s": 1.0, "epochs": 1}
        record = {
            "label": spec.label,
            "seed": spec.seed,
            "test": {},
            "valid": {},
            "valid_score": 0.5,
            "valid_score_bigger": True,
        }
        return Outcome(
            {**record, "timing": timing, "warnings": [], "settings": spec.settings, "trial": spec.trial}, None
        )

    monkeypatch.setattr(module, "run_one", keep)
    return seen


def write(name, **settings):
    Path(name).write_text(yaml.safe_dump(settings))


def test_later_sources_win_and_differences_are_notes():
    sources = [Source("a", {"x": 1, "y": 2}), Source("b", {"x": 1, "y": 3}), Source("c", {"y": 4, "z": 5})]
    assert precedence.merge(sources) == {"x": 1, "y": 4, "z": 5}
    assert precedence.notes(sources) == ["y=4 (c) is used, not 2 (a), 3 (b)"]
    assert precedence.notes(sources, {"x", "z"}) == []


def test_a_models_file_wins_over_config_files_and_the_command_line_over_both(checkerboard, ran):
    write("all.yaml", epochs=7, learning_rate=0.7, embedding_size=70, train_batch_size=70)
    write("mine.yaml", epochs=8, learning_rate=0.8, embedding_size=80)
    own = {"BPR@mine": {"embedding_size": 90}}
    given = {**QUICK, "epochs": 9}
    store = compare(["BPR@mine.yaml", "BPR"], ["board"], [1], "here", given, own, files=["all.yaml"])
    (mine,), (plain,) = ran["BPR@mine"], ran["BPR"]
    keys = ("epochs", "learning_rate", "embedding_size", "train_batch_size")
    assert [mine[key] for key in keys] == [9, 0.8, 90, 70]
    assert [plain[key] for key in keys] == [9, 0.7, 70, 70]
    notes = store.plan()["notes"]
    assert "epochs=9 (command line or settings) is used, not 7 (all.yaml)" in notes
    assert "BPR@mine: epochs=9 (command line or settings) is used, not 7 (all.yaml), 8 (mine.yaml)" in notes
    assert "BPR@mine: learning_rate=0.8 (mine.yaml) is used, not 0.7 (all.yaml)" in notes
    assert "BPR@mine: embedding_size=90 (given for BPR@mine) is used, not 70 (all.yaml), 80 (mine.yaml)" in notes


def test_a_command_beats_the_file_that_tune_wrote(checkerboard, ran, capsys):
    """The case that trained with the file's epochs in silence."""
    write("best.yaml", model="BPR", dataset="board", epochs=40, learning_rate=0.03, seed=5, valid_metric="NDCG@10")
    words = ["--dataset=board", "--seeds=1", "--epochs=1", "--topk=[5,10]", "--folder=here"]
    assert cli.main(["compare", "--models=BPR@best.yaml,EASE", *words, "--data_path=dataset"]) == 0
    assert [(each["epochs"], each["learning_rate"]) for each in ran["BPR@best"]] == [(1, 0.03)]
    assert ran["EASE"][0]["epochs"] == 1
    said = capsys.readouterr()
    line = "BPR@best: epochs=1 (command line or settings) is used, not 40 (best.yaml)"
    assert f"note: {line}" in said.err
    assert f"Note: {line}" in said.out


def test_what_a_models_file_says_of_the_comparison_is_not_used_and_said(checkerboard, ran):
    unused = {"valid_metric": "MRR@10", "user_inter_num_interval": "[5,inf)", "dataset": "another", "topk": [3]}
    equal = {"eval_args": {"mode": "full", "order": "RO"}, "data_path": "dataset", "split_seed": 2020}
    write("mine.yaml", **unused, **equal, seed=9)
    store = compare(["BPR@mine.yaml"], ["board"], [1], "here", {**QUICK, "topk": [5, 10]})
    notes = store.plan()["notes"]
    starts = [note.partition(" (mine.yaml) is not used: it is one for all models, ") for note in notes]
    assert [(start, value) for start, _, value in starts] == [
        ("BPR@mine: dataset='another'", "'board'"),
        ("BPR@mine: topk=[3]", "[5, 10]"),
        ("BPR@mine: user_inter_num_interval='[5,inf)'", "'[0,inf)'"),
        ("BPR@mine: valid_metric='MRR@10'", "'NDCG@10'"),
    ]
    assert ran["BPR@mine"][0]["valid_metric"] == "NDCG@10"


def test_budgets_that_are_not_equal_are_said(checkerboard, ran):
    write("mine.yaml", epochs=8)
    store = compare(["BPR@mine.yaml", "LightGCN", "EASE"], ["board"], [1], "here", QUICK)
    text = "the budgets are not equal: epochs=8 for BPR@mine, 300 for LightGCN; --epochs=VALUE is for all"
    assert text in store.plan()["notes"]
    assert store.plan()["equal_budget"] is False
    store = compare(["BPR@mine.yaml", "LightGCN", "EASE"], ["board"], [1], "there", {**QUICK, "epochs": 8})
    assert store.plan()["equal_budget"] is True
    assert not any("budgets" in note for note in store.plan()["notes"])


def test_keys_of_config_files_are_tuned_and_those_of_a_models_file_are_not(checkerboard, ran):
    """As in tune: a file's value is the first trial, the command line's the only one."""
    write("all.yaml", learning_rate=0.123)
    write("mine.yaml", learning_rate=0.456)
    compare(["BPR", "BPR@mine.yaml"], ["board"], [1], "here", QUICK, tune=3, files=["all.yaml"])
    rates = [each["learning_rate"] for each in ran["BPR"] if each["trial"] is not None]
    assert rates[0] == 0.123
    assert len({*rates}) == 3
    assert {each["learning_rate"] for each in ran["BPR@mine"]} == {0.456}


def test_run_says_where_its_sources_differ(checkerboard, settings):
    write("a.yaml", epochs=3, model="EASE", embedding_size=4)
    write("b.yaml", embedding_size=8)
    given = {**settings, "epochs": "1", "state": "INFO"}
    result = run("BPR", "board", ["a.yaml", "b.yaml"], given, saved=False)
    assert len(result["epochs"]) == 1
    log = (Path(result["folder"]) / LOG).read_text()
    for line in (
        "embedding_size=8 (b.yaml) is used, not 4 (a.yaml)",
        "epochs=1 (command line or settings) is used, not 3 (a.yaml)",
        "model='BPR' (command line or settings) is used, not 'EASE' (a.yaml)",
    ):
        assert line in log
    assert Config("EASE", "board", ["a.yaml"], {"epochs": 3}).overridden == []


def test_best_yaml_holds_what_was_given_chosen_or_decided(checkerboard):
    write("file.yaml", embedding_size=4, train_batch_size=16)
    given = {"data_path": "dataset", "epochs": "1", "train_batch_size": 32, "topk": [5, 10]}
    result = tune(
        "BPR", "board", 2, None, given, ["file.yaml"], executor="serial", seeds=[5, 6], folder="here", show=False
    )
    assert "train_batch_size=32 (command line or settings) is used, not 16 (file.yaml)" in result.notes
    best = yaml.safe_load(result.file.read_text())
    decided = {"valid_metric": "NDCG@10", "metric_decimal_place": 6, "seed": 5, "split_seed": 2020}
    expected = {"model": "BPR", "dataset": "board", "embedding_size": 4, **given, "epochs": 1, **decided, **result.best}
    assert best == expected
    full = yaml.safe_load((result.folder / "best-full.yaml").read_text())
    assert {key: full[key] for key in best} == best
    assert len(full) > 80
    again = run(config_file_list=[result.file], saved=False)
    assert again["test_result"] == result.test[5]


def test_a_chosen_value_can_be_overruled_beside_best_yaml(checkerboard, ran):
    """What best.yaml does not name is a default that --key reaches."""
    write("best.yaml", model="BPR", learning_rate=0.03, seed=5, split_seed=2020, valid_metric="NDCG@10")
    compare(["BPR@best.yaml"], ["board"], [1], "here", {**QUICK, "train_batch_size": 512, "stopping_step": 3})
    (settings,) = ran["BPR@best"]
    assert (settings["train_batch_size"], settings["stopping_step"], settings["learning_rate"]) == (512, 3, 0.03)


def test_words_of_an_entry_are_its_own():
    """A base and a preset are said for one model: they win over what is given for all."""
    write("mine.yaml", base_model="LightGCN", dims=[8, 8])
    (entry,) = parse_entries(["DDRM:BPR@mine.yaml"])
    assert entry.merged_settings({"base_model": "NGCF", "dims": [9]}, {"base_model", "dims"}) == {
        "base_model": "BPR",
        "dims": [9],
    }
    assert entry.merged_settings({"base_model": "NGCF", "dims": [9]}) == {"base_model": "BPR", "dims": [8, 8]}
