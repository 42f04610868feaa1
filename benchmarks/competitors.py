"""Who is timed by ``speed.py``: each of our four models, RecBole's and the official code's, and at which settings.

The official code comes from a checkout of https://github.com/YiyanXu/DiffRec (commit d35a6c6) and is run as it is,
its ``main.py`` in three pieces: what comes before the training loop, the loop over an epoch's batches, the evaluation
on the part ``valid``.

All cluster the same item embeddings, those that the official repository ships: ours reads them from a file, the other
two ask a package that is not installed here, and get the labels that ours would draw.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import os
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple
from unittest import mock

import numpy as np
import scipy.sparse
import torch
from recbole.config import Config as RecBoleConfig
from recbole.data import create_dataset as recbole_create_dataset
from recbole.data import data_preparation
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.model import general_recommender as recbole_models
from recbole.trainer import Trainer
from recbole.utils import init_seed

from recbole_diffusion import registry
from recbole_diffusion.data import pipeline
from recbole_diffusion.data.convert import settings, write_split
from recbole_diffusion.model.embeddings import clusters
from recbole_diffusion.pretraining import bases
from recbole_diffusion.quick_start import configure
from recbole_diffusion.training.trainer import trainer_class

Task = Callable[[], object]
Keys = dict[str, Any]
NAME = "ml-1m_clean"
BATCH = 400
SEED = 1
COMMON: Keys = {
    "seed": SEED,
    "use_gpu": False,
    "state": "error",
    "topk": [10, 20],
    "metrics": ["Recall", "NDCG"],
    "valid_metric": "Recall@20",
    "train_neg_sample_args": None,
}
#: The official training of ml-1m_clean; our defaults hold the rest.
OURS: Keys = {"learning_rate": 1e-3, "learner": "adamw", "weight_decay": 0.0, "train_batch_size": BATCH}
#: RecBole's training, which is not in its models' files.
RECBOLE_TRAINING: Keys = {"learning_rate": 1e-3, "learner": "adam", "weight_decay": 0.0, "train_batch_size": 2048}
#: The official main.py's options: of all four, of the models on rows, of those on latents, of those with time.
_PROCESS = "--emb_size=10 --mean_type=x0 --steps=40 --noise_schedule=linear-var --noise_scale=0.005 --noise_min=0.005"
_OF_ROWS = "--lr=1e-3 --weight_decay=0 --dims=[200,600] --noise_max=0.01"
_OF_LATENTS = (
    "--lr1=1e-3 --lr2=5e-4 --wd1=0 --wd2=0 --n_cate=2 --in_dims=[300] --out_dims=[] --mlp_dims=[300] --lamda=0.03 "
    "--noise_max=0.02"
)
_OF_TIME = "--w_min=0.1 --w_max=1"
_TIME: Keys = {"time-aware": True, "load_col": {"inter": ["user_id", "item_id", "timestamp"]}}


class Spec(NamedTuple):
    """How one of our models is compared. Keys are RecBole's, arguments the official ``main.py``'s.

    ``small``: RecBole's default settings in our keys; ``typed``: the official ones in RecBole's, whose default of
    eval_batch_size stays; ``always``: what RecBole's model needs to be the same one as ours.
    """

    folder: str
    recbole: type
    arguments: str
    small: Keys
    typed: Keys
    always: Keys


_SMALL: Keys = {**RECBOLE_TRAINING, "noise_schedule": "linear", "noise_max": 0.005, "steps": 5, "dims_dnn": [300]}
_TYPED: Keys = {**OURS, "noise_schedule": "linear-var", "noise_scale": 0.005, "noise_min": 0.005, "steps": 40}
_SMALL_ROWS: Keys = {**_SMALL, "noise_scale": 0.001, "noise_min": 0.0005}
_TYPED_ROWS: Keys = {**_TYPED, "noise_max": 0.01, "dims_dnn": [600, 200, 600]}
_SMALL_LATENTS: Keys = {
    **_SMALL,
    "noise_scale": 0.1,
    "noise_min": 0.001,
    "beta_fixed": True,
    "n_cate": 1,
    "anneal_steps": 1000,
    "mlp_learning_rate": None,
}
_TYPED_LATENTS: Keys = {
    **_TYPED,
    "noise_max": 0.02,
    "beta_fixed": False,
    "dims_dnn": [300],
    "n_cate": 2,
    "in_dims": [300],
    "out_dims": [],
    "anneal_steps": 500,
}
SPECS: dict[str, Spec] = {
    "DiffRec": Spec("DiffRec", recbole_models.DiffRec, _OF_ROWS, _SMALL_ROWS, _TYPED_ROWS, {}),
    "LDiffRec": Spec("L-DiffRec", recbole_models.LDiffRec, _OF_LATENTS, _SMALL_LATENTS, _TYPED_LATENTS, {}),
    "TDiffRec": Spec("T-DiffRec", recbole_models.DiffRec, f"{_OF_ROWS} {_OF_TIME}", _SMALL_ROWS, _TYPED_ROWS, _TIME),
    "LTDiffRec": Spec(
        "LT-DiffRec", recbole_models.LDiffRec, f"{_OF_LATENTS} {_OF_TIME}", _SMALL_LATENTS, _TYPED_LATENTS, _TIME
    ),
}

#: Names of the competitors.
MINE, MINE_SMALL = "ours, official settings", "ours, RecBole's default settings"
RECBOLE, RECBOLE_TYPED = "RecBole's, its defaults", "RecBole's, official settings"
CODE = "official code"


class Competitor(NamedTuple):
    """``evaluate`` ranks the items for ``users`` users; ``every``: in one round of how many it is timed.

    ``trainer`` with its model and ``dataset``, the train split: not of the official code.
    """

    name: str
    parameters: int
    epoch: Task
    evaluate: Task
    users: int
    every: int = 1
    trainer: Any = None
    dataset: Any = None


class Files(NamedTuple):
    """Where everything lies: the ``folder`` of RecBole's data sets, the official arrays', our table of embeddings."""

    folder: Path
    arrays: Path
    table: Path


def write_files(file: Path, folder: Path) -> Files:
    """All that the competitors read, from the file of the split."""
    files = Files(folder / "data", folder / "arrays", folder / "embeddings.npz")
    write_split(file, files.folder, NAME)
    (files.arrays / NAME).mkdir(parents=True)
    with np.load(file) as content:
        for part in ("train", "valid", "test"):
            np.save(files.arrays / f"{part}_list.npy", content[part])
        table = content["item_emb"]
    np.save(files.arrays / NAME / "item_emb.npy", table)
    np.save(files.folder / NAME / "item_emb.npy", table)  # RecBole numbers the items of these files in the same order
    np.savez(files.table, item=table, item_token=np.arange(len(table)).astype(str))
    return files


def ours(name: str, model: str, files: Files, keys: Keys) -> Competitor:
    """Our model in our trainer."""
    own = {"pretrain": str(files.table)} if "n_cate" in SPECS[model].typed else {}
    config = configure(model, NAME, config_dict={**COMMON, **own, **keys, **settings(files.folder)})
    init_seed(config["seed"], config["reproducibility"])
    loaders = pipeline.prepare(config, pipeline.create_dataset(config))
    bases.attach(config, loaders)
    net = config.model_class(config, loaders[0]._dataset)
    trainer = trainer_class(registry.get_trainer(config["MODEL_TYPE"], model, model))(config, net)
    return _competitor(name, trainer, loaders[0], loaders[1])


def recbole(name: str, model: str, files: Files, keys: Keys, users: int) -> Competitor:
    """RecBole's model in RecBole's own configuration, loaders and trainer; ``users``: how many are ranked."""
    spec = SPECS[model]
    settled = {**COMMON, **keys, **spec.always, **settings(files.folder)}
    with mock.patch.object(sys, "argv", sys.argv[:1]), mock.patch.dict(os.environ):  # it reads one and sets the other
        config = RecBoleConfig(spec.recbole, NAME, config_dict=settled)
    init_seed(config["seed"], config["reproducibility"])
    train, valid, _ = data_preparation(config, recbole_create_dataset(config))
    with _stubs(), contextlib.redirect_stdout(io.StringIO()):
        net = spec.recbole(config, train._dataset)
    return _competitor(name, Trainer(config, net), train, _first_users(config, valid, users), every=2)


def _competitor(name: str, trainer: Any, train: Any, valid: Any, every: int = 1) -> Competitor:
    trainer.eval_collector.data_collect(train)
    return Competitor(
        name,
        sum(each.numel() for each in trainer.model.parameters()),
        lambda: trainer._train_epoch(train, 0),
        lambda: trainer.evaluate(valid, load_best_model=False),
        valid.sample_size,
        every,
        trainer,
        train._dataset,
    )


def _first_users(config: Any, loader: Any, count: int) -> Any:
    """RecBole's loader with ``count`` users, evenly spread: the cost of its one-user batches does not vary."""
    part = loader._dataset
    users = loader.uid_list.numpy()
    if count >= len(users):
        return loader
    chosen = users[np.linspace(0, len(users) - 1, count).astype(int)]
    inside = np.isin(part.inter_feat[part.uid_field].numpy(), chosen)
    return FullSortEvalDataLoader(config, part.copy(part.inter_feat[torch.from_numpy(inside)]), loader._sampler)


# -- the official code ---------------------------------------------------------------------------------------------


def official_arguments(model: str) -> list[str]:
    """The official settings of ml-1m_clean on the command line of the model's ``main.py``; the paths come on top."""
    common = f"--dataset={NAME} --batch_size={BATCH} --sampling_steps=0 --topN=[10,20] {_PROCESS}"
    return f"{common} {SPECS[model].arguments}".split()


def official(model: str, checkout: Path, files: Files, cuda: bool = False) -> Competitor:
    """The official code at its settings. What does not run today is patched while its first piece runs."""
    source = checkout / SPECS[model].folder
    paths = [f"--data_path={files.arrays}{os.sep}"]
    if "n_cate" in SPECS[model].typed:
        paths.append(f"--emb_path={files.arrays}{os.sep}")
    if cuda:
        paths.append("--cuda")
    before, epoch, evaluation = _pieces(source / "main.py")
    space: Keys = {"__name__": "official_main"}
    with _runnable(source, [*official_arguments(model), *paths]):
        exec(before, space)
    return Competitor(
        CODE,
        space["param_num"],
        lambda: exec(epoch, space),
        lambda: exec(evaluation, space),
        space["n_user"],
    )


def _pieces(main: Path) -> list[types.CodeType]:
    """What comes before the loop over epochs; in it the loop over the batches; the first evaluation."""
    body = ast.parse(main.read_text(encoding="utf-8")).body
    place = next(place for place, statement in enumerate(body) if isinstance(statement, ast.For))
    epoch = body[place].body  # type: ignore[attr-defined]
    end = next(index for index, statement in enumerate(epoch) if isinstance(statement, ast.For))
    inner = [statement for statement in epoch[: end + 1] if not isinstance(statement, ast.If)]  # If: the early stop
    due = next(statement for statement in epoch[end:] if isinstance(statement, ast.If))
    pieces = (body[:place], inner, due.body[:1])
    return [compile(ast.Module(body=part, type_ignores=[]), str(main), "exec") for part in pieces]


@contextlib.contextmanager
def _runnable(source: Path, arguments: Sequence[str]) -> Iterator[None]:
    """Arguments and import path; a loader without workers and pinned memory; missing packages; scipy's ``.A``."""
    loader = torch.utils.data.DataLoader

    def plain_loader(dataset: Any, batch_size: int, shuffle: bool, **_: Any) -> Any:
        return loader(dataset, batch_size=batch_size, shuffle=shuffle)

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, "argv", ["main.py", *arguments]))
        stack.enter_context(mock.patch.object(sys, "path", [str(source), *sys.path]))
        stack.enter_context(mock.patch.dict(os.environ))
        stack.enter_context(_stubs())
        stack.callback(_forget_modules)
        stack.enter_context(mock.patch.object(torch.utils.data, "DataLoader", plain_loader))
        if not hasattr(scipy.sparse.csr_matrix, "A"):
            dense = property(lambda self: self.toarray())
            stack.enter_context(mock.patch.object(scipy.sparse.csr_matrix, "A", dense, create=True))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        yield


def _forget_modules() -> None:
    """Each sub-project has modules of these names."""
    for name in list(sys.modules):
        if name.split(".")[0] in {"models", "data_utils", "evaluate_utils"}:
            del sys.modules[name]


@contextlib.contextmanager
def _stubs() -> Iterator[None]:
    """Stand in for ``bottleneck``, which is imported and not used, and for ``kmeans_pytorch`` with our labels."""
    kmeans = types.ModuleType("kmeans_pytorch")
    kmeans.kmeans = _our_labels  # type: ignore[attr-defined]
    modules = {"kmeans_pytorch": kmeans}
    if importlib.util.find_spec("bottleneck") is None:
        modules["bottleneck"] = types.ModuleType("bottleneck")
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


def _our_labels(X: torch.Tensor, num_clusters: int, **_: Any) -> tuple[torch.Tensor, None]:
    return torch.from_numpy(clusters.kmeans(X.numpy(), num_clusters, SEED)), None
