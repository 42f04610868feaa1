"""Graph filters and EASE beside the official code and RecBole's EASE: fitting, and the scores of all users.

    python benchmarks/filter_competitors.py --data PATH/ml-1m_clean.npz [--bspm CHECKOUT] [--sgfcf CHECKOUT]
        [--turbo CHECKOUT]

Processor seconds of one thread. Ours and theirs alternate; a ratio is the median of the ratios of neighbouring
measurements, which a busy machine slows down alike. Checkouts: jeongwhanchoi/BSPM at c5cdcfa, tanatosuu/sgfcf at
118ca84, jindeok/Turbo-CF at 233f7f4. The last two are scripts, run up to their scores. BSPM needs torchdiffeq; where
sparsesvd is not installed, scipy's svds takes its place, in their time only. RecBole's EASE is always there. Markdown,
on stdout.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import statistics
import sys
import tempfile
import time
import types
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional
from unittest import mock

import numpy as np
import pandas as pd
import torch
from filters import matrix_of, model_on
from recbole.model.general_recommender import EASE
from scipy.sparse import csr_matrix, save_npz
from scipy.sparse.linalg import svds

from recbole_diffusion.training.run_folder import environment

REPEATS = 3
#: The settings of both sides, in the official names.
BSPM_OFFICIAL = {
    "solver_idl": "euler",
    "solver_blr": "euler",
    "solver_shr": "rk4",
    "idl_beta": 0.2,
    "factor_dim": 256,
    "T_idl": 1.0,
    "K_idl": 1,
    "T_b": 1.0,
    "K_b": 1,
    "T_s": 2.5,
    "K_s": 1,
    "final_sharpening": True,
    "sharpening_off": False,
    "t_point_combination": False,
}


class Data(NamedTuple):
    """The train pairs (n, 2), their matrix, and a folder for files."""

    pairs: np.ndarray
    matrix: csr_matrix
    folder: Path


class Work(NamedTuple):
    """Fit, which returns a state; and score, which takes it. ``score`` is None where ``fit`` does both."""

    fit: Callable[[], Any]
    score: Optional[Callable[[Any], object]]


def batches(n_users: int, size: int = 256) -> Iterator[np.ndarray]:
    """The users in batches."""
    for start in range(0, n_users, size):
        yield np.arange(start, min(start + size, n_users))


def ours(name: str, data: Data, settings: dict[str, Any]) -> Work:
    def score(model: Any) -> None:
        for users in batches(data.matrix.shape[0]):
            model.full_sort_predict({"user": torch.from_numpy(users + 1)})

    return Work(lambda: model_on(name, data.pairs, data.matrix.shape, settings), score)


class _Config(defaultdict[str, Any]):
    """Settings with the attribute that RecBole's EASE reads."""

    device = torch.device("cpu")


def recbole_ease(data: Data) -> Work:
    """RecBole's EASE on the same rows, with its padding row and column."""
    padded = csr_matrix((data.matrix.data, (data.pairs[:, 0] + 1, data.pairs[:, 1] + 1)))
    fields = {"USER_ID_FIELD": "user", "ITEM_ID_FIELD": "item", "NEG_PREFIX": "neg_", "reg_weight": 1000.0}
    config = _Config(lambda: None, {**fields, "device": torch.device("cpu")})
    sizes = dict(zip(("user", "item"), padded.shape))
    dataset = types.SimpleNamespace(num=sizes.__getitem__, inter_matrix=lambda form: padded)

    def score(model: Any) -> None:
        for users in batches(data.matrix.shape[0]):
            model.full_sort_predict({"user": torch.from_numpy(users + 1)})

    return Work(lambda: EASE(config, dataset), score)


def official_bspm(checkout: Path, data: Data) -> Work:
    """Their class for the CPU, in their batches of users."""
    stubs = {"world": types.ModuleType("world"), "dataloader": types.ModuleType("dataloader")}
    stubs["world"].cprint = print  # type: ignore[attr-defined]
    stubs["dataloader"].BasicDataset = object  # type: ignore[attr-defined]
    try:
        importlib.import_module("sparsesvd")
    except ImportError:
        stubs["sparsesvd"] = types.ModuleType("sparsesvd")
        stubs["sparsesvd"].sparsesvd = _svds  # type: ignore[attr-defined]
        print("sparsesvd is not installed: scipy's svds in its place\n")
    with mock.patch.dict(sys.modules, stubs), on_path(checkout / "bspm"):
        module = importlib.import_module("model")

    def fit() -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            model = module.BSPM(data.matrix, BSPM_OFFICIAL)
            model.train()
        return model

    def score(model: Any) -> None:
        for users in batches(data.matrix.shape[0]):
            model.getUsersRating(users, "ml-1m")

    return Work(fit, score)


def _svds(matrix: csr_matrix, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    left, values, right = svds(matrix, rank)
    return left.T, values, right


def official_sgfcf(checkout: Path, data: Data) -> Work:
    """Their script without the individual part, on the CPU, up to the scores of all users."""
    source = (checkout / "sgfcf_wo_igf.py").read_text()
    n_users, n_items = data.matrix.shape
    for old, new in {
        "torch.cuda.set_device(1)": "",
        "torch.cuda.empty_cache()": "",
        "5551,16980": f"{n_users},{n_items}",
        ".cuda()": "",
    }.items():
        assert old in source, f"{old} is not in this version of the script"
        source = source.replace(old, new)
    code = compile(source.rstrip()[: -len("test()")], "sgfcf", "exec")
    folder = data.folder / "citeulike"
    folder.mkdir()
    for part in ("train", "test"):
        pd.DataFrame(data.pairs, columns=["u", "i"]).to_csv(folder / f"{part}.csv", index=False)
    words = ["x", "--dataset", "citeulike", "--k", "100", "--alpha", "100", "--eps", "0.5", "--gamma", "1"]
    return Work(lambda: run_code(code, words, data.folder), None)


def official_turbo(checkout: Path, data: Data) -> Work:
    """Their script, up to the scores of all users; its metrics are stubs."""
    folder = data.folder / "dataset"
    folder.mkdir()
    for part in ("train", "test"):
        save_npz(folder / f"ml-1m_{part}.npz", data.matrix)
    code = compile((checkout / "main.py").read_text(), "turbo", "exec")
    words = ["x", "--dataset", "ml-1m", "--alpha", "0.3", "--power", "1", "--filter", "2"]

    def fit() -> Any:
        with on_path(checkout):
            utils = importlib.import_module("utils")
            with mock.patch.multiple(utils, recall_at_k=lambda *_, **__: 0.0, ndcg_at_k=lambda *_, **__: 0.0):
                return run_code(code, words, data.folder)

    return Work(fit, None)


def run_code(code: Any, words: list[str], folder: Path) -> dict[str, Any]:
    """Run a script in a folder, with its command line; its output is dropped."""
    names: dict[str, Any] = {"__name__": "__main__"}
    here = Path.cwd()
    os.chdir(folder)
    try:
        with mock.patch.object(sys, "argv", words), contextlib.redirect_stdout(io.StringIO()):
            exec(code, names)
    finally:
        os.chdir(here)
    return names


@contextlib.contextmanager
def on_path(folder: Path) -> Iterator[None]:
    """Import from a folder first, and forget its modules of common names afterwards."""
    with mock.patch.object(sys, "path", [str(folder), *sys.path]):
        yield
    for name in ("model", "utils"):
        sys.modules.pop(name, None)


def seconds(work: Work) -> tuple[float, float]:
    """Processor seconds to fit, and to fit and score."""
    start = time.process_time()
    state = work.fit()
    fitted = time.process_time()
    if work.score is not None:
        work.score(state)
    return fitted - start, time.process_time() - start


def compare(name: str, mine: Work, theirs: Work, label: str) -> None:
    """Print a row: medians, and the median of the ratios."""
    pairs = [(seconds(mine), seconds(theirs)) for _ in range(REPEATS)]
    cells = [name, label]
    for place in (0, 1) if theirs.score is not None else (1,):
        own, other = (statistics.median(pair[side][place] for pair in pairs) for side in (0, 1))
        ratio = statistics.median(pair[1][place] / pair[0][place] for pair in pairs)
        cells += [f"{own:.2f}", f"{other:.2f}", f"{ratio:.1f}"]
    if theirs.score is None:
        cells[2:2] = ["", "", ""]
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="ml-1m_clean.npz")
    for name in ("bspm", "sgfcf", "turbo"):
        parser.add_argument(f"--{name}", type=Path, help="a checkout; left out without")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(environment()) + "\n")
    arrays = np.load(options.data)
    shape = tuple(int(max(arrays[part][:, side].max() for part in ("train", "valid", "test"))) + 1 for side in (0, 1))
    train = arrays["train"].astype(np.int64)
    with tempfile.TemporaryDirectory() as folder:
        data = Data(train, matrix_of(train, (shape[0], shape[1])), Path(folder))
        print("| ours | theirs | fit, ours | theirs | ratio | fit and score, ours | theirs | ratio |")
        print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        compare("TEASE", ours("TEASE", data, {"reg_weight": 1000.0}), recbole_ease(data), "RecBole's EASE")
        if options.bspm:
            settings = {"ideal_cutoff": 256, "ideal_weight": 0.2, "sharpening_time": 2.5}
            compare("BSPM", ours("BSPM", data, settings), official_bspm(options.bspm, data), "official")
        if options.sgfcf:
            settings = {"alpha": 100.0, "eps": 0.5, "ideal_cutoff": 100, "gamma": 1.0}
            compare("SGFCF", ours("SGFCF", data, settings), official_sgfcf(options.sgfcf, data), "official")
        if options.turbo:
            settings = {"alpha": 0.3, "filter": "second"}
            compare("TurboCF", ours("TurboCF", data, settings), official_turbo(options.turbo, data), "official")


if __name__ == "__main__":
    main()
