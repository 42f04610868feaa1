"""Graph filters and EASE: what do weights by rank in time give them, and what do they cost on many items?

    python benchmarks/filters.py recency --data PATH/ml-1m.inter.xz
    python benchmarks/filters.py protocols --data PATH/ml-1m_clean.npz
    python benchmarks/filters.py scale --data PATH/gowalla.inter.xz [--test PATH/test.txt]

``recency``: ratings of 4 and 5, users and items with at least ten; per user in time 7 : 1 : 2. Each model is fed the
train rows and ranks what is in neither train nor valid; its settings are chosen on the validation part from a few.
Three variants: binary rows; rows weighted by rank in time (.1 to 1) that are scored by what is fitted to binary rows;
and weighted rows for both.

``protocols``: the official arrays of ml-1m_clean by both protocols of ``recbole-diffusion reproduce``. Settings are
chosen on the protocol's validation part from the same few. R' is hits / min(k, number of targets).

``scale``: seconds of the clock and of all threads to fit, and to score and rank all users, and the peak memory of the
process. ``--test`` is LightGCN's file of the test part, with lines "user item item ..."; without it a fifth is drawn.

The models are built on arrays, without RecBole's data set, loaders and evaluator.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Optional

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_matrix

from recbole_diffusion import registry
from recbole_diffusion.data import convert
from recbole_diffusion.support import yaml_files
from recbole_diffusion.training.run_folder import environment

#: Settings to choose from on the validation part, as products of choices.
GRIDS: dict[str, list[dict[str, list[Any]]]] = {
    "TEASE": [{"reg_weight": [200.0, 500.0, 1000.0]}],
    "SGFCF": [
        {"alpha": [100.0, 200.0], "ideal_cutoff": [60], "gamma": [0.5]},
        {"alpha": [100.0], "ideal_cutoff": [100], "gamma": [1.0]},
    ],
    "TurboCF": [{"alpha": [0.3, 0.4]}],
    "BSPM": [{"ideal_weight": [0.0], "sharpening_time": [2.0]}],
    "GFCF": [{"ideal_weight": [0.1, 0.3]}],
}
#: Settings of the rows. TEASE with equal weights is EASE.
VARIANTS: dict[str, dict[str, Any]] = {
    "binary": {"row_weights": "binary"},
    "weighted input": {"row_weights": "recency", "gram": "binary"},
    "weighted": {"row_weights": "recency", "gram": "weighted"},
}
#: The official settings of Gowalla.
AT_SCALE: dict[str, dict[str, Any]] = {
    "SGFCF": {"alpha": 0.0, "eps": 0.34, "ideal_cutoff": 650, "beta": 1.3, "gamma": 1.6},
    "BSPM": {},
    "GFCF": {},
    "TurboCF": {"alpha": 0.6},
}
#: The rows of the models in ``protocols`` other than TEASE.
BINARY = ("binary",)
TOP = 20
HEAD = {
    "recency": ["model", "rows", "chosen", "valid R@20", "R@10", "R@20", "N@10", "N@20", "s"],
    "protocols": ["model", "rows", "chosen", "valid R@20", "R@10", "R@20", "N@10", "N@20", "R'@10", "R'@20", "CPU s"],
    "scale": ["model", "s to fit", "CPU s", "s to rank", "CPU s", "peak MiB", "R@10", "R@20", "N@10", "N@20"],
}


class Parts(NamedTuple):
    """Pairs (user, item), 0-based, in the order of time; int64 (n, 2)."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    shape: tuple[int, int]


def model_on(name: str, pairs: np.ndarray, shape: tuple[int, int], settings: dict[str, Any]) -> Any:
    """Build and fit a model on pairs in the order of time."""
    spec = registry.find_spec(name)
    assert spec is not None
    fields = {"USER_ID_FIELD": "user", "ITEM_ID_FIELD": "item", "NEG_PREFIX": "neg_", "device": torch.device("cpu")}
    config: Any = defaultdict(lambda: None, {**fields, **yaml_files.load_yaml(spec.defaults), **settings})
    columns = {"user": torch.from_numpy(pairs[:, 0] + 1), "item": torch.from_numpy(pairs[:, 1] + 1)}
    columns["time"] = torch.arange(len(pairs), dtype=torch.float64)
    sizes = {"user": shape[0] + 1, "item": shape[1] + 1}
    fields_of_data = {"uid_field": "user", "iid_field": "item", "time_field": "time"}
    dataset = SimpleNamespace(
        inter_feat=columns, num=sizes.__getitem__, user_num=sizes["user"], item_num=sizes["item"], **fields_of_data
    )
    return registry.get_model(name)(config, dataset).eval()  # type: ignore[call-arg]


def matrix_of(pairs: np.ndarray, shape: tuple[int, int]) -> csr_matrix:
    """0/1 matrix of pairs."""
    matrix = csr_matrix((np.ones(len(pairs), dtype=np.float32), (pairs[:, 0], pairs[:, 1])), shape=shape)
    matrix.data[:] = 1
    return matrix


def evaluate(model: Any, masked: csr_matrix, targets: csr_matrix, batch: int = 256) -> list[float]:
    """R@10, R@20, N@10, N@20, R'@10, R'@20, means over the users with targets; R' is hits / min(k, targets)."""
    users = np.flatnonzero(targets.getnnz(axis=1))
    sums, discount = np.zeros(6), 1 / np.log2(np.arange(2, TOP + 2))
    for start in range(0, len(users), batch):
        rows = users[start : start + batch]
        scores = model.full_sort_predict({"user": torch.from_numpy(rows + 1)})[:, 1:]
        row, column = masked[rows].nonzero()
        scores[torch.from_numpy(row).long(), torch.from_numpy(column).long()] = -torch.inf
        best = scores.topk(TOP, dim=1).indices.numpy()
        hits = np.asarray(targets[rows[:, None], best].todense())
        count = targets[rows].getnnz(axis=1)
        for place, k in enumerate((10, 20)):
            ideal = discount.cumsum()[np.minimum(count, k) - 1]
            sums[place] += (hits[:, :k].sum(1) / count).sum()
            sums[place + 4] += (hits[:, :k].sum(1) / np.minimum(count, k)).sum()
            sums[place + 2] += ((hits[:, :k] * discount[:k]).sum(1) / ideal).sum()
    return list(sums / len(users))


def print_head(what: str) -> None:
    """Print the head of a table."""
    print(f"| {' | '.join(HEAD[what])} |\n|{'---|' * len(HEAD[what])}", flush=True)


def settings_of(grids: list[dict[str, list[Any]]]) -> Iterator[dict[str, Any]]:
    """The settings to choose from."""
    for grid in grids:
        yield from (dict(zip(grid, values)) for values in itertools.product(*grid.values()))


def in_time(file: Path) -> Parts:
    """Filter and split a file as RecBole does with the settings of ``in_time.py``."""
    frame = pd.read_csv(file, sep="\t")
    frame.columns = [column.partition(":")[0] for column in frame.columns]
    frame = frame[frame["rating"] >= 4].sort_values("timestamp", kind="stable")
    while True:
        counts = [frame.groupby(field)["rating"].transform("size") for field in ("user_id", "item_id")]
        enough = (counts[0] >= 10) & (counts[1] >= 10)
        if enough.all():
            break
        frame = frame[enough]
    pairs = np.stack([pd.factorize(frame[field])[0] for field in ("user_id", "item_id")], axis=1).astype(np.int64)
    order = np.argsort(pairs[:, 0], kind="stable")
    groups = np.split(pairs[order], np.flatnonzero(np.diff(pairs[order, 0])) + 1)
    parts: list[list[np.ndarray]] = [[], [], []]
    for group in groups:
        n_valid, n_test = int(0.1 * len(group)), int(0.2 * len(group))
        n_train = len(group) - n_valid - n_test
        for part, rows in zip(parts, np.split(group, [n_train, n_train + n_valid])):
            part.append(rows)
    train, valid, test = (np.concatenate(part) for part in parts)
    return Parts(train, valid, test, (pairs[:, 0].max() + 1, pairs[:, 1].max() + 1))


def recency(file: Path, names: list[str]) -> None:
    """Print the table of the gain by weights in time."""
    parts = in_time(file)
    train, valid, test = (matrix_of(pairs, parts.shape) for pairs in parts[:3])
    print(f"{file.stem}: {parts.shape[0]} users, {parts.shape[1]} items, {[len(pairs) for pairs in parts[:3]]}\n")
    print_head("recency")
    for name, variant in itertools.product(names, VARIANTS):
        chosen = choose(name, variant, GRIDS[name], parts.train, train, valid)
        print_chosen(name, variant, chosen, evaluate(chosen.model, train + valid, test)[:4])


class Chosen(NamedTuple):
    """The setting with the best R@20 on the validation part, its model, and the seconds (clock, CPU) of all."""

    valid: float
    settings: dict[str, Any]
    model: Any
    seconds: tuple[float, float]


def choose(
    name: str,
    variant: str,
    grids: list[dict[str, list[Any]]],
    pairs: np.ndarray,
    train: csr_matrix,
    valid: csr_matrix,
) -> Chosen:
    """Choose the setting of a model on the validation part."""
    keys = {"w_min": 1.0, "w_max": 1.0} if is_ease(name, variant) else VARIANTS[variant]
    start, cpu, best = time.perf_counter(), time.process_time(), Chosen(-1.0, {}, None, (0, 0))
    for settings in settings_of(grids):
        model = model_on(name, pairs, train.shape, {**keys, **settings})
        score = evaluate(model, train, valid)[1]
        if score > best.valid:
            best = Chosen(score, settings, model, (0, 0))
    return best._replace(seconds=(time.perf_counter() - start, time.process_time() - cpu))


def is_ease(name: str, variant: str) -> bool:
    """Whether the model is EASE: TEASE with equal weights."""
    return name == "TEASE" and variant == "binary"


def print_chosen(name: str, variant: str, chosen: Chosen, metrics: list[float], cpu: bool = False) -> None:
    """Print a row of the tables of settings that were chosen."""
    values = " | ".join(f"{value:.4f}" for value in (chosen.valid, *metrics))
    settings = ", ".join(f"{key} {value}" for key, value in chosen.settings.items())
    label = "EASE" if is_ease(name, variant) else name
    print(f"| {label} | {variant} | {settings} | {values} | {chosen.seconds[cpu]:.0f} |", flush=True)


def protocols(file: Path, names: list[str]) -> None:
    """Print a table for each protocol of the official arrays of ml-1m_clean."""
    arrays = np.load(file)
    n_users, n_items = (int(max(arrays[part][:, side].max() for part in convert.PARTS)) + 1 for side in (0, 1))
    for protocol, parts in (("official", ("train", "valid", "test")), ("time-proper", ("train", "test", "valid"))):
        pairs = arrays[parts[0]].astype(np.int64)
        train, valid, test = (matrix_of(arrays[part], (n_users, n_items)) for part in parts)
        print(f"\n{protocol}\n")
        print_head("protocols")
        runs = [(name, variant) for name in names for variant in (VARIANTS if name == "TEASE" else BINARY)]
        for name, variant in runs:
            chosen = choose(name, variant, GRIDS[name], pairs, train, valid)
            print_chosen(name, variant, chosen, evaluate(chosen.model, train + valid, test), cpu=True)


def at_scale(file: Path, test_file: Optional[Path], names: list[str]) -> None:
    """Print seconds, memory and quality on a data set with many items and no validation part."""
    pairs = pd.read_csv(file, sep="\t").to_numpy(dtype=np.int64)[:, :2]
    shape = (int(pairs[:, 0].max()) + 1, int(pairs[:, 1].max()) + 1)
    keys = pairs[:, 0] * shape[1] + pairs[:, 1]
    if test_file is None:
        is_test = np.random.default_rng(0).random(len(keys)) < 0.2
    else:
        lines = [np.array(line.split(), dtype=np.int64) for line in test_file.read_text().splitlines()]
        tested = np.concatenate([line[0] * shape[1] + line[1:] for line in lines])
        is_test = np.isin(keys, tested)
        assert is_test.sum() == len(tested), "the file is not a part of the data"
    train, test = (matrix_of(pairs[part], shape) for part in (~is_test, is_test))
    print(f"{file.stem}: {shape[0]} users, {shape[1]} items, train {train.nnz}, test {test.nnz}\n")
    print_head("scale")
    for name in names:
        clocks = [(time.perf_counter(), time.process_time())]
        model = model_on(name, pairs[~is_test], shape, AT_SCALE[name])
        clocks.append((time.perf_counter(), time.process_time()))
        metrics = evaluate(model, train, test)
        clocks.append((time.perf_counter(), time.process_time()))
        seconds = [f"{value:.0f}" for value in np.diff(clocks, axis=0).ravel()]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        cells = [name, *seconds, f"{peak:.0f}", *(f"{value:.4f}" for value in metrics[:4])]
        print(f"| {' | '.join(cells)} |", flush=True)
        del model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["recency", "protocols", "scale"])
    parser.add_argument(
        "--data", required=True, type=Path, help=".inter, also as .xz; protocols: .npz; recency: with ratings and times"
    )
    parser.add_argument("--test", type=Path, help="scale: LightGCN's file of the test part")
    parser.add_argument("--models", nargs="+", choices=GRIDS)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(json.dumps(environment()) + "\n")
    if options.what == "recency":
        recency(options.data, options.models or list(GRIDS))
    elif options.what == "protocols":
        protocols(options.data, options.models or list(GRIDS))
    else:
        at_scale(options.data, options.test, options.models or list(AT_SCALE))


if __name__ == "__main__":
    main()
