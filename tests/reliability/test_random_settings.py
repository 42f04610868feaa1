"""Random settings: a run trains, or stops with one line that names the key. The long count is a benchmark."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recbole_diffusion import quick_start, run

SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "reliability_settings.py"

#: Settings that once gave a traceback, a line without a key, or no end: model, settings, what the line must hold.
REPAIRED: list[tuple[str, dict[str, Any], str]] = [
    ("BPR", {"topk": [1]}, r"topk=\[1\]"),
    ("SASRec", {"hidden_size": 5, "n_heads": 2}, "SASRec cannot be built with .*hidden_size=5"),
    ("BPR", {"embedding_size": 1e308}, r"embedding_size=1e\+308 is not allowed"),
    ("BPR", {"embedding_size": 2**63}, "embedding_size=9223372036854775808 is not allowed"),
    ("BPR", {"embedding_size": 2**50}, r"cannot be built with embedding_size=1125899906842624.*: out of memory"),
    ("BPR", {"learning_rate": 10**400}, "learning_rate=1000.* is not allowed"),
    ("SASRec", {"n_layers": 2**62}, r"n_layers=4611686018427387904 is not allowed; allowed: int in \[0, 1000\]"),
    ("DiffuRec", {"n_layers": 10**6}, r"n_layers=1000000 is not allowed; allowed: int in \[1, 1000\]"),
    ("DDRM", {"base_model": "../BPR"}, r"base_model='../BPR' is not allowed"),
    ("ItemMean", {"base_model": "os"}, "base_model='os' is not allowed"),
    ("BPR", {"field_separator": 1.5}, "field_separator=1.5 is not allowed"),
    ("HGCF", {"transform": "mask_itemseq"}, "transform='mask_itemseq' changes sequences, which HGCF does not have"),
    ("SASRec", {"transform": "mask_itemseq"}, "mask_ratio=None .*transform='mask_itemseq' masks"),
    (
        "BPR",
        {"transform": "user_defined"},
        "transform='user_defined': recbole.data.transform.UserDefinedTransform is empty",
    ),
    (
        "DiffuRec",
        {"lambda_std": 10**30},
        r"DiffuRec cannot be trained with lambda_std=1e\+30, .*: Training loss is nan",
    ),
    ("SASRec", {"layer_norm_eps": -1}, "SASRec cannot be trained with .*layer_norm_eps=-1.*: Training loss is nan"),
    (
        "PreferDiff",
        {"train_neg_sample_args": {"distribution": "popularity", "alpha": 1e308}},
        "cannot be prepared with .*train_neg_sample_args=.*: float division by zero",
    ),
    (
        "GiffCF",
        {"train_neg_sample_args": {"distribution": "popularity", "alpha": 1e308}},
        "cannot be prepared with .*train_neg_sample_args=.*: float division by zero",
    ),
    (
        "FMRec",
        {"recon_weight": 1e9, "n_layers": 2},
        "recon_last=2 is not allowed with n_layers=2; .*, or 0 for recon_w",
    ),
    ("LightGCN", {"reg_weight": 10**30, "embedding_size": 2}, r"LightGCN cannot be trained with .*reg_weight=1000.*: "),
    ("SASRec", {"initializer_range": 1e30}, "SASRec cannot be trained with .*initializer_range=1e.30.*: .*loss is nan"),
    ("HGCF", {"curvature": 1000.0}, "HGCF cannot be trained with .*curvature=1000.0.*: (.*loss is nan|.*not finite)"),
]
SEQUENTIAL = {"train_neg_sample_args": None, "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO"}}


@pytest.mark.parametrize(("model", "more", "message"), REPAIRED)
def test_settings_that_were_not_named(model, more, message, settings):
    own = SEQUENTIAL if model in {"SASRec", "FMRec"} else {}
    with pytest.raises(ValueError, match=message) as error:
        run(model, "board", config_dict={**settings, **own, "epochs": 1, **more})
    assert "\n" not in str(error.value)


def test_dynamic_negatives_of_a_model_that_draws_none_have_no_effect(settings):
    """They were an AttributeError of the loader of users."""
    quick = {**settings, "epochs": 1, "dims": [8], "steps": 2}
    dynamic = {"train_neg_sample_args": {"distribution": "uniform", "dynamic": True, "candidate_num": 1}}
    plain = run("DiffRec", "board", config_dict=quick, saved=False)
    result = run("DiffRec", "board", config_dict={**quick, **dynamic}, saved=False)
    assert result["test_result"] == plain["test_result"]
    assert [note for note in result["warnings"] if "has no effect on DiffRec" in note]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[enforce fail] can't allocate memory: 9 bytes")])
def test_a_lack_of_memory_is_no_damaged_checkpoint(error, settings, monkeypatch):
    """Training, in which the best checkpoint is read for the test, names the settings; reading says what it lacks."""
    from recbole_diffusion.training import checkpoint

    def load(*_, **__):
        raise error

    trained = run("BPR", "board", config_dict={**settings, "epochs": 1})
    monkeypatch.setattr(checkpoint.torch, "load", load)
    with pytest.raises(type(error)):
        checkpoint.read(trained["checkpoint"])
    with pytest.raises(ValueError, match=r"BPR cannot be trained with .*embedding_size=9.*: out of memory"):
        run("BPR", "board", config_dict={**settings, "epochs": 1, "embedding_size": 9})


def test_a_device_that_is_too_small_names_the_settings_and_a_missing_one_does_not(settings, monkeypatch):
    from recbole.model.general_recommender.bpr import BPR

    def to(*_):
        raise RuntimeError(reason)

    monkeypatch.setattr(BPR, "to", to)
    reason = "CUDA out of memory. Tried to allocate 2.00 GiB"
    with pytest.raises(
        ValueError, match=r"BPR cannot be trained with .*embedding_size=8.*: out of memory \(tried .*2.00 GiB"
    ):
        run("BPR", "board", config_dict={**settings, "embedding_size": 8})
    reason = "No CUDA GPUs are available"
    with pytest.raises(RuntimeError, match=r"^No CUDA GPUs are available$"):
        run("BPR", "board", config_dict={**settings, "embedding_size": 8})


def test_an_error_of_the_model_itself_stays_without_settings(settings, monkeypatch):
    """A defect is no setting's: its type and its text stay, unless what is missing is the value of a setting."""
    from recbole.model.general_recommender.bpr import BPR

    monkeypatch.setattr(BPR, "__init__", lambda *_: {}["8"])
    with pytest.raises(KeyError, match="8"):
        run("BPR", "board", config_dict=settings)
    with pytest.raises(KeyError, match="8"):
        run("BPR", "board", config_dict={**settings, "embedding_size": 9})
    with pytest.raises(ValueError, match="BPR cannot be built with embedding_size=8: '8'"):
        run("BPR", "board", config_dict={**settings, "embedding_size": 8})


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "No such file", "vectors.npz"), ImportError("no torch_geometric")]
)
def test_a_missing_file_or_library_is_no_settings_fault(settings, monkeypatch, error):
    from recbole.model.general_recommender.bpr import BPR

    def build(*_):
        raise error

    monkeypatch.setattr(BPR, "__init__", build)
    with pytest.raises(type(error)) as raised:
        run("BPR", "board", config_dict={**settings, "embedding_size": 8})
    assert str(raised.value) == str(error)


def test_the_cases_are_always_the_same_and_reach_every_key():
    cases = _script()
    keys = cases.Keys()
    assert keys.draw(0, 17) == keys.draw(0, 17) != keys.draw(1, 17)
    drawn = {(case.model, key) for case in (keys.draw(0, number) for number in range(20000)) for key in case.changed}
    assert {(model, key) for model in keys.models for key in keys.own[model]} <= drawn
    assert {key for _, key in drawn} >= {*cases.RECBOLE_KEYS} - cases.LEFT_OUT


def test_a_wrong_ending_is_counted_as_one(tmp_path):
    """The judge of the harness: a traceback, a line without the key and a second line are wrong."""
    cases = _script()
    case = cases.Case(0, "BPR", {"topk": 1}, False)
    endings = {
        "recbole-diffusion: topk=1 is not allowed": "named",
        "recbole-diffusion: stopk=1 is not allowed": "key not named",
        "recbole-diffusion: it does not work": "key not named",
        "Traceback (most recent call last):\nrecbole-diffusion: topk=1": "no single line",
        "recbole-diffusion: topk=1\nrecbole-diffusion: topk=1": "no single line",
        "": "no single line",
    }
    for text, verdict in endings.items():
        (tmp_path / "err").write_text(text)
        assert cases._verdict(case, 2 << 8, tmp_path)["verdict"] == verdict, text
    assert cases._verdict(case, 0, tmp_path)["verdict"] == "trains"
    assert cases._verdict(case, 11, tmp_path)["verdict"] == "signal 11"


def test_six_cases():
    cases = _script()
    verdicts = [record["verdict"] for record in cases.records(0, range(990000, 990006), 1)]
    assert len(verdicts) == 6
    assert {*verdicts} <= {"trains", "named"}


@pytest.mark.slow
@pytest.mark.processes
def test_five_hundred_cases(tmp_path):
    counts = _count(tmp_path, 500, 0)
    assert counts["trains"] + counts["named"] + counts["out of memory"] == 500


def _count(folder: Path, count: int, start: int) -> dict[str, int]:
    """Run the script and return the number of cases by verdict; all of them are right."""
    words = [sys.executable, str(SCRIPT), f"--count={count}", f"--start={start}", "--out=cases.jsonl"]
    cases = _script()
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    records = [json.loads(line) for line in (folder / "cases.jsonl").read_text().splitlines()]
    assert len(records) == count, done.stderr
    assert done.returncode == 0, done.stderr
    return {verdict: sum(record["verdict"] == verdict for record in records) for verdict in cases.RIGHT}


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("reliability_settings", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_configure_alone_names_huge_numbers(settings):
    with pytest.raises(ValueError, match="epochs=1000000000000000000000000000000 is not allowed"):
        quick_start.configure("BPR", "board", config_dict={**settings, "epochs": 10**30})
