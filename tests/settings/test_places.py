"""Where a data set is: a local ml-100k, RecBole's, or neither, by one rule in all commands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import HEADER, write_inter

from recbole_diffusion import load, quick_start, run
from recbole_diffusion.experiment.compare import compare
from recbole_diffusion.experiment.tune import tuning_plan
from recbole_diffusion.settings import places

ROWS = [(f"u{n % 20}", f"i{n * 7 % 311}", 5, 1000 + n) for n in range(6200)]  # each user has 310 items
QUIET = {"show_progress": False, "state": "ERROR", "topk": [3], "valid_metric": "MRR@3", "epochs": 1}
QUIET |= {"load_col": {"inter": ["user_id", "item_id"]}}
QUIET |= {"user_inter_num_interval": "[300,inf)"}  # a twentieth of ml-100k's users
PACKAGED = 54  # users with so many interactions


@pytest.fixture
def local(tmp_path: Path) -> Path:
    write_inter(tmp_path / "dataset", "ml-100k", ROWS, HEADER)
    return tmp_path / "dataset" / "ml-100k"


def users(**settings: object) -> int:
    config = quick_start.configure("Pop", "ml-100k", config_dict={**QUIET, **settings})
    return quick_start.prepare(config)[0].user_num - 1


def test_a_local_copy_wins_and_says_how_to_get_the_other(local):
    config = quick_start.configure("Pop", "ml-100k", config_dict=QUIET)
    (note,) = config.notes
    assert "read from dataset/ml-100k, not from the copy that RecBole brings; for that: --data_path=recbole" in note
    assert users() == users(data_path="dataset") == users(data_path=str(local.parent)) == 20
    assert users(data_path="recbole") == PACKAGED
    assert quick_start.configure("Pop", "ml-100k", config_dict={**QUIET, "data_path": "recbole"}).notes == []


@pytest.mark.parametrize("content", ["nothing", "notes.txt", "ml-100k.item", None])
def test_a_folder_without_interactions_is_none(content, tmp_path):
    if content is not None:
        (tmp_path / "dataset" / "ml-100k").mkdir(parents=True)
        if content != "nothing":
            (tmp_path / "dataset" / "ml-100k" / content).write_text("")
    config = quick_start.configure("Pop", "ml-100k", config_dict=QUIET)
    assert (config.plain()["data_path"], config.notes) == ("recbole", [])
    if content == "ml-100k.item":
        assert users() == PACKAGED  # what data_path: recbole is for all of them


def test_files_that_are_split_count(tmp_path):
    folder = tmp_path / "dataset" / "ml-100k"
    folder.mkdir(parents=True)
    for part in ("train", "valid", "test"):
        (folder / f"ml-100k.{part}.inter").write_text("user_id:token\titem_id:token\na\tb\n")
    assert quick_start.configure("Pop", "ml-100k", config_dict=QUIET)["data_path"] == "dataset/ml-100k"


def test_a_data_path_without_the_data_set_is_named(tmp_path):
    config = quick_start.configure("Pop", "ml-100k", config_dict={**QUIET, "data_path": "elsewhere"})
    assert config.notes == ["data_path='elsewhere' holds no ml-100k.inter: the copy that RecBole brings is read"]
    with pytest.raises(ValueError, match="data_path='recbole' has no dataset='board'; RecBole brings ml-100k"):
        quick_start.configure("Pop", "board", config_dict={"data_path": "recbole"})
    assert places.locate("dataset", "board", given=False) == ("dataset", "dataset/board", None)


@pytest.mark.parametrize("own", [True, False], ids=["local", "packaged"])
def test_config_yaml_and_checkpoint_keep_which_one_it_was(own, local):
    """Also after a local copy was added or taken away: the same data, or an error."""
    small = {**QUIET, "train_batch_size": 100_000, "embedding_size": 4}
    result = run("BPR", "ml-100k", config_dict={**small, **({} if own else {"data_path": "recbole"})})
    count = 20 if own else PACKAGED
    assert result["data"]["users"] == count
    assert bool(result["warnings"]) == own
    file = [Path(result["folder"]) / "config.yaml"]
    assert run(config_file_list=file, saved=False)["test_result"] == result["test_result"]
    assert load(result["checkpoint"]).dataset.user_num == count + 1
    assert run(resume=result["checkpoint"], config_dict={"epochs": 2}, saved=False)["data"] == result["data"]
    if not own:
        shutil.rmtree(local)
        assert run(config_file_list=file, saved=False)["test_result"] == result["test_result"]


def test_a_run_without_a_local_copy_stays_with_the_packaged_one(local):
    shutil.move(str(local), "aside")
    result = run("Pop", "ml-100k", config_dict=QUIET, saved=False)
    shutil.move("aside", str(local))
    again = run(config_file_list=[result["folder"] + "/config.yaml"], saved=False)
    assert again["data"] == result["data"]
    assert again["data"]["users"] == PACKAGED


def test_compare_and_tune_read_the_same_file(local):
    for given, count in (({}, 20), ({"data_path": "recbole"}, PACKAGED)):
        keys = {**QUIET, "valid_metric": "NDCG@3", **given}
        store = compare(["Pop"], ["ml-100k"], [1], f"compared-{count}", keys)
        assert store.plan()["datasets"]["ml-100k"]["users"] == count
        Path("space.yaml").write_text("k: {choice: [5, 10]}\n")
        arguments = ("ItemKNN", "ml-100k", 2, "space.yaml", {**QUIET, **given}, [], "random", "none", None, None, None)
        request = tuning_plan.make_plan(*arguments)
        assert request.settings["data_path"] == given.get("data_path", str(local.parent))
        config = quick_start.configure(request.model, request.dataset, config_dict=request.settings)
        assert quick_start.prepare(config)[0].user_num == count + 1
