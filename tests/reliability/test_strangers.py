"""Files of strangers: none runs code, leaves its folder, or takes memory that its size does not justify."""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import resource
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import torch

from recbole_diffusion import quick_start, run
from recbole_diffusion.cli import main
from recbole_diffusion.data import convert, names, prepared, saved_objects
from recbole_diffusion.experiment.report import html_page, records, study_section
from recbole_diffusion.support import bounded_read, npz_files, trusted_files, yaml_files
from recbole_diffusion.training import checkpoint

CANARY = Path("canary")
QUICK = {"epochs": 1, "embedding_size": 4}


class Crafted:
    """What creates the canary where it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (CANARY.absolute(),))


def crafted() -> bytes:
    return pickle.dumps(Crafted(), protocol=4)


@pytest.fixture(autouse=True)
def no_canary(tmp_path: Path) -> Any:
    yield
    assert not (tmp_path / CANARY).exists(), "code of the file ran"


def test_the_canary_would_be_created(tmp_path):
    pickle.loads(crafted())
    assert CANARY.exists()
    CANARY.unlink()


@pytest.fixture
def checkpoint_file(tmp_path: Path) -> Path:
    torch.save({"state_dict": Crafted(), "config": {"model": "BPR", "dataset": "board"}}, "evil.pth")
    return Path("evil.pth")


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--resume=evil.pth"],
        ["run", "--like=evil.pth"],
        ["run", "--model=DDRM", "--dataset=board", "--base_checkpoint=evil.pth"],
        ["run", "--model=LDiffRec", "--dataset=board", "--pretrain=evil.pth"],
        ["recommend", "evil.pth"],
        ["card", "evil.pth"],
        ["evaluate", "evil.pth"],
        ["steps", "evil.pth"],
        ["watch", "evil.pth"],
    ],
)
def test_a_crafted_checkpoint_runs_no_code_in_any_command(words, checkpoint_file, checkerboard, capfd):
    if words[0] in {"run", "card"}:  # a bare pickle; the others get torch's archive
        checkpoint_file.write_bytes(crafted())
    settings = ["--data_path=dataset"] if words[0] == "run" else []
    assert main([*words, *settings]) in {1, 2}
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("recbole-diffusion: ")]
    assert len(lines) == 1
    assert "evil.pth" in lines[0] or "could run code" in lines[0]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".txt", ".pkl", ".npz"])
def test_a_crafted_list_runs_no_code_in_evaluate(suffix, checkerboard, capfd):
    file = Path(f"lists{suffix}")
    file.write_bytes(crafted())
    assert main(["evaluate", str(file), "--dataset=board", "--data_path=dataset"]) in {1, 2}
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("suffix", [".inter", ".item"])
def test_a_crafted_atomic_file_runs_no_code(suffix, settings, checkerboard):
    Path("dataset/board").joinpath(f"board{suffix}").write_bytes(crafted())
    more = {"load_col": None}
    with pytest.raises(ValueError, match="pickle"):
        run("BPR", "board", config_dict={**settings, **QUICK, **more})


@pytest.mark.parametrize("key", ["pretrain", "base_checkpoint"])
def test_crafted_arrays_run_no_code(key, settings):
    np.savez("evil.npz", item=np.array([Crafted()], dtype=object), user=np.zeros((65, 4)))
    model = "LDiffRec" if key == "pretrain" else "DDRM"
    with pytest.raises(ValueError, match=r"Python objects, which could run code"):
        run(model, "board", config_dict={**settings, key: "evil.npz"})


def test_prepared_data_of_a_stranger_run_no_code(settings):
    """A pickle under the name of the prepared data is made anew, as is an npz of objects."""
    keys = {**settings, **QUICK, "prepared_data": "kept"}
    right = run("BPR", "board", config_dict=keys, saved=False)
    (file,) = Path("kept").glob("*.prepared")
    content = file.read_bytes()
    file.write_bytes(crafted())
    assert run("BPR", "board", config_dict=keys, saved=False)["test_result"] == right["test_result"]
    with zipfile.ZipFile(file) as archive:
        assert "content.npy" in archive.namelist()
    arrays = npz_files.read(file)
    np.savez("objects.npz", **{**arrays, "content": np.array([Crafted()], dtype=object)})
    file.write_bytes(Path("objects.npz").read_bytes())
    assert run("BPR", "board", config_dict=keys, saved=False)["test_result"] == right["test_result"]
    assert npz_files.read(file)["content"].tobytes() == arrays["content"].tobytes()
    assert len(content) > 1000


def test_prepared_data_take_the_class_of_the_run_and_not_of_the_file(settings):
    config = quick_start.configure("BPR", "board", config_dict={**settings, **QUICK})
    dataset, _ = prepared.load(config, Path("kept"))
    (file,) = Path("kept").glob("*.prepared")
    text = npz_files.read(file)["content"].tobytes().decode()
    assert type(dataset).__name__ == "Dataset"
    assert "recbole" not in text


@pytest.mark.parametrize("key", ["dataset_save_path", "dataloaders_save_path"])
def test_a_crafted_saved_data_set_runs_no_code(key, settings):
    Path("evil.pkl").write_bytes(crafted())
    with pytest.raises(ValueError, match=rf"{key}='evil.pkl' could run code when loaded .*--trust-checkpoint"):
        run("BPR", "board", config_dict={**settings, **QUICK, key: "evil.pkl"})


def test_saved_data_are_read_without_trust(settings):
    keys = {**settings, **QUICK, "save_dataset": True, "save_dataloaders": True}
    first = run("BPR", "board", config_dict=keys, saved=False)
    again = run("BPR", "board", config_dict=keys, saved=False)
    assert again["test_result"] == first["test_result"]
    assert sum("read from" in note for note in again["warnings"]) == 2


class Calls:
    """A pickle that calls ``function``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.parts = function, arguments

    def __reduce__(self) -> Any:
        return self.parts


@pytest.mark.parametrize(
    "value",
    [
        Calls(eval, "1"),
        Calls(getattr, Path, "touch"),
        Calls(torch.load, "evil.pth"),
        Calls(np.load, "evil.npy"),
        Calls(yaml_files.YamlLoader, "a: 1"),  # a class of the package, called
        Calls(quick_start.run, "BPR"),
        Calls(torch.storage._load_from_bytes, b"\x80\x04c" + b"posix\nsystem\n."),
    ],
)
def test_saved_objects_call_nothing_else(value):
    with pytest.raises(Exception, match=r"could run code|it calls|it looks up|[Ww]eights|Unsupported|magic|load"):
        saved_objects.load(io.BytesIO(pickle.dumps(value, protocol=4)), ())


def named(module: str, name: str) -> bytes:
    """The opcode that pushes ``module.name``."""
    return f"c{module}\n{name}\n".encode()


def plain(value: Any) -> bytes:
    """The opcodes that push a plain value."""
    return pickle.dumps(value, protocol=2)[2:-1]


ONE, BUILD, MAKE, CALL = b"\x85", b"b", b")\x81", b"R"  # tuple of one; state; NEWOBJ without arguments; REDUCE
CONFIG = named("recbole.config.configurator", "Config")
BPR = named("recbole.model.general_recommender.bpr", "BPR")
DATASET = named("recbole.data.dataset.dataset", "Dataset") + MAKE
RUNS = "print('RAN')"  # RecBole's Config evaluates it
#: Its arguments.
SETTINGS = plain(("BPR", "ml-100k", None, {"x": RUNS}))
LOGGER = named("logging", "getLogger") + b")R"
HOOKS = b"".join(plain(name) + b"}" for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"))
MODEL_TYPE = named("recbole.utils.enum_type", "ModelType")

SCALAR, INDEX = named("numpy.core.multiarray", "scalar"), named("pandas.core.indexes.base", "_new_Index")
RANGE_CLASS = named("pandas.core.indexes.range", "RangeIndex")
RANGE = INDEX + RANGE_CLASS + plain({"name": None, "start": 0, "stop": 10**9, "step": 1}) + b"\x86" + CALL


def packed_tensor() -> bytes:
    """The opcode that pushes a tensor in an archive, as torch writes it since 1.6."""
    stream = io.BytesIO()
    torch.save(torch.zeros(3), stream)
    return b"B" + struct.pack("<I", len(stream.getvalue())) + stream.getvalue()


CRAFTED = {
    "an import of a module of RecBole": named("recbole.trainer.hyper_tuning", "partial")
    + CONFIG
    + ONE
    + CALL
    + SETTINGS
    + CALL,
    "pathlib through RecBole": named("recbole.utils.utils", "os") + MAKE,
    "an instance that calls": BPR + MAKE + b"}(" + plain("forward") + CONFIG + HOOKS + b"u" + BUILD + SETTINGS + CALL,
    "the settings' constructor": CONFIG + SETTINGS + CALL,
    "the unpickler": named("recbole_diffusion.data.saved_objects", "_Unpickler") + MAKE,
    "a logger's attributes": LOGGER + plain({"name": "evil"}) + BUILD,
    "a log file": named("recbole.utils.logger", "RemoveColorFilter") + MAKE + plain({"filter": 1}) + BUILD,
    "a handler": named("logging", "FileHandler") + MAKE,
    "a package of a similar name": named("recboleevil", "touch") + MAKE,
    "a module of a similar name": named("recbole.modelevil", "touch") + MAKE,
    "a class's attributes": named("recbole.data.dataset.dataset", "Dataset") + plain({"build": 1}) + BUILD,
    "a method": DATASET + b"}(" + plain("build") + CONFIG + b"u" + BUILD,
    "a list's method": DATASET + b"}(" + plain("append") + CONFIG + b"u" + BUILD + plain("BPR") + b"a",
    "items of an instance": DATASET + b"(" + plain("key") + plain(1) + b"u",
    "slots": DATASET + b"N" + plain({"build": 1}) + b"\x86" + BUILD,
    "a new enumeration": MODEL_TYPE + plain(("Evil", "a b")) + CALL,
    "fields of a dtype": named("numpy", "dtype")
    + plain(("V8",))
    + CALL
    + plain((3, "|", None, ("a",), {"a": ("O", 0)}, 8, 1, 0))
    + BUILD,
    "a number without bytes": SCALAR + named("numpy", "dtype") + plain(("V1500000000",)) + CALL + ONE + CALL,
    "a long text as a number": SCALAR
    + named("numpy", "dtype")
    + plain(("S2000",))
    + CALL
    + b"B"
    + struct.pack("<I", 2000)
    + bytes(2000)
    + b"\x86"
    + CALL,
    "a range as an index of objects": INDEX
    + named("pandas.core.indexes.base", "Index")
    + b"}("
    + plain("data")
    + RANGE
    + plain("dtype")
    + plain("object")
    + b"u\x86"
    + CALL,
    "an array of bytes of any size": b"\x96" + struct.pack("<Q", 10**10),
    "an archive as a tensor": named("torch.storage", "_load_from_bytes") + packed_tensor() + ONE + CALL,
    "INST": b"(" + plain("x") + b"irecbole.config.configurator\nConfig\n",
    "OBJ": b"(" + CONFIG + plain("x") + b"o",
    "a line in the name": b"\x8c\x07recbole\x8c\x03a\nb\x93",
}


@pytest.fixture
def similar_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules whose names begin with those that are read, and which print when they are imported."""
    Path("recboleevil.py").write_text("print('RAN')\nclass touch: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("content", CRAFTED.values(), ids=CRAFTED)
def test_a_crafted_pickle_is_refused_before_it_does_anything(content, similar_names, capfd):
    with pytest.raises(saved_objects.CodeFound, match=r"^it [^\n]*$"):
        saved_objects.load(io.BytesIO(b"\x80\x04" + content + b"."), ())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "kind", ["an import of a module of RecBole", "an instance that calls", "a logger's attributes"]
)
def test_a_crafted_data_set_is_refused_in_one_line(kind, settings, capfd):
    Path("evil.pth").write_bytes(b"\x80\x04" + CRAFTED[kind] + b".")
    words = ["run", "--model=BPR", "--dataset=board", "--data_path=dataset", "--dataset_save_path=evil.pth"]
    assert main(words) == 2
    out, err = capfd.readouterr()
    (line,) = [line for line in err.splitlines() if line.startswith("recbole-diffusion: ")]
    assert "dataset_save_path='evil.pth' could run code when loaded (it " in line
    assert "trust=True (--trust-checkpoint)" in line
    assert "RAN" not in out + err


def test_a_function_that_a_file_names_stays_uncallable_in_its_data():
    content = DATASET + b"}(" + plain("sampler") + BPR + plain("held") + b"]" + named("builtins", "getattr") + b"a"
    dataset = saved_objects.load(io.BytesIO(b"\x80\x04" + content + b"u" + BUILD + b"."), ())
    assert not callable(dataset.sampler)
    assert not callable(dataset.held[0])


@pytest.mark.parametrize("named_by_user", [True, False])
def test_saved_data_under_a_torch_that_cannot_check_them(named_by_user, settings, monkeypatch):
    keys = {**settings, **QUICK, "save_dataset": True}
    run("BPR", "board", config_dict=keys, saved=False)
    monkeypatch.setattr(trusted_files, "torch_can_check", lambda: False)
    if named_by_user:
        path = {"dataset_save_path": "saved/board-Dataset.pth"}
        with pytest.raises(ValueError, match=r"this torch \(< 1.13\) cannot check it.*--trust-checkpoint"):
            quick_start.prepare(quick_start.configure("BPR", "board", config_dict={**keys, **path}))
        return
    config = quick_start.configure("BPR", "board", config_dict=keys)
    quick_start.prepare(config)
    assert any("is not used: this torch (< 1.13) cannot check" in note for note in config.notes)


def promised(shape: str, kind: str = "<f8") -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


@pytest.mark.parametrize("shape", ["(1099511627776,)", "(1048576, 1048576)", "(2, 100000000000)", "(-1,)"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_header_that_promises_terabytes_reserves_nothing(shape, packed):
    Path("evil.npy").write_bytes(promised(shape) + b"0" * 16)
    if packed:
        with zipfile.ZipFile("evil.npz", "w") as archive:
            archive.write("evil.npy", "item.npy")
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"evil.*(promises|damaged)"):
        convert.load_arrays(Path("evil.npz" if packed else "evil.npy"))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_header_promises_no_values_without_a_size():
    Path("evil.npy").write_bytes(promised("(134217728,)", "|S0"))
    with pytest.raises(ValueError, match="promises 134217728 values without a size"):
        npz_files.read("evil.npy")


def bomb(file: str, member: str, size: int) -> None:
    """A deflated zip whose one member is ``size`` bytes of zeros."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open(member, "w") as out:
        for _ in range(size // 2**20):
            out.write(bytes(2**20))


def rss_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_a_compressed_archive_is_no_bomb(monkeypatch):
    monkeypatch.setattr(bounded_read, "_ALWAYS_UNPACKED", 2**20)
    bomb("evil.npz", "item.npy", 64 * 2**20)
    with pytest.raises(ValueError, match=r"bytes would become 67108864 in memory"):
        npz_files.read("evil.npz")
    torch.save({"a": torch.zeros(1)}, "right.pth")
    assert checkpoint.read("right.pth")["a"].tolist() == [0.0]
    bomb("evil.pth", "archive/data/0", 64 * 2**20)
    with pytest.raises(ValueError, match=r"'evil.pth' cannot be read: .* \(its parts are compressed\)"):
        checkpoint.read("evil.pth")


def test_names_in_a_checkpoint_are_no_bomb(monkeypatch):
    assert names._decompress(names._compress(json.dumps(["a", "b"]))) == ["a", "b"]
    monkeypatch.setattr(names, "_ALWAYS_UNPACKED", 2**16)
    with pytest.raises(ValueError, match="would become more than"):
        names._decompress(names._compress(json.dumps(["a" * 2**21])))


@pytest.mark.parametrize("suffix", ["gz", "zip"])
def test_a_packed_table_is_no_bomb(suffix, monkeypatch, capfd):
    monkeypatch.setattr(bounded_read, "_ALWAYS_UNPACKED", 2**16)
    if suffix == "gz":
        Path("table.csv.gz").write_bytes(gzip.compress(b"user,item\n" + b"a,b\n" * 2**20))
    else:
        bomb("table.csv.zip", "table.csv", 2**22)
    assert main(["data", "import", f"table.csv.{suffix}", "--name=new"]) == 2
    assert "unpack to more than" in capfd.readouterr().err


MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 13))
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS + "epochs: *a39\n", "anchors stand for more than"),
        ("epochs: &a [*a]\n", "holds itself"),
        ("epochs: " + "[" * 5000 + "]" * 5000, "nested more than 100 deep"),
        ("a:\n" + "".join(" " * n + "- \n" for n in range(1, 400)), "nested more than 100 deep|is not yaml"),
        ("epochs: !!python/object/apply:os.mkdir [canary]\n", "is not yaml"),
        ("? " * 100_000 + "a", "nested more than 100 deep|is not yaml"),  # the parser's stack
        (
            "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40)),
            "keys << stand for more than 100000 entries",
        ),
        (f"{MERGES}z: {{<<: [{', '.join(['*a12'] * 20_000)}]}}\n", "keys << stand for more than 100000 entries"),
        (
            "a0: &a0 !!omap [x: 1]\n"
            + "".join(f"a{n}: &a{n} !!omap [x: *a{n - 1}, y: *a{n - 1}]\n" for n in range(1, 40)),
            "anchors stand for more than",
        ),
        ("epochs: !!python/name:os.system\n", "is not yaml"),
        ("epochs: \x00\n", "is not yaml"),
    ],
)
def test_yaml_of_a_stranger(text, message, settings, capfd):
    Path("evil.yaml").write_text(text)
    before = rss_mib()
    assert main(["run", "--model=BPR", "--dataset=board", "--config_files=evil.yaml"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "'evil.yaml'" in line
    assert any(part in line for part in message.split("|")), line
    assert len(line) < 400
    assert rss_mib() - before < 200


def test_yaml_in_another_encoding_names_the_file(settings):
    Path("latin.yaml").write_bytes(b"state: caf\xe9\n")
    with pytest.raises(ValueError, match=r"'latin.yaml' is not in UTF-8 \(byte 10\)"):
        yaml_files.load_yaml(Path("latin.yaml"))


def test_an_anchor_of_moderate_size_is_read(tmp_path):
    Path("good.yaml").write_text("base: &base [1, 2]\none: *base\ntwo: {a: *base}\n")
    assert yaml_files.load_yaml(Path("good.yaml")) == {"base": [1, 2], "one": [1, 2], "two": {"a": [1, 2]}}


EVIL = "<img src=x onerror=alert(1)><script>1</script>\"'&"


def test_names_are_escaped_in_pages():
    Path("study").mkdir()
    section = {"title": EVIL, "columns": [EVIL, "b"], "rows": [[EVIL, EVIL]], "lines": [EVIL]}
    content = {name: section.get(name, []) for name in study_section.StudySection.__dataclass_fields__}
    Path("study", study_section.FILE).write_text(json.dumps(content))
    html = study_section.as_html(Path("study"), Path("study/report")) or ""
    page = html_page.study_page(EVIL, EVIL, html)
    assert "&lt;img src=x" in page
    assert "<img src=x" not in page
    assert "<script>1" not in page


def test_formulas_are_inert_in_cells_that_a_spreadsheet_opens():
    evil = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", '=HYPERLINK("http://x")']
    plain = ["-1", "+1e-3", "-inf", "a=b", "EASE", "", "-"]
    rows = [{"model": text, "value": -0.5} for text in [*evil, *plain]]
    cells = [row["model"] for row in csv.DictReader(io.StringIO(records.to_csv(rows).decode(), newline=""))]
    assert cells == [*("'" + text for text in evil), *plain]
