"""The official DreamRec on Zhihu at given epochs: the test part with and without the rows that have no history.

    python benchmarks/zhihu.py --data FOLDER --dreamrec CHECKOUT [--epochs 5 10 20] [--seed 100] [--rows all|history]

FOLDER holds ``train_data.df`` and ``test_data.df`` of Zhihu. They are pickles: give only files that you trust. CHECKOUT
is a clone of YangZhengyi98/DreamRec at 454133c. The settings are those of the official command, which
``properties/paper/DreamRec_zhihu.yaml`` repeats. Ours at the same epoch is ``recbole-diffusion reproduce DreamRec zhihu
--data FOLDER --epochs=E --eval_step=E``.

Model, process, loss and ``predict`` are the official code's. As there, an epoch is ``rows // 256`` batches, each drawn
anew from all training rows. Two things differ: the test part is ranked as a whole, where the official code drops the
last partial batch, and in batches of 1,000; and it is ranked once more without dropout, which the official code leaves
on. ``--rows history`` trains on the rows with a history alone, which are ours. Popularity counts the targets of the
training rows. Markdown, on stdout.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import NamedTuple, Optional
from unittest import mock

import numpy as np
import pandas as pd
import torch
from sequence_competitors import runnable
from torch import Tensor

CUTOFFS = (5, 10, 20)
STEPS, GUIDANCE, LEARNING_RATE = 500, 4.0, 0.01
BATCH, WIDTH, DROPOUT, DROPPED_CONDITIONS = 256, 64, 0.1, 0.1
RANKED_AT_ONCE = 1000


class Part(NamedTuple):
    """Rows of one file: ``sequences`` (n, L), right-padded, ``lengths`` (n,), ``targets`` (n,)."""

    sequences: Tensor
    lengths: Tensor
    targets: Tensor

    def rows(self, which: Tensor) -> Part:
        """Select rows by their numbers or a mask."""
        return Part(*(column[which] for column in self))


def read(file: Path) -> Part:
    """Read a frame, with the official names of the columns or with those of the copies."""
    frame = pd.read_pickle(file)
    lengths, targets = ("len_seq", "next") if "next" in frame else ("seq_len", "tgt")
    columns = (np.array(frame["seq"].tolist()), frame[lengths].to_numpy(), frame[targets].to_numpy())
    return Part(*(torch.as_tensor(column.astype(np.int64)) for column in columns))


class Official:
    """The official model and process, with the settings of the official command."""

    def __init__(self, checkout: Path, items: int, length: int, seed: int) -> None:
        words = ["DreamRec.py", "--timesteps", str(STEPS), "--beta_sche", "linear", "--random_seed", str(seed)]
        with runnable(checkout / "DreamRec.py"), mock.patch("sys.argv", words):  # its import parses them and seeds
            import DreamRec as code  # type: ignore[import-not-found]
        device = code.device = torch.device("cpu")
        self.net = code.Tenc(WIDTH, items, length, DROPOUT, "mlp1", device)
        self.process = code.diffusion(STEPS, 1e-4, 0.02, GUIDANCE)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=LEARNING_RATE, eps=1e-8, weight_decay=0)

    def epoch(self, train: Part) -> None:
        """Train on ``rows // 256`` batches, each without repeats in itself."""
        self.net.train()
        for _ in range(len(train.targets) // BATCH):
            batch = train.rows(torch.as_tensor(np.random.choice(len(train.targets), BATCH, replace=False)))
            self.optimizer.zero_grad()
            condition = self.net.cacu_h(batch.sequences, batch.lengths, DROPPED_CONDITIONS)
            t = torch.randint(0, STEPS, (BATCH,))
            loss = self.process.p_losses(self.net, self.net.cacu_x(batch.targets), condition, t)[0]
            loss.backward()
            self.optimizer.step()

    @torch.no_grad()
    def rank(self, test: Part, dropout: bool) -> tuple[Tensor, Tensor]:
        """Ranks of the targets, (n,), and each row's first 20 items, (n, 20)."""
        self.net.train(dropout)
        ranks, lists = [], []
        for rows in torch.arange(len(test.targets)).split(RANKED_AT_ONCE):
            part = test.rows(rows)
            scores = self.net.predict(part.sequences, part.lengths.numpy(), self.process)
            ranks.append(target_ranks(scores, part.targets))
            lists.append(scores.topk(max(CUTOFFS)).indices)
        return torch.cat(ranks), torch.cat(lists)


def target_ranks(scores: Tensor, targets: Tensor) -> Tensor:
    """Number of items that score higher than the target, (n,)."""
    return (scores > scores.gather(1, targets[:, None])).sum(dim=1)


def cells(ranks: Tensor) -> str:
    """Hit ratio and NDCG at the cutoffs in %, for a table; ranks from 0, (n,)."""
    gain = 1 / torch.log2(ranks.double() + 2)
    hits = [f"{100 * (ranks < k).double().mean():.2f}" for k in CUTOFFS]
    ndcg = [f"{100 * (gain * (ranks < k)).mean():.3f}" for k in CUTOFFS]
    return f"{' / '.join(hits)} | {' / '.join(ndcg)}"


def print_row(name: str, ranks: Tensor, history: Tensor, items: str = "") -> None:
    """Print one row of the table for each set of test rows."""
    print(f"| {name} | with a history | {cells(ranks[history])} | {items} |")
    print(f"| {name} | all | {cells(ranks)} | |", flush=True)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train_data.df and test_data.df")
    parser.add_argument("--dreamrec", type=Path, required=True, help="a clone of YangZhengyi98/DreamRec at 454133c")
    parser.add_argument("--epochs", type=int, nargs="+", default=[5, 10, 20], help="epochs at which the test is ranked")
    parser.add_argument("--seed", type=int, default=100, help="100: that of the official code")
    parser.add_argument("--rows", choices=["all", "history"], default="all", help="training rows; all: official")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    train, test = read(options.data / "train_data.df"), read(options.data / "test_data.df")
    items = int(train.sequences.max())  # the padding item is the last
    if options.rows == "history":
        train = train.rows(train.sequences[:, 0] != items)
    history = test.sequences[:, 0] != items
    rows = f"{len(train.targets):,} training rows, {len(test.targets):,} test rows"
    print(f"{rows}, {int(history.sum()):,} of them with a history.\n")
    print("| ranking | test rows | HR@5 / 10 / 20 | NDCG@5 / 10 / 20 | items in the top 20 |\n|---|---|---|---|---|")
    counts = torch.bincount(train.targets, minlength=items)
    print_row("popularity", target_ranks(counts.expand(len(test.targets), -1), test.targets), history)
    official = Official(options.dreamrec.resolve(), items, train.sequences.shape[1], options.seed)
    seconds = 0.0
    for epoch in range(1, max(options.epochs) + 1):
        start = process_time()
        official.epoch(train)
        seconds += process_time() - start
        for dropout in (True, False) if epoch in options.epochs else ():
            ranks, lists = official.rank(test, dropout)
            name = f"epoch {epoch}, dropout {'on' if dropout else 'off'}"
            print_row(name, ranks, history, str(len(lists[history].unique())))
    print(f"\n{seconds / max(options.epochs):.1f} processor's seconds per epoch.")


if __name__ == "__main__":
    main()
