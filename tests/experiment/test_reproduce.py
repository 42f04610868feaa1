"""Published settings, the converter of the official arrays, and both commands."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest
from recbole.utils import ModelType

from recbole_diffusion import cli, quick_start
from recbole_diffusion.data import convert
from recbole_diffusion.experiment import reproduce
from recbole_diffusion.settings import schema
from recbole_diffusion.support import yaml_files


@pytest.fixture
def arrays(tmp_path):
    """24 users, 30 items, in the official form: train, then test, then valid in time."""
    draw = np.random.default_rng(0)
    parts = {part: [] for part in convert.PARTS}
    for user in range(24):
        items = [item for item in draw.permutation(30) if item % 2 == user % 2]
        for part, cut in (("train", items[:8]), ("test", items[8:10]), ("valid", items[10:13])):
            parts[part] += [(user, item) for item in cut]
    file = tmp_path / "arrays.npz"
    np.savez(file, **{part: np.array(rows) for part, rows in parts.items()}, item_emb=draw.normal(size=(30, 4)))
    return file


SETTING = reproduce.Setting(
    "LDiffRec",
    "tiny",
    {"users": 24, "items": 30, "train": 192, "valid": 72, "test": 48},
    {
        "learning_rate": 0.01, "in_dims": [8], "dims": [8], "n_cate": 2, "steps": 3, "epochs": 2,
        "valid_metric": "Recall@5",
        "metrics": ["Recall", "NDCG"], "topk": [5], "metric_decimal_place": 4, "state": "error", "show_progress": False,
    },
    {"paper": {"source": "a paper", "metrics": {"recall@5": 0.25, "ndcg@5": 0.125}}},
    {"official": {"EASE": {"reg_weight": 10.0}}},
)  # fmt: skip


@pytest.fixture
def setting(monkeypatch):
    monkeypatch.setattr(reproduce, "load_setting", lambda model, name: SETTING)


def pairs(file):
    return np.loadtxt(file, skiprows=1, usecols=(0, 1), dtype=int, delimiter="\t")


@pytest.mark.parametrize(
    ("protocol", "named"), [("official", ["train", "valid", "test"]), ("time-proper", ["train", "test", "valid"])]
)
def test_the_files_hold_the_arrays_in_their_order(protocol, named, arrays):
    """The array valid is the latest in time in both protocols."""
    content = np.load(arrays)
    folder = convert.write_split(arrays, protocol, "tiny", protocol)
    times = {}
    for part, array in zip(["train", "valid", "test"], named):
        assert np.array_equal(pairs(folder / f"tiny.{part}.inter"), content[array])
        times[array] = np.loadtxt(folder / f"tiny.{part}.inter", skiprows=1, usecols=2)
    assert np.array_equal(np.concatenate([times["train"], times["test"], times["valid"]]), np.arange(312))
    assert not list(folder.glob(".*"))


def test_a_folder_of_official_files_is_read_too(arrays, tmp_path):
    content = np.load(arrays)
    (tmp_path / "official").mkdir()
    for part in convert.PARTS:
        np.save(tmp_path / "official" / f"{part}_list.npy", content[part])
    found = convert.read_arrays(tmp_path / "official")
    assert all(np.array_equal(found[part], content[part]) for part in convert.PARTS)
    assert "item_emb" not in found


def test_the_embeddings_keep_their_items(arrays):
    folder = convert.write_split(arrays, "data", "tiny")
    keys = convert.settings("data", "tiny")
    assert keys["pretrain"] == str(folder / "item_emb.npz")
    config = quick_start.configure("LDiffRec", "tiny", config_dict={**keys, "n_cate": 2, "state": "error"})
    _, loaders = quick_start.prepare(config)
    quick_start.build_model(config, loaders)
    dataset = loaders[0]._dataset
    items = [int(token) for token in dataset.field2id_token["item_id"][1:]]
    np.testing.assert_allclose(dataset.pretrained.embeddings().item[1:], np.load(arrays)["item_emb"][items], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": None}, "lacks the array 'test'"),
        ({"valid": np.ones((3, 3), int)}, r"valid of .* must hold pairs of integers, got int64 \(3, 3\)"),
        ({"valid": np.ones((3, 2))}, "must hold pairs of integers, got float64"),
        ({"train": np.array([[0, -1]])}, "holds negative numbers"),
    ],
)
def test_arrays_that_are_none_are_refused_and_nothing_is_written(change, message, arrays):
    content = {**np.load(arrays), **change}
    np.savez("bad.npz", **{name: array for name, array in content.items() if array is not None})
    with pytest.raises(ValueError, match=message):
        convert.write_split("bad.npz", "data", "tiny")
    with pytest.raises(ValueError, match="protocol='both' is not allowed"):
        convert.write_split(arrays, "data", "tiny", "both")
    with pytest.raises(ValueError, match=r"neither a \.npz file nor a folder"):
        convert.write_split("nothing.npz", "data", "tiny")
    assert not Path("data").exists()


def test_every_published_setting_is_one_that_runs():
    """Its keys are the model's, its values allowed, its numbers there with their source; its baselines run too."""
    assert reproduce.available()
    for model, name in reproduce.available():
        found = reproduce.load_setting(model, name)
        config = quick_start.configure(model, "ml-100k", config_dict=found.settings)
        assert config.notes == []
        assert {"users", "items"} <= {*found.data} or "test_rows" in found.data
        rows = config["MODEL_TYPE"] in (ModelType.GENERAL, ModelType.TRADITIONAL)
        for keys_of in found.baselines.values():
            for base, keys in keys_of.items():
                named = base if rows else "SASRec"  # the setting may name one that needs further columns
                assert quick_start.configure(named, "ml-100k", config_dict=keys).notes == []
        if "base_config" in found.settings:  # the base alone, as it stands under the diffusion
            alone = found.baselines["official"][found.settings["base_model"]]
            assert alone == found.settings["base_config"]
        for entry in found.results.values():
            assert entry["source"]
            assert all(0 < value < 1 for value in entry["metrics"].values())
        assert set(found.baselines) <= set(found.protocols)
        if found.evaluation:
            assert reproduce._evaluation_of_source(found)


def test_our_defaults_are_the_published_settings_of_ml_1m():
    published = (("DiffRec", "clean"), ("LDiffRec", "clean"), ("DDRM", "noisy"), ("HDRM", "clean"))
    for model, part in published:
        found = reproduce.load_setting(model, f"ml-1m_{part}").settings
        if "base_config" in found:  # HGCF's 512 coordinates are too many for a default
            del found["base_config"]
        keys = schema.read_keys(yaml_files.properties() / "model" / f"{model}.yaml")
        assert {key: keys[key].default for key in found if key in keys} == {k: v for k, v in found.items() if k in keys}


@pytest.mark.usefixtures("setting")
def test_other_metrics_than_the_papers_lose_nothing(arrays):
    rows = reproduce.reproduce("LDiffRec", "tiny", arrays, seeds=(1,), config_dict={"metrics": ["Recall"]})
    gap = next(row for row in rows if row.label == "ours - paper")
    assert list(gap.metrics) == ["recall@5"]
    assert reproduce.markdown(SETTING, "official", rows)


def test_embeddings_of_an_earlier_source_do_not_stay(arrays):
    content = np.load(arrays)
    convert.write_split(arrays, "data", "tiny")
    np.savez("plain.npz", **{part: content[part] for part in convert.PARTS})
    convert.write_split("plain.npz", "data", "tiny")
    assert "pretrain" not in convert.settings("data", "tiny")


def test_a_setting_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no published setting of 'TDiffRec' on 'ml-1m_clean'; TDiffRec has amazon"):
        reproduce.load_setting("TDiffRec", "ml-1m_clean")
    with pytest.raises(ValueError, match="models: " + ", ".join(sorted({model for model, _ in reproduce.available()}))):
        reproduce.load_setting("SASRec", "ml-1m_clean")


def test_other_data_is_refused(arrays):
    reproduce.check_data(SETTING, arrays)
    with pytest.raises(ValueError, match=r"is not tiny: users 24 instead of 25; its counts: \{'users': 24"):
        reproduce.check_data(SETTING._replace(data={"users": 25}), arrays)


@pytest.mark.usefixtures("setting")
def test_paper_ours_and_the_difference(arrays, monkeypatch):
    asked = []
    original = quick_start.run
    monkeypatch.setattr(quick_start, "run", lambda *a, **k: asked.append((a[0], k["config_dict"])) or original(*a, **k))
    rows = reproduce.reproduce("LDiffRec", "tiny", arrays, seeds=(1, 2))
    names = [row.label for row in rows]
    assert names == [
        "paper",
        "ours, seed 1",
        "ours, seed 2",
        "ours, mean of 2 seeds",
        "ours - paper",
        "EASE {'reg_weight': 10.0}",
    ]
    assert [(model, keys.get("seed"), keys.get("reg_weight")) for model, keys in asked] == [
        ("LDiffRec", 1, None),
        ("LDiffRec", 2, None),
        ("EASE", None, 10.0),
    ]
    paper, one, two, mean, gap, ease = rows
    for key in ("recall@5", "ndcg@5"):
        assert mean.metrics[key] == pytest.approx((one.metrics[key] + two.metrics[key]) / 2)
        assert mean.sd[key] == pytest.approx(abs(one.metrics[key] - two.metrics[key]) / 2**0.5)
        assert gap.metrics[key] == pytest.approx(mean.metrics[key] - paper.metrics[key])
    assert ease.metrics["recall@5"] > 0.5  # users like the items of their parity
    assert not Path("saved/pretrain").exists()  # the arrays bring their own embeddings
    text = reproduce.markdown(SETTING, "official", rows)
    assert "| ours - paper | " in text
    assert "paper: a paper." in text
    assert " ± " in text


@pytest.mark.usefixtures("setting")
def test_other_settings_than_the_published_ones_are_named_in_the_rows(arrays):
    """Metrics and what is shown are none of them, nor is a published value said again."""
    own = {"epochs": "1", "steps": 3, "metrics": ["Recall"], "show_progress": False}
    rows = reproduce.reproduce("LDiffRec", "tiny", arrays, seeds=(1, 2), config_dict=own)
    assert [row.label for row in rows] == [
        "paper",
        "published setting, with epochs=1, seed 1",
        "published setting, with epochs=1, seed 2",
        "published setting, with epochs=1, mean of 2 seeds",
        "ours - paper, with epochs=1",
        "EASE {'reg_weight': 10.0}",
    ]
    assert [row.cost.get("epochs") for row in rows[1:3]] == [1, 1]
    assert rows[1].cost["best epoch"] == 1  # counted from 1
    gap = rows[3].metrics["recall@5"] - 0.25
    text = reproduce.markdown(SETTING, "official", rows)
    assert f"| ours - paper, with epochs=1 | {gap:+.4f} |" in text
    with pytest.raises(ValueError, match="data_path is not a setting of reproduce"):
        reproduce.reproduce("LDiffRec", "tiny", arrays, config_dict={"data_path": "elsewhere"})


def test_the_tables_state_how_the_source_evaluates():
    row = reproduce.Row("ours", {"recall@5": 0.5, "truncatedrecall@5": 0.75}, {}, {"epochs": 1})
    text = reproduce.markdown(SETTING, "official", [row])
    assert "| | recall@5 | ndcg@5 | truncatedrecall@5 | best epoch |" in text
    assert "| ours | 0.5000 |  | 0.7500 |" in text
    assert "The source's" not in text
    source = SETTING._replace(evaluation={"recall": "truncated", "validation": False})
    text = reproduce.markdown(source, "official", [row])
    assert (
        "The source's Recall is hits / min(k, number of targets), as truncatedrecall here; it has no validation" in text
    )
    usual = source._replace(evaluation={"recall": "usual", "validation": True})
    text = reproduce.markdown(usual, "official", [row])
    assert "The source's Recall is hits / number of targets, as recall here; it has a validation split." in text
    assert "The source's" not in reproduce.markdown(source, "time-proper", [row])  # its numbers are not in that table


def test_models_whose_source_truncates_recall_report_it_too():
    truncated = []
    for model, name in reproduce.available():
        found = reproduce.load_setting(model, name)
        if found.evaluation.get("recall") == "truncated":
            truncated.append(model)
            assert "TruncatedRecall" in found.settings["metrics"]
    assert set(truncated) == {"SGFCF", "GiffCF"}


@pytest.mark.usefixtures("setting")
def test_the_other_protocol_has_no_reported_numbers(arrays):
    rows = reproduce.reproduce("LDiffRec", "tiny", arrays, seeds=(1,), protocol="time-proper")
    assert [row.label for row in rows] == ["ours, seed 1 (one seed)"]


@pytest.mark.usefixtures("setting")
def test_the_command_prints_and_writes_the_tables(arrays, capsys):
    words = ["LDiffRec", "tiny", f"--data={arrays}", "--seeds=3,", "--protocol=both", "--out=t.md", "--epochs=1"]
    assert cli.main(["reproduce", *words]) == 0
    out = capsys.readouterr().out
    assert "LDiffRec on tiny, protocol official" in out
    assert "LDiffRec on tiny, protocol time-proper" in out
    assert Path("t.md").read_text().count("with epochs=1, seed 3 (one seed)") == 2


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["reproduce", "DiffRec", "ml-1m_clean"], "--data=PATH is missing", 2),
        (["reproduce", "DiffRec", "ml-1m_clean", "--data=x", "--seeds=a"], "--seeds=a is not allowed", 2),
        (
            ["reproduce", "DiffRec", "ml-1m_clean", "--data=x", "--dry-run"],
            "--dry-run is not an option of reproduce",
            2,
        ),
        (["reproduce", "DiffRec", "ml-1m_clean", "--data=x", "--model=y"], "--model is not an option of reproduce", 2),
        (["reproduce", "DiffRec", "ml-1m_clean", "--data=x", "--seed=1"], "write --seeds=3 for seeds 1 to 3", 2),
        (["reproduce", "DiffRec", "ml-1m_clean", "--data=x", "--out=no/t.md"], "--out=no/t.md is not allowed", 2),
        (["convert", "x.npz", "--name=a", "--dry-run"], "--dry-run is not an option of convert", 2),
        (["convert", "x.npz", "--name=.."], "--name=.. is not allowed", 2),
        (["reproduce", "DiffRec", "nothing", "--data=x"], "no published setting of 'DiffRec' on 'nothing'", 2),
        (["reproduce", "DiffRec", "ml-1m_clean", "--data=x"], "'x' is neither a .npz file nor a folder", 2),
        (["reproduce", "DiffRec"], "Settings with published numbers", 2),
        (["convert"], "usage: recbole-diffusion convert SOURCE", 2),
        (["convert", "x.npz", "--name=a", "--form=b"], "--form is not an option of convert", 2),
    ],
)
def test_slips_on_the_command_line_are_one_line(words, message, code, capsys):
    assert cli.main(words) == code
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors


def test_the_converted_files_run_as_the_command_says(arrays, capsys):
    assert cli.main(["convert", str(arrays), "--name=tiny", "--to=here", "--protocol=time-proper"]) == 0
    out = capsys.readouterr().out
    assert "tiny.train.inter" in out
    last = out.splitlines()[-1]
    import shlex

    words = [word for word in shlex.split(last) if word.startswith("--")]
    quick = ["--steps=2", "--dims=[4]", "--in_dims=[4]", "--epochs=1", "--state=error", "--show_progress=False"]
    assert cli.main(["run", "--model=LTDiffRec", *words, *quick]) == 0


ROWS = "user_id:token\titem_id:token\ttimestamp:float\n"


@pytest.mark.parametrize("kind", ["txt", "inter", "inter.xz", "inter.gz"])
def test_sequences_are_read_and_written(kind):
    text = "u2 a b\nu1 b c a\n"
    if kind != "txt":  # rows of a user need not stand together nor in order; equal times keep the file's order
        text = ROWS + "u1\tc\t7\nu2\ta\t1\nu1\tb\t3\nu2\tb\t1\nu1\ta\t7.0\n"
    opened = {"xz": lzma.open, "gz": gzip.open}.get(kind.rsplit(".")[-1], open)
    with opened(f"file.{kind}", "wt") as file:
        file.write(text)
    assert convert.read_sequences(f"file.{kind}") == {"u2": ["a", "b"], "u1": ["b", "c", "a"]}
    written = convert.write_sequences(f"file.{kind}", "data", "tiny") / "tiny.inter"
    rows = [line.split("\t") for line in written.read_text().splitlines()]
    assert rows[0] == ["user_id:token", "item_id:token", "timestamp:float"]
    assert sorted(rows[1:]) == [
        ["u1", "a", "2"], ["u1", "b", "0"], ["u1", "c", "1"], ["u2", "a", "0"], ["u2", "b", "1"]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "u a", "is neither a .txt of sequences nor RecBole's .inter"),
        ("a.txt", "u a\nv\n", r"a.txt' line 2 must be 'user item item ...'"),
        ("a.txt", "u a\nu b\n", "line 2 must be"),
        ("a.txt", "\n", "holds no sequence"),
        ("a.inter", "user_id:token\titem_id:token\n", "names of its columns, user_id, item_id, timestamp"),
        ("a.inter", ROWS + "u\ta\tsoon\n", "line 2 must hold user_id, item_id, timestamp; got"),
        ("a.inter.xz", "no xz", "cannot be read: it is not packed by gzip, xz or bzip2"),
        ("a.inter.gz", "no gz", "cannot be read"),
    ],
)
def test_what_holds_no_sequences_is_refused(name, content, message):
    Path(name).write_text(content)
    with pytest.raises(ValueError, match=message):
        convert.write_sequences(name, "data", "tiny")
    assert not Path("data").exists()


@pytest.fixture
def sequences():
    """30 users who go round a ring of 12 items, from different places."""
    lines = [" ".join([f"u{u}", *(f"i{(u + place) % 12}" for place in range(5 + u % 4))]) for u in range(30)]
    Path("ring.txt").write_text("\n".join(lines))
    return "ring.txt"


SEQUENTIAL = reproduce.Setting(
    "CDDRec",
    "ring",
    {"users": 30, "items": 12, "interactions": 193},
    {
        "hidden_size": 8, "n_heads": 2, "inner_size": 8, "steps": 2, "epochs": 2, "mask_history": True,
        "MAX_ITEM_LIST_LENGTH": 4, "valid_metric": "Hit@3", "metrics": ["Hit"], "topk": [3], "state": "error",
        "metric_decimal_place": 4, "show_progress": False,
    },
    {},
    {"leave-one-out": {"SASRec": {"loss_type": "CE", "train_neg_sample_args": None, "n_layers": 1, "epochs": 9}}},
)  # fmt: skip


def test_sequential_settings_run_beside_their_baseline(sequences, monkeypatch):
    """One evaluation for both: the past masked, the same length; the user's epochs hold for both."""
    monkeypatch.setattr(reproduce, "load_setting", lambda model, name: SEQUENTIAL)
    asked = []
    original = quick_start.run
    monkeypatch.setattr(quick_start, "run", lambda *a, **k: asked.append((a[0], k["config_dict"])) or original(*a, **k))
    rows = reproduce.reproduce("CDDRec", "ring", sequences, seeds=(1,), config_dict={"epochs": 1})
    sasrec = {"loss_type": "CE", "train_neg_sample_args": None, "n_layers": 1, "epochs": 1}  # as it was run
    assert [row.label for row in rows] == ["published setting, with epochs=1, seed 1 (one seed)", f"SASRec {sasrec}"]
    for _, keys in asked:
        assert keys["mask_history"] is True
        assert keys["MAX_ITEM_LIST_LENGTH"] == 4
        assert keys["epochs"] == 1
        assert keys["eval_args"]["split"] == {"LS": "valid_and_test"}
    text = reproduce.markdown(SEQUENTIAL, "leave-one-out", rows)
    assert "No published numbers are known here" in text
    assert "| hit@3 |" in text
    with pytest.raises(ValueError, match="protocol='official' is not allowed; allowed: leave-one-out"):
        reproduce.reproduce("CDDRec", "ring", sequences, protocol="official")
    monkeypatch.setattr(
        reproduce, "load_setting", lambda *_: SEQUENTIAL._replace(data={"users": 30, "interactions": 1})
    )
    with pytest.raises(ValueError, match="is not ring: interactions 193 instead of 1"):
        reproduce.reproduce("CDDRec", "ring", sequences)


def test_the_convert_command_takes_sequences(sequences, capsys):
    assert cli.main(["convert", sequences, "--name=ring"]) == 0
    said = capsys.readouterr().out
    assert "ring.inter" in said
    assert "leave" not in said.split("run it with")[0]
    assert "valid_and_test" in said
    assert cli.main(["convert", sequences, "--name=ring", "--protocol=official"]) == 2
