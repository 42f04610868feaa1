"""Tuning: which trials there are, what is kept and chosen, one look at the test split, going on after a crash."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from recbole_diffusion import cli, quick_start
from recbole_diffusion.experiment.jobs.folder_lock import exclusive_lock
from recbole_diffusion.experiment.space import search_space
from recbole_diffusion.experiment.space.search_space import canonical_json, parse
from recbole_diffusion.experiment.tune import NoTrialFinished, backend, trials, tune, tuning
from recbole_diffusion.experiment.tune import report as tune_report
from recbole_diffusion.experiment.tune import serial as tune_serial
from recbole_diffusion.experiment.tune.configurations import known_configurations
from recbole_diffusion.experiment.tune.trials import MedianStoppingRule, best_record
from recbole_diffusion.training.trainer import Training

SPACE = {"learning_rate": {"choice": [0.003, 0.01, 0.03]}, "embedding_size": {"choice": [4, 8]}}
NAN = {"learning_rate": {"choice": [0.01, 1e30]}}


def space_of(entries=None):
    return parse(entries or SPACE, "space.yaml")


@pytest.fixture
def search(settings):
    """``search(**arguments)``: a serial tuning of BPR on the checkerboard, four epochs of four batches a trial."""

    def run(model="BPR", entries=None, more=None, **arguments):
        own = {**settings, "epochs": 4, "train_batch_size": 256, **(more or {})}
        given = {"executor": "serial", "scheduler": "none", "show": False, "folder": "here", **arguments}
        return tune(model, "board", space=space_of(entries), settings=own, **given)

    return run


def rows_of(folder="here"):
    with open(Path(folder) / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------- what is tried and chosen


def test_the_defaults_first_then_draws(untrained, search):
    result = search(trials=4)
    chosen = [result.records[number]["chosen"] for number in range(4)]
    assert chosen[0] == {"learning_rate": 0.001, "embedding_size": 64}
    assert chosen[1:] == space_of().sample(4, seed=2020)[:3]
    assert list(result.records) == [0, 1, 2, 3]
    assert search(trials=4, folder="there", seed=7).records[1]["chosen"] != chosen[1]


def test_the_best_by_validation_is_trained_anew_and_tested_once(search, monkeypatch):
    phases = Counter()
    evaluate = Training.evaluate

    def counted(self, eval_data, *args, **kwargs):
        phases[eval_data._sampler.phase] += 1
        return evaluate(self, eval_data, *args, **kwargs)

    monkeypatch.setattr(Training, "evaluate", counted)
    result = search(trials=3, seeds=[5, 6])
    assert phases["test"] == 2  # once for each seed
    assert phases["valid"] == 4 * (3 + 2)  # four epochs of three trials and two tested runs
    scores = {number: record["valid_score"] for number, record in result.records.items()}
    assert result.valid_score == max(scores.values()) == scores[result.trial]
    assert result.best == result.records[result.trial]["chosen"]
    assert all(record["test"] is None for record in result.records.values())
    assert list(result.test) == [5, 6]
    assert result.test[5] != result.test[6]
    splits = {record["data"]["split_sha256"] for record in result.records.values()}
    records = [json.loads(file.read_text()) for file in Path("here/runs").glob("*.json")]
    assert {record["data"]["split_sha256"] for record in records} == splits  # the seeds of the tests split nothing anew
    assert len(splits) == 1


def test_best_yaml_gives_the_very_same_test(search, capsys):
    result = search(trials=3)
    assert cli.main(["run", f"--config_files={result.file}", "--no-save", "--state=ERROR"]) == 0
    capsys.readouterr()
    (folder,) = Path("outputs").glob("BPR-*")
    assert json.loads((folder / "metrics.json").read_text())["test_result"] == result.test[2020]
    content = yaml.safe_load(result.file.read_text())
    assert {key: content[key] for key in result.best} == result.best
    assert content["seed"] == content["split_seed"] == 2020
    assert content["data_path"] == "dataset"  # as it was given
    assert not {"prepared_data", "checkpoint_dir", "output_dir"} & {
        key for key, value in content.items() if "here" in str(value)
    }


def test_csv_json_and_pictures(drawn, search):
    result = search(trials=3)
    rows = rows_of()
    assert list(rows[0]) == [
        "trial",
        "learning_rate",
        "embedding_size",
        "ndcg@10",
        "epochs",
        "seconds",
        "status",
        "reason",
    ]
    for row, record in zip(rows, result.records.values()):
        assert float(row["ndcg@10"]) == record["valid_score"]
        assert int(row["embedding_size"]) == record["chosen"]["embedding_size"]
        assert (row["epochs"], row["status"], row["reason"]) == ("4", "finished", "")
        assert float(row["seconds"]) > 0
    kept = json.loads(Path("here/tune.json").read_text())
    assert kept["best"]["chosen"] == result.best
    assert kept["test"]["2020"] == result.test[2020]
    assert kept["request"]["configurations"][0] == {"learning_rate": 0.001, "embedding_size": 64}
    pytest.importorskip("matplotlib")
    assert Path("here/trials.png").stat().st_size > 10_000
    svg = Path("here/trials.svg").read_text()
    for word in ("learning_rate", "embedding_size", "BPR on board", "best so far"):
        assert word in svg


def test_without_matplotlib_a_note(untrained, search, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = search(trials=1)
    assert "no plot of the trials: pip install matplotlib" in result.notes
    assert not Path("here/trials.png").exists()


def test_nothing_is_left_but_the_folder(search, monkeypatch):
    before, words = Path.cwd(), list(sys.argv)
    search(trials=2)
    assert Path.cwd() == before
    assert sys.argv == words
    assert {each.name for each in Path().iterdir()} == {"dataset", "here"}
    left = {each.name for each in Path("here").iterdir()} - {"trials.png", "trials.svg", ".lock", "saved", "failed"}
    assert left == {"runs", "tune.json", "trials.csv", "best.yaml", "best-full.yaml"}


def test_a_metric_where_less_is_better(search):
    more = {"metrics": ["GiniIndex"], "topk": [10], "valid_metric": "GiniIndex@10"}
    result = search(trials=3, more=more)
    assert result.valid_score == min(record["valid_score"] for record in result.records.values())


def test_of_equals_the_first(search):
    result = search("ItemKNN", {"shrink": {"choice": [5.0, 5.0000001]}}, trials=3, more={"metric_decimal_place": 1})
    assert len({record["valid_score"] for record in result.records.values()}) == 1
    assert result.trial == 0
    records = [{"trial": 3, "valid_score": 0.5}, {"trial": 1, "valid_score": 0.5}, {"trial": 0, "valid_score": None}]
    assert best_record(records, True)["trial"] == best_record(records, False)["trial"] == 1
    assert best_record([{"trial": 0, "valid_score": float("nan")}], True) is None


# ---------------------------------------------------------------- budgets and spaces


def test_a_grid_is_run_in_its_order(search):
    result = search("EASE", {"reg_weight": {"choice": [1.0, 10.0, 100.0]}}, search="grid")
    assert [record["chosen"]["reg_weight"] for record in result.records.values()] == [1.0, 10.0, 100.0]
    assert result.notes[0] == "the grid has 3 points: all of them are run"
    assert all(record["timing"]["epochs"] == 1 for record in result.records.values())  # EASE validates once


def test_a_budget_above_and_below_the_grid():
    found = space_of()
    config = quick_start.configure("BPR", "ml-100k")
    every, notes = known_configurations(found, config, "grid", 50, 1)
    assert every == list(found.grid())
    assert notes == ["the grid has 6 points: all of them are run, not 50"]
    some, notes = known_configurations(found, config, "grid", 4, 1)
    assert len({canonical_json(each) for each in some}) == 4
    assert {canonical_json(each) for each in some} < {canonical_json(each) for each in every}
    assert notes == ["the grid has 6 points: it is cut to 4 of them, drawn at random with seed 1"]
    drawn, notes = known_configurations(found, config, "random", 50, 1)
    assert drawn[0] == {"learning_rate": 0.001, "embedding_size": 64}
    assert sorted(map(canonical_json, drawn[1:])) == sorted(map(canonical_json, every))
    assert notes == ["the space has 6 configurations: 7 trials are the defaults and all of it, not 50"]


def test_defaults_that_the_space_holds_are_one_trial():
    config = quick_start.configure("BPR", "ml-100k")
    found = parse({"learning_rate": {"choice": [0.001, 0.01]}}, "s")
    drawn, _ = known_configurations(found, config, "random", 2, 1)
    assert [each["learning_rate"] for each in drawn] == [0.001, 0.01]


def test_a_model_without_defaults_has_no_trial_of_its_defaults(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    config = quick_start.configure("tuned_models:Fragile", "ml-100k")
    drawn, notes = known_configurations(space_of(), config, "random", 3, 1)
    assert (drawn, notes) == (space_of().sample(3, seed=1), [])
    assert known_configurations(space_of(), config, "optuna", 3, 1) == ([], [])


def test_one_trial_and_a_space_of_equal_values(untrained, search):
    one = search(trials=1)
    assert one.trial == 0
    assert one.best == {"learning_rate": 0.001, "embedding_size": 64}
    equal = search(entries={"embedding_size": {"choice": [8, 8, 8]}}, search="grid", trials=5, folder="there")
    assert len(equal.records) == 1
    assert equal.best == {"embedding_size": 8}
    assert equal.notes[0] == "the grid has 1 points: all of them are run, not 5"


def test_a_given_setting_is_not_tuned_but_one_of_a_file_is(untrained, search):
    Path("a.yaml").write_text("learning_rate: 0.5\nembedding_size: 6\n")
    result = search(trials=3, more={"embedding_size": "5"}, files=["a.yaml"])
    assert "embedding_size=5 is given and not tuned" in result.notes
    assert [list(record["chosen"]) for record in result.records.values()] == [["learning_rate"]] * 3
    assert result.records[0]["chosen"]["learning_rate"] == 0.5  # the file's is the default of this tuning
    assert all(record["settings"]["embedding_size"] == 5 for record in result.records.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"more": {"learning_rate": 1, "embedding_size": 2}}, "nothing is left to tune"),
        ({"entries": {"learning_rate": {"uniform": [0, 1]}}, "search": "grid"}, "learning_rate is continuous"),
        ({"entries": {"learning_rate": {"choice": [-1.0]}}}, "learning_rate=-1.0 is not allowed"),
        ({"search": "all"}, "random | grid | optuna | hyperopt"),
        ({"scheduler": "pbt"}, "asha | median | none"),
        ({"executor": "dask"}, "ray | serial"),
        ({"scheduler": "asha"}, "executor=serial is not allowed with scheduler=asha, which needs Ray"),
        ({"workers": 2}, "executor=serial is not allowed with workers=2"),
        ({"trials": 0}, "trials=0 is not allowed; allowed: int >= 1"),
        ({"grace": 0}, "grace=0 is not allowed"),
        ({"threads": 0}, "threads=0 is not allowed"),
        ({"more": {"eval_step": 0}}, "eval_step=0 is not allowed in a tuning"),
        ({"model": "LightGNC"}, "did you mean LightGCN"),
        ({"resume": "nowhere"}, "is not the folder of a tuning"),
    ],
)
def test_a_slip_is_one_line(search, arguments, message):
    with pytest.raises(ValueError, match=r"^.*$") as caught:
        search(**arguments)
    assert message in str(caught.value)
    assert not Path("here/runs").exists()


# ---------------------------------------------------------------- failures


def test_a_nan_trial_fails_and_the_others_go_on(search):
    result = search(entries=NAN, trials=3)
    assert [record["chosen"]["learning_rate"] for record in result.records.values()] == [0.001, 0.01]
    (failed,) = result.failures.values()
    assert failed["chosen"] == {"learning_rate": 1e30}
    assert result.best["learning_rate"] < 1
    row = next(row for row in rows_of() if row["status"] == "failed")
    assert row["ndcg@10"] == ""
    assert "finite" in row["reason"] or "nan" in row["reason"].lower()
    assert "1 failed" in result.summary()


def test_all_trials_failing_is_one_line_and_exit_code_1(search, capsys, settings):
    with pytest.raises(NoTrialFinished, match=r"^all 2 trials failed; the first: .*$"):
        search(entries={"learning_rate": {"choice": [1e30, 1e31]}}, search="grid")
    assert not Path("here/best.yaml").exists()
    Path("s.yaml").write_text("learning_rate: {choice: [1.0e+30, 1.0e+31]}")
    words = [f"--{key}={json.dumps(value)}" for key, value in {**settings, "data_path": "dataset"}.items()]
    words = [word.replace('"', "'") if "[" in word else word.replace('"', "") for word in words]
    words += ["--model=BPR", "--dataset=board", "--space=s.yaml", "--search=grid", "--executor=serial"]
    assert cli.main(["tune", *words, "--folder=there", "--epochs=4"]) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("recbole-diffusion: all 2 trials failed")


def test_no_validation_is_refused_before_a_trial(search):
    args = {"split": {"RS": [0.8, 0.0, 0.2]}, "order": "RO", "group_by": "user", "mode": "full"}
    with pytest.raises(ValueError, match=r"the validation split of .board. is empty"):
        search(trials=1, more={"eval_args": args})


def test_a_record_that_cannot_be_written_is_a_failure(untrained, search, monkeypatch):
    finish = trials.Store.finish

    def full(self, key, record, users=None):
        if record["trial"] == 1:
            raise OSError(28, "No space left on device")
        finish(self, key, record, users)

    monkeypatch.setattr(trials.Store, "finish", full)
    result = search(trials=3)
    assert sorted(result.records) == [0, 2]
    assert "could not be written" in result.failures[1]["error"]
    assert "No space left" in result.failures[1]["error"]


# ---------------------------------------------------------------- going on


class _Interrupt:
    """run_trial, but the n-th call is Ctrl-C; and which trials were run."""

    def __init__(self, monkeypatch, at=None):
        self.calls, self.at, self.run = [], at, trials.run_trial
        monkeypatch.setattr(tune_serial, "run_trial", self)

    def __call__(self, context, number, chosen, report):
        self.calls.append(number)
        if len(self.calls) == self.at:
            raise KeyboardInterrupt
        return self.run(context, number, chosen, report)


@pytest.mark.processes
def test_ctrl_c_keeps_what_has_ended_and_says_how_to_go_on(search, monkeypatch, capsys):
    whole = search(trials=4, folder="whole")
    calls = _Interrupt(monkeypatch, at=3)
    with pytest.raises(KeyboardInterrupt):
        search(trials=4, show=True)
    assert "interrupted; 2 of 4 trials are kept; go on by recbole-diffusion tune --resume=" in capsys.readouterr().err
    calls.calls.clear()
    calls.at = None
    result = tune(resume="here", executor="serial", show=False)
    assert calls.calls == [2, 3]
    assert result.test == whole.test
    assert [r["valid_score"] for r in result.records.values()] == [r["valid_score"] for r in whole.records.values()]
    again = tune(resume="here", executor="serial", show=False)
    assert calls.calls == [2, 3]  # nothing is left to do
    assert again.test == result.test


def test_a_larger_budget_later(untrained, search, monkeypatch):
    search(trials=2)
    calls = _Interrupt(monkeypatch)
    result = tune(resume="here", trials=4, executor="serial", show=False)
    assert calls.calls == [2, 3]
    assert [r["chosen"] for r in result.records.values()] == [
        {"learning_rate": 0.001, "embedding_size": 64},
        *space_of().sample(4, seed=2020)[:3],
    ]
    with pytest.raises(ValueError, match="has a budget of 4; allowed: more"):
        tune(resume="here", trials=3, executor="serial", show=False)


def test_failed_trials_are_tried_again(search, monkeypatch):
    search(entries=NAN, trials=3)
    calls = _Interrupt(monkeypatch)
    tune(resume="here", executor="serial", show=False)
    (failed,) = calls.calls
    assert len(list(Path("here/failed").glob("*.json"))) == 1
    assert rows_of()[failed]["status"] == "failed"


def test_trials_of_other_code_are_run_again(untrained, search, monkeypatch):
    search(trials=2)
    monkeypatch.setattr(tuning, "code_fingerprint", lambda *_: "other")
    calls = _Interrupt(monkeypatch)
    result = tune(resume="here", executor="serial", show=False)
    assert calls.calls == [0, 1]
    assert "2 kept trials are of other code or data and are run again" in result.notes


def test_a_folder_holds_one_tuning_and_one_at_a_time(untrained, search):
    search(trials=1)
    with pytest.raises(ValueError, match="holds a tuning already; go on with it by --resume="):
        search(trials=1)
    with (
        exclusive_lock(Path("here").absolute(), "tuning"),
        pytest.raises(ValueError, match="another tuning is at work"),
    ):
        tune(resume="here", executor="serial", show=False)


# ---------------------------------------------------------------- stopping


def test_the_median_rule_by_hand():
    rule = MedianStoppingRule(bigger=True, grace=2, last_epoch=5)
    for number, curve in enumerate([[0.1, 0.2, 0.3], [0.2, 0.4, 0.5], [0.3, 0.6, 0.9]]):
        for end in range(1, 4):
            points = [(epoch + 1, score) for epoch, score in enumerate(curve[:end])]
            assert not rule.stops(number, points)  # too few to compare with, or as good as they are
    # running means from epoch 2 on: at 2: .2 .4 .6, median .4; at 3: .25 .45 .75, median .45
    assert not rule.stops(3, [(1, 0.0)])  # grace
    assert rule.stops(3, [(1, 0.0), (2, 0.39)])
    assert not rule.stops(4, [(1, 0.4), (2, 0.1)])  # its best counts, not its last
    assert rule.stops(4, [(1, 0.4), (2, 0.1), (3, 0.44)])
    assert not rule.stops(5, [(1, 0.0), (2, 0.0), (3, 0.0), (4, 0.0)])  # nobody else came as far as epoch 4
    less = MedianStoppingRule(bigger=False, grace=1, last_epoch=9, min_trials=1)
    less.stops(0, [(1, 0.5)])
    assert less.stops(1, [(1, 0.6)])
    assert not less.stops(2, [(1, 0.4)])
    last = MedianStoppingRule(bigger=True, grace=1, last_epoch=2, min_trials=1)
    last.stops(0, [(1, 0.5), (2, 0.5)])
    assert not last.stops(1, [(1, 0.5), (2, 0.1)])  # at its last epoch there is nothing to save


class _Trial(str):
    """What Ray's rule reads of a trial."""

    trial_id = property(str)


def test_the_median_rule_is_rays():
    """Against Ray's own, over drawn curves, as long as none pauses or ends there."""
    schedulers = pytest.importorskip("ray.tune.schedulers")
    import numpy as np

    from recbole_diffusion.experiment.cluster.session import import_ray

    import_ray()
    draw = np.random.default_rng(0)
    for case in range(40):
        grace, least, bigger = int(draw.integers(1, 4)), int(draw.integers(1, 5)), bool(case % 2)
        ours = MedianStoppingRule(bigger, grace, last_epoch=99, min_trials=least)
        theirs = schedulers.MedianStoppingRule(
            time_attr="t",
            metric="m",
            mode="max" if bigger else "min",
            grace_period=grace,
            min_samples_required=least,
            min_time_slice=float("inf"),
        )
        for number in range(8):
            curve, trial = [], _Trial(f"trial {number}")
            for epoch in range(1, int(draw.integers(2, 9))):
                curve.append((epoch, float(draw.normal())))
                decision = theirs.on_trial_result(None, trial, {"t": epoch, "m": curve[-1][1]})
                assert ours.stops(number, list(curve)) == (decision == "STOP"), (case, number, epoch)
                if decision == "STOP":
                    break


def test_a_trial_that_is_stopped_counts_with_what_it_had(search):
    entries = {"learning_rate": {"choice": [0.1, 0.05, 0.03, 0.02, 1e-9]}}
    more = {"epochs": 6, "train_batch_size": 32}
    result = search(entries=entries, search="grid", scheduler="median", grace=2, more=more)
    stopped = result.records[4]
    assert stopped["status"] == "stopped"
    assert stopped["timing"]["epochs"] == 2
    assert stopped["valid_score"] == max(score for _, score in stopped["curve"])
    assert len(stopped["curve"]) == 2
    assert result.trial != 4
    assert rows_of()[4]["status"] == "stopped"
    assert "1 stopped early" in result.summary()


# ---------------------------------------------------------------- without Ray, without libraries


def test_without_ray_one_after_the_other_and_said_so(untrained, search, monkeypatch):
    monkeypatch.setattr(backend, "_import_error_of_ray", lambda: "ray is not installed; pip install ray")
    result = search(trials=1, executor=None, scheduler=None)
    assert any("median stopping instead of ASHA: ray is not installed; pip install ray" in n for n in result.notes)
    for asked in ({"workers": 2}, {"scheduler": "asha"}, {"executor": "ray"}, {"search": "optuna"}):
        with pytest.raises(ValueError, match="ray is not installed; pip install ray"):
            search(trials=1, folder="there", **{"executor": None, "scheduler": None, **asked})


def test_a_library_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        ValueError, match=r"^search=optuna needs optuna, which cannot be imported .*; pip install optuna$"
    ):
        backend.import_search_library("optuna")


def test_summary_of_several_seeds(untrained, search):
    result = search(trials=1)
    test = {"ndcg@10": 0.5}, {"ndcg@10": 0.7}
    several = tune_report.TuneResult(**{**vars(result), "test": dict(zip((1, 2), test))})
    assert "seed 1, 2:" in several.summary()
    assert "ndcg@10            0.6000 ± 0.1414" in several.summary()


# ---------------------------------------------------------------- on Ray


def of_processes(test: Any) -> Any:
    """One Ray for all, in one process."""
    return pytest.mark.processes(pytest.mark.xdist_group("ray tune")(test))


@pytest.fixture(scope="module")
def ray():
    """One Ray for all: it takes seconds to start."""
    pytest.importorskip("ray.tune")
    from recbole_diffusion.experiment.cluster import session as ray_session

    try:
        ray_session.import_ray()
    except ValueError as error:
        pytest.skip(str(error))
    with ray_session.session(2) as started:
        yield started


@pytest.fixture
def on_ray(ray, search, monkeypatch):
    """``on_ray(**arguments)``: a tuning on that Ray."""
    monkeypatch.setattr(tuning.Tuning, "_session", lambda self, stack: ray)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    )
    return lambda *a, **k: search(*a, **{"executor": "ray", "workers": 2, **k})


@of_processes
def test_ray_and_serial_have_the_same_trials_and_the_same_numbers(on_ray, search):
    entries = {**SPACE, "learning_rate": {"choice": [0.01, 0.03, 1e30]}}
    serial = search(entries=entries, trials=5, folder="serial")
    result = on_ray(entries=entries, trials=5)
    assert {n: r["chosen"] for n, r in result.records.items()} == {n: r["chosen"] for n, r in serial.records.items()}
    assert {n: r["curve"] for n, r in result.records.items()} == {n: r["curve"] for n, r in serial.records.items()}
    assert {n: r["error"] for n, r in result.failures.items()} == {n: r["error"] for n, r in serial.failures.items()}
    assert result.failures
    assert result.test == serial.test
    assert not Path("here/ray").exists()
    assert not (Path.home() / "ray_results").exists()


@of_processes
def test_asha_stops_and_a_killed_worker_is_one_failure(on_ray, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    entries = {"learning_rate": {"choice": [0.03, 13.0, 1e-9, 0.02]}}
    more = {"embedding_size": 8, "train_batch_size": 32}
    result = on_ray("tuned_models:Fragile", entries, more, search="grid", scheduler="asha", grace=1, workers=1)
    assert result.failures[1]["error"] == "the worker process was killed (out of memory?)"
    assert {n: (r["status"], r["timing"]["epochs"]) for n, r in result.records.items() if n != 3} == {
        0: ("finished", 4),
        2: ("stopped", 1),
    }
    assert 3 in result.records
    assert result.trial in {0, 3}
    assert result.test[2020]["ndcg@10"] > 0


@pytest.mark.xdist_group("ray tune")
@pytest.mark.parametrize(
    "kind", [pytest.param("optuna", marks=pytest.mark.processes), pytest.param("hyperopt", marks=pytest.mark.slow)]
)
def test_searches_that_invent_their_trials(kind, on_ray, monkeypatch):
    pytest.importorskip(kind)
    monkeypatch.setattr(tuning.Tuning, "_test", lambda self, ray, best: {})
    entries = {"learning_rate": {"loguniform": [1e-3, 1e-1]}, "embedding_size": {"choice": [4, 8]}}
    result = on_ray(entries=entries, trials=4, search=kind, more={"epochs": 2}, workers=1)
    assert sorted(result.records) == [0, 1, 2, 3]
    assert result.records[0]["chosen"] == {"learning_rate": 0.001, "embedding_size": 64}
    for number in range(1, 4):
        chosen = result.records[number]["chosen"]
        assert 1e-3 <= chosen["learning_rate"] <= 1e-1
        assert chosen["embedding_size"] in (4, 8)
    if kind == "optuna":
        before = {number: record["started"] for number, record in result.records.items()}
        more = tune(resume="here", trials=6, workers=1, show=False)
        assert {n: more.records[n]["started"] for n in before} == before
        assert sorted(more.records) == list(range(6))
        assert len({canonical_json(record["chosen"]) for record in more.records.values()}) == 6


def test_what_a_search_is_told_of_kept_trials(search):
    """Every kept trial that lies in the space, with its score; the defaults may lie outside."""
    tune_search = pytest.importorskip("recbole_diffusion.experiment.tune.search")
    told = []

    class Algorithm:
        def __init__(self, points, mode, seed, trials):
            self.points, self.seed, self.trials = list(points), seed, trials
            assert mode == "max"

        def set_search_properties(self, metric, mode, space):
            assert (metric, mode) == ("best", "max")

        def suggest(self, trial_id):
            return self.points.pop(0)

        def on_trial_complete(self, trial_id, result):
            told.append(result["best"])

    records = {
        0: {"chosen": {"learning_rate": 0.001, "embedding_size": 64}, "valid_score": 0.1},
        2: {"chosen": {"learning_rate": 0.03, "embedding_size": 4}, "valid_score": 0.3},
        1: {"chosen": {"learning_rate": 0.01, "embedding_size": 8}, "valid_score": 0.2},
    }
    board = trials.TrialLog(None, None, 9, "ndcg@10", True, show=False, records=records)
    todo = [(3, {"learning_rate": 0.003, "embedding_size": 8})]
    plan = tune_search.RemainingSearch(todo, 5, "optuna", space_of(), "none", 2, 6, 1, seed=10)
    fake = SimpleNamespace(choice=list, randint=range)
    original, tune_search._optuna = tune_search._optuna, Algorithm
    try:
        found = tune_search._algorithm(fake, board, plan)
    finally:
        tune_search._optuna = original
    assert told == [0.2, 0.3]
    assert found.points == [{"learning_rate": 0, "embedding_size": 1}]  # the known one comes next
    assert (found.seed, found.trials) == (13, 9)


@of_processes
def test_a_resumed_asha_knows_the_kept_trials(ray, search):
    """Its rungs, from what is kept: a trial that is worse than these stops, without them it would be the first."""
    from recbole_diffusion.experiment.tune.on_ray import _scheduler
    from recbole_diffusion.experiment.tune.search import RemainingSearch

    result = search(trials=4, more={"epochs": 6})
    board = trials.TrialLog(None, None, 9, "ndcg@10", True, show=False, records=dict(result.records))
    plan = RemainingSearch([], 0, None, space_of(), "asha", 2, 6, 1, 0)
    for records, decision in ((dict(result.records), "STOP"), ({}, "CONTINUE")):
        board.records = records
        asha, late = _scheduler(board, plan), SimpleNamespace(trial_id="late")
        asha.on_trial_add(None, late)
        assert asha.on_trial_result(None, late, {"epoch": 1, "best": 0.0}) == "CONTINUE"
        assert asha.on_trial_result(None, late, {"epoch": 2, "best": 0.0}) == decision


@pytest.mark.parametrize(
    "executor", [pytest.param("serial", marks=pytest.mark.processes), pytest.param("ray", marks=pytest.mark.slow)]
)
def test_kill_9_of_the_driver_loses_the_running_trials_only(executor, settings, tmp_path):
    """The real thing: another process, killed, then gone on with."""
    import signal
    import subprocess
    import time

    if executor == "ray":
        pytest.importorskip("ray.tune")
    Path("s.yaml").write_text("learning_rate: {loguniform: [1.0e-3, 1.0e-1]}")
    Path("a.json").write_text(json.dumps({**settings, "epochs": 20}))
    code = (
        "import json; from recbole_diffusion.experiment.tune import tune\n"
        "if __name__ == '__main__':\n"
        f"    tune('BPR', 'board', 8, 's.yaml', json.load(open('a.json')), executor={executor!r}, folder='here')"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    runs = Path("here/runs")
    for _ in range(600):
        if len(list(runs.glob("*.json"))) >= 3 or process.poll() is not None:
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {file.name: file.read_bytes() for file in runs.glob("*.json")}
    assert len(kept) >= 3
    code = (
        "from recbole_diffusion.experiment.tune import tune\n"
        "if __name__ == '__main__':\n"
        f"    print(len(tune(resume='here', executor={executor!r}, show=False).records))"
    )  # a process of its own: an earlier test's Ray may run in this one
    resumed = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert resumed.stdout.split()[-1] == "8"
    assert all((runs / name).read_bytes() == content for name, content in kept.items())
    assert not Path("here/ray").exists()
    assert search_space.load("s.yaml").size is None
