"""The model card of a checkpoint, in markdown: data, metrics, settings, cost, origin, use and limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from recbole_diffusion import registry
from recbole_diffusion.data import fit_on
from recbole_diffusion.evaluation.per_user import half_width
from recbole_diffusion.serving import recbole_histories
from recbole_diffusion.serving.measurement import Evaluated
from recbole_diffusion.serving.run_facts import RunFacts
from recbole_diffusion.settings import scopes
from recbole_diffusion.settings.config import Config
from recbole_diffusion.settings.scopes import Scope
from recbole_diffusion.support import yaml_files

#: Settings that are no choice of the training: folders, output, the machine.
_NOT_SHOWN = scopes.keys(Scope.WHERE, Scope.SHOWN, Scope.DERIVED, Scope.BATCHED, Scope.DEVICE) | {"seed"}


def make(facts: RunFacts, measured: Optional[Mapping[str, Evaluated]] = None) -> str:
    """Make the card.

    Args:
        facts: of the run.
        measured: metrics by split that were measured now; None: those of the run.
    """
    settings = facts.settings
    title = f"# {settings['model']} on {settings['dataset']}"
    sections = {
        "Use": _use(facts),
        "Data": _data(facts),
        "Metrics": _metrics(facts, measured),
        "Settings that differ from the defaults": _settings(settings),
        "Training": _training(facts),
        "Model": _model(settings),
        "Limits": _limits(facts),
    }
    parts = [f"## {name}\n\n{text}" for name, text in sections.items()]
    return "\n\n".join([title, *parts]) + "\n"


def _use(facts: RunFacts) -> str:
    name = facts.file.as_posix()
    return f"""```python
from recbole_diffusion import load, recommend

checkpoint = {name!r}
top = recommend(checkpoint, k=20)  # a frame of user, item, rank, score
config, model, dataset, train, valid, test = load(checkpoint)
```

```
recbole-diffusion recommend {name} -k 20 --out=top.csv
```"""


def _data(facts: RunFacts) -> str:
    data = facts.state.get("data") or facts.manifest.get("data")
    if not data:
        return "The checkpoint holds no counts of its data."
    rows = sum(data[split] for split in ("train", "valid", "test"))
    density = rows / max(data["users"] * data["items"], 1)
    evaluation = facts.settings.get("eval_args") or {}
    lines = [
        f"- {data['users']:,} users, {data['items']:,} items, {rows:,} interactions; density {density:.3%}",
        f"- split: {data['train']:,} train, {data['valid']:,} valid, {data['test']:,} test; "
        f"{evaluation.get('split')}, order {evaluation.get('order')}",
        f"- sha256 of the split: `{data['split_sha256']}`",
    ]
    account = (facts.manifest.get("data") or {}).get("account") or {}
    lines += [f"- {entry['rows']:,} rows dropped: {entry['reason']}" for entry in account.get("dropped", ())]
    return "\n".join(lines)


def _metrics(facts: RunFacts, measured: Optional[Mapping[str, Evaluated]]) -> str:
    splits = _splits(facts) if measured is None else dict(measured)
    names = [metric for split in splits.values() for metric in split.metrics]
    if not names:
        joined = facts.settings.get("fit_on") not in (None, "train")
        return "None: the model was trained on all rows." if joined else "None are known."
    lines = ["| metric | valid | test |", "| --- | --- | --- |"]
    for metric in dict.fromkeys(names):
        lines.append(f"| {metric} | {_cell(splits.get('valid'), metric)} | {_cell(splits.get('test'), metric)} |")
    return "\n".join(lines) + f"\n\n{_about_intervals(splits, measured is not None)}"


def _splits(facts: RunFacts) -> dict[str, Evaluated]:
    """The metrics that the run has measured."""
    valid = facts.state.get("best_valid_result") or facts.metrics.get("best_valid_result")
    test = facts.metrics.get("test_result")
    splits = {"valid": Evaluated(valid)} if valid else {}
    return {**splits, "test": Evaluated(test, facts.per_user)} if test else splits


def _cell(split: Optional[Evaluated], metric: str) -> str:
    if split is None or split.metrics.get(metric) is None:
        return "-"
    text = f"{split.metrics[metric]:.4f}"
    values = None if split.users is None else split.users.metrics.get(metric)
    half = None if values is None else half_width(values)
    return text if half is None else f"{text} ± {half:.4f}"


def _about_intervals(splits: Mapping[str, Evaluated], is_new: bool) -> str:
    lines = [] if "test" in splits else ["No test metrics: the run has none, or its folder is gone."]
    users = [len(split.users.users) for split in splits.values() if split.users is not None]
    if users:
        lines.append(f"±: half of the 95 % interval of the mean over {users[-1]:,} users, by the normal distribution.")
    else:
        lines.append("No intervals: the run has not saved the users' metrics; `card --evaluate` measures them again.")
    if is_new:
        lines.append("Measured when the card was made.")
    return " ".join(lines)


def _settings(settings: Mapping[str, Any]) -> str:
    differing = _differing(settings)
    if differing is None:
        return "The defaults cannot be read: the model is not installed here."
    text = yaml_files.dump_yaml(differing, sort_keys=True, default_flow_style=False).strip() if differing else "# none"
    return f"```yaml\n{text}\n```"


def _differing(settings: Mapping[str, Any]) -> Optional[dict[str, Any]]:
    """The settings with other values than a run of this version has without any; None if that is not known."""
    try:
        defaults = Config(settings["model"], settings["dataset"]).plain()
    except ValueError:
        return None
    return {
        key: value for key, value in settings.items() if key not in _NOT_SHOWN and value != defaults.get(key, value)
    }


def _training(facts: RunFacts) -> str:
    settings, epochs = facts.settings, facts.state.get("epochs_done") or []
    best = [row["epoch"] for row in epochs if row.get("best")]
    chosen = f"epoch {best[-1]} was the best one on the validation split" if best else "without validation"
    splits = " + ".join(fit_on.SPLIT_NAMES[: fit_on.SPLITS[settings.get("fit_on") or "train"]])
    lines = [f"- seed {settings.get('seed')}, split_seed {settings.get('split_seed')}; trained on {splits}; {chosen}"]
    if facts.folder is None:
        return "\n".join([*lines, "- the run's folder is gone, and with it cost, versions and warnings"])
    cost = facts.manifest.get("timing") or {}
    if cost:
        gpu = cost.get("peak_gpu_memory_mib")
        lines.append(
            f"- {cost['epochs']} epochs of {cost['train_s_per_epoch']:.2f} s, {cost['total_s']:.0f} s in all "
            f"({cost['pretrain_s']:.0f} s of pretraining); {cost['parameters']:,} parameters; peak "
            f"{cost['peak_memory_mib']:.0f} MiB" + (f", {gpu:.0f} MiB on the GPU" if gpu else "")
        )
    environment = facts.manifest.get("environment") or {}
    libraries = ("recbole-diffusion", "recbole", "torch", "numpy", "pandas", "python")
    lines.append("- " + ", ".join(f"{name} {environment[name]}" for name in libraries if environment.get(name)))
    device = environment.get("cuda") or facts.manifest.get("device")
    lines.append(f"- started {facts.manifest.get('started', '')[:19]}, on {device}")
    lines += [f"- warning: {line}" for line in facts.manifest.get("warnings") or ()]
    return "\n".join(lines)


def _model(settings: Mapping[str, Any]) -> str:
    spec = registry.find_spec(settings["model"])
    card = None if spec is None else spec.card
    if spec is None or card is None:
        return f"{settings['model']} is RecBole's, or your own: it has no card."
    lines = []
    if card.paper is not None:
        authors = "; ".join(card.paper.authors)
        lines.append(f"- paper: {authors}: {card.paper.title}. {card.paper.where}. {card.paper.url}")
    if card.code is not None:
        lines.append(f"- official code: {card.code} (licence: {card.code.licence})")
    if card.parity is not None:
        lines.append(f"- agreement with it: within {card.parity.tolerance:g}, {card.parity.test}")
    if card.nfe is not None:
        lines.append(f"- network calls per user, by default: {card.nfe}")
    lines += [f"- page: {card.page}"] if card.page else []
    return "\n".join(lines) or "Its card holds neither paper nor code."


def _limits(facts: RunFacts) -> str:
    lines = ["- items that are not in the data above cannot be recommended", f"- {_new_users(facts.settings)}"]
    if facts.settings.get("fit_on") == "all":
        lines.append("- nothing was held out: how good the model is, is known from the validated run only")
    mode = (facts.settings.get("eval_args") or {}).get("mode")
    modes = {*mode.values()} if isinstance(mode, dict) else {mode}
    if modes - {"full", None}:
        lines.append(f"- its metrics are of mode {', '.join(sorted(map(str, modes)))}, not of a full ranking")
    return "\n".join(lines)


def _new_users(settings: Mapping[str, Any]) -> str:
    try:
        model_class = registry.get_model(settings["model"])
    except ValueError:
        return "new users: not known, since the model is not installed here"
    able = recbole_histories.scores_new_users(model_class)
    if able is None:
        return "new users are scored from their sequence (--histories), unless the model has an embedding per user"
    if able:
        return "new users are scored from their items: recommend --histories=FILE"
    return "new users cannot be scored: the model has an embedding for each user of its training"
