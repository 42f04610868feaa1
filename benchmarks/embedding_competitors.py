"""Who is timed by ``embeddings.py``: DDRM and HDRM, ours and the official code's, on the same embeddings.

The official code comes from checkouts of https://github.com/Polaris-JZ/DDRM (commit ad4034c) and
https://github.com/yuanmeng-cpu/HDRM (commit 9f90145) and is run as it is, on the CPU: of its ``main.py`` what comes
before the training, then its own drawing, loader, training step, scoring and test. Neither ships the train rows: it
reads a copy of the arrays in a folder of ours.
"""

from __future__ import annotations

import ast
import contextlib
import io
import itertools
import os
import sys
import types
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Optional
from unittest import mock

import numpy as np
import torch
from recbole.utils import init_seed

from recbole_diffusion import registry
from recbole_diffusion.data import pipeline
from recbole_diffusion.data.convert import PARTS, read_arrays, settings, write_split
from recbole_diffusion.model.embeddings.base_model import BaseModel, FixedBaseModel
from recbole_diffusion.model.general_recommender.hgcf import HGCF
from recbole_diffusion.pretraining import bases, pretrained_files
from recbole_diffusion.quick_start import configure
from recbole_diffusion.training.trainer import trainer_class

Keys = dict[str, Any]
CODE, MINE = "official code", "ours"
SEED = 2020
USERS_PER_BATCH = 512  # the official code's; also ours when only scoring is timed
COMMON: Keys = {
    "seed": SEED,
    "use_gpu": False,
    "state": "error",
    "topk": [10, 20, 50, 100],
    "metrics": ["Precision", "Recall", "NDCG", "MRR"],  # what the official test computes
    "valid_metric": "Recall@10",
}


class Spec(NamedTuple):
    """How a model is compared; ours has its defaults, which are the official settings for ml-1m.

    ``folder``: of the checkout, with ``main.py``; ``arguments``: those of the official script for ml-1m; ``layers``: of
    the graph convolution; ``width``: d; ``steps``: training steps of a round.
    """

    repository: str
    folder: str
    arguments: str
    layers: int
    width: int
    steps: int


_COMMON = "--dataset=ml-1m --act=relu --beta=0 --lr=1e-5 --diff_lr=1e-3 --steps=50 --dims=[200,1100]"
SPECS: dict[str, Spec] = {
    "DDRM": Spec(
        "Polaris-JZ/DDRM at ad4034c",
        "DDRM_LightGCN",
        f"{_COMMON} --alpha=0.1 --sampling_steps=62 --noise_scale=1e-2 --noise_min=1e-4 --noise_max=1e-3",
        layers=2,
        width=64,
        steps=10,
    ),
    "HDRM": Spec(
        "yuanmeng-cpu/HDRM at 9f90145",
        "hdrm",
        f"{_COMMON} --alpha=0.05 --sampling_steps=50 --noise_scale=1e-5 --noise_min=1e-5 --noise_max=1e-4",
        layers=3,
        width=512,
        steps=1,
    ),
}


class Files(NamedTuple):
    """What the competitors read: RecBole's data set ``name`` under ``folder``, the official arrays, the embeddings."""

    name: str
    folder: str
    arrays: str
    table: str


def write_files(source: Path, folder: Path) -> Files:
    """The split in both forms; the embeddings follow (:func:`write_table`)."""
    files = Files(source.stem, str(folder / "data"), str(folder / "arrays"), "")
    write_split(source, files.folder, files.name)
    Path(files.arrays).mkdir()
    arrays = read_arrays(source)
    for part in PARTS:
        np.save(Path(files.arrays) / f"{part}_list.npy", arrays[part].astype(np.int64))
    return files


def write_table(model: str, files: Files, width: int, tables: Optional[Path] = None) -> Files:
    """With the embeddings before the graph convolution: those of ``tables``, or random ones of this width.

    Random ones are as the official code begins: normal for DDRM, for HDRM uniform, tangent to the hyperboloid.
    """
    if tables is not None:
        with np.load(tables) as content:
            user, item = (content[name] for name in pretrained_files.OFFICIAL.values())
    else:
        parts = [np.load(Path(files.arrays) / f"{part}_list.npy") for part in PARTS]
        random = np.random.default_rng(SEED)
        user, item = (
            (random.normal(scale=0.1, size=size) if model == "DDRM" else random.uniform(-0.1, 0.1, size))
            for size in ((count, width) for count in 1 + np.max([part.max(axis=0) for part in parts], axis=0))
        )
    target = Path(files.folder) / f"table-{user.shape[1]}.npz"
    names = {f"{kind}_token": np.arange(len(each)).astype(str) for kind, each in (("user", user), ("item", item))}
    np.savez(target, user=user.astype(np.float32), item=item.astype(np.float32), **names)
    return files._replace(table=str(target))


# -- ours ----------------------------------------------------------------------------------------------------------


class Ours:
    """Our model in our trainer, with RecBole's loader, whose triples are drawn in vain: ours are, in each step."""

    name, draws_in_step = MINE, True

    def __init__(self, model: str, files: Files, steps: int, users: int) -> None:
        keys: Keys = {**COMMON, **settings(files.folder)}
        base = {"base_checkpoint": files.table, "base_config": {"n_layers": SPECS[model].layers}}
        self.config = configure(model, files.name, config_dict={**keys, **(base if model == "DDRM" else {})})
        init_seed(self.config["seed"], self.config["reproducibility"])
        self.loader, _, self.test = pipeline.prepare(self.config, pipeline.create_dataset(self.config))
        bases.attach(self.config, (self.loader, _, self.test))
        dataset = self.loader._dataset
        hyperbolic = _hyperbolic(files, keys, dataset) if model == "HDRM" else None
        self.net = self.config.model_class(self.config, dataset, hyperbolic)
        trainer = trainer_class(registry.get_trainer(self.config["MODEL_TYPE"], model, model))
        self.trainer = trainer(self.config, self.net)
        self.trainer.eval_collector.data_collect(self.loader)
        self.batches = list(itertools.islice(self.loader, steps))
        self.batch, self.interactions = self.config["train_batch_size"], len(dataset)
        self.parameters = sum(each.numel() for each in self.net.parameters())
        self.users = torch.arange(1, min(users, dataset.user_num - 1) + 1)
        self.evaluated, self.n_items = self.test.sample_size, dataset.item_num - 1

    def train(self) -> None:
        self.trainer._train_epoch(self.batches, 0)

    def draw(self) -> None:
        """An epoch's triples; this is a part of :meth:`train`."""
        for _ in range(0, self.interactions, self.batch):
            self.net.triples.draw(self.net.history, self.batch)

    def load(self) -> None:
        """An epoch's batches."""
        for _ in self.loader:
            pass

    def score(self) -> None:
        """What is kept between batches is made anew."""
        self.net.eval()
        for users in self.users.split(USERS_PER_BATCH):
            self.net.full_sort_predict({self.net.USER_ID: users})

    def evaluate(self) -> None:
        """All users at test."""
        self.trainer.evaluate(self.test, load_best_model=False)


def _hyperbolic(files: Files, keys: Keys, dataset: Any) -> BaseModel:
    """HGCF's embeddings of the table, which it would train otherwise."""
    tables: Any = pretrained_files.tables(Path(files.table), dataset)
    own = {"embedding_size": tables.item.shape[1], "n_layers": SPECS["HDRM"].layers}
    net = HGCF(configure("HGCF", files.name, config_dict={**keys, **own}), dataset)
    with torch.no_grad():
        net.points.copy_(net.space.exp0(torch.from_numpy(np.concatenate([tables.user, tables.item]))))
        user, item = (each.clone() for each in net())
    return FixedBaseModel(user, item, net.space.curvature)


# -- the official code ---------------------------------------------------------------------------------------------


class Official:
    """The official code; its loader has no workers, so that their time counts."""

    name, draws_in_step = CODE, False

    def __init__(self, model: str, files: Files, steps: int, users: int, checkout: Path) -> None:
        source = checkout / SPECS[model].folder
        with np.load(files.table) as content:
            state = {f"embedding_{kind}.weight": torch.from_numpy(content[kind]) for kind in ("user", "item")}
        width = state["embedding_item.weight"].shape[1]
        paths = [f"--data_path={files.arrays}", f"--recdim={width}", f"--layer={SPECS[model].layers}"]
        Path("pretrain_checkpoint").mkdir(exist_ok=True)  # where its main.py looks: here is a folder of ours
        torch.save(state, "pretrain_checkpoint/ml-1m_LightGCN_checkpoint.tar")
        space: Keys = {"__name__": "official_main"}
        with _runnable(source, [*SPECS[model].arguments.split(), *paths]):
            exec(_before_training(source / "main.py"), space)
        self.net, self.loss, self.dataset, self.loader = (
            space[name] for name in ("Recmodel", "bpr", "dataset", "train_loader")
        )
        if model == "HDRM":  # its main.py has no path to load from
            points = {name: self.net.manifold.expmap0(table, self.net.c) for name, table in state.items()}
            self.net.load_state_dict(points)
        for each in self.net.parameters():
            each.requires_grad = False
        self.networks = [space["user_reverse_model"], space["item_reverse_model"]]
        self.diffusion, self.test = space["diffusion"], space["Procedure"].Test_all
        if steps:
            self.draw()
        self.batches = list(itertools.islice(self.loader, steps)) if steps else []
        self.batch, self.interactions = self.loader.batch_size, len(self.dataset)
        self.parameters = sum(each.numel() for network in self.networks for each in network.parameters())
        known = np.array(list(self.dataset.test_dict))
        self.users = known[np.linspace(0, len(known) - 1, min(users, len(known))).astype(int)]
        self.evaluated, self.n_items = len(self.users), int(self.dataset.m_items)

    def train(self) -> None:
        for module in (self.net, *self.networks):
            module.train()
        for number, batch in enumerate(self.batches):
            self.loss.call_bpr(*batch, number)

    def draw(self) -> None:
        self.dataset.get_pair_bpr()

    def load(self) -> None:
        for _ in self.loader:
            pass

    @torch.no_grad()
    def score(self) -> None:
        for module in (self.net, *self.networks):
            module.eval()
        for start in range(0, len(self.users), USERS_PER_BATCH):
            users = self.users[start : start + USERS_PER_BATCH]
            items = [self.dataset.allPos[user] for user in users]
            self.net.getUsersRating(torch.from_numpy(users), items, *self.networks, self.diffusion)

    def evaluate(self) -> None:
        """Its test, of the chosen users. It fails where their number is a multiple of its batch."""
        part = SimpleNamespace(
            test_dict={user: self.dataset.test_dict[user] for user in self.users},
            getUserPosItems=self.dataset.getUserPosItems,
            getUserValidItems=self.dataset.getUserValidItems,
        )
        self.test(part, self.net, *self.networks, self.diffusion, 0, flag=1)


def lacking(model: str, checkout: Path) -> bool:
    """Whether the official ``main.py`` is not there."""
    return not (checkout / SPECS[model].folder / "main.py").is_file()


def _before_training(main: Path) -> types.CodeType:
    """All that comes before the ``try`` with the loop over epochs."""
    body = ast.parse(main.read_text(encoding="utf-8")).body
    place = next(place for place, statement in enumerate(body) if isinstance(statement, ast.Try))
    return compile(ast.Module(body=body[:place], type_ignores=[]), str(main), "exec")


@contextlib.contextmanager
def _runnable(source: Path, arguments: Sequence[str]) -> Iterator[None]:
    """Arguments and import path; a loader without workers; no GPU; nothing printed, nothing left in the checkout.

    ``tensorboardX`` is imported and not used. Once per process: both repositories have modules of the same names.
    """
    loader = torch.utils.data.DataLoader
    board: Any = types.ModuleType("tensorboardX")
    board.SummaryWriter = object
    sys.modules.setdefault("tensorboardX", board)

    def plain_loader(dataset: Any, batch_size: int, shuffle: bool, **_: Any) -> Any:
        return loader(dataset, batch_size=batch_size, shuffle=shuffle)

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, "argv", ["main.py", *arguments]))
        stack.enter_context(mock.patch.object(sys, "path", [str(source), *sys.path]))
        stack.enter_context(mock.patch.object(sys, "dont_write_bytecode", True))
        stack.enter_context(mock.patch.dict(os.environ))
        stack.enter_context(mock.patch.object(torch.cuda, "is_available", return_value=False))
        stack.enter_context(mock.patch.object(torch.utils.data, "DataLoader", plain_loader))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield
