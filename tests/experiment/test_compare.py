"""Comparisons on the checkerboard: nothing twice, nothing lost, the same numbers on every executor."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import SMALL

from recbole_diffusion import run
from recbole_diffusion.experiment.compare import Resources, compare, resume, run_planner
from recbole_diffusion.experiment.compare import comparison as module
from recbole_diffusion.experiment.jobs import run_job
from recbole_diffusion.experiment.jobs.folder_lock import exclusive_lock
from recbole_diffusion.experiment.jobs.run_spec import RunSpec
from recbole_diffusion.experiment.jobs.store import Store

QUICK = {**SMALL, "epochs": 2}
QUICK.pop("state")
OWN = {"DiffRec": {"steps": 3, "dims": [8]}}
ON_BPR = {"dims": [8, 8], "steps": 5, "base_config": {"epochs": 1, "embedding_size": 8}}
MODELS = ["Pop", "EASE", "DiffRec"]


def records(store):
    return {each["label"] + str(each["seed"]): each for each in map(json.loads, _texts(store))}


def _texts(store):
    return [file.read_text() for file in sorted((store.folder / "runs").glob("*.json"))]


@pytest.fixture
def ran(monkeypatch):
    """(label, seed, trial) of each run that is really made."""
    seen = []
    original = run_job.run_one

    def count(job):
        seen.append((job.spec.label, job.spec.seed, job.spec.trial))
        return original(job)

    monkeypatch.setattr(module, "run_one", count)
    return seen


def test_a_run_of_a_comparison_is_what_run_gives(checkerboard):
    store = compare(["DiffRec"], ["board"], [3], "here", QUICK, OWN)
    (record,) = map(json.loads, _texts(store))
    settings = {**record["settings"], "seed": 3, "show_progress": False}
    alone = run("DiffRec", "board", config_dict=settings, saved=False)
    assert record["test"] == alone["test_result"]
    assert record["valid"] == alone["best_valid_result"]
    assert record["data"] == alone["data"]
    assert record["settings"]["steps"] == 3
    users = store.users(record["key"])
    assert users.users.tolist() == alone["per_user"].users.tolist()
    assert {key: values.tolist() for key, values in users.metrics.items()} == {
        key: values.tolist() for key, values in alone["per_user"].metrics.items()
    }


def test_each_run_keeps_its_lists_and_the_choice_is_no_part_of_its_key(checkerboard, ran):
    store = compare(["EASE", "DiffRec"], ["board"], [3], "here", QUICK, OWN)
    keys = [record["key"] for record in records(store).values()]
    lists = [store.lists(key) for key in keys]
    assert [each.lists.items.shape for each in lists] == [(64, 41)] * 2  # 40 items and the padding
    assert len(list((store.folder / "lists").glob("split-*"))) == 1
    record = records(store)["DiffRec3"]
    alone = run("DiffRec", "board", config_dict={**record["settings"], "seed": 3, "show_progress": False}, saved=False)
    for kept, expected in zip(store.lists(record["key"]).lists[:4], alone["lists"].lists):
        assert kept.tolist() == expected.tolist()
    assert store.plan()["settings"].get("keep_lists") is None  # no setting that changes numbers
    compare(["EASE", "DiffRec"], ["board"], [3], "here", {**QUICK, "keep_lists": 0}, OWN)
    assert len(ran) == 2
    short = compare(["EASE"], ["board"], [3], "short", {**QUICK, "keep_lists": 7})
    assert short.lists(keys[0] if short.record(keys[0]) else keys[1]).lists.items.shape == (64, 7)
    none = compare(["EASE"], ["board"], [3], "none", {**QUICK, "keep_lists": 0})
    assert not (none.folder / "lists").exists()
    with pytest.raises(ValueError, match="keep_lists=-1 is not allowed; allowed: int >= 0"):
        compare(["EASE"], ["board"], [3], "wrong", {**QUICK, "keep_lists": -1})


def test_every_model_and_seed_once_and_never_again(checkerboard, ran):
    store = compare(MODELS, ["board"], [1, 2], "here", QUICK, OWN)
    assert sorted(ran) == sorted((label, seed, None) for label in MODELS for seed in (1, 2))
    assert len({record["data"]["split_sha256"] for record in records(store).values()}) == 1
    assert records(store)["DiffRec1"]["test"] != records(store)["DiffRec2"]["test"]
    before = _texts(store)
    compare(MODELS, ["board"], [1, 2], "here", QUICK, OWN)
    assert len(ran) == 6
    assert _texts(store) == before
    compare([*MODELS, "BPR"], ["board"], [1, 2, 3], "here", QUICK, OWN)
    assert sorted(ran[6:]) == sorted([(label, 3, None) for label in MODELS] + [("BPR", s, None) for s in (1, 2, 3)])


def test_other_settings_data_and_code_make_other_runs(checkerboard, ran, monkeypatch):
    compare(["EASE"], ["board"], [1], "here", QUICK)
    compare(["EASE"], ["board"], [1], "here", {**QUICK, "reg_weight": 3.0})
    assert len(ran) == 2
    monkeypatch.setattr(run_planner, "code_fingerprint", lambda *_: "other")
    compare(["EASE"], ["board"], [1], "here", QUICK)
    assert len(ran) == 3
    with open("dataset/board/board.inter", "a") as file:
        file.write("u0\ti1\t5.0\t2000000000\n")
    compare(["EASE"], ["board"], [1], "here", QUICK)
    assert len(ran) == 4


def test_the_order_in_time_is_part_of_the_data(checkerboard, ran):
    """The same pairs in every split, but each user's training rows the other way round: another run."""
    args = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}
    compare(["EASE"], ["board"], [1], "here", {**QUICK, "eval_args": args})
    file = Path("dataset/board/board.inter")
    header, *lines = file.read_text().splitlines()
    rows = [line.split("\t") for line in lines]
    for user in {row[0] for row in rows}:
        times = sorted((row for row in rows if row[0] == user), key=lambda row: int(row[3]))[:-2]
        for row, time_ in zip(times, [row[3] for row in times][::-1]):
            row[3] = time_
    file.write_text("\n".join([header, *("\t".join(row) for row in rows)]) + "\n")
    store = compare(["EASE"], ["board"], [1], "here", {**QUICK, "eval_args": args})
    assert len(ran) == 2
    assert len({json.loads(text)["data"]["split_sha256"] for text in _texts(store)}) == 1


def test_the_code_of_a_model_of_ones_own_is_part_of_its_key(checkerboard, ran, monkeypatch):
    monkeypatch.syspath_prepend(str(Path().absolute()))
    Path("my_models.py").write_text(
        "from recbole.model.general_recommender.ease import EASE\nclass Mine(EASE):\n    pass\n"
    )
    given = {**QUICK, "reg_weight": 250.0}  # EASE's key, whose defaults are not Mine's
    compare(["my_models:Mine"], ["board"], [1], "here", given)
    with open("my_models.py", "a") as file:
        file.write("    weight = 3\n")
    compare(["my_models:Mine"], ["board"], [1], "here", given)
    assert len(ran) == 2


def test_runs_that_were_not_made_alike_are_said_to_be(checkerboard):
    store = compare(["EASE"], ["board"], [1], "here", QUICK)
    assert not any("costs do not compare" in note for note in store.plan()["notes"])
    store = compare(["EASE", "Pop"], ["board"], [1], "here", QUICK, resources=Resources(threads=2))
    assert any("costs do not compare" in note and "threads 2" in note for note in store.plan()["notes"])
    assert records(store)["Pop1"]["where"]["threads"] == 2


def test_a_model_whose_data_are_not_there_fails_alone(checkerboard):
    store = compare(["EASE", "KGAT"], ["board"], [1], "here", QUICK)
    plan = {model["label"]: model["runs"]["board"] for model in store.plan()["models"]}
    assert "board.kg" in store.failure(plan["KGAT"][0])["error"]
    assert store.record(plan["EASE"][0])


def test_paths_of_single_models_are_absolute(checkerboard):
    run("BPR", "board", config_dict={**QUICK, "state": "ERROR", "checkpoint_dir": "mine"})
    (file,) = Path("mine").glob("*.pth")
    own = {"DDRM:BPR": {"base_checkpoint": str(file), "dims": [8, 8]}}
    store = compare(["DDRM:BPR"], ["board"], [1], "here", QUICK, own)
    assert records(store)["DDRM:BPR1"]["settings"]["base_checkpoint"] == str(file.absolute())
    Path("elsewhere").mkdir()
    os.chdir("elsewhere")
    assert _texts(resume(store.folder)) == _texts(store)


@pytest.mark.parametrize(
    ("more", "says"), [({"reference": "EASY"}, "reference='EASY'"), ({"metric": "NDCG@3"}, "ndcg@5")]
)
def test_what_the_report_cannot_show_is_said_before_the_training(checkerboard, ran, more, says):
    with pytest.raises(ValueError, match=says):
        compare(["EASE"], ["board"], [1], "here", QUICK, **more)
    assert ran == []


def test_the_defaults_are_tried_once(checkerboard, untrained):
    store = compare(["EASE", "ItemKNN"], ["board"], [1], "here", QUICK, tune=60)
    for model in store.plan()["models"]:
        trials = [store.record(key)["settings"] for key in model["trials"]["board"]]
        key = {"EASE": "reg_weight", "ItemKNN": "k"}[model["label"]]
        default = {"EASE": 250.0, "ItemKNN": 100}[model["label"]]
        chosen = [(each.get(key, default), each.get("shrink", 0.0)) for each in trials]
        assert 10 < len(chosen) == len(set(chosen)) < 60  # the whole space, in which the defaults lie
        assert chosen[0] == (default, 0.0)


def test_a_model_with_a_loop_of_its_own_is_tested_at_its_best_epoch(settings):
    """NCL keeps its best weights in a file or nowhere: without files RecBole tests the last epoch."""
    pytest.importorskip("faiss")
    more = {**settings, "epochs": 6, "num_clusters": 4, "warm_up_step": 3, "m_step": 1, "learning_rate": 0.5}
    kept = run("NCL", "board", config_dict=more, saved=True)
    left = run("NCL", "board", config_dict=more, saved=False)
    assert left["test_result"] == kept["test_result"]
    assert left["checkpoint"] is None
    assert len(list(Path("saved").glob("*.pth"))) == 1


def test_where_it_runs_and_where_it_lies_change_no_key():
    one = RunSpec("A", "EASE", "board", 1, {"reg_weight": 3.0, "data_path": "/a", "pretrain_dir": "/b"})
    two = RunSpec("B", "EASE", "board", 1, {"reg_weight": 3.0, "data_path": "/c"})
    assert one.key == two.key
    assert one.key != RunSpec("A", "EASE", "board", 1, {"reg_weight": 3.0}, trial=0).key
    assert one.key != RunSpec("A", "EASE", "board", 2, {"reg_weight": 3.0}).key


def test_a_model_that_fails_is_named_and_the_others_go_on(checkerboard, capsys):
    own = {"BPR": {"embedding_size": -1}, "MultiVAE": {"learning_rate": 1e30}, "DDRM:MultiVAE": {"dims": [8]}}
    store = compare(["BPR", "MultiVAE", "DDRM:MultiVAE", "EASE"], ["board"], [1, 2], "here", QUICK, own)
    plan = {model["label"]: model["runs"]["board"] for model in store.plan()["models"]}
    reasons = {label: store.failure(keys[0]) for label, keys in plan.items()}
    assert reasons.pop("EASE") is None
    assert "embedding" in reasons["BPR"]["error"] or "negative" in reasons["BPR"]["error"]
    assert "nan" in reasons["MultiVAE"]["error"].lower() or "not finite" in reasons["MultiVAE"]["error"]
    assert "does not score by the inner product" in reasons["DDRM:MultiVAE"]["error"]
    assert all("\n" not in reason["error"] for reason in reasons.values())
    assert all(store.record(key) for key in plan["EASE"])
    assert capsys.readouterr().err.count("FAILED") == 4  # BPR is refused before it runs


def test_a_value_that_its_config_refuses_is_that_models_failure(checkerboard):
    store = compare(["DiffRec", "EASE"], ["board"], [1], "here", QUICK, {"DiffRec": {"steps": 0}})
    plan = {model["label"]: model["runs"]["board"] for model in store.plan()["models"]}
    assert "steps=0 is not allowed" in store.failure(plan["DiffRec"][0])["error"]
    assert store.record(plan["EASE"][0])
    with pytest.raises(ValueError, match="steps=0 is not allowed"):
        compare(["DiffRec"], ["board"], [1], "there", QUICK, {"DiffRec": {"steps": 0}})


def test_resume_runs_what_failed_and_nothing_else(checkerboard, ran, monkeypatch):
    original = module.run_one

    def fail(job):
        if job.spec.label == "EASE":
            raise MemoryError
        return original(job)

    monkeypatch.setattr(module, "run_one", fail)
    store = compare(MODELS, ["board"], [1], "here", QUICK, OWN)
    failed = [model["runs"]["board"][0] for model in store.plan()["models"] if model["label"] == "EASE"]
    assert store.failure(failed[0])["error"].startswith("out of memory")
    monkeypatch.setattr(module, "run_one", original)
    ran.clear()
    resume("here")
    assert ran == [("EASE", 1, None)]
    assert store.failure(failed[0]) is None


def test_resume_finds_files_of_settings_from_elsewhere(checkerboard, ran, monkeypatch, tmp_path):
    Path("mine.yaml").write_text("steps: 3\ndims: [8]\n")
    counting = module.run_one
    monkeypatch.setattr(module, "run_one", lambda job: 1 / 0)
    compare(["DiffRec@mine.yaml"], ["board"], [1], "here", {key: QUICK[key] for key in QUICK if key != "data_path"})
    monkeypatch.setattr(module, "run_one", counting)
    (tmp_path / "else").mkdir()
    os.chdir(tmp_path / "else")
    store = resume(tmp_path / "here")
    (record,) = records(store).values()
    assert record["settings"]["steps"] == 3


def test_a_full_disk_loses_one_run_and_says_so(checkerboard, monkeypatch, capsys):
    original = Store.finish

    def full(self, key, record, users=None, *rest):
        if record["label"] == "EASE":
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self, key, record, users)

    monkeypatch.setattr(Store, "finish", full)
    store = compare(MODELS, ["board"], [1], "here", QUICK, OWN)
    assert set(records(store)) == {"Pop1", "DiffRec1"}
    assert "No space left on device" in capsys.readouterr().err
    monkeypatch.setattr(Store, "finish", original)
    assert set(records(resume("here"))) == {"Pop1", "EASE1", "DiffRec1"}


def test_half_a_write_leaves_no_record(tmp_path, monkeypatch):
    store = Store("here")
    store.finish("a", {"x": 1})

    def torn(*names):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", torn)
    with pytest.raises(OSError, match="No space left"):
        store.finish("a", {"x": 2})
    assert store.record("a") == {"x": 1}
    assert not list(store.folder.rglob(".*.tmp"))


def test_nothing_is_left_of_the_runs(checkerboard):
    before = sorted(each.name for each in Path().iterdir())
    store = compare(["DiffRec", "DDRM:BPR"], ["board"], [1], "here", QUICK, {**OWN, "DDRM:BPR": ON_BPR})
    assert sorted(each.name for each in Path().iterdir()) == sorted([*before, "here"])
    assert list((store.folder / "work").iterdir()) == []
    assert not (store.folder / "data").exists()
    assert {each.name for each in store.folder.iterdir()} == {
        *("runs", "lists", "saved", "work", "comparison.json", ".lock")
    }


def test_the_cost_of_a_base_counts_for_every_run_on_it(checkerboard):
    own = {"DDRM:BPR": {**ON_BPR, "steps": 3}, "DDRM@two": {}}
    Path("two.yaml").write_text(json.dumps({"base_model": "BPR", **ON_BPR}))
    store = compare(["DDRM:BPR", "DDRM@two.yaml"], ["board"], [1], "here", QUICK, own)
    first, second = (each["timing"] for each in records(store).values())
    assert first["pretrain_s"] == second["pretrain_s"] > 0
    assert all(each["total_s"] > each["pretrain_s"] for each in (first, second))


def test_two_at_once_in_a_folder_are_refused(checkerboard):
    with exclusive_lock(Store("here").folder, "comparison"):
        with pytest.raises(ValueError, match="another comparison is at work"):
            compare(["EASE"], ["board"], [1], "here", QUICK)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": []}, "seeds="),
        ({"seeds": [1, 1]}, "seeds="),
        ({"tune": -1}, "tune=-1"),
        ({"datasets": ["nowhere"]}, "dataset='nowhere' is not in"),
    ],
)
def test_wrong_arguments_are_one_line(checkerboard, arguments, message):
    given = {"models": ["EASE"], "datasets": ["board"], "seeds": [1], "folder": "here", "settings": QUICK, **arguments}
    with pytest.raises(ValueError, match=message):
        compare(**given)


def test_resume_of_no_comparison_is_one_line():
    with pytest.raises(ValueError, match="is not the folder of a comparison"):
        resume("nowhere")


def test_tuning_gives_each_the_same_trials_and_tests_only_the_best(checkerboard, ran):
    store = compare(["EASE", "DiffRec"], ["board"], [1, 2], "here", {**QUICK, "epochs": 1}, tune=4)
    plan = {model["label"]: model for model in store.plan()["models"]}
    for label in ("EASE", "DiffRec"):
        trials = [store.record(key) for key in plan[label]["trials"]["board"]]
        assert [trial["trial"] for trial in trials] == [0, 1, 2, 3]
        assert all(trial["test"] is None and store.users(trial["key"]) is None for trial in trials)
        assert all(trial["seed"] == 1 for trial in trials)
        best = max(trials, key=lambda trial: trial["valid_score"])
        finals = [store.record(key) for key in plan[label]["runs"]["board"]]
        assert [final["seed"] for final in finals] == [1, 2]
        assert all(final["settings"] == best["settings"] for final in finals)
        assert finals[0]["valid"] == best["valid"]  # the same run, now tested
        assert finals[0]["test"] is not None
        chosen = plan[label].get("best", {}).get("board", {})
        assert {**best["settings"], **chosen} == best["settings"]
    first = [
        store.record(plan["DiffRec"]["trials"]["board"][0])["settings"].get(key) for key in ("steps", "noise_scale")
    ]
    assert first == [None, None]  # the defaults are a trial
    assert len(ran) == 2 * (4 + 2)
    compare(["EASE", "DiffRec"], ["board"], [1, 2], "here", {**QUICK, "epochs": 1}, tune=4)
    assert len(ran) == 12


def test_what_is_given_is_not_tuned(checkerboard):
    store = compare(["EASE"], ["board"], [1], "here", {**QUICK, "reg_weight": 7.0}, tune=3)
    plan = store.plan()
    assert "trials" not in plan["models"][0]
    assert any("every key of its space is given" in note for note in plan["notes"])
    assert store.record(plan["models"][0]["runs"]["board"][0])["settings"]["reg_weight"] == 7.0


def test_a_model_without_a_space_runs_as_it_is(checkerboard):
    store = compare(["Pop"], ["board"], [1], "here", QUICK, tune=3)
    assert any(note.startswith("Pop is not tuned") for note in store.plan()["notes"])
    assert set(records(store)) == {"Pop1"}


def test_failed_trials_are_left_out_and_a_model_of_only_such_is_refused(checkerboard, monkeypatch):
    original = module.run_one

    def fail(job):
        if job.spec.trial == 0 or (job.spec.trial is not None and job.spec.label == "DiffRec"):
            raise ValueError("Training loss is nan")
        return original(job)

    monkeypatch.setattr(module, "run_one", fail)
    store = compare(["EASE", "DiffRec"], ["board"], [1], "here", {**QUICK, "epochs": 1}, tune=3)
    plan = {model["label"]: model for model in store.plan()["models"]}
    assert store.record(plan["EASE"]["runs"]["board"][0])
    (key,) = plan["DiffRec"]["runs"]["board"]
    assert "every trial failed; the first: Training loss is nan" in store.failure(key)["error"]


SCRIPT = """
import sys
from recbole_diffusion.experiment.compare import compare
if __name__ == "__main__":
    compare(["EASE", "DiffRec"], ["board"], [1, 2], "here", {settings!r}, {{"DiffRec": {{"steps": 3, "dims": [8]}}}})
"""


@pytest.mark.processes
def test_a_driver_that_is_killed_loses_the_run_at_work(checkerboard, ran):
    """kill -9 in the middle of DiffRec: what was finished is there, resume does the rest."""
    many = {**QUICK, "epochs": 100000, "stopping_step": 100000}
    Path("drive.py").write_text(SCRIPT.format(settings=many))
    process = subprocess.Popen([sys.executable, "drive.py"], env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        for _ in range(600):
            if list(Path("here/runs").glob("*.json")) and list(Path("here/work").glob("*")):
                break
            time.sleep(0.1)
        time.sleep(0.5)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    store = Store("here")
    assert [record["label"] for record in records(store).values()] == ["EASE"]
    assert list((store.folder / "work").iterdir())
    plan = store.plan()
    plan["asked"]["own"]["DiffRec"]["epochs"] = 2  # or it would never end
    store.write_plan(plan)
    resume("here")
    assert sorted(ran) == [("DiffRec", 1, None), ("DiffRec", 2, None), ("EASE", 2, None)]
    assert len(records(store)) == 4
    assert list((store.folder / "work").iterdir()) == []


def ray_works():
    if importlib.util.find_spec("ray") is None:
        return False
    from recbole_diffusion.experiment.cluster.session import import_ray

    try:
        import_ray()
    except ValueError:
        return False
    return True


@pytest.mark.processes
@pytest.mark.skipif(not ray_works(), reason="no ray here that works with these libraries")
def test_ray_gives_the_same_numbers(checkerboard):
    one = compare(["EASE", "DiffRec"], ["board"], [1, 2], "one", QUICK, OWN)
    two = compare(["EASE", "DiffRec"], ["board"], [1, 2], "two", QUICK, OWN, resources=Resources(workers=2))
    parts = ("key", "test", "valid", "data", "settings")
    drop = {"prepared_data", "checkpoint_dir"}

    def numbers(store):
        return {
            label: [
                {key: value for key, value in record[part].items() if key not in drop}
                if part == "settings"
                else record[part]
                for part in parts
            ]
            for label, record in records(store).items()
        }

    assert numbers(one) == numbers(two)
    for record in records(one).values():
        for serial, ray in zip(one.lists(record["key"]).lists[:4], two.lists(record["key"]).lists):
            assert serial.tolist() == ray.tolist()
    assert len({record["pid"] for record in records(two).values()}) > 1
    assert os.getpid() not in {record["pid"] for record in records(two).values()}
    plan = two.plan()
    assert (plan["executor"], plan["workers"], one.plan()["executor"]) == ("ray", 2, "serial")
