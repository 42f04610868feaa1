"""A paper's setting on its own split: what it reports, what comes out here, and a strong simple baseline beside it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np

from recbole_diffusion import quick_start
from recbole_diffusion.data import convert
from recbole_diffusion.experiment.published import available
from recbole_diffusion.settings import scopes
from recbole_diffusion.settings.scopes import Scope
from recbole_diffusion.support import yaml_files
from recbole_diffusion.training.run_folder import environment

NOTES = {
    "official": "official arrays as named: the epoch is chosen on each user's last fifth, which is masked at test; the "
    "test part lies before it in time",
    "time-proper": "arrays in their order in time: the epoch is chosen on the part after train, test is the last fifth",
    "leave-one-out": "the last item of each user for test, the one before it for choosing the epoch, full ranking",
}


class Setting(NamedTuple):
    """One file of properties/paper.

    ``data``: counts of the source. ``settings``: keys of the run. ``results``: what is reported, by who reports it.
    ``baselines``: by protocol, models with their settings.
    """

    model: str
    name: str
    data: dict[str, int]
    settings: dict[str, Any]
    results: dict[str, dict[str, Any]]
    baselines: dict[str, dict[str, dict[str, Any]]]

    @property
    def protocols(self) -> tuple[str, ...]:
        """What may be run; published numbers are of the first one."""
        return ("leave-one-out",) if "interactions" in self.data else tuple(convert.PROTOCOLS)


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        who: the model, or the source of reported numbers.
        metrics: by name.
        sd: their standard deviation over seeds; empty for one seed.
        cost: seconds and epochs; empty for reported numbers.
    """

    who: str
    metrics: dict[str, float]
    sd: dict[str, float]
    cost: dict[str, float]


def load_setting(model: str, name: str) -> Setting:
    """The setting of a model on a data set.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    if (model, name) not in available():
        of_model = [data for each, data in available() if each == model]
        there = (
            f"{model} has {', '.join(of_model)}"
            if of_model
            else f"models: {', '.join(sorted({each for each, _ in available()}))}"
        )
        raise ValueError(f"there is no published setting of {model!r} on {name!r}; {there}")
    content = yaml_files.load_yaml(yaml_files.properties() / "paper" / f"{model}_{name}.yaml")
    return Setting(
        model, name, content["data"], content["settings"], content["results"], content.get("baselines") or {}
    )


def check_data(setting: Setting, source: Union[str, Path]) -> None:
    """Whether the source is the one that the numbers were reported for, by its counts.

    Raises:
        ValueError: they are not.
    """
    found = _counts_of_sequences(source) if setting.protocols == ("leave-one-out",) else _counts_of_arrays(source)
    for key, expected in setting.data.items():
        if found[key] != expected:
            raise ValueError(
                f"{str(source)!r} is not {setting.name}: {key} {found[key]} in place of {expected}; here: {found}"
            )


def _counts_of_arrays(source: Union[str, Path]) -> dict[str, int]:
    arrays = convert.read_arrays(source)
    pairs = np.concatenate([arrays[part] for part in convert.PARTS])
    found = {"users": len(np.unique(pairs[:, 0])), "items": len(np.unique(pairs[:, 1]))}
    return {**found, **{part: len(arrays[part]) for part in convert.PARTS}}


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
        source: see :func:`recbole_diffusion.data.convert.read_arrays`, for sequential models ``read_sequences`` there.
        seeds: one run each.
        protocol: one of the setting's; None for the first, which the reported numbers are of.
        config_dict: settings on top of the published ones.

    Returns:
        Reported rows, ours (mean and sample standard deviation over the seeds), their difference from the paper,
        baselines. Metrics are of the test part. Rows of other settings than the published ones say which.

    Raises:
        ValueError: no such setting or protocol, other data.
    """
    setting = load_setting(model, name)
    protocol = setting.protocols[0] if protocol is None else protocol
    if protocol not in setting.protocols:
        raise ValueError(f"protocol={protocol!r} is not allowed; allowed: {' | '.join(setting.protocols)}")
    check_data(setting, source)
    own = dict(config_dict or {})
    for key in ("data_path", "benchmark_filename"):
        if key in own:
            raise ValueError(f"{key} is not a setting of reproduce, which reads its own files of the official data")
    with tempfile.TemporaryDirectory() as folder:
        written = _write(source, folder, name, protocol)
        changed = _changed(setting, name, own)
        common = {"seed": seeds[0], **setting.settings, **written, **own}
        evaluation = {key: common[key] for key in _OF_EVALUATION if key in common}
        embeddings = convert.settings(folder, name) if "n_cate" in setting.settings else {}
        runs = [
            quick_start.run(model, name, config_dict={**embeddings, **common, "seed": seed}, saved=False)
            for seed in seeds
        ]
        others = {
            each: quick_start.run(
                each,
                name,
                config_dict={**evaluation, **written, **keys, **_for_baselines(own, protocol)},
                saved=False,
            )
            for each, keys in setting.baselines.get(protocol, {}).items()
        }
    who = f"published setting, with {_words(changed)}" if changed else "ours"
    rows = _mean([_row(f"{who}, seed {seed}", run) for seed, run in zip(seeds, runs)], who)
    if protocol == setting.protocols[0]:
        reported = [Row(who, entry["metrics"], {}, {}) for who, entry in setting.results.items()]
        paper, mine = setting.results.get("paper"), rows[-1].metrics
        gap = {key: mine[key] - value for key, value in paper["metrics"].items() if key in mine} if paper else None
        beside = f", with {_words(changed)}" if changed else ""
        rows = [*reported, *rows, *([] if gap is None else [Row(f"{GAP}{beside}", gap, {}, {})])]
    for each, keys in setting.baselines.get(protocol, {}).items():
        of_all = {key: value for key, value in _for_baselines(own, protocol).items() if key not in _SHOWN_ONLY}
        rows.append(_row(f"{each} { ({**keys, **of_all}) }", others[each]))
    return rows


#: Keys of the setting that hold for the baselines too.
_OF_EVALUATION = ("valid_metric", "metrics", "topk", "metric_decimal_place", "mask_history", "MAX_ITEM_LIST_LENGTH")
#: Keys of the user's that do: where things run and what is shown; of sequential ones also how long at most.
_OF_THE_RUN = (*sorted(scopes.keys(Scope.DEVICE, Scope.SHOWN)), "output_dir", "eval_args")


#: The row of the differences from the paper.
GAP = "ours - paper"
#: Keys that change no number of a run: where it runs, what is shown and measured beside the rest.
_SHOWN_ONLY = scopes.without_effect() | scopes.keys(Scope.DEVICE) | {"metrics", "topk"}


def _changed(setting: Setting, name: str, own: dict[str, Any]) -> dict[str, Any]:
    """The user's settings that make it another setting than the published one."""
    published = quick_start.configure(setting.model, name, config_dict=dict(setting.settings))
    config = quick_start.configure(setting.model, name, config_dict={**setting.settings, **own})
    return {key: config[key] for key in own if key not in _SHOWN_ONLY and config[key] != published[key]}


def _words(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items())


def _write(source: Union[str, Path], folder: str, name: str, protocol: str) -> dict[str, Any]:
    """Write the data and give the keys that read it."""
    if protocol == "leave-one-out":
        convert.write_sequences(source, folder, name)
        return {"data_path": folder, **convert.LEAVE_ONE_OUT}
    convert.write_split(source, folder, name, protocol)
    return convert.settings(folder)


def _for_baselines(own: dict[str, Any], protocol: str) -> dict[str, Any]:
    """What of the user's settings holds for every model."""
    keys = (*_OF_EVALUATION, *_OF_THE_RUN, *(("epochs", "eval_step") if protocol == "leave-one-out" else ()))
    return {key: own[key] for key in keys if key in own}


def _row(who: str, result: dict[str, Any]) -> Row:
    timing = result["timing"]
    best = timing["best_epoch"]
    cost = {"best epoch": float("nan") if best is None else best, "epochs": timing["epochs"]}
    cost.update({"s per epoch": timing["train_s_per_epoch"], "s in all": timing["total_s"]})
    return Row(who, dict(result["test_result"]), {}, cost)


def _mean(rows: list[Row], who: str) -> list[Row]:
    """The rows, and with several their mean."""
    if len(rows) == 1:
        return [rows[0]._replace(who=f"{rows[0].who} (one seed)")]
    keys = rows[0].metrics
    table = np.array([[row.metrics[key] for key in keys] for row in rows])
    mean, sd = table.mean(axis=0).tolist(), table.std(axis=0, ddof=1).tolist()
    return [*rows, Row(f"{who}, mean of {len(rows)} seeds", dict(zip(keys, mean)), dict(zip(keys, sd)), {})]


def markdown(setting: Setting, protocol: str, rows: Sequence[Row]) -> str:
    """The table, the sources of what is in it, and the environment."""
    metrics = list(next(iter(setting.results.values()))["metrics"]) if setting.results else list(rows[0].metrics)
    cost = ["best epoch", "epochs", "s per epoch", "s in all"]
    lines = [
        f"{setting.model} on {setting.name}, protocol {protocol} ({NOTES[protocol]})",
        "",
        "| | " + " | ".join([*metrics, *cost]) + " |",
        "|---|" + "---|" * len([*metrics, *cost]),
    ]
    for row in rows:
        sign = "+" if row.who.startswith(GAP) else ""
        values = [f"{row.metrics[key]:{sign}.4f}" if key in row.metrics else "" for key in metrics]
        values = [f"{v} ± {row.sd[k]:.4f}" if k in row.sd else v for k, v in zip(metrics, values)]
        costs = [f"{row.cost[key]:.1f}".replace(".0", "") if key in row.cost else "" for key in cost]
        lines.append(f"| {row.who} | " + " | ".join([*values, *(c if c != "nan" else "" for c in costs)]) + " |")
    if protocol == setting.protocols[0]:
        lines += [""] if setting.results else ["", "No published numbers are known here; see the setting's file."]
        lines += [*(f"{who}: {entry['source']}." for who, entry in setting.results.items())]
    versions = {key: value for key, value in environment().items() if value is not None}
    return "\n".join([*lines, "", "Environment: " + json.dumps(versions)])
