"""A whole evaluation of DreamRec and PreferDiff: ours, the official code, and the bare product with the items.

    python benchmarks/guided_ranking.py [--dreamrec CHECKOUT] [--preferdiff CHECKOUT] [--items 12101] [--batch 512]
        [--batches 4] [--official-rows 256]

No data is needed: weights and sequences of ten items are random. An evaluation calls ``eval()`` and gives ``batches``
batches of users their scores of all items and their first 20 items. The official code, whose cost is the same for every
user, ranks ``official-rows`` users in batches of 128. One process, the processor's seconds, per 1,024 users; the lowest
of three rounds for ours. Checkouts are those of ``sequences.py``. Markdown, on stdout.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from types import SimpleNamespace
from typing import Any, Callable, Optional
from unittest import mock

import torch
from sequence_competitors import runnable
from torch import Tensor

from recbole_diffusion.model.interventions import StoppedAfter
from recbole_diffusion.model.sequential_recommender.dreamrec import DreamRec
from recbole_diffusion.model.sequential_recommender.preferdiff import PreferDiff

LENGTH, UNIT, TOP = 10, 1024, 20
FIELDS = {"USER_ID_FIELD": "user", "ITEM_ID_FIELD": "item", "LIST_SUFFIX": "_list", "ITEM_LIST_LENGTH_FIELD": "length"}
SHARED: dict[str, Any] = {
    **FIELDS,
    **{"NEG_PREFIX": "neg_", "device": "cpu", "eval_seed": 1, "compile": False, "use_state": True},
    **{"MAX_ITEM_LIST_LENGTH": LENGTH, "dropout_prob": 0.1, "guidance_dropout": 0.1, "guidance": 4.0},
    **{"noise_schedule": "linear", "noise_min": 1e-4, "noise_max": 0.02, "eval_noise": True, "rounding": "dot"},
    **{"denoiser": "linear", "detach_target": False, "freeze_items": False, "ce_weight": 0.0, "inference_steps": None},
}
DREAMREC = {"hidden_size": 64, "n_heads": 1, "steps": 500}
PREFERDIFF = {
    **{"hidden_size": 512, "n_heads": 2, "steps": 2000, "inference_steps": 21, "ddim_grid": "official"},
    **{"distance": "cosine", "lamda": 0.4, "gamma": 5.0, "pair_loss": "batch", "negatives": "batch_mean"},
}


def official_dreamrec(checkout: Path, items: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The official ``predict``, without dropout."""
    words = ["DreamRec.py", "--timesteps", str(DREAMREC["steps"]), "--beta_sche", "linear"]
    with runnable(checkout / "DreamRec.py"), mock.patch("sys.argv", words):
        import DreamRec as code  # type: ignore[import-not-found]
    code.device = torch.device("cpu")
    net = code.Tenc(DREAMREC["hidden_size"], items, LENGTH, 0.1, "mlp1", code.device).eval()
    process = code.diffusion(DREAMREC["steps"], 1e-4, 0.02, SHARED["guidance"])
    return lambda sequences, lengths: net.predict(sequences - 1, lengths.numpy(), process)


def official_preferdiff(checkout: Path, items: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The official sampler and inner products."""
    with runnable(checkout / "main.py"):
        from models.PreferDiff._model import PreferDiff as Code  # type: ignore[import-not-found]
    same = {"hidden_size": 512, "num_heads": 2, "dropout": 0.1, "w": SHARED["guidance"], "timesteps": 2000, "p": 0.1}
    schedule = {"beta_sche": "linear", "beta_start": 1e-4, "beta_end": 0.02, "ddim_step": 100}
    loss = {"mode": "neg", "gamma": 5.0, "lamda": 0.4, "sample_func": "batch", "ab": "iids", "loss_type": "cosine"}
    shape = {"layer_num": 1, "item_num": items, "max_seq_length": LENGTH, "device": "cpu"}
    net = Code({**same, **schedule, **loss, **shape}).eval()

    def scores(sequences: Tensor, lengths: Tensor) -> Tensor:
        batch = {"item_seqs": sequences, "seq_lengths": lengths, "labels": sequences[:, 0]}
        states: Tensor = net.diff.sample(net, net.get_representation(batch))
        return states @ net.get_all_embeddings().T

    return scores


def seconds(evaluate: Callable[[], int], rounds: int) -> float:
    """The lowest processor's seconds per 1,024 users; ``evaluate`` returns its number of users."""
    timed = []
    for _ in range(rounds):
        start = process_time()
        users = evaluate()
        timed.append((process_time() - start) * UNIT / users)
    return min(timed)


@torch.no_grad()
def compare(name: str, net: Any, official: Optional[Callable[[Tensor, Tensor], Tensor]], options: Any) -> None:
    """Print the rows of one model."""
    torch.manual_seed(1)
    rows = max(options.batch, options.official_rows)
    sequences, lengths = torch.randint(1, options.items + 1, (rows, LENGTH)), torch.full((rows,), LENGTH)
    batch = {net.ITEM_SEQ: sequences[: options.batch], net.ITEM_SEQ_LEN: lengths[: options.batch]}
    states, table = torch.randn(options.batch, net.item_embedding.embedding_dim), net.item_embedding.weight

    def ours() -> int:
        net.eval()
        for _ in range(options.batches):
            net.full_sort_predict(batch).topk(TOP)
        return options.batches * options.batch

    def product(and_top: bool) -> int:
        for _ in range(options.batches):
            scores = states @ table.T
            if and_top:
                scores.topk(TOP)
        return options.batches * options.batch

    def of_official() -> int:
        assert official is not None
        for part in torch.arange(options.official_rows).split(128):
            official(sequences[part], lengths[part]).topk(TOP)
        return options.official_rows

    ours()
    times = {"ours": seconds(ours, 3)}
    times["product with the items and top 20"] = seconds(lambda: product(True), 3)
    times["product with the items"] = seconds(lambda: product(False), 3)
    solver, net.solver = net.solver, StoppedAfter(net.solver, torch.inf)
    times["ours, step by step"], net.solver = seconds(ours, 1), solver
    if official is not None:
        times["official code"] = seconds(of_official, 1)
    for label, value in times.items():
        ratio = f"{times['official code'] / value:.1f}" if official is not None else "–"
        print(f"| {name} | {label} | {value:.4f} | {ratio} |", flush=True)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dreamrec", type=Path)
    parser.add_argument("--preferdiff", type=Path)
    parser.add_argument("--items", type=int, default=12101)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--official-rows", type=int, default=256)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    dataset: Any = SimpleNamespace(num=lambda field: options.items + 1)
    print(f"{options.items:,} items, {options.batches} batches of {options.batch} users, torch {torch.__version__}.\n")
    print("| model | evaluation | s per 1,024 users | official : this |\n|---|---|---|---|")
    for cls, keys, checkout, make in (
        (DreamRec, DREAMREC, options.dreamrec, official_dreamrec),
        (PreferDiff, PREFERDIFF, options.preferdiff, official_preferdiff),
    ):
        torch.manual_seed(0)
        official = make(checkout.resolve(), options.items) if checkout else None
        compare(cls.__name__, cls({**SHARED, **keys}, dataset), official, options)


if __name__ == "__main__":
    main()
