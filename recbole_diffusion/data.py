"""RecBole's data sets and loaders, mended where they are wrong or slow: order in time, user-wise rows, eval batches."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from recbole.data import utils as recbole_data
from recbole.data.dataloader import FullSortEvalDataLoader, UserDataLoader
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.data.utils import get_dataloader as recbole_get_dataloader  # the original, also under enable()
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import EvaluatorType, FeatureSource, FeatureType, ModelType

from recbole_diffusion import collective, evaluation_notes, loading, registry, sequences
from recbole_diffusion.account import account_of
from recbole_diffusion.config import Config
from recbole_diffusion.model.history import RANK_FIELD, sequence_pairs
from recbole_diffusion.schema import load_yaml

#: float32 values per item that scoring one user takes: scores, RecBole's int32 matrix of positives, the model's
#: own two or three rows.
FLOATS_PER_SCORE = 6
MAX_ROWS = 1024


class UserLoader(UserDataLoader):
    """One row per user that has training interactions, shuffled; RecBole's also yields the padding user 0."""

    def __init__(self, config: Any, dataset: Any, sampler: Any, shuffle: bool = True) -> None:
        self.logger = getLogger()
        self.uid_field = dataset.uid_field
        users = torch.unique(dataset.inter_feat[self.uid_field])
        if config["train_padding_user"]:
            users = torch.arange(dataset.user_num)
        self.user_list = Interaction({self.uid_field: users})
        self.sample_size = len(users)
        AbstractDataLoader.__init__(self, config, dataset, sampler, shuffle=True)

    def collate_fn(self, index: list[int]) -> Interaction:
        return Interaction({self.uid_field: self.user_list[self.uid_field][torch.as_tensor(index)]})


class FullSortLoader(FullSortEvalDataLoader):
    """Full ranking with as many users at once as the memory budget holds.

    RecBole scores ``eval_batch_size // n_items`` users at once: one, on ml-1m at its default of 4096. It masks what
    users had before for general models only; here ``past`` does for sequential ones.
    """

    past: Optional[sequences.Past] = None

    def _init_batch_size_and_step(self) -> None:
        if _predicts_pairwise(self.config) and self.config["eval_users_per_batch"] is None:
            super()._init_batch_size_and_step()  # every (user, item) pair is a row there: RecBole's rule is right
            return
        self.step = users_per_batch(self.config, self._dataset.item_num)
        self.set_batch_size(self.step if self.is_sequential else self.step * self._dataset.item_num)

    def collate_fn(self, index: Any) -> Any:
        interaction, history, positive_u, positive_i = super().collate_fn(index)
        if self.past is not None:
            items = interaction[getattr(self._dataset, f"{self.iid_field}_list_field")]
            history = self.past.of(interaction[self.uid_field], items)
        return interaction, history, positive_u, positive_i


def users_per_batch(config: Any, n_items: int) -> int:
    """How many users are scored at once: the explicit key, or what ``eval_memory`` MiB hold, at most 1024."""
    if config["eval_users_per_batch"] is not None:
        return config["eval_users_per_batch"]
    budget = (config["eval_memory"] or 256) * 2**20
    return int(min(max(budget // (4 * FLOATS_PER_SCORE * n_items), 1), MAX_ROWS))


def _predicts_pairwise(config: Any) -> bool:
    model = config.model_class
    return getattr(model, "full_sort_predict", None) is AbstractRecommender.full_sort_predict


def get_dataloader(config: Any, phase: str) -> type:
    """The loader class of a phase: ours for user-wise training and full ranking, otherwise RecBole's."""
    if phase == "train" and registry.is_user_wise(config.model_class):
        return UserLoader
    if phase != "train" and config["eval_args"]["mode"][phase] == "full":
        return FullSortLoader
    loader: type = recbole_get_dataloader(config, phase)
    return loader


def create_dataset(config: Config) -> Any:
    """RecBole's data set, rows in true order of time where the order matters.

    RecBole turns timestamps into float32 (steps of 64 to 128 s for Unix time) before it sorts by them: on raw
    ml-100k that changes the last item of 149 of 943 users. Rows sorted by the exact time before stay in
    that order through RecBole's stable sorts. ``keep_time_order: False`` gives RecBole's order.

    Raises:
        ValueError: the data set is not there; the message says where to put it.
    """
    hint = _check_files(config)
    needs_time = bool(config["time-aware"] or (config.spec is not None and config.spec.needs_time))
    _load_time(config, needs_time)
    dataset = _load(config, hint)
    if needs_time and dataset.time_field in dataset.inter_feat:
        _add_ranks(dataset)
    ordered = config["eval_args"]["order"] == "TO" and config["benchmark_filename"] is None
    time = dataset.time_field
    if config["keep_time_order"] and ordered and time in dataset.inter_feat:
        exact = dataset.inter_feat[time]
        if isinstance(exact.iloc[0], (int, float)):
            dataset.inter_feat = dataset.inter_feat.sort_values(time, kind="stable", ignore_index=True)
    return dataset


def _add_ranks(dataset: Any) -> None:
    """The exact ranks in time as a column: exact in float32 too, whatever the order of the rows will be.

    Raises:
        ValueError: the times are no numbers; RecBole makes ids of a token column, in order of appearance.
    """
    if dataset.field2type[dataset.time_field] is not FeatureType.FLOAT:
        raise ValueError(
            f"the column {dataset.time_field!r} must be of type float to order by: {dataset.time_field}:float"
        )
    times = dataset.inter_feat[dataset.time_field].to_numpy()
    ranks = np.empty(len(times))
    ranks[np.argsort(times, kind="stable")] = np.arange(len(times))
    dataset.inter_feat[RANK_FIELD] = ranks
    dataset.set_field_property(RANK_FIELD, FeatureType.FLOAT, FeatureSource.INTERACTION, 1)


def _load(config: Config, hint: Optional[str]) -> Any:
    """The data set's object; ``hint`` is what to say where it has to be downloaded and that fails."""
    try:
        with _own_dataset(config), loading.hooked(config):
            return recbole_data.create_dataset(config)
    except (OSError, EOFError, RuntimeError, SystemExit) as error:
        if hint is None:
            raise
        if (Path(config["data_path"]) / f"{config['dataset']}.inter").is_file():
            raise  # the download went well
        shutil.rmtree(config["data_path"], ignore_errors=True)  # it was not there before
        raise ValueError(hint) from error


@contextlib.contextmanager
def _own_dataset(config: Config) -> Iterator[None]:
    """RecBole finds a model's data set class by its name in its own module, and saves and loads what it makes of it."""
    import recbole.data.dataset as datasets

    name = f"{config['model']}Dataset"
    if config.spec is None or config.spec.dataset is None or hasattr(datasets, name):
        yield
        return
    setattr(datasets, name, registry.load_object(config.spec.dataset))
    try:
        yield
    finally:
        delattr(datasets, name)


def _check_files(config: Config) -> Optional[str]:
    """None where the files are there; what to say if the download fails where RecBole knows an address.

    Raises:
        ValueError: they are not there and RecBole knows none.
    """
    folder, name = Path(config["data_path"]), config["dataset"]
    if config["dataset_save_path"] or (folder.is_dir() and any(folder.iterdir())):
        return None
    urls = load_yaml(registry.recbole_folder() / "properties" / "dataset" / "url.yaml")
    put = (
        f"put the file {name}.inter (first line 'user_id:token<TAB>item_id:token<TAB>timestamp:float') into "
        f"{os.path.abspath(folder)}, or set data_path to the folder that holds {name}/"
    )
    if name not in urls:
        near = sorted(each.name for each in folder.parent.iterdir()) if folder.parent.is_dir() else []
        there = f" (there: {', '.join(near)})" if near else ""
        raise ValueError(f"dataset={name!r} is not in {os.path.abspath(folder.parent)}{there}; {put}")
    return f"dataset={name!r} could not be downloaded from {urls[name]}; {put}"


def _load_time(config: Config, needs_time: bool) -> None:
    """Load the time column where the order or the model needs it and the default ``load_col`` leaves it out."""
    load, presplit = config["load_col"], config["benchmark_filename"]
    ordered = config["eval_args"]["order"] == "TO" and not presplit
    if not (ordered or needs_time) or not isinstance(load, dict):
        return
    columns, time = load.get("inter"), config["TIME_FIELD"]
    if columns is None or columns == "*" or time in columns:
        return
    middle = f".{presplit[0]}" if presplit else ""
    file = Path(config["data_path"]) / f"{config['dataset']}{middle}.inter"
    if not file.is_file():
        return
    with open(file, encoding=config["encoding"] or "utf-8") as lines:
        fields = [field.split(":")[0] for field in lines.readline().rstrip("\n").split(config["field_separator"])]
    if time not in fields:
        who, instead = "eval_args.order='TO'", "eval_args: {order: RO}"
        if needs_time:
            who, instead = f"model={config['model']!r}", "take a model that does without"
        if config["time-aware"]:
            who, instead = "time-aware=True", "time-aware: False"
        raise ValueError(
            f"{who} needs the column {time!r}, but {file} has {', '.join(fields)}; "
            f"set TIME_FIELD to the right name, or {instead}"
        )
    config["load_col"] = {**load, "inter": [*columns, time]}


def prepare(config: Config, dataset: Any, parts: Optional[Sequence[Any]] = None) -> tuple[Any, Any, Any]:
    """Split ``dataset`` and make the train, valid and test loaders, as RecBole's ``data_preparation`` with ours.

    ``parts``: the three splits, where they have been made before.
    """
    if config["MODEL_TYPE"] == ModelType.KNOWLEDGE:  # its own samplers and loaders
        loaders = recbole_data.data_preparation(config, dataset)
    else:
        saved = recbole_data.load_split_dataloaders(config)
        if saved is not None:
            dataset._change_feat_format()
        loaders = saved or _loaders(config, dataset, parts or build(config, dataset))
    most = max([config["topk"]] if isinstance(config["topk"], int) else config["topk"])
    if config["eval_type"] == EvaluatorType.RANKING and most > dataset.item_num:
        raise ValueError(
            f"topk={config['topk']!r} is more than the {dataset.item_num - 1} items of {config['dataset']!r}"
        )
    if not config["single_spec"]:
        collective.share(loaders)
    sequences.check_lengths(config, loaders)
    sequences.mask_past(config, loaders)
    for phase, loader in zip(("valid", "test"), loaders[1:]):
        if len(loader) == 0:
            config.notes.append(f"the {phase} split is empty: eval_args={config['eval_args']}")
    _warn_of_repeats(config, loaders)
    config.notes += evaluation_notes.notes(config, loaders)
    config.notes += [note for note in account_of(dataset).notes if note not in config.notes]
    return loaders


def build(config: Config, dataset: Any) -> list[Any]:
    """The three splits, with our own pieces; see :mod:`recbole_diffusion.loading`."""
    with loading.hooked(config):
        parts: list[Any] = dataset.build()
    return parts


def _loaders(config: Config, dataset: Any, parts: Sequence[Any]) -> tuple[Any, Any, Any]:
    empty = [phase for phase, part in zip(("train", "valid", "test"), parts) if len(part) == 0 and phase == "train"]
    if empty:
        raise ValueError(f"the train split of {config['dataset']!r} is empty with eval_args={config['eval_args']}")
    samplers = recbole_data.create_samplers(config, dataset, parts)
    loaders = []
    for phase, part, sampler in zip(("train", "valid", "test"), parts, samplers):
        shuffle = phase == "train" and config["shuffle"]
        loaders.append(get_dataloader(config, phase)(config, part, sampler, shuffle=shuffle))
    if config["save_dataloaders"]:
        recbole_data.save_split_dataloaders(config, dataloaders=tuple(loaders))
        for loader in loaders:  # RecBole takes the generators off the loaders that are in use
            loader.generator = loader.sampler.generator = torch.Generator().manual_seed(config["seed"])
    return loaders[0], loaders[1], loaders[2]


def pairs(loader: Any) -> np.ndarray:
    """The (user, item) pairs of a loader's split, sorted, int64, shape (N, 2)."""
    return _pairs(loader._dataset)


def _pairs(part: Any) -> np.ndarray:
    users, items = (part.inter_feat[field].numpy() for field in (part.uid_field, part.iid_field))
    if hasattr(part, "all_targets"):  # fewer rows, made from these
        users, items = part.all_targets.T
    order = np.lexsort((items, users))
    return np.stack([users[order], items[order]], axis=1)


def interactions(train_loader: Any) -> np.ndarray:
    """The (user, item) pairs of the training split, int64, (N, 2): of sequences each user's first item too."""
    part = train_loader._dataset
    return sequence_pairs(part) if _is_sequential(part) else _pairs(part)


def _is_sequential(part: Any) -> bool:
    return hasattr(part, "item_list_length_field") and part.item_list_length_field in part.inter_feat


def valid_pairs(loader: Any) -> Optional[np.ndarray]:
    """The pairs of the validation split, from any evaluation loader; None where its sampler does not hold the splits.

    Not from the sampler's ``used_ids``: at test those hold the test items too.
    """
    sampler = getattr(loader, "_sampler", None)
    parts = dict(zip(getattr(sampler, "phases", ()), getattr(sampler, "datasets", ())))
    return _pairs(parts["valid"]) if "valid" in parts else None


def _warn_of_repeats(config: Config, loaders: tuple[Any, Any, Any]) -> None:
    """A repeated pair in train and test is never masked by RecBole: the answer is in the input."""
    if config["MODEL_TYPE"] != ModelType.GENERAL or config["repeatable"]:
        return
    width = loaders[0]._dataset.item_num
    train, test = (pairs(loader) @ np.array([width, 1]) for loader in (loaders[0], loaders[2]))
    repeated = int(np.isin(test, train).sum())
    if repeated:
        config.notes.append(
            f"{repeated} of {len(test)} test pairs are also in train and not masked; set rm_dup_inter: first"
        )


def describe(dataset: Any, loaders: Sequence[Any]) -> dict[str, Any]:
    """Counts (without the padding ids) and a hash of the split: the same hash, the same users, items and pairs.

    The hash is that of the names and not of RecBole's ids, and sequences count as the interactions that they were made
    from, so that it is the same for general and for sequential models.
    """
    digest = hashlib.sha256()
    places = []
    for field in (dataset.uid_field, dataset.iid_field):
        names = np.asarray(dataset.field2id_token[field], dtype=str)
        order = np.argsort(names, kind="stable")
        digest.update("\n".join(names[order]).encode())
        places.append(np.argsort(order, kind="stable"))
    counts = {"users": dataset.user_num - 1, "items": dataset.item_num - 1}
    for phase, loader in zip(("train", "valid", "test"), loaders):
        rows = interactions(loader) if phase == "train" else pairs(loader)
        counts[phase] = len(rows)
        ranks = places[0][rows[:, 0]] * len(places[1]) + places[1][rows[:, 1]]
        digest.update(np.sort(ranks).astype("<i8").tobytes() + b"|")
    return {**counts, "split_sha256": digest.hexdigest(), "account": account_of(dataset).plain()}
