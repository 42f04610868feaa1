"""The command ``recommend``: files of every format, the standard output, names from files, wrong arguments."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from served_models import ServedModels

from recbole_diffusion import cli, recommend

pytestmark = pytest.mark.xdist_group("output")  # its models are trained once


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> ServedModels:
    return ServedModels(tmp_path_factory.mktemp("serving"))


@pytest.fixture
def checkpoint(make: ServedModels) -> str:
    return str(make.result("DiffRec")["checkpoint"])


@pytest.fixture
def expected(checkpoint: str) -> pd.DataFrame:
    return recommend(checkpoint, k=4)


def test_rows_of_csv_tsv_and_parquet(checkpoint: str, expected: pd.DataFrame, capsys: Any) -> None:
    pytest.importorskip("pyarrow")
    for name in ("top.csv", "top.tsv", "top.parquet"):
        assert cli.main(["recommend", checkpoint, "-k", "4", f"--out={name}"]) == 0
        read = (
            pd.read_parquet(name) if name.endswith("parquet") else pd.read_csv(name, sep="\t" if "tsv" in name else ",")
        )
        assert list(read.columns) == ["user", "item", "rank", "score"]
        frame = read.astype({"score": "float32", "user": object, "item": object})
        pd.testing.assert_frame_equal(frame, expected, check_exact=True)
    errors = capsys.readouterr().err
    assert "left out of each list: the user's items of train, valid" in errors
    assert "64 users, 256 items in top.csv" in errors


def test_objects_of_json_and_json_lines(checkpoint: str, expected: pd.DataFrame) -> None:
    for name in ("top.json", "top.jsonl"):
        assert cli.main(["recommend", checkpoint, "--k=4", f"--out={name}", "--users=u1,u2"]) == 0
    objects = json.loads(Path("top.json").read_text(encoding="utf-8"))
    assert objects == [json.loads(line) for line in Path("top.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = expected[expected["user"] == "u2"]
    assert [entry["user"] for entry in objects] == ["u1", "u2"]
    assert objects[1]["items"] == rows["item"].tolist()
    assert objects[1]["scores"] == pytest.approx(rows["score"].tolist(), rel=1e-6)


def test_standard_output_is_csv_alone(checkpoint: str, capsys: Any) -> None:
    assert cli.main(["recommend", checkpoint, "--k=2", "--users=u5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "user,item,rank,score"
    assert [line.split(",")[0] for line in lines[1:]] == ["u5", "u5"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("users.txt", "u3\nu1\n\nu3\n"),
        ("users.csv", "user,age\nu3,4\nu1,5\n"),
        ("users.tsv", "user_id:token\nu3\nu1\n"),
    ],
)
def test_users_from_a_file(checkpoint: str, name: str, text: str) -> None:
    Path(name).write_text(text, encoding="utf-8")
    assert recommend(checkpoint, name, k=1)["user"].tolist() == ["u3", "u1"]


def test_an_old_file_stays_when_the_command_fails(checkpoint: str, monkeypatch: Any, capsys: Any) -> None:
    from recbole_diffusion.serving.recommendation import Recommender

    Path("top.csv").write_text("old", encoding="utf-8")

    def fail(recommender: Any) -> Any:
        raise ValueError("in the middle")
        yield

    monkeypatch.setattr(Recommender, "batches", fail)
    assert cli.main(["recommend", checkpoint, "--out=top.csv"]) == 2
    assert Path("top.csv").read_text(encoding="utf-8") == "old"
    assert capsys.readouterr().err.splitlines()[-1] == "recbole-diffusion: in the middle"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--out=top.xls", "out='top.xls' is not allowed; allowed: a name that ends in .csv"),
        ("--out=missing/top.csv", "allowed: a file in an existing folder"),
        ("--user=u1", "--user is not an option of recommend; did you mean --users?"),
        ("--users=u1,zz", "1 of 2 users are not in the model's data, e.g. 'zz'; give their items by histories"),
        ("--histories=missing.csv", "file 'missing.csv' does not exist"),
        ("--k=many", "--k=many is not allowed"),
    ],
)
def test_wrong_arguments_end_with_one_line(checkpoint: str, word: str, message: str, capsys: Any) -> None:
    assert cli.main(["recommend", checkpoint, word]) == 2
    captured = capsys.readouterr()
    assert message in captured.err.splitlines()[-1]
    assert captured.out == ""


def test_parquet_without_pyarrow_names_the_way_out(checkpoint: str, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert cli.main(["recommend", checkpoint, "--out=top.parquet"]) == 2
    assert "pip install pyarrow, or take --out=FILE.csv" in capsys.readouterr().err


def test_samples_print_the_diversity(make: ServedModels, capsys: Any) -> None:
    noisy = make.result("DiffRec", sampling_noise=True, noise_scale=1.0, noise_max=0.5)["checkpoint"]
    assert cli.main(["recommend", noisy, "--samples=2", "--out=top.csv", "--k=5"]) == 0
    jaccard = sum(recommend(noisy, k=5, samples=2).attrs["jaccard"]) / 64
    assert f"2 samples: two of them share {jaccard:.3f} of a user's top 5 on average" in capsys.readouterr().err
    assert list(pd.read_csv("top.csv").columns) == ["user", "item", "rank", "score", "score_sd"]
