"""Evaluate trained models and lists of other software on one split, without training: :func:`evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from recbole_diffusion import quick_start
from recbole_diffusion.evaluation import diversity_metrics
from recbole_diffusion.evaluation.list_evaluation import NOT_OF_LISTS, evaluate_lists
from recbole_diffusion.evaluation.per_user import UserMetrics
from recbole_diffusion.experiment.evaluate import checkpoints, foreign_lists, list_files
from recbole_diffusion.experiment.evaluate import split as splits
from recbole_diffusion.experiment.evaluate.entry import Entry
from recbole_diffusion.experiment.evaluate.foreign_lists import Options
from recbole_diffusion.experiment.evaluate.results import Evaluation
from recbole_diffusion.experiment.evaluate.split import EvaluationSplit
from recbole_diffusion.settings.config import settings_of
from recbole_diffusion.support import yaml_files
from recbole_diffusion.training import checkpoint, run_folder

__all__ = ["Evaluation", "evaluate"]
#: A checkpoint, a file of lists, or lists as a pandas frame.
Source = Union[str, Path, Any]
#: Model whose settings define the split of lists, where none is named: a general model without settings of its own.
_MODEL = "Pop"


@dataclass(frozen=True)
class _Request:
    """The arguments of :func:`evaluate` beside the entries."""

    dataset: Optional[str]
    like: Union[str, Path, None]
    model: str
    phase: str
    metrics: Optional[Sequence[str]]
    topk: Optional[Sequence[int]]
    files: Sequence[Union[str, Path]]
    settings: Mapping[str, Any]
    trust: bool
    columns: Mapping[str, Optional[str]]
    options: Options = field(default_factory=Options)


def evaluate(
    entries: Union[Source, Sequence[Source], Mapping[str, Source]],
    dataset: Optional[str] = None,
    *,
    split: str = "test",
    metrics: Union[str, Sequence[str], None] = None,
    topk: Union[int, Sequence[int], None] = None,
    like: Union[str, Path, None] = None,
    model: str = _MODEL,
    config_file_list: Optional[Sequence[Union[str, Path]]] = None,
    config_dict: Optional[Mapping[str, Any]] = None,
    columns: Optional[Mapping[str, str]] = None,
    keep_seen: bool = False,
    missing: str = "zero",
    main_metric: Optional[str] = None,
    reference: Optional[str] = None,
    trust: bool = False,
) -> Evaluation:
    """Evaluate checkpoints and ranked lists on one part of one split.

    Lists have the columns user, item, and rank or score; names are those of the data's files. Their split is that of
    ``like``, else of the first checkpoint among the entries, else of ``dataset`` and the settings.

    Args:
        entries: a checkpoint, a file of lists or a pandas frame; several as a sequence, or as a mapping by label.
        dataset: the data set's name, for lists without a checkpoint.
        split: the part whose targets count: ``train``, ``valid`` or ``test``.
        metrics: names; None: those of the checkpoint, or RecBole's defaults.
        topk: cut-offs; None: those of the checkpoint, or 10.
        like: a checkpoint whose split the lists are evaluated on.
        model: with ``dataset``: the model whose settings define the split.
        config_file_list, config_dict: further settings.
        columns: names of the lists' columns by ``user``, ``item``, ``rank`` and ``score``; those missing are guessed.
        keep_seen: keep items of the user's past in lists; an evaluation of a model masks them.
        missing: ``zero``: users of the split without a list have an empty one; ``drop``: they are left out.
        main_metric: ranks several entries; None: NDCG where it is measured, else the first metric.
        reference: label of the entry that the others are tested against; None: the best.
        trust: load checkpoints that hold pickled objects. They can run code.

    Raises:
        ValueError: a file, column or setting that is not right, or entries with different splits; one line.
    """
    if split not in splits.PHASES:
        raise ValueError(f"split={split!r} is not allowed; allowed: {' | '.join(splits.PHASES)}")
    if missing not in ("zero", "drop"):
        raise ValueError(f"missing={missing!r} is not allowed; allowed: zero | drop")
    metrics = [metrics] if isinstance(metrics, str) else metrics
    topk = [topk] if isinstance(topk, int) else topk
    request = _Request(
        dataset, like, model, split, metrics, topk, config_file_list or [], config_dict or {}, trust, columns or {},
        Options(keep_seen, missing == "drop"),
    )  # fmt: skip
    labelled = _labelled(entries)
    with run_folder.hide_known_warnings():
        evaluated, shared = _evaluated(labelled, request)
    main = _main_metric(evaluated, main_metric)
    if reference is not None and reference not in labelled:
        raise ValueError(f"reference={reference!r} is not allowed; allowed: {' | '.join(labelled)}")
    name, masked = shared.config["dataset"], shared.masked_items()
    notes = diversity_metrics.describe(shared.config, shared.data)
    return Evaluation(name, split, shared.counts, masked, notes, evaluated, main, reference)


def _labelled(entries: Any) -> dict[str, Any]:
    """The entries by label: the name of the file, or of its folder where several have the same name."""
    if isinstance(entries, Mapping):
        return dict(entries)
    sources = list(entries) if isinstance(entries, (list, tuple)) else [entries]
    if not sources:
        raise ValueError("nothing to evaluate: name a checkpoint or a file of lists")
    names = [_name(source) for source in sources]
    labels: dict[str, Any] = {}
    for name, source in zip(names, sources):
        label = name
        if names.count(name) > 1 and isinstance(source, (str, Path)):
            label = "/".join(Path(source).absolute().parts[-2:])
        if label in labels:
            label = f"{label} ({len(labels) + 1})"
        labels[label] = source
    return labels


def _name(source: Any) -> str:
    """The name of a file; of a run's checkpoint.pth that of its folder."""
    if not isinstance(source, (str, Path)):
        return "lists"
    path = Path(source).absolute()
    return path.parent.name if path.name == "checkpoint.pth" else path.name


def _evaluated(labelled: Mapping[str, Any], request: _Request) -> tuple[list[Entry], EvaluationSplit]:
    """Evaluate the entries, checkpoints first; returns them in their order, and the split."""
    is_list = {label: _is_list(source) for label, source in labelled.items()}
    shared: Optional[EvaluationSplit] = None if request.like is None else _split_like(request.like, request)
    by_label: dict[str, Entry] = {}
    for label, source in labelled.items():
        if not is_list[label]:
            by_label[label], own = _of_checkpoint(label, source, request)
            shared = shared or own
            _check_same(label, own, shared)
    if shared is None:
        shared = _split_of_settings(request)
    for label, source in labelled.items():
        if is_list[label]:
            by_label[label] = _of_lists(label, source, shared, request)
    return [by_label[label] for label in labelled], shared


def _is_list(source: Any) -> bool:
    return not isinstance(source, (str, Path)) or list_files.is_list_file(Path(source))


def _of_checkpoint(label: str, source: Any, request: _Request) -> tuple[Entry, EvaluationSplit]:
    """Evaluate a checkpoint; also returns its split."""
    loaded = quick_start.load(source, request.trust, _checkpoint_settings(source, request))
    own = splits.make(loaded.config, loaded.dataset, loaded[3:], request.phase)
    metrics, users, *_ = checkpoints.evaluate(loaded, request.phase)
    notes = [f"{loaded.config.model_name()}, seed {loaded.config['seed']}", *loaded.config.notes]
    return Entry(label, str(source), "checkpoint", metrics, _with_names(users, own), notes, {}), own


def _checkpoint_settings(source: Any, request: _Request) -> dict[str, Any]:
    """The settings of a checkpoint that the request changes."""
    stored = settings_of(checkpoint.read(source, request.trust), f"checkpoint {str(source)!r}")
    dataset = {} if request.dataset is None else {"dataset": request.dataset}
    changed = checkpoints.overrides(request.metrics, request.topk, stored)
    return {**_file_settings(request), **dataset, "log_wandb": False, **changed, **request.settings}


def _file_settings(request: _Request) -> dict[str, Any]:
    return {key: value for file in request.files for key, value in yaml_files.load_yaml(Path(file)).items()}


def _split_like(source: Union[str, Path], request: _Request) -> EvaluationSplit:
    """The split of a checkpoint, without its model."""
    config = quick_start.configure(
        config_dict=_checkpoint_settings(source, request), resume=source, trust=request.trust
    )
    dataset, loaders = quick_start.prepare(config)
    return splits.make(config, dataset, loaders, request.phase)


def _split_of_settings(request: _Request) -> EvaluationSplit:
    """The split of a data set by the settings.

    Raises:
        ValueError: no data set is named.
    """
    if request.dataset is None and "dataset" not in _file_settings(request):
        raise ValueError(
            "lists need the split that they are evaluated on: --like=CHECKPOINT, or --dataset=NAME with the settings "
            "of the split (eval_args, split_seed or seed)"
        )
    changed = checkpoints.overrides(request.metrics, request.topk, _file_settings(request))
    config = quick_start.configure(request.model, request.dataset, request.files, {**changed, **request.settings})
    dataset, loaders = quick_start.prepare(config)
    return splits.make(config, dataset, loaders, request.phase)


def _check_same(label: str, own: EvaluationSplit, shared: EvaluationSplit) -> None:
    """Check that an entry has the split of the others.

    Raises:
        ValueError: it has another.
    """
    if own.counts["split_sha256"] != shared.counts["split_sha256"]:
        raise ValueError(
            f"{label} has the split {own.counts['split_sha256'][:12]} of {own.config['dataset']!r}, the others have "
            f"{shared.counts['split_sha256'][:12]}: their numbers do not compare; evaluate it alone"
        )


def _of_lists(label: str, source: Any, split: EvaluationSplit, request: _Request) -> Entry:
    """Evaluate a table of lists.

    Raises:
        ValueError: the split's evaluation does not rank all items, or a requested metric needs scores of all items.
    """
    config = split.config
    mode = config["eval_args"]["mode"]["test" if request.phase == "train" else request.phase]
    if mode != "full":
        raise ValueError(
            f"lists are evaluated among all items, but eval_args.mode is {mode!r}; allowed: mode full "
            '(--eval_args="{mode: full}" with the split\'s other entries)'
        )
    is_file = isinstance(source, (str, Path))
    frame = list_files.read(Path(source), request.columns.values()) if is_file else source
    what = f"file {str(source)!r}" if is_file else "the frame"
    columns = list_files.find_columns(frame, request.columns, what)
    frame = list_files.long_form(frame, columns)
    metrics = [metric for metric in config["metrics"] if request.metrics or metric.lower() not in NOT_OF_LISTS]
    lists, account = foreign_lists.ranked_lists(frame, columns, split, max(config["topk"]), request.options)
    values, users = evaluate_lists(lists, metrics, config["topk"], split.data, config.final_config_dict)
    notes = [f"{len(frame):,} rows, {columns.describe()}", *account.notes, *_targets_in_past(split)]
    left_out = [metric for metric in config["metrics"] if metric not in metrics]
    if left_out:
        notes.append(f"without {', '.join(left_out)}, which needs the scores of all items")
    return Entry(
        label, str(source) if is_file else "DataFrame", "lists", values, _with_names(users, split), notes,
        account.counts,
    )  # fmt: skip


def _targets_in_past(split: EvaluationSplit) -> list[str]:
    """A line about targets that are of their user's past, which a model's evaluation ranks and lists leave out."""
    past = {*(split.past[:, 0] * split.data.n_items + split.past[:, 1]).tolist()}
    targets = split.data.targets[:, 0] * split.data.n_items + split.data.targets[:, 1]
    count = sum(code in past for code in targets.tolist())
    if not count:
        return []
    return [
        f"{count:,} of {len(targets):,} targets are also of their user's past: lists without past items cannot hold "
        "them, while the evaluation of a model ranks them; rm_dup_inter: first removes such repeats"
    ]


def _with_names(users: Optional[UserMetrics], split: EvaluationSplit) -> Optional[UserMetrics]:
    """Replace the ids of users by their names."""
    if users is None or split.data.user_names is None:
        return None
    return users._replace(users=np.asarray(split.data.user_names[users.users], dtype=str))


def _main_metric(entries: Sequence[Entry], requested: Optional[str]) -> str:
    """The metric that entries are ranked by.

    Raises:
        ValueError: the requested one is not measured.
    """
    measured = [metric for metric in entries[0].metrics if all(metric in entry.metrics for entry in entries)]
    if requested is not None:
        if requested.lower() not in measured:
            raise ValueError(f"metric={requested!r} is not measured; allowed: {' | '.join(measured)}")
        return requested.lower()
    if not measured:
        raise ValueError("the entries have no metric in common")
    return next((metric for metric in measured if metric.startswith("ndcg@")), measured[0])
