"""``fit_on``: all rows are trained on, for the number of epochs that an earlier run's validation chose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served_models import ServedModels

from recbole_diffusion import cli, load, recommend, run
from recbole_diffusion.data import pipeline
from recbole_diffusion.quick_start import configure

pytestmark = pytest.mark.xdist_group("fit_on")  # its models are trained once


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> ServedModels:
    return ServedModels(tmp_path_factory.mktemp("serving"))


def pairs_in_file(folder: Path) -> set[tuple[str, str]]:
    lines = (folder / "board" / "board.inter").read_text().splitlines()[1:]
    return {(line.split("\t")[0], line.split("\t")[1]) for line in lines}


def trained_pairs(loaded: Any) -> list[tuple[str, str]]:
    users, items = pipeline.interactions(loaded.train_data).T
    return list(zip(loaded.dataset.id2token("user_id", users), loaded.dataset.id2token("item_id", items)))


SEQUENTIAL: dict[str, Any] = {"MAX_ITEM_LIST_LENGTH": 8}
LOO = {"split": {"LS": "valid_and_test"}, "order": "TO"}
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("DiffRec", {}),
    ("EASE", {}),
    ("BPR", {"eval_args": {"split": {"RS": [8, 1, 1]}, "mode": "uni20"}}),
    ("CDDRec", {}),
    ("GRU4Rec", {**SEQUENTIAL, "eval_args": LOO}),
]


@pytest.mark.parametrize(("model", "settings"), MODELS, ids=[name for name, _ in MODELS])
def test_all_rows_are_trained_on(make: ServedModels, model: str, settings: dict[str, Any]) -> None:
    result = make.result(model, fit_on="all", **settings)
    data, pairs = result["data"], pairs_in_file(make.folder)
    assert (data["train"], data["valid"], data["test"]) == (len(pairs), 0, 0)
    assert result["best_valid_result"] is None
    assert result["test_result"] is None
    loaded = load(result["checkpoint"], trust=True)
    trained = trained_pairs(loaded)
    assert len(trained) == len(pairs)
    assert {*trained} == pairs
    assert result["data"]["split_sha256"] != make.result(model, **settings)["data"]["split_sha256"]
    lists = recommend(loaded, k=5)
    assert not pairs & {*zip(lists["user"], lists["item"])}
    assert not [line for line in result["warnings"] if "empty" in line]


def test_general_and_sequential_models_have_one_fingerprint(make: ServedModels) -> None:
    hashes = {make.result(name, fit_on="all", **keys)["data"]["split_sha256"] for name, keys in MODELS}
    assert len(hashes) == 1


def test_train_and_valid_leave_the_test_split(make: ServedModels) -> None:
    before, joined = make.result("DiffRec"), make.result("DiffRec", fit_on="train+valid")
    counts = before["data"]
    assert joined["data"]["train"] == counts["train"] + counts["valid"]
    assert joined["data"]["test"] == counts["test"]
    assert joined["best_valid_result"] is None
    assert {*joined["test_result"]} == {*before["test_result"]}


def test_the_rows_of_the_sequences(make: ServedModels) -> None:
    """Train holds a row for each interaction but the first, in chronological order."""
    loaded = load(make.result("GRU4Rec", fit_on="all", **SEQUENTIAL, eval_args=LOO)["checkpoint"])
    rows = loaded.train_data._dataset.inter_feat
    history: dict[str, list[str]] = {}
    for line in sorted(
        (make.folder / "board" / "board.inter").read_text().splitlines()[1:], key=lambda r: r.split()[3]
    ):
        user, item = line.split("\t")[:2]
        history.setdefault(user, []).append(item)
    names = loaded.dataset.field2id_token
    expected = {
        (user, tuple(items[max(0, n - 8) : n]), items[n])
        for user, items in history.items()
        for n in range(1, len(items))
    }
    lists = (names["item_id"][row[:n]] for row, n in zip(rows["item_id_list"].numpy(), rows["item_length"].numpy()))
    users, targets = names["user_id"][rows["user_id"].numpy()], names["item_id"][rows["item_id"].numpy()]
    assert {(user, tuple(items), target) for user, items, target in zip(users, lists, targets)} == expected


def test_like_takes_settings_and_the_chosen_epochs(make: ServedModels, capsys: Any) -> None:
    keys = {"epochs": 6, "learning_rate": 0.02, "stopping_step": 99}
    earlier = make.result("DiffRec", **keys)
    best = [row["epoch"] for row in earlier["epochs"] if row["best"]][-1]
    for source in (earlier["checkpoint"], earlier["folder"]):
        config = configure(like=source, config_dict={"fit_on": "all"})
        assert (config["epochs"], config["learning_rate"], config["fit_on"]) == (best, 0.02, "all")
        assert f"epochs={best}, as the validation of checkpoint {source!r}"[:30] in " ".join(config.overridden)
    assert configure(like=earlier["checkpoint"])["epochs"] == 6
    assert configure(like=earlier["checkpoint"], config_dict={"fit_on": "all", "epochs": 3})["epochs"] == 3
    assert cli.main(["run", f"--like={earlier['checkpoint']}", "--fit-on=all", "--output_dir=here"]) == 0
    printed = capsys.readouterr().out
    assert f"{best} epochs, " in printed
    assert "fit_on=all: trained on these splits for a fixed number of epochs, not validated and not tested" in printed


def test_like_reads_a_folder_without_checkpoint(make: ServedModels) -> None:
    settings = {"data_path": str(make.folder), "epochs": 3, "eval_step": 1, "steps": 3, "dims": [8], "state": "ERROR"}
    earlier = run("DiffRec", "board", config_dict=settings, saved=False)
    best = [row["epoch"] for row in earlier["epochs"] if row["best"]][-1]
    config = configure(like=earlier["folder"], config_dict={"fit_on": "all"})
    assert (config["epochs"], config["steps"]) == (best, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--like=missing", "--fit_on=all"], "checkpoint 'missing' does not exist"),
        (["run", "--like=.", "--fit_on=all"], "like='.' is no folder of a finished run"),
        (["run", "--model=BPR", "--dataset=ml-100k", "--fit_on=test"], "allowed: train | train+valid | all"),
        (["compare", "--models=BPR,EASE", "--dataset=ml-100k", "--fit_on=all"], "not allowed in a comparison"),
        (["tune", "--model=BPR", "--dataset=ml-100k", "--fit_on=all"], "not allowed in a tuning"),
    ],
)
def test_wrong_arguments_end_with_one_line(words: list[str], message: str, capsys: Any) -> None:
    assert cli.main(words) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_base_model_needs_its_epochs(make: ServedModels) -> None:
    with pytest.raises(ValueError, match="leaves no validation split for BPR below DDRM"):
        make.result("DDRM", fit_on="all", base_model="BPR", base_config={"embedding_size": 8})
    result = make.result("DDRM", fit_on="all", base_model="BPR", base_config={"embedding_size": 8, "epochs": 2})
    assert len(recommend(result, ["u1"], k=3)) == 3


def test_a_split_of_another_fit_is_not_resumed(make: ServedModels) -> None:
    checkpoint = make.result("DiffRec")["checkpoint"]
    with pytest.raises(ValueError, match=r"fit_on='train', now 'all'"):
        run(resume=checkpoint, config_dict={"fit_on": "all", "epochs": 2, "state": "ERROR"})


def test_prepared_data_know_the_fit(make: ServedModels, tmp_path: Path) -> None:
    keys = {"prepared_data": str(tmp_path / "prepared")}
    one, other = make.result("DiffRec", **keys), make.result("DiffRec", fit_on="all", **keys)
    assert np.isclose(other["data"]["train"], sum(one["data"][split] for split in ("train", "valid", "test")))
