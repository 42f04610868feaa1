"""Torn files: what a finished folder holds, cut or with one bit flipped, is made again or named, and never believed."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from recbole_diffusion import quick_start, run
from recbole_diffusion.data import prepared, stored_objects
from recbole_diffusion.experiment import runs
from recbole_diffusion.experiment.compare import compare, resume
from recbole_diffusion.experiment.jobs.store import Store
from recbole_diffusion.experiment.report import reading
from recbole_diffusion.experiment.report.files import write as write_report
from recbole_diffusion.serving import run_facts
from recbole_diffusion.support import json_files, npz_files
from recbole_diffusion.training import checkpoint

FLIPS = 12
"""Flipped bits that each file is tried with, beside the three cuts."""
QUICK = {"epochs": 1, "embedding_size": 4}


def damages(content: bytes, flips: int = FLIPS) -> Iterator[tuple[str, bytes]]:
    """The content cut to nothing, to half and by one byte, and with single bits flipped."""
    yield "empty", b""
    yield "half", content[: len(content) // 2]
    yield "one byte less", content[:-1]
    draw = random.Random(len(content))
    for place in [0, len(content) - 1, *(draw.randrange(len(content)) for _ in range(flips))]:
        bit = 1 << draw.randrange(8)
        yield f"bit {bit} of byte {place}", content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


def same(one: Any, other: Any) -> bool:
    """Whether two values hold the same numbers and names; nan equals nan."""
    if isinstance(one, dict):
        return isinstance(other, dict) and [*one] == [*other] and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "detach"):
        return same(one.detach().numpy(), other.detach().numpy())
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if hasattr(one, "__dict__"):
        return same(vars(one), vars(other))
    return type(one) is type(other) and (one == other or one != one)


def never_believed(file: Path, read: Callable[[], Any], flips: int = FLIPS) -> int:
    """Damage a file in each way: reading must raise a ValueError of one line, return None, or the right content.

    The right content is right: a flipped bit in a time stamp of an archive changes nothing that is read.

    Returns:
        The number of damages.
    """
    content, right, count = file.read_bytes(), read(), 0
    assert right is not None
    for name, damaged in damages(content, flips):
        file.write_bytes(damaged)
        try:
            value, message = read(), ""
        except ValueError as error:
            value, message = None, str(error)
        assert value is None or same(value, right), (file.name, name)
        assert "\n" not in message, (file.name, name)
        count += 1
    file.write_bytes(content)
    assert same(read(), right)
    return count


@pytest.fixture
def result(settings: dict[str, Any]) -> Any:
    return run("BPR", "board", config_dict={**settings, **QUICK, "save_per_user": True, "prepared_data": "kept"})


def test_a_checkpoint(result):
    """torch does not compare the checksums of its archives: a flipped bit would be another weight."""
    file = Path(result["checkpoint"])
    assert never_believed(file, lambda: checkpoint.read(file, map_location="cpu"), 60) == 65


def test_the_files_of_a_run(result):
    folder, file = Path(result["folder"]), Path(result["checkpoint"])

    def listed() -> Any:
        found = runs.read(folder)
        return None if found.status == "damaged" else [found.status, found.valid, found.test, found.seed, found.model]

    for name in ("manifest.json", "metrics.json"):
        assert never_believed(folder / name, listed, 30) == 35
    for name in ("metrics.json", "per_user.csv"):
        never_believed(folder / name, lambda: _facts(file))


def test_a_damaged_manifest_is_named_and_its_folder_not_taken_for_gone(result):
    manifest = Path(result["folder"]) / "manifest.json"
    text = manifest.read_text()
    for damaged in (text[:-20], text.replace('"status"', '"statue"')):
        manifest.write_text(damaged)
        with pytest.raises(ValueError, match=r"manifest.json is damaged .*restore the file, or remove it"):
            run_facts.read(Path(result["checkpoint"]))
    manifest.unlink()
    assert run_facts.read(Path(result["checkpoint"])).folder is None


@pytest.mark.parametrize("damage", ["half", "short", "long", "empty", "text"])
def test_metrics_per_user_without_a_checksum_are_named_if_they_are_no_table(damage, result):
    """Folders of earlier versions have no checksums."""
    folder = Path(result["folder"])
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]
    (folder / "manifest.json").write_text(json.dumps({**manifest, "sha256": ""}).replace(', "sha256": ""', ""))
    file = folder / "per_user.csv"
    title, *rows = file.read_text().splitlines()
    rows[3] = {"short": rows[3].rpartition(",")[0], "long": rows[3] + ",0.5", "text": rows[3][:-1] + "x"}.get(
        damage, rows[3]
    )
    text = "\n".join([title, *rows])
    file.write_text({"empty": "", "half": text[: len(title) + 30].rpartition(",")[0]}.get(damage, text))
    with pytest.raises(
        ValueError, match=r"^folder '.*': per_user.csv is damaged or cannot be read \(.*restore the file"
    ):
        run_facts.read(Path(result["checkpoint"]))


def _facts(file: Path) -> Any:
    facts = run_facts.read(file)
    return {"metrics": facts.metrics, "users": None if facts.per_user is None else facts.per_user.metrics}


@pytest.mark.parametrize("name", ["epochs.json", "manifest.json", "config.yaml"])
def test_a_run_that_another_follows(name, result):
    """The number of epochs that ``like`` takes. A changed config.yaml is a user's, so only what is no yaml is named."""
    from recbole_diffusion.training import earlier_run

    folder = Path(result["folder"])
    (folder / "checkpoint.pth").unlink()
    read = {
        "epochs.json": lambda: earlier_run.read(folder).epochs,
        "manifest.json": lambda: earlier_run.read(folder).epochs,
        "config.yaml": lambda: earlier_run.read(folder).epochs,
    }[name]
    never_believed(folder / name, read)


def test_prepared_data_are_made_again(settings):
    keys = {**settings, **QUICK, "prepared_data": "kept"}
    config = quick_start.configure("BPR", "board", config_dict=keys)

    def read() -> Any:
        quick_start.init_seed(1, True)
        dataset, parts = prepared.load(config, Path("kept"))
        return [part.inter_feat.interaction for part in (dataset, *parts)]

    quick_start.init_seed(1, True)
    prepared.load(config, Path("kept"))
    (file,) = Path("kept").glob("*.prepared")
    assert never_believed(file, read) == 5 + FLIPS


def test_pretrained_tables_are_made_again(settings):
    from recbole_diffusion.model.embeddings.tables import Embeddings
    from recbole_diffusion.pretraining import cache
    from recbole_diffusion.pretraining.cache import CachedBase

    draw = np.random.default_rng(0)
    tables = Embeddings(draw.normal(size=(9, 4)).astype(np.float32), draw.normal(size=(7, 4)).astype(np.float32), 0.5)
    file = Path("base.npz")
    cache._write_cache(file, CachedBase(tables, {"a": tables.user}, 1.5), "ids")
    assert never_believed(file, lambda: cache._read_cache(file, "ids"), 60) == 65


def test_the_folder_of_a_comparison(settings, no_plots):
    compare(["EASE", "Pop"], ["board"], [1], "folder", settings)
    store = Store("folder")
    keys = sorted(file.stem for file in Path("folder/runs").glob("*.json"))
    assert len(keys) == 2
    never_believed(Path("folder/comparison.json"), store.plan, 60)
    for key in keys:
        never_believed(Path(f"folder/runs/{key}.json"), lambda key=key: store.record(key), 30)
        never_believed(Path(f"folder/runs/{key}.npz"), lambda key=key: store.users(key), 30)
        never_believed(Path(f"folder/lists/{key}.npz"), lambda key=key: store.lists(key).lists, 30)
    (split,) = Path("folder/lists").glob("split-*.npz")
    never_believed(split, lambda: vars(Store("folder").lists(keys[0]).split), 30)


def test_a_damaged_record_is_run_again_and_the_report_is_the_same(settings, no_plots):
    compare(["EASE", "Pop"], ["board"], [1], "folder", settings)
    write_report("folder")
    right = {file.name: json_files.read(file) for file in Path("folder/runs").glob("*.json")}
    before = _metrics_in_report()
    victim = min(Path("folder/runs").glob("*.json"))
    text = victim.read_text()
    digit = text.index("0.", text.index('"test"')) + 2
    victim.write_text(text[:digit] + ("1" if text[digit] != "1" else "2") + text[digit + 1 :])  # another test metric
    with pytest.raises(ValueError, match=rf"runs/{victim.name} is damaged"):
        Store("folder").record(victim.stem)
    write_report("folder")
    report = Path("folder/report/results.md").read_text()
    assert f"0 of 1 runs finished (seed 1: runs/{victim.name} is damaged" in report
    assert "not run yet" not in report
    resume("folder")
    assert any(f"runs/{victim.name} is damaged" in str(note) for note in Store("folder").plan()["notes"])
    assert victim.with_name(f"{victim.name}.damaged").is_file()
    write_report("folder")
    again = json_files.read(victim)
    assert again["test"] == right[victim.name]["test"]
    assert _metrics_in_report() == before
    assert len(before) == 2
    assert before[0]["ndcg@10"]


def _metrics_in_report() -> list[dict[str, str]]:
    """The columns of metrics in results.csv; the others are times."""
    with open("folder/report/results.csv", newline="") as stream:
        return [{name: cell for name, cell in row.items() if "@" in name} for row in csv.DictReader(stream)]


def test_damaged_metrics_per_user_are_named_with_the_way_out(settings, no_plots):
    compare(["EASE"], ["board"], [1], "folder", settings)
    (file,) = Path("folder/runs").glob("*.npz")
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ValueError, match=rf"cannot be read .*delete runs/{file.stem}.json and it, and run it again"):
        write_report("folder")
    file.unlink()
    file.with_suffix(".json").unlink()
    resume("folder")
    write_report("folder")


def test_a_data_card_and_its_files(capfd):
    """``data check`` names a file that is not the one that the import wrote."""
    from recbole_diffusion.cli import main

    rows = "\n".join(f"u{user},i{item},{user + item}" for user in range(6) for item in range(5))
    Path("table.csv").write_text(f"user,item,time\n{rows}\n")
    assert main(["data", "import", "table.csv", "--name=new", "--data_path=dataset"]) == 0
    capfd.readouterr()
    for file in [path for path in Path("dataset/new").iterdir() if path.suffix in {".inter", ".json"}]:
        content = file.read_bytes()
        for name, damaged in damages(content, 4):
            file.write_bytes(damaged)
            code = main(["data", "check", "new", "--data_path=dataset"])
            output = capfd.readouterr()
            if file.suffix == ".inter":
                assert code != 0 or "changed" in (output.out + output.err) or "differ" in output.out + output.err, name
            assert "Traceback" not in output.err
        file.write_bytes(content)


def test_json_without_a_checksum_is_read_as_of_an_earlier_version(tmp_path):
    file = tmp_path / "a.json"
    file.write_text('{"a": 1}')
    assert json_files.read(file) == {"a": 1}
    json_files.write(file, {"a": float("nan"), "b": (1, 2), "c": 0.1})
    assert json_files.read(file) == {"a": None, "b": [1, 2], "c": 0.1}
    assert [*json.loads(file.read_text())] == ["a", "b", "c", "sha256"]
    file.write_text(file.read_text().replace("0.1", "0.2"))
    with pytest.raises(ValueError, match="differs from its checksum"):
        json_files.read(file)
    file.write_text('{"a": 1, "sha256": null}')
    with pytest.raises(ValueError, match="differs from its checksum"):
        json_files.read(file)
    with pytest.raises(ValueError, match="differs from its checksum"):
        json_files.check(file, {file.name: None})
    file.write_text("[" * 100000)
    with pytest.raises(ValueError, match=r"deep|Expecting|recursion"):
        json_files.read(file)


def test_npz_files_hold_what_numpy_wrote(tmp_path):
    arrays = {
        "numbers": np.arange(6.0).reshape(2, 3),
        "names": np.array(["a", "\xe9"]),
        "empty": np.empty((0, 2), np.int64),
        "one": np.array(3),
        "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        read = npz_files.read(tmp_path / "a.npz")
        assert [*read] == [*arrays]
        assert all(np.array_equal(read[name], arrays[name]) and read[name].dtype == arrays[name].dtype for name in read)
    np.save(tmp_path / "a.npy", arrays["columns"])
    assert np.array_equal(npz_files.read(tmp_path / "a.npy")[""], arrays["columns"])


def test_what_the_format_does_not_know_is_not_stored():
    class Data:
        def __init__(self) -> None:
            self.part = object()

    with pytest.raises(stored_objects.NotStorable, match=r"builtins\.object"):
        stored_objects.pack([Data()])


def test_a_damaged_trial_is_named_and_set_aside():
    store, said = Store("folder"), []
    store.finish("a", {"trial": 1, "valid_score": 0.5})
    store.fail("b", {"status": "failed"})
    file = Path("folder/runs/a.json")
    file.write_text(file.read_text().replace("0.5", "0.6"))
    trial = reading._trial(store, "a")
    assert trial["status"] == "damaged"
    assert trial["error"].startswith("runs/a.json is damaged")
    store.set_damaged_aside(said.append)
    assert [line.partition(" (")[0] for line in said] == ["runs/a.json is damaged"]
    assert store.record("a") is None
    assert store.failure("b") == {"status": "failed"}
    assert "0.6" in Path("folder/runs/a.json.damaged").read_text()
