"""Random settings over every key: a run trains, or stops with one line that names the key.

    python benchmarks/reliability_settings.py [--count 5000] [--seed 0] [--workers 1] [--out FILE] [--only 3,17]

Case N of a seed is always the same: a model, one to three of its keys or RecBole's, and a value for each: a wrong type,
a bound of its rule, an empty value, nan, a huge number, unicode. The values are passed on the command line or in a yaml
file. A case is ``recbole-diffusion run`` in a process of its own on a data set of 64 users; what it trains ends after
two epochs. It may take 20 processor seconds and 2 GiB before it stops or trains.

The table counts the verdicts; the cases that are not right follow, one a line. ``--out`` writes all cases (JSON lines).
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import json
import math
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import yaml

SECONDS, MEBIBYTES = 20, 2048
#: Published sizes that are no wrong settings and need more than that: a case with one may stop at the limit, named.
LARGE = {("PreferDiff", "hidden_size", "3072")}
#: RecBole's models that the cases draw from beside all of ours.
BASELINES = ("BPR", "LightGCN", "SASRec", "BERT4Rec", "GRU4Rec", "EASE", "ItemKNN", "MultiVAE")
#: RecBole's keys that people set most, of all models.
RECBOLE_KEYS = (
    *("epochs", "train_batch_size", "eval_batch_size", "learning_rate", "learner", "weight_decay", "eval_step"),
    *("stopping_step", "clip_grad_norm", "train_neg_sample_args", "eval_args", "metrics", "topk", "valid_metric"),
    *("metric_decimal_place", "loss_decimal_place", "seed", "reproducibility", "load_col", "field_separator"),
    *("seq_separator", "user_inter_num_interval", "item_inter_num_interval", "val_interval", "rm_dup_inter"),
    *("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD", "RATING_FIELD", "LABEL_FIELD", "NEG_PREFIX", "LIST_SUFFIX"),
    *("MAX_ITEM_LIST_LENGTH", "ITEM_LIST_LENGTH_FIELD", "POSITION_FIELD", "threshold", "worker", "shuffle"),
    *("encoding", "state", "use_gpu", "gpu_id", "enable_amp", "enable_scaler", "tail_ratio", "repeatable"),
    *("unload_col", "normalize_all", "normalize_field", "numerical_features", "discretization", "seq_len"),
    *("alias_of_item_id", "filter_inter_by_user_or_item", "transform", "benchmark_filename", "log_wandb"),
)
#: Our keys that write outside of the case's folder by design, or fetch from elsewhere.
LEFT_OUT = {"prepared_data", "pretrain_dir", "output_dir", "checkpoint_dir", "data_path", "log_wandb", "compile"}
_ANY: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 0.5, 1.5, -0.5, 1e-30, math.nan, math.inf, -math.inf, 1e308, 10**6, 10**9),
    *(2**31, 2**63, 2**64, 10**30, -(10**30), "", " ", "\t", "abc", "\xe9\u6f22\u5b57", "\u202e", "None", "1e3", "nan"),
    *("../x", "/etc/passwd", "a" * 3000, "\n", "x\ny", "\0", "[", "{", "'", '"', "%s", "*", "user_id", "item_id"),
    *(
        [],
        [1],
        [0],
        [-1],
        ["a"],
        [None],
        [[1]],
        [1, 2, 3],
        [1.5],
        [10**9],
        [math.nan],
        [True],
        [1, "a"],
        list(range(99)),
    ),
    *(
        {},
        {"a": 1},
        {1: 2},
        {"inter": []},
        {"rating": 3},
        {"": ""},
        {"a": {"b": {}}},
        "[1,2",
        "(1,2)",
        "[0,inf)",
        "[5,2]",
    ),
)
_DEEPER: dict[str, tuple[Any, ...]] = {
    "eval_args": (
        *(
            {"split": {"RS": shares}}
            for shares in ([0.8, 0.1, 0.1], [1, 0, 0], [0, 0, 1], [8, 1, 1], [-1, 1, 1], [], [1])
        ),
        *({"split": {"LS": word}} for word in ("valid_and_test", "valid_only", "test_only", "x", None, 3)),
        *({"split": {"TS": [0.7, 0.2, 0.1]}}, {"split": None}, {"split": {}}, {"split": {"RS": [8, 1, 1], "LS": "x"}}),
        *({"order": word} for word in ("TO", "RO", "to", None, 1)),
        *(
            {"mode": word}
            for word in ("full", "uni1", "pop5", "uni0", "uni100", "uni9999999999", "labeled", None, {}, 3)
        ),
        *({"group_by": word} for word in ("user", "none", None, "item", 1)),
    ),
    "train_neg_sample_args": (
        *({"distribution": word} for word in ("uniform", "popularity", "none", "x", None)),
        *({"distribution": "uniform", "sample_num": number} for number in (0, 1, 3, -1, 10**9, 1.5, "2")),
        *({"distribution": "popularity", "alpha": number} for number in (0, 1.0, -1, 1e308, math.nan)),
        *({"distribution": "uniform", "dynamic": True, "candidate_num": number} for number in (0, 1, 5, 10**9, -1)),
    ),
    "metrics": (["NDCG"], ["Recall", "NDCG"], "NDCG", ["AUC"], ["NDCG", "AUC"], ["nope"], ["ndcg", "NDCG"], ["ILD"]),
    "topk": ([1], [5, 10], 10, [0], [41], [10, 5], [5, 5], [10**12], "10", [40], [39]),
    "valid_metric": (
        "NDCG@10",
        "NDCG@3",
        "AUC",
        "ndcg@10",
        "NDCG",
        "NDCG@",
        "@10",
        "NDCG@10@5",
        "NDCG@-1",
        "Recall@1e1",
    ),
    "load_col": (
        *(
            {"inter": ["user_id", "item_id"]},
            {"inter": ["user_id"]},
            {"inter": "*"},
            {"item": ["item_id"]},
            {"x": ["y"]},
        ),
        *({"inter": ["user_id", "item_id", "nope"]}, {"inter": ["user_id", "user_id", "item_id"]}, {"inter": [1, 2]}),
    ),
    "val_interval": ({"rating": "[4,inf)"}, {"rating": "(5,6)"}, {"nope": "[0,1]"}, {"rating": ["5.0"]}, {"rating": 5}),
    "threshold": ({"rating": 4}, {"rating": math.nan}, {"nope": 4}, {"rating": 9}, {"rating": "x"}, {"item_id": 1}),
    "clip_grad_norm": (
        {"max_norm": 1.0},
        {"max_norm": 0},
        {"max_norm": math.nan},
        {"max_norm": 1, "norm_type": 1e-300},
    ),
    "discretization": (
        {"rating": {"method": "ED", "bucket": 3}},
        {"rating": {"method": "LD"}},
        {"x": {"method": "LD"}},
    ),
    "user_inter_num_interval": ("[5,inf)", "[100,inf)", "[5,2]", "(0,1)", "[nan,inf)", "[0,inf)", "5", "[16,16]"),
    "item_inter_num_interval": ("[5,inf)", "[1000,inf)", "[25,inf)", "[-5,inf)", "[0,0]"),
    "encoding": (
        "utf-8",
        "latin-1",
        "utf-16",
        "gbk",
        "rot13",
        "base64",
        "idna",
        "undefined",
        "punycode",
        "unicode_escape",
    ),
    "field_separator": ("\t", ",", "::", "\\t", "|", ".", "\\", "(", "\xe9", "\n", "\r", "0", "u", ":"),
    "seq_separator": (" ", ",", "|", "\t", "\\", "", "u", "."),
    "preset": ("quick", "Quick", "slow"),
    "base_model": (
        "BPR",
        "LightGCN",
        "EASE",
        "nope",
        "DDRM",
        "SASRec",
        "../BPR",
        "recbole:BPR",
        "os:system",
        "os",
        ":",
    ),
    "pretrain": ({"model": "BPR"}, {"model": "nope"}, {"model": "BPR", "config": {"epochs": 0}}, {"x": 1}),
}


class Case(NamedTuple):
    """One run.

    Attributes:
        number: its place in the order of the seed.
        model: a model's name.
        changed: the drawn values by key.
        in_file: whether they are passed in a yaml file, and not on the command line.
    """

    number: int
    model: str
    changed: dict[str, Any]
    in_file: bool


class Keys:
    """The keys of the models with their rules and defaults."""

    def __init__(self) -> None:
        from recbole_diffusion import registry
        from recbole_diffusion.settings import nested, schema
        from recbole_diffusion.support import yaml_files

        specs = registry.specs()
        self.models = [*sorted(name for name in specs if specs[name].card is not None), *BASELINES]
        self.rules: dict[str, Any] = {**nested.recbole_rules(models=True)}
        self.defaults: dict[str, Any] = {}
        self.shared = [*RECBOLE_KEYS, *self._read(schema.read_keys(yaml_files.properties() / "overall.yaml"))]
        recbole = registry.recbole_folder() / "properties"
        self._read_plain(recbole / "overall.yaml")
        self.own: dict[str, list[str]] = {}
        for model in self.models:
            if model in specs:
                self.own[model] = self._read(schema.read_keys(specs[model].defaults))
            else:
                self.own[model] = self._read_plain(recbole / "model" / f"{model}.yaml")

    def _read(self, keys: dict[str, Any]) -> list[str]:
        for key, entry in keys.items():
            self.rules[key] = entry.rule or self.rules.get(key)
            self.defaults[key] = entry.default
        return [key for key in keys if key not in LEFT_OUT]

    def _read_plain(self, file: Path) -> list[str]:
        content = yaml.safe_load(file.read_text()) or {}
        self.defaults.update({key: value for key, value in content.items() if key not in self.defaults})
        return [key for key in content if key not in LEFT_OUT]

    def draw(self, seed: int, number: int) -> Case:
        """Draw case ``number`` of a seed."""
        draw = random.Random(f"{seed}:{number}")
        model = self.models[number % len(self.models)]
        count = draw.choices((1, 2, 3), (5, 4, 1))[0]
        keys: dict[str, Any] = {}
        while len(keys) < count:
            pool = self.own[model] if draw.random() < 0.55 and self.own[model] else self.shared
            key = draw.choice(pool)
            if key not in LEFT_OUT:
                keys[key] = self.value(key, draw)
        return Case(number, model, keys, draw.random() < 0.5)

    def value(self, key: str, draw: random.Random) -> Any:
        """Draw a value: one that fits the key's rule or nearly does, or anything."""
        near = [*_DEEPER.get(key, ()), *_near(self.rules.get(key), self.defaults.get(key))]
        return draw.choice(near) if near and draw.random() < 0.65 else draw.choice(_ANY)


def _near(rule: Any, default: Any) -> list[Any]:
    """Values about the bounds and words of a rule, and about a default."""
    values: list[Any] = []
    text = rule if isinstance(rule, str) else ""
    for number in re.findall(r"(?<![\w.])[-+]?\d+\.?\d*(?:e[-+]?\d+)?", text):
        bound = float(number) if "float" in text else int(float(number))
        values += [bound, bound + 1, bound - 1, bound + 1e-9 if "float" in text else bound + 2, str(bound)]
    if "|" in text:
        words = [word.strip() for word in re.split(r"\||\bor\b", text) if " of " not in word]
        values += [*words, words[0].upper(), words[0] + "x", [words[0]]]
    if "list" in text:
        values += [*[[value] for value in values if not isinstance(value, list)][:8], [1, 2], [4, 4, 4]]
    if isinstance(default, bool):
        values += [True, False, str(default), int(default)]
    elif isinstance(default, (int, float)):
        values += [default * 2, default + 1, -default, default / 3, str(default), [default], default * 1000]
    elif isinstance(default, list):
        values += [default, default[:1], default * 2, default[::-1], str(default)]
    return values


def base_settings(model: str) -> dict[str, Any]:
    """Settings with which the model trains on the board in a second."""
    from recbole_diffusion.testing import SETTINGS, quick, split

    content = {
        **SETTINGS,
        **quick(model),
        "epochs": 1,
        "data_path": "dataset",
        "state": "ERROR",
        "train_batch_size": 256,
    }
    if isinstance(content.get("base_config"), dict):
        content["base_config"] = {**content["base_config"], "epochs": 1}
    content["eval_args"] = {"split": split(model), "order": "TO" if "LS" in split(model) else "RO", "mode": "full"}
    if model in {"SASRec", "BERT4Rec", "GRU4Rec"}:
        content.update(hidden_size=8, inner_size=8, n_heads=2, n_layers=1, train_neg_sample_args=None)
        content.update(MAX_ITEM_LIST_LENGTH=8, eval_args={"split": {"LS": "valid_and_test"}, "order": "TO"})
    return content


def words_of(case: Case, folder: Path) -> list[str]:
    """The command of a case; its files are written to ``folder``."""
    content = {key: value for key, value in base_settings(case.model).items() if key not in case.changed}
    changed = case.changed
    if not case.in_file:
        words = [f"--{key}={_as_word(value)}" for key, value in changed.items()]
        if any("\0" in word for word in words):  # no command line holds one
            return words_of(case._replace(in_file=True), folder)
        changed = {}
    else:
        words = []
    (folder / "settings.yaml").write_text(yaml.safe_dump({**content, **changed}, allow_unicode=True), encoding="utf-8")
    return ["run", f"--model={case.model}", "--dataset=board", "--config_files=settings.yaml", *words]


def _as_word(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def run_case(case: Case, root: Path) -> dict[str, Any]:
    """Run a case in a child process.

    Returns:
        ``verdict`` (trains, named, cut, and the wrong ones), ``line``, ``seconds`` and ``mebibytes`` of the child.
    """
    folder = Path(tempfile.mkdtemp(dir=root))
    shutil.copytree(root / "dataset", folder / "dataset")
    words = words_of(case, folder)
    start = time.perf_counter()
    child = os.fork()
    if not child:
        _run_in_child(words, folder, root)
    _, status, usage = os.wait4(child, 0)
    verdict = _verdict(case, status, folder)
    before = int((folder / "before").read_text()) if (folder / "before").exists() else 0
    record = {"number": case.number, "model": case.model, "changed": case.changed, "in_file": case.in_file, **verdict}
    record.update(seconds=round(usage.ru_utime + usage.ru_stime, 2), wall=round(time.perf_counter() - start, 2))
    record["mebibytes"] = max(0, usage.ru_maxrss - before) // 1024
    is_large = any((case.model, key, str(value)) in LARGE for key, value in case.changed.items())
    if record["mebibytes"] > MEBIBYTES and record["verdict"] != "trains" and not is_large:
        record["verdict"] = "out of memory" if _is_named_lack(record) else "too much memory"
    shutil.rmtree(folder, ignore_errors=True)
    return record


def _is_named_lack(record: dict[str, Any]) -> bool:
    """Whether a case ended at the limit itself, in one line that names its key: a size beyond it."""
    return record["verdict"] == "named" and "out of memory" in record["line"]


def _run_in_child(words: list[str], folder: Path, root: Path) -> None:
    """Run the command and end the process with its exit code."""
    code = 99
    try:
        os.chdir(folder)
        with open("out", "wb") as out, open("err", "wb") as err:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")  # pytest has replaced them
        os.environ["COLUMNS"] = "100"
        (folder / "before").write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + (MEBIBYTES + 512) * 2**20,) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 2))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _watch_training(folder)
        from recbole_diffusion import cli

        code = cli.main(words)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _watch_training(folder: Path) -> None:
    """Leave a file ``began`` after the first epoch's start, and end a training after two epochs."""
    from recbole_diffusion.training.trainer import Training

    fit, epoch = Training.fit, Training._train_epoch

    def short_fit(self: Any, *arguments: Any, **keywords: Any) -> Any:
        self.epochs = min(self.epochs, 2)
        return fit(self, *arguments, **keywords)

    def noted_epoch(self: Any, *arguments: Any, **keywords: Any) -> Any:
        (folder / "began").touch()
        return epoch(self, *arguments, **keywords)

    Training.fit, Training._train_epoch = short_fit, noted_epoch  # type: ignore[method-assign]


def _verdict(case: Case, status: int, folder: Path) -> dict[str, Any]:
    """Judge how a child ended."""
    error = (folder / "err").read_text(errors="replace") if (folder / "err").exists() else ""
    lines = [line for line in error.splitlines() if line.startswith("recbole-diffusion: ")]
    line = (lines or error.strip().splitlines() or [""])[-1]
    last = line[:400]  # what is kept; a value may have thousands of characters
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number in {signal.SIGXCPU, signal.SIGKILL} and (folder / "began").exists():
            return {"verdict": "trains", "line": f"still at {SECONDS} s"}
        return {"verdict": "too slow" if number == signal.SIGXCPU else f"signal {number}", "line": last}
    code = os.WEXITSTATUS(status)
    if code == 0:
        return {"verdict": "trains", "line": ""}
    if "Traceback" in error or len(lines) != 1:
        return {"verdict": "no single line", "line": error[-600:]}
    names = any(re.search(rf"(?<![A-Za-z]){re.escape(key)}(?![A-Za-z])", line) for key in case.changed)
    if not names:
        return {"verdict": "key not named", "line": last, "code": code}
    return {"verdict": "named" if code == 2 else "named, exit code 1", "line": last, "code": code}


#: Verdicts that the issue asks for. ``out of memory``: an allowed size beyond the limit, named when an allocation
#: failed; counted on its own.
RIGHT = ("trains", "named", "out of memory")


def records(seed: int, numbers: Sequence[int], workers: int) -> Iterator[dict[str, Any]]:
    """Run cases, each in a process of its own."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    from recbole_diffusion import distributed, quick_start  # noqa: F401 - the children then have them
    from recbole_diffusion.compat import repairs
    from recbole_diffusion.testing import write_board

    torch.set_num_threads(1)
    repairs.apply()
    keys = Keys()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_board(root / "dataset")
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            yield from pool.map(lambda number: run_case(keys.draw(seed, number), root), numbers)


def main(words: Optional[Sequence[str]] = None) -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=5000)
    options.add_argument("--start", type=int, default=0, help="number of the first case")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--only", help="numbers of cases, separated by commas")
    options.add_argument("--out", help="file for all cases, JSON lines")
    chosen = options.parse_args(words)
    numbers = range(chosen.start, chosen.start + chosen.count)
    selected = [int(number) for number in chosen.only.split(",")] if chosen.only else numbers
    counts: collections.Counter[str] = collections.Counter()
    wrong, slowest, largest = [], 0.0, 0
    with open(chosen.out or os.devnull, "a", encoding="utf-8") as stream:
        for record in records(chosen.seed, selected, chosen.workers):
            counts[record["verdict"]] += 1
            stream.write(json.dumps(record, default=str) + "\n")
            stream.flush()
            if record["verdict"] != "trains":
                slowest, largest = max(slowest, record["seconds"]), max(largest, record["mebibytes"])
            if record["verdict"] not in RIGHT:
                wrong.append(record)
                print(json.dumps(record, default=str)[:900], file=sys.stderr, flush=True)
    print(f"| cases of seed {chosen.seed} | number |\n| --- | --- |")
    for verdict, number in counts.most_common():
        print(f"| {verdict} | {number} |")
    print(f"\nThe slowest that stopped took {slowest} processor seconds; the largest {largest} MiB.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
