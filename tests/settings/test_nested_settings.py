"""Settings that are mappings, keys that are set elsewhere, and that what is shipped passes every check."""

from __future__ import annotations

from typing import Any

import pytest

from recbole_diffusion import quick_start, registry, run
from recbole_diffusion.experiment.space import search_space
from recbole_diffusion.settings import learning, schema
from recbole_diffusion.settings.config import Config
from recbole_diffusion.settings.precedence import Source
from recbole_diffusion.support import yaml_files

RS = {"RS": [0.8, 0.1, 0.1]}


def refused(settings: dict[str, Any], model: str = "BPR", **more: Any) -> str:
    with pytest.raises(ValueError, match=r"allowed|has no effect|must be a column") as error:
        quick_start.configure(model, "board", config_dict={**settings, **more})
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train_neg_sample_args", {"uniform": 5}, "allowed: {distribution: uniform, sample_num: 5}"),
        ("train_neg_sample_args", {"popularity": 2}, "allowed: {distribution: popularity, sample_num: 2}"),
        ("train_neg_sample_args", {"distribution": "uniform", "sample_number": 5}, "did you mean sample_num?"),
        ("train_neg_sample_args", {"distribution": "normal"}, ".distribution='normal' is not allowed"),
        ("train_neg_sample_args", {"sample_num": 0}, ".sample_num=0 is not allowed; allowed: int >= 1"),
        ("train_neg_sample_args", {"sample_num": -1}, ".sample_num=-1"),
        ("train_neg_sample_args", {"sample_num": 1.5}, ".sample_num=1.5"),
        ("train_neg_sample_args", {"sample_num": "5"}, ".sample_num='5'"),
        ("train_neg_sample_args", {"sample_num": True}, ".sample_num=True"),
        ("train_neg_sample_args", {"alpha": "1"}, ".alpha='1'"),
        ("train_neg_sample_args", {"dynamic": 1}, ".dynamic=1"),
        ("train_neg_sample_args", {"dynamic": True}, ".candidate_num=0 is not allowed with dynamic: True"),
        ("train_neg_sample_args", 5, "{distribution: uniform, sample_num: 1} or null"),
        ("train_neg_sample_args", "uniform", "{distribution: uniform, sample_num: 1} or null"),
        ("eval_args", "full", "eval_args='full' is not allowed"),
        ("eval_args", {"split": {"RS": [0.8, -0.1, 0.3]}}, "eval_args.split.RS=[0.8, -0.1, 0.3] is not allowed"),
        ("eval_args", {"split": {"RS": [0, 0.5, 0.5]}}, "the first > 0"),
        ("eval_args", {"split": {"RS": [0.8, 0.2]}}, "three numbers"),
        ("eval_args", {"split": {"RS": ["0.8", 0.1, 0.1]}}, "three numbers"),
        ("eval_args", {"split": {"RS": [float("nan"), 0.1, 0.1]}}, "three numbers"),
        ("eval_args", {"split": {"RS": [float("inf"), 0.1, 0.1]}}, "three numbers"),
        ("eval_args", {"split": {"RS": [True, 0, 0]}}, "three numbers"),
        ("eval_args", {"split": {"RS": 0.8}}, "three numbers"),
        ("eval_args", {"split": {"TS": [0.8, 0.1, -0.1]}, "order": "TO"}, "three numbers"),
        ("eval_args", {"split": {"LS": "foo"}}, "valid_and_test | valid_only | test_only"),
        ("eval_args", {"split": {**RS, "LS": "test_only"}}, "one of {RS: "),
        ("eval_args", {"split": "RS"}, "one of {RS: "),
        ("eval_args", {"order": "random"}, "eval_args.order='random' is not allowed; allowed: RO | TO"),
        ("eval_args", {"group_by": "item"}, "eval_args.group_by='item' is not allowed; allowed: null or user | none"),
        ("eval_args", {"mode": {"valdi": "uni10"}}, "did you mean valid?"),
        ("eval_args", {"mode": "uni0"}, "uniN | popN with N >= 1"),
        ("eval_args", {"mode": "uni"}, "uniN | popN with N >= 1"),
        ("eval_args", {"mode": "uni-5"}, "uniN | popN with N >= 1"),
        ("eval_args", {"mode": {"test": "pop0"}}, "eval_args.mode.test='pop0' is not allowed"),
        ("eval_args", {"mode": None}, "eval_args.mode=None is not allowed"),
        ("clip_grad_norm", {"max_norm": 0}, "clip_grad_norm.max_norm=0 is not allowed; allowed: float in (0, inf)"),
        ("clip_grad_norm", {"max_norm": float("inf")}, "clip_grad_norm.max_norm=inf is not allowed"),
        ("learning_rate", float("inf"), "learning_rate=inf is not allowed"),
        ("threshold", {"rating": float("inf")}, "threshold.rating=inf is not allowed"),
        ("metrics", ["Recall@10"], "k is topk's"),
        ("clip_grad_norm", {"norm_type": 2}, "has no max_norm; allowed: {max_norm: 1.0}"),
        ("clip_grad_norm", {"max_nrom": 1}, "has no max_norm"),
        ("clip_grad_norm", {"max_norm": 1, "norm_typ": 2}, "did you mean norm_type?"),
        ("clip_grad_norm", 5.0, "clip_grad_norm=5.0 is not allowed"),
        ("load_col", {"iner": ["user_id"]}, "no file .iner is read; did you mean inter?"),
        ("load_col", {"inter": "user_id"}, "load_col.inter='user_id' is not allowed; allowed: list of str or *"),
        ("load_col", {"inter": None}, "load_col.inter=None is not allowed"),
        ("load_col", ["user_id"], "load_col=['user_id'] is not allowed"),
        ("load_col", "*", "or null for all columns"),
        ("unload_col", {"inter": ["rating"]}, "unload_col.inter is not allowed beside load_col.inter"),
        ("unload_col", {"user": "*"}, "unload_col.user='*' is not allowed; allowed: list of str"),
        ("unused_col", {"inter": "rating"}, "unused_col.inter='rating' is not allowed"),
        ("threshold", 4, "threshold=4 is not allowed; allowed: one column"),
        ("threshold", {"rating": "4"}, "threshold.rating='4' is not allowed; allowed: float in"),
        ("threshold", {"rating": 3, "timestamp": 1}, "one column with its lowest positive value"),
        ("threshold", {}, "one column"),
        ("threshold", {"ratin": 3}, "threshold names 'ratin'"),
        ("threshold", {"item_id": 3}, "must be a column item_id:float; the file has item_id:token"),
        ("seq_len", {"tags": 0}, "seq_len.tags=0 is not allowed"),
        ("seq_len", 5, "{COLUMN: 20}"),
        ("alias_of_item_id", "item_id_list", "alias_of_item_id='item_id_list' is not allowed; allowed: null or list"),
        ("normalize_field", "rating", "normalize_field='rating' is not allowed"),
        (
            "discretization",
            {"rating": {"method": "XX"}},
            "discretization.rating.method='XX' is not allowed; allowed: ED",
        ),
        ("discretization", {"rating": {"method": "LD"}}, "add 'rating' to numerical_features"),
        ("discretization", {"rating": {"bucket": 5}}, "has no method"),
        ("preload_weight", {"item_id": 5}, "preload_weight.item_id=5 is not allowed; allowed: str"),
        ("numerical_features", "rating", "numerical_features='rating' is not allowed"),
        ("benchmark_filename", ["train", "test"], "allowed: list of 3 str"),
        ("benchmark_filename", "train", "allowed: list of 3 str"),
        ("topk", [10, 10], "list of different int >= 1"),
        ("topk", [0], "list of different int >= 1"),
        ("topk", ["10"], "list of different int >= 1"),
        ("metrics", ["Recall", "recall"], "list of different str"),
        ("metrics", ["Recal"], "metrics='Recal' is not allowed"),
        ("transform", "mask", "transform='mask' is not allowed; allowed: mask_itemseq"),
        ("rm_dup_inter", True, "rm_dup_inter=True is not allowed; allowed: first | last or null"),
    ],
    ids=str,
)
def test_values_inside_mappings_are_checked(key, value, message, settings):
    text = refused(settings, **{key: value})
    assert text.startswith((key, f"key '{key}")), text
    assert message in text


def test_what_fits_passes_in_the_type_that_recbole_wants(settings):
    given = {
        "train_neg_sample_args": {"distribution": "popularity", "sample_num": 2.0, "alpha": 0.5},
        "eval_args": {"split": {"RS": (8, 1, 1)}, "group_by": None, "mode": {"valid": "uni10", "test": "full"}},
        "clip_grad_norm": {"max_norm": 5, "norm_type": float("inf")},
        "load_col": {"inter": "*"},
        "topk": [5.0, 10],
        "alias_of_item_id": ["item_id_list"],
    }
    config = quick_start.configure("BPR", "board", config_dict={**settings, **given})
    assert config["train_neg_sample_args"]["sample_num"] == 2
    assert isinstance(config["train_neg_sample_args"]["sample_num"], int)
    assert config["eval_args"]["split"] == {"RS": [8, 1, 1]}
    assert config["eval_args"]["mode"] == {"valid": "uni10", "test": "full"}
    assert config["clip_grad_norm"] == {"max_norm": 5.0, "norm_type": float("inf")}
    assert config["topk"] == [5, 10]
    again = quick_start.configure(config_dict=config.plain())
    assert again.plain() == config.plain()


def test_negatives_that_are_asked_for_are_drawn(settings):
    """sample_num positives and negatives side by side: 5 rows of a batch for each of its interactions."""
    keys = {**settings, "train_neg_sample_args": {"distribution": "uniform", "sample_num": 5}}
    _, loaders = quick_start.prepare(quick_start.configure("BPR", "board", config_dict=keys))
    batch = next(iter(loaders[0]))
    assert len(batch) == 5 * len({*zip(batch["user_id"].tolist(), batch["item_id"].tolist())})


@pytest.mark.parametrize(
    ("arguments", "model", "note"),
    [
        ({"distribution": "uniform", "candidate_num": 5}, "BPR", "candidate_num has no effect without dynamic: True"),
        ({"distribution": "uniform", "alpha": 0.5}, "BPR", "alpha has no effect with distribution: uniform"),
        ({"distribution": "uniform", "sample_num": 5}, "EASE", "has no effect on EASE"),
        ({"distribution": "uniform", "sample_num": 5}, "DiffRec", "has no effect on DiffRec"),
        ({"distribution": "uniform", "sample_num": 5}, "MultiVAE", "has no effect on MultiVAE"),
    ],
)
def test_negatives_without_effect_are_named(arguments, model, note, settings):
    config = quick_start.configure(model, "board", config_dict={**settings, "train_neg_sample_args": arguments})
    assert [line for line in config.notes if note in line]
    assert quick_start.configure(model, "board", config_dict=settings).notes == []
    own_file = quick_start.configure(model, "board", config_dict=settings).plain()
    assert quick_start.configure(config_dict=own_file).notes == []


def test_models_that_learn_from_negatives_refuse_to_have_none(settings):
    for model in ("BPR", "LightGCN", "SimpleX", "TransRec", "CFKG"):
        assert "learns from negative items" in refused(settings, model, train_neg_sample_args=None)
    ce = {"train_neg_sample_args": {"distribution": "uniform"}}
    assert "not allowed with loss_type: CE" in refused(settings, "SASRec", **ce)
    assert refused(settings, "SASRec", loss_type="XX") == "loss_type='XX' is not allowed; allowed: CE | BPR"
    for word in (None, "None", "none"):
        keys = {**settings, "train_neg_sample_args": {"distribution": word}}
        assert (
            quick_start.configure("EASE", "board", config_dict=keys)["train_neg_sample_args"]["distribution"] == "none"
        )
    bpr = {"loss_type": "BPR", "train_neg_sample_args": None}
    assert "learns from negative items" in refused(settings, "SASRec", **bpr)
    for model in (
        "SASRec",
        "BERT4Rec",
        "SINE",
        "DiffuRec",
        "DDRM",
        "HGCF",
        "DiffRec",
        "MultiVAE",
        "EASE",
        "ENMF",
        "Pop",
    ):
        config = quick_start.configure(model, "board", config_dict={**settings, "train_neg_sample_args": None})
        assert config["train_neg_sample_args"]["distribution"] == "none", model


def test_models_that_learn_from_labels_need_negatives_or_a_column(settings):
    for model in ("NeuMF", "DMF", "NAIS", "FM", "DIN"):
        keys = {**settings, "metrics": ["AUC"], "valid_metric": "AUC", "eval_args": {"order": "TO", "mode": "uni10"}}
        keys.update(train_neg_sample_args=None, LABEL_FIELD="liked")
        with pytest.raises(ValueError, match=r"there is no column 'liked'; board\.inter has user_id"):
            quick_start.configure(model, "board", config_dict=keys)
        quick_start.configure(model, "board", config_dict={**keys, "threshold": {"rating": 3}})


@pytest.mark.parametrize(
    ("key", "value", "way"),
    [
        ("device", "cuda", "use_gpu and gpu_id"),
        ("MODEL_TYPE", "Sequential", "model's class"),
        ("MODEL_INPUT_TYPE", "POINTWISE", "loss_type"),
        ("eval_type", "VALUE", "metrics"),
        ("valid_metric_bigger", False, "valid_metric"),
        ("valid_neg_sample_args", {"distribution": "uniform", "sample_num": 5}, "eval_args.mode"),
        ("test_neg_sample_args", {"distribution": "uniform", "sample_num": 5}, "eval_args.mode"),
        ("neg_sampling", {"uniform": 5}, "train_neg_sample_args"),
        ("training_neg_sample_num", 5, "train_neg_sample_args"),
        ("single_spec", False, "--nproc"),
        ("world_size", 4, "--nproc"),
        ("nproc", 4, "--nproc"),
        ("config_files", "a.yaml", "command line"),
    ],
)
def test_keys_that_are_set_elsewhere_have_no_effect_and_say_so(key, value, way, settings):
    plain = quick_start.configure("BPR", "board", config_dict=settings)
    config = quick_start.configure("BPR", "board", config_dict={**settings, key: value})
    (note,) = config.notes
    assert note.startswith(f"key {key!r} has no effect: ")
    assert way in note
    assert config.final_config_dict == plain.final_config_dict


def test_a_run_says_so_too_and_its_own_file_does_not(settings):
    result = run("Pop", "board", config_dict={**settings, "MODEL_TYPE": "Sequential", "valid_metric_bigger": True})
    assert result["warnings"] == ["key 'MODEL_TYPE' has no effect: the model's class says it"]
    again = run(config_file_list=[result["folder"] + "/config.yaml"], saved=False)
    assert again["warnings"] == []
    assert again["test_result"] == result["test_result"]


def test_local_rank_is_refused(settings):
    with pytest.raises(ValueError, match="local_rank is set by --nproc"):
        quick_start.configure("BPR", "board", config_dict={**settings, "local_rank": 0})


def _models() -> list[str]:
    return [*registry.specs(), *(f"recbole:{name}" for name in registry.recbole_model_names())]


def test_every_model_passes_the_checks_with_its_own_defaults(tmp_path):
    """Given back as a user's settings too, as config.yaml and checkpoints do, without a new warning."""
    passed, own_file = 0, tmp_path / "config.yaml"
    for model in _models():
        order = {"eval_args": {"order": "TO"}} if model in {"recbole:KSR", "recbole:GRU4RecKG"} else {}
        try:
            config = quick_start.configure(model, "ml-100k", config_dict={"data_path": "recbole", **order})
        except ModuleNotFoundError:  # xgboost, lightgbm
            continue
        own_file.write_text(config.to_yaml())
        again = quick_start.configure(config_file_list=[own_file])
        assert (again.plain(), again.notes) == (config.plain(), config.notes), model
        if not model.startswith("recbole:") or model in {"recbole:ConvNCF", "recbole:FM", "recbole:SASRec"}:
            assert Config(stored=Source("checkpoint", config.plain())).plain() == config.plain(), model
        assert learning.required_input(config.model_class, config.final_config_dict) in {None, "negatives", "labels"}
        passed += 1
    assert passed >= 95


def test_every_shipped_yaml_passes_the_checks():
    folder = yaml_files.properties()
    for file in [*(folder / "paper").glob("*.yaml"), *(folder / "quick").glob("*.yaml")]:
        content = yaml_files.load_yaml(file)
        keys = {**content.get("settings", content), "data_path": "recbole"}
        config = quick_start.configure(file.stem.partition("_")[0], "ml-100k", config_dict=keys)
        assert config.notes == [], file.name
        baselines = (content.get("baselines") or {}).values() if "settings" in content else ()
        for name, own in ((name, own) for each in baselines for name, own in each.items()):
            assert quick_start.configure(name, "ml-100k", config_dict={"data_path": "recbole", **own}).notes == []
    for file in (folder / "hyper").glob("*.yaml"):
        space = search_space.load(file.stem).dimensions
        for end in (0, -1):
            keys = {key: dimension.probes[end] for key, dimension in space.items()}
            assert quick_start.configure(file.stem, "ml-100k", config_dict={"data_path": "recbole", **keys}).notes == []


def test_every_rule_in_recboles_table_can_be_read():
    """A misspelt rule would refuse every value, or none."""

    def rules(entry: Any) -> Any:
        if isinstance(entry, str):
            yield entry
            return
        assert {*entry} <= {"rule", "allowed", "keys", "each", "needs", "one", "note"}, entry
        assert not {"keys", "each"} <= {*entry}
        yield entry["rule"]
        for inner in [*entry.get("keys", {}).values(), *([entry["each"]] if "each" in entry else [])]:
            yield from rules(inner)

    class Nothing:
        """No rule takes it."""

    for entry in yaml_files.load_yaml(yaml_files.properties() / "recbole.yaml").values():
        for rule in rules(entry):
            with pytest.raises(schema.Mismatch):
                schema.check(rule, Nothing())
            words = {*schema.describe_rule(rule).replace("|", " ").split()}
            assert not words & {"interval or", "shares", "mode"}, rule
