"""The repairs: each applied only where needed, only for RecBole's own calls, and taken back."""

from __future__ import annotations

import pickle
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SMALL, write_inter
from recbole_frames import call_from_recbole

from recbole_diffusion import quick_start, run
from recbole_diffusion.compat import repairs
from recbole_diffusion.support import trusted_files


def attributes():
    import recbole.config.configurator
    import recbole.data.dataset.dataset
    import recbole.data.interaction
    import recbole.data.utils
    import recbole.evaluator.collector
    import recbole.evaluator.metrics
    import recbole.model.general_recommender.pop
    import recbole.trainer
    import recbole.utils
    from scipy.sparse import dok_matrix

    owners = [
        np,
        torch,
        torch.distributed,
        pd,
        pd.Series,
        dok_matrix,
        recbole.data.utils,
        recbole.data.interaction,
        recbole.data.dataset.dataset,
        recbole.data.dataset.dataset.Dataset,
        recbole.config.configurator,
        recbole.config.configurator.Config,
        recbole.evaluator.metrics,
        recbole.evaluator.collector.Collector,
        recbole.model.general_recommender.pop.Pop,
        recbole.trainer,
        recbole.utils,
        recbole.utils.utils,
    ]
    return {(str(owner), name): id(value) for owner in owners for name, value in list(vars(owner).items())}


def test_apply_is_idempotent_and_undo_restores_every_attribute():
    repairs.undo()
    before = attributes()
    first = repairs.apply()
    during = attributes()
    assert repairs.apply() == first
    assert attributes() == during
    assert during != before
    repairs.undo()
    assert attributes() == before


def test_a_run_leaves_numpy_yaml_and_argv_alone(settings):
    import yaml

    before = (set(vars(np)), list(yaml.FullLoader.yaml_implicit_resolvers.items()), list(sys.argv))
    run("DiffRec", "board", config_dict={**settings, "epochs": 1, "steps": 2, "dims": [8]})
    assert (set(vars(np)), list(yaml.FullLoader.yaml_implicit_resolvers.items()), list(sys.argv)) == before


def test_every_repair_says_why_and_when_it_can_go():
    for each in repairs.REPAIRS:
        assert len(each.reason) > 20
        assert each.drop_when


def test_numpy_aliases_are_seen_by_recbole_only():
    repairs.apply()
    from recbole.data import interaction

    assert interaction.np.float is np.float64
    assert interaction.np.array is np.array
    assert "float" not in vars(np)


def test_dok_update_works_for_recbole_and_fails_for_others():
    from scipy.sparse import dok_matrix

    already = hasattr(dok_matrix, "_update")
    repairs.apply()
    matrix = dok_matrix((2, 2))
    call_from_recbole(matrix._update, {(0, 1): 3.0})
    assert matrix[0, 1] == 3.0
    if not already:
        with pytest.raises(AttributeError):
            matrix._update({(0, 1): 3.0})


def test_torch_load_of_others_stays_as_it_is(tmp_path):
    class Own:
        pass

    repairs.apply()
    torch.save({"a": [1, 2]}, tmp_path / "plain.pth")
    assert torch.load(tmp_path / "plain.pth")["a"] == [1, 2]
    assert call_from_recbole(torch.load, tmp_path / "plain.pth")["a"] == [1, 2]


def test_recboles_loads_need_trust_except_for_what_recbole_just_wrote(tmp_path):
    repairs.apply()
    file = str(tmp_path / "x.pth")
    torch.save({"value": Path("a")}, str(tmp_path / "y.pth"))
    with pytest.raises(ValueError, match="trust"):
        call_from_recbole(torch.load, str(tmp_path / "y.pth"))
    trusted_files.trust_all(True)
    assert call_from_recbole(torch.load, str(tmp_path / "y.pth"))["value"] == Path("a")
    trusted_files.trust_all(False)
    call_from_recbole(torch.save, {"value": Path("b")}, file)
    assert call_from_recbole(torch.load, file)["value"] == Path("b")


BEYOND = ["ItemCoverage", "AveragePopularity", "GiniIndex", "ShannonEntropy", "TailPercentage"]


def test_coverage_gini_and_tail_metrics_work_beside_the_others(settings):
    metrics = [*BEYOND, "Recall", "MRR", "NDCG", "Hit", "Precision", "MAP"]
    result = run("Pop", "board", config_dict={**settings, "metrics": metrics})["test_result"]
    assert {name.split("@")[0] for name in result} == {metric.lower() for metric in metrics}
    assert 0 < result["itemcoverage@10"] <= 1
    assert 0 <= result["giniindex@10"] <= 1


@pytest.mark.parametrize("batch", [1, 64, 100_000])
def test_pop_counts_every_interaction(batch, built, settings):
    _, model, _, (train, _, _) = built("Pop", train_batch_size=batch)
    for rows in train:
        model.calculate_loss(rows)
    truth = torch.bincount(train._dataset.inter_feat["item_id"], minlength=model.n_items)
    assert torch.equal(model.item_cnt[:, 0], truth)


FEATURES = "item_id:token class:token_seq size:float sizes:float_seq kind:token"


@pytest.fixture
def features(tmp_path, checkerboard):
    """The checkerboard with items that have features of every type, with holes in each."""
    rows = [
        (
            f"i{i}",
            "" if i == 3 else f"a{i % 3} b",
            "" if i == 4 else i,
            "" if i == 5 else "1.5 2.5",
            "" if i == 6 else "k",
        )
        for i in range(40)
    ]
    lines = ["\t".join(FEATURES.split()), *("\t".join(map(str, row)) for row in rows)]
    (tmp_path / "dataset" / "board" / "board.item").write_text("\n".join(lines) + "\n")
    return dict(SMALL, load_col={**SMALL["load_col"], "item": ["item_id", "class", "size", "sizes", "kind"]})


def test_item_features_with_holes_load_the_same_on_every_pandas(features):
    """pandas 3 leaves nan and -9223372036854775808 here unrepaired; the expected values are pandas 2's."""
    config = quick_start.configure("BPR", "board", config_dict=features)
    dataset, _ = quick_start.prepare(config)
    feat = dataset.item_feat
    ids = {token: place for place, token in enumerate(dataset.field2id_token["item_id"])}
    assert int(feat["kind"][ids["i6"]]) == int(feat["kind"][0]) == 0
    assert int(feat["kind"][ids["i7"]]) == 1
    mean = float(np.mean([i for i in range(40) if i != 4]))
    assert float(feat["size"][ids["i4"]]) == pytest.approx(mean)
    assert float(feat["size"][0]) == pytest.approx(mean)
    assert feat["class"][ids["i3"]].tolist() == feat["class"][0].tolist() == [0, 0]
    words = dataset.field2id_token["class"][feat["class"][ids["i7"]]]
    assert words.tolist() == ["a1", "b"]
    assert feat["sizes"][ids["i5"]].tolist() == [0, 0]
    assert feat["sizes"][ids["i7"]].tolist() == [1.5, 2.5]


def test_normalised_and_discretised_features(features):
    more = {**features, "normalize_all": True}
    config = quick_start.configure("BPR", "board", config_dict=more)
    dataset, _ = quick_start.prepare(config)
    assert float(dataset.item_feat["size"].max()) == 1.0
    assert float(dataset.item_feat["sizes"].max()) == 1.0


def test_series_agg_of_others_stays_as_it_is():
    repairs.apply()
    assert pd.Series([1, 2, 3]).agg("sum") == 6
    assert pd.Series([[1], [2, 3]]).agg({"n": len}) is not None


def test_download_ends_without_a_process_group(monkeypatch, tmp_path):
    """RecBole's _download waits at a barrier that needs torch.distributed even in a single process."""
    from recbole.data.dataset.dataset import Dataset

    repairs.apply()
    config = quick_start.configure("BPR", "ml-1m", config_dict=dict(SMALL))
    monkeypatch.setattr("recbole.data.dataset.dataset.decide_download", lambda url: True)

    def arrived(url, folder):
        write_inter(
            tmp_path / "dataset",
            "ml-1m",
            [("a", "b", 1, 2)],
            "user_id:token item_id:token rating:float timestamp:float",
        )
        return str(tmp_path / "dataset" / "ml-1m" / "ml-1m.zip")

    monkeypatch.setattr("recbole.data.dataset.dataset.makedirs", lambda path: None)
    monkeypatch.setattr("recbole.data.dataset.dataset.download_url", arrived)
    monkeypatch.setattr("recbole.data.dataset.dataset.extract_zip", lambda *_: None)
    with monkeypatch.context() as until_read:  # os is everybody's: pytest removes tmp_path with it
        until_read.setattr("recbole.data.dataset.dataset.os.unlink", lambda *_: None)
        assert len(Dataset(config).inter_feat) == 1


def test_the_noise_of_old_calls_is_hidden_and_other_warnings_are_not(settings):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        run("LightGCN", "board", config_dict={**settings, "epochs": 1})
        warnings.warn("something else", stacklevel=1)
    texts = [str(each.message) for each in seen]
    assert "something else" in texts
    assert not [text for text in texts if "GradScaler" in text or "is being set on a copy" in text]


def test_every_module_of_recbole_that_uses_a_dropped_name_is_repaired():
    from recbole_diffusion.registry import recbole_folder

    dropped = re.compile(r"np\.(float|int|bool|object|str|long|complex|unicode)(?![\w])")
    users = set()
    for file in recbole_folder().rglob("*.py"):
        if dropped.search(file.read_text(encoding="utf-8")) and file.name != "configurator.py":
            users.add(".".join(file.relative_to(recbole_folder()).with_suffix("").parts))
    assert users == set(repairs.NUMPY_ALIAS_USERS)


def test_guards_hold_back_from_others_what_recbole_gets(tmp_path):
    """Called by anyone else, the wrapped functions are the originals."""
    series = pd.Series([np.array([1, 2]), np.array([3])])
    repairs.apply()
    trusted_files.trust_all(True)
    torch.save({"value": Path("a")}, tmp_path / "x.pth")
    if tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 6):
        with pytest.raises(pickle.UnpicklingError):
            torch.load(tmp_path / "x.pth")
    if pd.Series.agg.__module__ == "recbole_diffusion.compat.repairs.dataset":
        assert call_from_recbole(series.agg, np.concatenate).tolist() == [1, 2, 3]
        assert call_from_recbole(series.agg, len).tolist() == [2, 1]
        assert not isinstance(series.agg(len), pd.Series)


def test_trust_ends_with_the_run_or_load_that_asked_for_it():
    trusted_files.trust_all(False)
    with trusted_files.trusting(True):
        assert trusted_files._trust_all
    assert not trusted_files._trust_all
    trusted_files.trust_all(True)
    with trusted_files.trusting(False):
        assert trusted_files._trust_all  # enable(trust=True) stays in force
