"""The folder of a comparison: what is read from it, what it may hold, and what is removed from it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from recbole_diffusion.evaluation.per_user import UserMetrics
from recbole_diffusion.experiment.compare import compare
from recbole_diffusion.experiment.jobs.folder_lock import exclusive_lock
from recbole_diffusion.experiment.jobs.store import DamagedRecord, Store
from recbole_diffusion.experiment.report import from_lists
from recbole_diffusion.support import json_files


def test_a_folder_with_files_of_others_is_refused_and_keeps_them():
    for name in ("work", "ray", "data"):
        Path("project", name).mkdir(parents=True)
        Path("project", name, "thesis.tex").write_text("of the user")
    line = r"^'.*project' holds files of others \(data, ray, work\); take a new or an empty folder$"
    with pytest.raises(ValueError, match=line):
        compare(["Pop"], ["no-such-data"], (1,), "project")
    assert sorted(str(path) for path in Path("project").rglob("*.tex")) == [
        f"project/{name}/thesis.tex" for name in ("data", "ray", "work")
    ]
    assert not Path("project/.lock").exists()


@pytest.mark.parametrize("mark", [".lock", "comparison.json", "tune.json", None])
def test_a_folder_of_ours_or_an_empty_one_is_taken(mark):
    Path("here").mkdir()
    if mark:
        Path("here", mark).touch()
        Path("here/work").mkdir()
    with exclusive_lock(Path("here"), "comparison"):
        assert not Path("here/work").exists()


def test_a_record_under_another_runs_name_is_damaged():
    store = Store("here")
    store.finish("one", {"key": "one", "test": {"ndcg@10": 0.5}})
    copy = Path("here/runs/two.json")
    copy.write_bytes(Path("here/runs/one.json").read_bytes())
    with pytest.raises(DamagedRecord, match=r"runs/two.json is damaged \(it is the record of the run 'one'\); resume"):
        store.record("two")
    said = []
    store.set_damaged_aside(said.append)
    copy.write_text("{")
    store.set_damaged_aside(said.append)
    assert [line.rpartition(" ")[2] for line in said] == ["two.json.damaged", "two.json.damaged-2"]
    assert store.record("one")["test"] == {"ndcg@10": 0.5}
    assert store.record("two") is None


def test_metrics_per_user_that_are_missing_are_named_and_made_again():
    """Without them a report would silently have no test over users."""
    store, users = Store("here"), UserMetrics(np.array(["ann"]), {"ndcg@10": np.array([0.5])})
    store.finish("one", {"key": "one"}, users)
    store.finish("two", {"key": "two"})
    assert store.users("one").metrics["ndcg@10"].tolist() == [0.5]
    assert store.users("two") is None
    Path("here/runs/one.npz").unlink()
    with pytest.raises(ValueError, match=r"'.*runs/one.npz' is missing; resume makes its run again"):
        store.users("one")
    said = []
    store.set_damaged_aside(said.append)
    assert said == [
        "runs/one.json is damaged (its metrics per user, runs/one.npz, are missing): its run is made again; it is kept "
        "as one.json.damaged"
    ]
    assert store.record("two") is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_record_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and len(folder.parts) > 2:
            folder.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    store = Store("here")
    store.finish("one", {"key": "one"})
    Path("here/runs/one.json").chmod(0o600)
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            store.record("one")
        except DamagedRecord as error:
            os._exit(0 if str(error) == "runs/one.json cannot be read (Permission denied); make it readable" else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_numbers_of_numpy_stay_numbers_in_records():
    values = {"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True), "d": [np.float64("nan")], "e": "text"}
    json_files.write("a.json", values)
    assert json_files.read("a.json") == {"a": 0.5, "b": 3, "c": True, "d": [None], "e": "text"}
    assert json.loads(Path("a.json").read_text())["c"] is True


def test_users_without_lists_are_not_given_anothers_value(monkeypatch):
    measured = UserMetrics(np.array(["ann", "bob"]), {"recall@50": np.array([0.1, 0.2])})
    monkeypatch.setattr(from_lists, "compute", lambda *_: ({"recall@50": 0.15}, measured))
    kept = UserMetrics(np.array(["bob", "ann"]), {"ndcg@10": np.array([0.3, 0.4])})
    both = from_lists.complete(None, {"test": {}}, kept, ["recall@50"])
    assert dict(zip(both.users, both.metrics["recall@50"])) == {"bob": 0.2, "ann": 0.1}
    for other in ("beth", "zoe"):
        users = UserMetrics(np.array(["ann", other]), {"ndcg@10": np.array([0.3, 0.4])})
        with pytest.raises(ValueError, match="the lists of a run lack users of its metrics"):
            from_lists.complete(None, {"test": {}}, users, ["recall@50"])
