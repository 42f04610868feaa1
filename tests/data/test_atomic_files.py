"""Our reader of atomic files gives RecBole the frames that its own reader makes of good files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import SMALL
from recbole.data.dataset import Dataset, KnowledgeBasedDataset
from recbole.utils import FeatureSource

from recbole_diffusion import quick_start
from recbole_diffusion.compat import repairs
from recbole_diffusion.data import hooks
from recbole_diffusion.data.account import account_of
from recbole_diffusion.data.reading import atomic_files

PROPERTIES = ("field2type", "field2source", "field2seqlen", "field2bucketnum")


def bare(config: Any, kind: Any = Dataset) -> Any:
    """RecBole's data set before it has read anything."""
    dataset = kind.__new__(kind)
    dataset.config, dataset.dataset_name, dataset.logger = config, config["dataset"], logging.getLogger()
    dataset._get_preset()
    dataset._get_field_from_config()
    return dataset


def assert_equal(ours: Any, theirs: Any) -> None:
    assert list(ours.columns) == list(theirs.columns)
    assert ours.index.equals(theirs.index)
    for name in theirs.columns:
        assert ours[name].dtype == theirs[name].dtype, name
        for one, two in zip(ours[name], theirs[name]):
            if isinstance(two, np.ndarray):
                assert one.dtype == two.dtype
                assert one.tolist() == two.tolist()
            else:
                assert type(one) is type(two)
                assert one == two or (one != one and two != two)


def both(config: Any, files: list[tuple[str, Any]], kind: Any = Dataset) -> None:
    """Both readers on the same files: equal frames, equal properties."""
    repairs.apply()
    ours, theirs = bare(config, kind), bare(config, kind)
    for file, source in files:
        path = str(Path(config["data_path"]) / file)
        expected = Dataset._load_feat(theirs, path, source)
        assert_equal(atomic_files.load_feat(ours, path, source), expected)
        assert account_of(ours).files[file] == len(expected)
    for name in PROPERTIES:
        assert getattr(ours, name) == getattr(theirs, name)


def test_ml_100k_is_read_as_recbole_reads_it():
    config = quick_start.configure("KGAT", "ml-100k", config_dict={"load_col": None})
    kinds = [("inter", FeatureSource.INTERACTION), ("user", FeatureSource.USER), ("item", FeatureSource.ITEM)]
    kinds += [("kg", FeatureSource.KG), ("link", "link")]
    both(config, [(f"ml-100k.{suffix}", source) for suffix, source in kinds], KnowledgeBasedDataset)


def draw_file(folder: Path, name: str, rows: int = 300) -> None:
    """A file with columns of all types, holes in them, and what is unusual but good."""
    draw = np.random.default_rng(3)
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\tplace:token\ttags:token_seq\tsizes:float_seq"
    lines = [header]
    for row in range(rows):
        tags = " ".join(f"t{draw.integers(30)}" for _ in range(draw.integers(0, 5)))
        sizes = "  ".join(f"{draw.normal():.4f}" for _ in range(draw.integers(0, 4)))
        rating = "" if row % 11 == 5 else f"{draw.integers(1, 11) / 2:.1f}"
        place = "" if row % 7 == 3 else f"Zürich {draw.integers(5):02d} "
        lines.append(f"00{draw.integers(40)}\tä{draw.integers(60)}\t{rating}\t{1e9 + row}\t{place}\t{tags}\t{sizes}")
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / f"{name}.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    "more", [{}, {"seq_len": {"tags": 2, "sizes": 9}}, {"unload_col": {"inter": ["place"]}}], ids=str
)
def test_columns_of_all_types_are_read_as_recbole_reads_them(tmp_path, more):
    draw_file(tmp_path / "dataset", "drawn")
    keys = {**SMALL, "load_col": None, **more}
    config = quick_start.configure("BPR", "drawn", config_dict=keys)
    both(config, [("drawn.inter", FeatureSource.INTERACTION)])


def test_other_separators_and_encodings(tmp_path):
    draw_file(tmp_path / "dataset", "drawn")
    file = tmp_path / "dataset" / "drawn" / "drawn.inter"
    text = file.read_text(encoding="utf-8")
    for separator, encoding in ((",", "latin-1"), (";", "utf-8"), ("::", "utf-16")):
        file.write_text(text.replace("\t", separator), encoding=encoding)
        keys = {**SMALL, "load_col": None, "field_separator": separator, "encoding": encoding}
        both(quick_start.configure("BPR", "drawn", config_dict=keys), [("drawn.inter", FeatureSource.INTERACTION)])


def test_a_whole_data_set_is_the_same(tmp_path):
    """Filtered, renumbered and filled by RecBole; with .item and .user."""
    draw_file(tmp_path / "dataset", "drawn")
    folder = tmp_path / "dataset" / "drawn"
    items = [f"ä{number}\t{number % 3}\t{number / 7}" for number in range(60)]
    (folder / "drawn.item").write_text("item_id:token\tclass:token\tprice:float\n" + "\n".join(items) + "\n", "utf-8")
    keys = {**SMALL, "load_col": None, "user_inter_num_interval": "[5,inf)"}
    config = quick_start.configure("BPR", "drawn", config_dict=keys)
    repairs.apply()
    with hooks.hooked(config):
        ours = Dataset(config)
    theirs = Dataset(quick_start.configure("BPR", "drawn", config_dict=keys))
    assert_equal(ours.inter_feat, theirs.inter_feat)
    assert_equal(ours.item_feat, theirs.item_feat)
    for field, names in theirs.field2id_token.items():
        assert ours.field2id_token[field].tolist() == names.tolist()
    assert account_of(ours).files == {"drawn.inter": 300, "drawn.item": 60}


def test_the_methods_are_recboles_again_afterwards():
    before = Dataset._load_feat, Dataset._load_data
    config = quick_start.configure("BPR", "ml-100k")
    with hooks.hooked(config):
        assert Dataset._load_feat is atomic_files.load_feat
    assert (Dataset._load_feat, Dataset._load_data) == before


def test_no_class_of_data_set_has_a_reader_of_its_own():
    """What is replaced in Dataset is replaced for all of RecBole's."""
    import recbole.data.dataset as datasets

    kinds = [kind for kind in vars(datasets).values() if isinstance(kind, type) and issubclass(kind, Dataset)]
    assert len(kinds) > 5
    for kind in kinds:
        assert kind is Dataset or not {"_load_feat", "_load_inter_feat", "_load_user_or_item_feat"} & {*vars(kind)}
    for file in Path(datasets.__file__).parent.glob("*.py"):
        assert file.read_text(encoding="utf-8").count("read_csv") == (file.name == "dataset.py")


def test_a_knowledge_graph_needs_no_load_col(tmp_path):
    """The columns that keys name are loaded, of .kg and .link too."""
    folder = tmp_path / "dataset" / "graph"
    folder.mkdir(parents=True)
    rows = [f"u{user}\ti{item}" for user in range(8) for item in range(8) if (user + item) % 3]
    (folder / "graph.inter").write_text("user_id:token\titem_id:token\n" + "\n".join(rows) + "\n")
    triples = [f"e{item}\tNA\te{(item + 1) % 8}" for item in range(8)]
    (folder / "graph.kg").write_text("head_id:token\trelation_id:token\ttail_id:token\n" + "\n".join(triples) + "\n")
    links = [f"i{item}\te{item}" for item in range(8)]
    (folder / "graph.link").write_text("item_id:token\tentity_id:token\n" + "\n".join(links) + "\n")
    only_ids = {"inter": ["user_id", "item_id"]}
    config = quick_start.configure(
        "CKE", "graph", config_dict={**SMALL, "load_col": only_ids, "topk": [5], "valid_metric": "NDCG@5"}
    )
    dataset, _ = quick_start.prepare(config)
    assert len(dataset.kg_feat) == 8
    assert len(dataset.item2entity) == 8
    assert dataset.field2id_token["relation_id"].tolist() == ["[PAD]", "NA", "[UI-Relation]"]
    assert account_of(dataset).files == {"graph.inter": len(rows), "graph.kg": 8, "graph.link": 8}


@pytest.mark.parametrize("model", ["DiffRec", "SASRec", "EASE", "CDDRec"])
def test_named_ids_are_loaded_whatever_load_col_says(model, tmp_path):
    """USER_ID_FIELD alone is enough, though RecBole's default load_col names user_id."""
    from recbole_diffusion.data import pipeline

    folder = tmp_path / "dataset" / "shop"
    folder.mkdir(parents=True)
    rows = [f"s{user}\tp{(user + step) % 9}\t{100 * user + step}" for user in range(12) for step in range(6)]
    (folder / "shop.inter").write_text("session_id:token\tproduct:token\ttimestamp:float\n" + "\n".join(rows) + "\n")
    keys = {key: value for key, value in SMALL.items() if key != "load_col"}
    args = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}
    keys = {**keys, "USER_ID_FIELD": "session_id", "ITEM_ID_FIELD": "product", "eval_args": args, "topk": [5]}
    config = quick_start.configure(model, "shop", config_dict={**keys, "valid_metric": "NDCG@5"})
    dataset, loaders = quick_start.prepare(config)
    users, items = pipeline.pairs(loaders[2]).T
    names = zip(dataset.id2token("session_id", users), dataset.id2token("product", items))
    assert set(names) == {(f"s{user}", f"p{(user + 5) % 9}") for user in range(12)}


def test_numbers_are_those_of_pandas_own_parser(tmp_path):
    """Decimals of any length, to the last bit what RecBole's reader makes of them here."""
    draw = np.random.default_rng(1)
    values = [repr(draw.random() * 10.0 ** int(draw.integers(-5, 12))) for _ in range(500)]
    folder = tmp_path / "dataset" / "digits"
    folder.mkdir(parents=True)
    lines = "".join(f"u\ti{row}\t{value}\n" for row, value in enumerate(values))
    (folder / "digits.inter").write_text("user_id:token\titem_id:token\trating:float\n" + lines)
    config = quick_start.configure("BPR", "digits", config_dict={**SMALL, "load_col": None})
    both(config, [("digits.inter", FeatureSource.INTERACTION)])
    frame = atomic_files.load_feat(bare(config), str(folder / "digits.inter"), FeatureSource.INTERACTION)
    assert isinstance(frame, pd.DataFrame)
    np.testing.assert_allclose(
        frame["rating"], [float(value) for value in values], rtol=1e-11
    )  # pandas 2: 17 digits, leading zeros count
