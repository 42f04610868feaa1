"""Folders of strangers: names in pages and tables are inert, and no path or link leads out of a folder."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbole_diffusion.cli import main
from recbole_diffusion.data.catalogue import download
from recbole_diffusion.experiment import runs
from recbole_diffusion.experiment.compare import compare, resume
from recbole_diffusion.experiment.jobs.store import Store
from recbole_diffusion.experiment.report import files, records
from recbole_diffusion.experiment.report import write as write_report
from recbole_diffusion.support import json_files

EVIL = "<img src=x onerror=alert(1)>"
FORMULA = "=1+1"
PATHS = ["../outside", "/tmp/outside", "a/../../outside", "..\\outside", ".", "..", "a\0b", ""]


@pytest.fixture
def compared(settings: dict[str, Any], no_plots: None) -> Path:
    compare(["EASE"], ["board"], [1], "folder", settings)
    return Path("folder")


@pytest.mark.parametrize("name", [EVIL, FORMULA])
def test_a_data_set_and_a_model_of_any_name(name, settings, no_plots):
    """From the data's files to the pages and tables: the name of the folder and file is the data set's."""
    shutil.copytree("dataset/board", f"dataset/{name}")
    Path(f"dataset/{name}/board.inter").rename(f"dataset/{name}/{name}.inter")
    Path(f"{name}.yaml").write_text("reg_weight: 100.0\n")
    compare([f"EASE@{name}.yaml", "Pop"], [name], [1], "folder", settings)
    write_report("folder", files.ReportOptions(per_user=True))
    page = Path("folder/report/index.html").read_text()
    assert "<img src=x" not in page
    assert "onerror=alert(1)" not in page.replace("&lt;img src=x onerror=alert(1)&gt;", "").replace(
        "\\u003cimg src=x onerror=alert(1)\\u003e", ""
    )
    assert ("&lt;img src=x onerror" in page) == (name == EVIL)
    tables = [*Path("folder/report").glob("*.csv")]
    cells = {cell for table in tables for row in csv.reader(table.open(newline="")) for cell in row}
    assert {table.name for table in tables} >= {"results.csv", "cost.csv", "per_seed.csv"}
    assert f"'{FORMULA}" in cells or name != FORMULA
    assert not [cell for cell in cells if cell[:1] in {"=", "@", "+"}]


def test_runs_as_csv_holds_no_formula(settings):
    """A stranger's folder of a run names its model and data set in manifest.json."""
    Path("outputs/run").mkdir(parents=True)
    manifest = {"status": "failed", "started": "2026-01-01T00:00:00", "model": FORMULA, "dataset": "@SUM(1)", "seed": 1}
    json_files.write("outputs/run/manifest.json", {**manifest, "error": "+cmd|' /C calc'!A0"})
    (row,) = csv.DictReader(io.StringIO(runs.as_csv(runs.find(Path("outputs")))))
    assert [row[key] for key in ("model", "dataset", "problem")] == ["'=1+1", "'@SUM(1)", "'+cmd|' /C calc'!A0"]
    assert row["seed"] == "1"


@pytest.mark.parametrize("path", [path for path in PATHS if path.strip(".")])
def test_a_key_in_a_comparison_is_no_path(path, compared):
    """The record that lies outside would be read as one of the comparison's."""
    plan = Store(compared).plan()
    (key,) = plan["models"][0]["runs"]["board"]
    Path("outside.json").write_bytes((compared / "runs" / f"{key}.json").read_bytes())
    plan["models"][0]["runs"]["board"] = [path]
    Store(compared).write_plan(plan)
    with pytest.raises(
        ValueError, match=r"is no key of a run; comparison\.json is damaged, or not made by this package"
    ):
        write_report(compared)
    assert main(["report", str(compared)]) == 2


@pytest.mark.parametrize("path", ["../../outside", "/tmp/outside", "..\\x"])
def test_the_split_of_lists_is_no_path(path, compared):
    store = Store(compared)
    (key,) = store.plan()["models"][0]["runs"]["board"]
    file = compared / "lists" / f"{key}.npz"
    with np.load(file) as content:
        arrays = dict(content)
    np.savez(file, **{**arrays, "split": np.array(path)})
    with pytest.raises(ValueError, match="is no key of a run"):
        store.lists(key)


@pytest.mark.parametrize(
    "place", ["comparison.json", "runs", "lists", "failed", "report", "data", "report/index.html", "report/results.csv"]
)
def test_a_link_out_of_the_folder_replaces_nothing(place, compared, capfd):
    """Of a link the target is written: a comparison's folder must not lead to the user's files."""
    write_report(compared)
    link, mine = compared / place, Path("mine").absolute()
    if link.is_dir():
        shutil.move(link, mine)
    elif link.is_file():
        mine.write_bytes(link.read_bytes())
        link.unlink()
    else:
        mine.mkdir()
    link.symlink_to(mine)
    before = {file: file.read_bytes() for file in [mine, *mine.rglob("*")] if file.is_file()}
    for words in (["report", "folder"], ["compare", "--resume=folder"]):
        assert main(words) == 2
        assert "outside of the folder; put the file or folder itself there" in capfd.readouterr().err
    assert {file: file.read_bytes() for file in [mine, *mine.rglob("*")] if file.is_file()} == before


def test_a_link_within_the_folder_and_to_the_folder_is_followed(compared):
    (compared / "runs").rename(compared / "elsewhere")
    (compared / "runs").symlink_to("elsewhere")
    Path("short").symlink_to("folder")
    resume("short")
    write_report("short")
    assert (compared / "report/index.html").is_file()


@pytest.mark.parametrize("name", ["../secret.svg", "/etc/hostname", "plots/../../secret.svg"])
def test_a_picture_of_a_study_lies_in_its_folder(name, compared):
    """It would be shown in the page that the user passes on."""
    Path("secret.svg").write_text("<svg>secret</svg>")
    section = {"title": "t", "columns": ["a"], "rows": [["b"]], "lines": [], "pictures": [name], "files": []}
    (compared / "section.json").write_text(json.dumps(section))
    with pytest.raises(ValueError, match=r"section.json' names the picture .* outside of its folder; delete the file"):
        write_report(compared)


@pytest.mark.parametrize("path", PATHS[:4])
@pytest.mark.parametrize("kind", ["import", "split", "run"])
def test_a_name_of_a_data_set_is_no_path(path, kind, checkerboard, capfd):
    Path("t.csv").write_text("user,item\na,b\n")
    words = {
        "import": ["data", "import", "t.csv", f"--name={path}", "--data_path=dataset"],
        "split": ["data", "split", "board", "--by=ratio", f"--label={path}", "--data_path=dataset"],
        "run": ["run", "--model=Pop", f"--dataset={path}", "--data_path=dataset"],
    }[kind]
    before = {*Path().rglob("*")}
    assert main(words) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("recbole-diffusion")]
    assert {"import": "--name=", "split": "--label=", "run": path.partition("/")[0]}[kind] in line
    assert not Path("/tmp/outside").exists()
    assert {*Path().rglob("*")} - before == set()


def test_a_packed_table_whose_member_is_a_path_writes_nothing_there(capfd):
    """The member is read in memory; its name is not used."""
    with zipfile.ZipFile("t.zip", "w") as archive:
        archive.writestr("../../outside.csv", "user,item\na,b\na,c\nb,c\n")
    assert main(["data", "import", "t.zip", "--name=new", "--data_path=dataset"]) == 0
    assert not Path("../../outside.csv").exists()
    assert sorted(file.name for file in Path("dataset/new").iterdir())[0].startswith("new.")


@pytest.mark.parametrize("kind", ["symlink", "hard link", "device"])
def test_links_in_an_archive_are_not_unpacked(kind):
    member = tarfile.TarInfo("d/link.inter")
    member.type = {"symlink": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}[kind]
    member.linkname = "/etc/passwd"
    with tarfile.open("a.tar", "w") as archive:
        archive.addfile(member)
        follows = tarfile.TarInfo("d/link.inter")
        follows.size = 4
        archive.addfile(follows, io.BytesIO(b"safe"))
    Path("here").mkdir()
    download.unpack(Path("a.tar"), Path("here"))
    assert [file.name for file in Path("here").rglob("*") if file.is_file()] == ["link.inter"]
    assert not Path("here/d/link.inter").is_symlink()
    assert Path("here/d/link.inter").read_bytes() == b"safe"


def test_columns_named_like_formulas_are_inert_too():
    text = records.to_csv([{"=1+1": 1, "plain": "x"}]).decode()
    assert text.splitlines()[0] == "'=1+1,plain"
