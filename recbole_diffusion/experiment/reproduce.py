"""Run a paper's setting on its own split, beside the numbers that the paper reports and strong simple baselines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np

from recbole_diffusion import quick_start
from recbole_diffusion.data import convert, user_split
from recbole_diffusion.experiment.published import available
from recbole_diffusion.settings import scopes
from recbole_diffusion.settings.scopes import Scope
from recbole_diffusion.support import yaml_files
from recbole_diffusion.support.temporary_folder import temporary_folder
from recbole_diffusion.training.run_folder import environment

#: The protocols in a sentence each, for the table's head.
NOTES = {
    "official": "official arrays as named: the epoch is chosen on each user's last fifth, which is masked at test; the "
    "test part lies before it in time",
    "time-proper": "arrays in their order in time: the epoch is chosen on the part after train, test is the last fifth",
    "split by user": "the users of the validation and of the test part are not in the train part, full ranking; rows "
    "without a history are left out",
    "leave-one-out": "the last item of each user for test, the one before it for choosing the epoch, full ranking",
}


#: What a source calls Recall, by the key ``recall`` of ``evaluation``.
SOURCE_RECALLS = {
    "usual": "hits / number of targets, as recall here",
    "truncated": "hits / min(k, number of targets), as truncatedrecall here",
}
#: How a source chose settings and epochs, by the key ``validation`` of ``evaluation``.
SOURCE_CHOICES = {
    True: "it has a validation split",
    False: "it has no validation split, so that its settings were chosen on the test part",
}


class Setting(NamedTuple):
    """A published setting, as a file of properties/paper holds it.

    Attributes:
        model: the model's name.
        name: the data set's name.
        data: number of users, items, and rows of each part, of the official data. Those of data that are split by
            user are ``train_rows``, ``valid_rows``, ``test_rows``.
        settings: settings of the run.
        results: reported metrics and their source, by the reporting paper.
        baselines: settings of the baselines, by protocol and model.
        evaluation: how the source evaluates, where that differs between sources: ``recall``, a key of
            :data:`SOURCE_RECALLS`, and ``validation``, whether it has a validation split; empty: not stated.
    """

    model: str
    name: str
    data: dict[str, int]
    settings: dict[str, Any]
    results: dict[str, dict[str, Any]]
    baselines: dict[str, dict[str, dict[str, Any]]]
    evaluation: dict[str, Any] = {}

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols that can be run. The published numbers belong to the first one."""
        if "test_rows" in self.data:
            return ("split by user",)
        return ("leave-one-out",) if "interactions" in self.data else tuple(convert.PROTOCOLS)


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        label: the model, or the source of reported numbers.
        metrics: metrics of the test part, by name.
        sd: sample standard deviation of the metrics over the seeds; empty for one seed.
        cost: seconds and epochs; empty for reported numbers.
    """

    label: str
    metrics: dict[str, float]
    sd: dict[str, float]
    cost: dict[str, float]


def load_setting(model: str, name: str) -> Setting:
    """Load the published setting of a model on a data set.

    Raises:
        ValueError: no such setting; the message lists the existing ones.
    """
    if (model, name) not in available():
        datasets = [dataset for other, dataset in available() if other == model]
        models = sorted({other for other, _ in available()})
        existing = f"{model} has {', '.join(datasets)}" if datasets else f"models: {', '.join(models)}"
        raise ValueError(f"there is no published setting of {model!r} on {name!r}; {existing}")
    content = yaml_files.load_yaml(yaml_files.properties() / "paper" / f"{model}_{name}.yaml")
    optional = (content.get("baselines") or {}, content.get("evaluation") or {})
    return Setting(model, name, content["data"], content["settings"], content["results"], *optional)


def check_data(setting: Setting, source: Union[str, Path]) -> None:
    """Check that users, items and rows of the source are as many as in the paper.

    Raises:
        ValueError: a number differs.
    """
    count = {"leave-one-out": _counts_of_sequences, "split by user": _counts_of_user_split}
    counts = count.get(setting.protocols[0], _counts_of_arrays)(source)
    for key, expected in setting.data.items():
        if counts[key] != expected:
            difference = f"{key} {counts[key]} instead of {expected}"
            raise ValueError(f"{str(source)!r} is not {setting.name}: {difference}; its counts: {counts}")


def _counts_of_arrays(source: Union[str, Path]) -> dict[str, int]:
    arrays = convert.read_arrays(source)
    pairs = np.concatenate([arrays[part] for part in convert.PARTS])
    ids = {"users": len(np.unique(pairs[:, 0])), "items": len(np.unique(pairs[:, 1]))}
    return {**ids, **{part: len(arrays[part]) for part in convert.PARTS}}


def _counts_of_user_split(source: Union[str, Path]) -> dict[str, int]:
    return user_split.read_user_split(source).counts()


def _counts_of_sequences(source: Union[str, Path]) -> dict[str, int]:
    sequences = convert.read_sequences(source)
    items = {item for sequence in sequences.values() for item in sequence}
    return {"users": len(sequences), "items": len(items), "interactions": sum(map(len, sequences.values()))}


def reproduce(
    model: str,
    name: str,
    source: Union[str, Path],
    seeds: Sequence[int] = (1, 2, 3),
    protocol: Optional[str] = None,
    config_dict: Optional[dict[str, Any]] = None,
) -> list[Row]:
    """Run a published setting and its baselines on the official data.

    Args:
        model, name: a setting of :func:`available`.
        source: see :func:`recbole_diffusion.data.convert.read_arrays`, for sequential models ``read_sequences`` there,
            or :func:`recbole_diffusion.data.user_split.read_user_split`.
        seeds: seeds of the runs.
        protocol: one of the setting's; None for the first, to which the reported numbers belong.
        config_dict: settings on top of the published ones.

    Returns:
        Reported rows, ours (each seed; mean and sample standard deviation over several), the difference from the
        paper, baselines. Rows of other settings than the published ones are labelled with the changes.

    Raises:
        ValueError: no such setting or protocol, or other data than the paper's.
    """
    setting = load_setting(model, name)
    protocol = setting.protocols[0] if protocol is None else protocol
    if protocol not in setting.protocols:
        raise ValueError(f"protocol={protocol!r} is not allowed; allowed: {' | '.join(setting.protocols)}")
    check_data(setting, source)
    given = dict(config_dict or {})
    for key in ("data_path", "benchmark_filename"):
        if key in given:
            raise ValueError(f"{key} is not a setting of reproduce, which reads its own files of the official data")
    with temporary_folder() as stage:
        folder = str(stage)
        data_keys = _write(source, folder, name, protocol)
        changed = _changed(setting, name, given)
        common = {"seed": seeds[0], **setting.settings, **data_keys, **given}
        embeddings = convert.settings(folder, name) if "n_cate" in setting.settings else {}
        runs = [
            quick_start.run(model, name, config_dict={**embeddings, **common, "seed": seed}, saved=False)
            for seed in seeds
        ]
        baselines = _run_baselines(setting, name, protocol, common, data_keys, given)
    label = f"published setting, with {_as_text(changed)}" if changed else "ours"
    rows = _with_mean([_row(f"{label}, seed {seed}", run) for seed, run in zip(seeds, runs)], label)
    if protocol == setting.protocols[0]:
        rows = [*_reported(setting), *rows, *_difference(setting, rows[-1], changed)]
    return [*rows, *baselines]


#: Keys of the setting that the baselines have too.
_EVALUATION_KEYS = ("valid_metric", "metrics", "topk", "metric_decimal_place", "mask_history", "MAX_ITEM_LIST_LENGTH")
#: Keys of the user that the baselines have too: where a run is computed, what it prints, how it is evaluated.
_RUN_KEYS = (*sorted(scopes.keys(Scope.DEVICE, Scope.SHOWN)), "output_dir", "eval_args")
#: Keys of the user that change no number of a run: where it is computed, what it prints and measures.
_KEYS_WITHOUT_EFFECT = scopes.without_effect() | scopes.keys(Scope.DEVICE) | {"metrics", "topk"}
#: Label of the row of the differences from the paper.
DIFFERENCE = "ours - paper"


def _run_baselines(
    setting: Setting,
    name: str,
    protocol: str,
    common: dict[str, Any],
    data_keys: dict[str, Any],
    given: dict[str, Any],
) -> list[Row]:
    """Run the baselines of a protocol with the evaluation of the setting; a row each.

    Args:
        setting, name, protocol: as in :func:`reproduce`.
        common: settings of our runs, of which the evaluation is taken.
        data_keys: settings that read the data.
        given: the user's settings.
    """
    evaluation = {key: common[key] for key in _EVALUATION_KEYS if key in common}
    shared = _baseline_settings(given, protocol)
    shown = {key: value for key, value in shared.items() if key not in _KEYS_WITHOUT_EFFECT}
    rows = []
    for baseline, keys in setting.baselines.get(protocol, {}).items():
        settings = {**evaluation, **data_keys, **keys, **shared}
        result = quick_start.run(baseline, name, config_dict=settings, saved=False)
        rows.append(_row(f"{baseline} { ({**keys, **shown}) }", result))
    return rows


def _baseline_settings(given: dict[str, Any], protocol: str) -> dict[str, Any]:
    """The user's settings that hold for the baselines too; of sequential models also the length of the training."""
    training = ("epochs", "eval_step") if protocol in ("leave-one-out", "split by user") else ()
    return {key: given[key] for key in (*_EVALUATION_KEYS, *_RUN_KEYS, *training) if key in given}


def _reported(setting: Setting) -> list[Row]:
    """The rows of the reported metrics."""
    return [Row(label, entry["metrics"], {}, {}) for label, entry in setting.results.items()]


def _difference(setting: Setting, ours: Row, changed: dict[str, Any]) -> list[Row]:
    """The row of our metrics minus the paper's, where the paper reports any."""
    paper = setting.results.get("paper")
    if paper is None:
        return []
    differences = {key: ours.metrics[key] - value for key, value in paper["metrics"].items() if key in ours.metrics}
    return [Row(f"{DIFFERENCE}, with {_as_text(changed)}" if changed else DIFFERENCE, differences, {}, {})]


def _changed(setting: Setting, name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The user's settings whose values differ from the published ones, without those that change no number."""
    published = quick_start.configure(setting.model, name, config_dict=dict(setting.settings))
    config = quick_start.configure(setting.model, name, config_dict={**setting.settings, **given})
    return {key: config[key] for key in given if key not in _KEYS_WITHOUT_EFFECT and config[key] != published[key]}


def _as_text(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items())


def _write(source: Union[str, Path], folder: str, name: str, protocol: str) -> dict[str, Any]:
    """Write the data of a protocol to a folder, and return the settings that read them."""
    if protocol == "leave-one-out":
        convert.write_sequences(source, folder, name)
        return {"data_path": folder, **convert.LEAVE_ONE_OUT}
    if protocol == "split by user":
        user_split.write_user_split(source, folder, name)
        return user_split.settings(folder)
    convert.write_split(source, folder, name, protocol)
    return convert.settings(folder)


def _row(label: str, result: dict[str, Any]) -> Row:
    timing = result["timing"]
    best = timing["best_epoch"]
    cost = {"best epoch": float("nan") if best is None else best, "epochs": timing["epochs"]}
    cost.update({"s per epoch": timing["train_s_per_epoch"], "s in all": timing["total_s"]})
    return Row(label, dict(result["test_result"]), {}, cost)


def _with_mean(rows: list[Row], label: str) -> list[Row]:
    """Add the row of the mean over the seeds, if there are several."""
    if len(rows) == 1:
        return [rows[0]._replace(label=f"{rows[0].label} (one seed)")]
    keys = rows[0].metrics
    table = np.array([[row.metrics[key] for key in keys] for row in rows])
    mean, sd = table.mean(axis=0).tolist(), table.std(axis=0, ddof=1).tolist()
    return [*rows, Row(f"{label}, mean of {len(rows)} seeds", dict(zip(keys, mean)), dict(zip(keys, sd)), {})]


def markdown(setting: Setting, protocol: str, rows: Sequence[Row]) -> str:
    """Return the table of :func:`reproduce` in Markdown, with the sources of the reported numbers and the environment.

    Args:
        setting: the published setting.
        protocol: the protocol of the rows.
        rows: the rows.
    """
    reported = next(iter(setting.results.values()))["metrics"] if setting.results else {}
    computed = next((row.metrics for row in rows if row.cost), {})
    metrics = list(dict.fromkeys([*reported, *computed]))
    costs = ["best epoch", "epochs", "s per epoch", "s in all"]
    lines = [
        f"{setting.model} on {setting.name}, protocol {protocol} ({NOTES[protocol]})",
        "",
        "| | " + " | ".join([*metrics, *costs]) + " |",
        "|---|" + "---|" * len([*metrics, *costs]),
        *(_markdown_row(row, metrics, costs) for row in rows),
    ]
    if protocol == setting.protocols[0]:
        lines += [""] if setting.results else ["", "No published numbers are known here; see the setting's file."]
        lines += [*(f"{label}: {entry['source']}." for label, entry in setting.results.items())]
        lines += _evaluation_of_source(setting)
    versions = {key: value for key, value in environment().items() if value is not None}
    return "\n".join([*lines, "", "Environment: " + json.dumps(versions)])


def _evaluation_of_source(setting: Setting) -> list[str]:
    """What the source calls Recall, and whether it has a validation split; empty if the setting does not state it."""
    if not setting.evaluation:
        return []
    recall, choice = SOURCE_RECALLS[setting.evaluation["recall"]], SOURCE_CHOICES[setting.evaluation["validation"]]
    return [f"The source's Recall is {recall}; {choice}."]


def _markdown_row(row: Row, metrics: Sequence[str], costs: Sequence[str]) -> str:
    sign = "+" if row.label.startswith(DIFFERENCE) else ""
    values = [f"{row.metrics[metric]:{sign}.4f}" if metric in row.metrics else "" for metric in metrics]
    values = [
        f"{value} ± {row.sd[metric]:.4f}" if metric in row.sd else value for metric, value in zip(metrics, values)
    ]
    numbers = [f"{row.cost[cost]:.1f}".replace(".0", "") if cost in row.cost else "" for cost in costs]
    numbers = [number if number != "nan" else "" for number in numbers]
    return f"| {row.label} | " + " | ".join([*values, *numbers]) + " |"
