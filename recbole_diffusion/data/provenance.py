"""What weights were trained on, kept in their checkpoint and compared with the data that they are used on.

A checkpoint holds the names behind its ids (:mod:`recbole_diffusion.data.names`), ``data``: the counts and the hash of
its split, and ``columns``: hashes of what the rows hold beside users and items
(:mod:`recbole_diffusion.data.row_content`). A resumed training on other data is refused. A loaded model on other data
is noted, since people load models to recommend on new data.
"""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from typing import Any, Optional

from recbole_diffusion.data import names, numbering, pipeline, row_content
from recbole_diffusion.data.cache_key import DATA_KEYS
from recbole_diffusion.settings.config import Config, plain_settings, settings_of

_SHOWN = 12  # digits of a hash in messages


def describe(dataset: Any, loaders: Any) -> dict[str, Any]:
    """:func:`data.describe`, kept at the train split for the checkpoints that a trainer writes, with the columns."""
    counts, part = pipeline.describe(dataset, loaders), loaders[0]._dataset
    part.described, part.columns_described = counts, row_content.digests(dataset, loaders)
    return counts


def record(train_data: Any) -> dict[str, Any]:
    """The entries ``names``, ``data``, ``columns`` of a checkpoint; the last two are None for data not described."""
    part = getattr(train_data, "_dataset", None)
    counts = getattr(part, "described", None)
    return {
        "names": None if part is None else names.pack(part),
        "data": counts and {key: value for key, value in counts.items() if key != "account"},
        "columns": getattr(part, "columns_described", None),
    }


def check_resumed(state: dict[str, Any], source: str, config: Any, dataset: Any, described: Any) -> None:
    """Compare a checkpoint with the data that its training is to go on with.

    Args:
        state: the checkpoint.
        source: names it in messages.
        config: the settings of now.
        dataset: the train split.
        described: what :func:`data.describe` gives for the split; None: it is not known.

    Raises:
        ValueError: other ids, another split, or other values in its rows; one line with what differs, and the way out.
    """
    check_names(state, source, config, dataset)
    _check_measure(state, source, config)
    trained, now = split_hash_of(state), (described or {}).get("split_sha256")
    columns = _other_columns(state, dataset)
    if "names" in state and (trained is None or now is None):
        warn(config, f"{source} holds no hash of its split: whether it was this one cannot be checked")
    elif trained is not None and trained != now:
        keys = differing_settings(state, config)
        text = f"{_other_split(source, trained, now, keys)}; its test rows may have been trained on"
        raise ValueError(f"{text}; {_way_back(keys)}")
    elif columns:
        keys = differing_settings(state, config)
        raise ValueError(f"{_other_values(source, columns, keys)}; {_way_back(keys)}")


def _check_measure(state: dict[str, Any], source: str, config: Any) -> None:
    """Whether the best score so far can be compared with those of the epochs to come.

    Raises:
        ValueError: another metric, mode or masking of the validation split.
    """
    if not (state.get("best_valid_result") or state.get("best_valid_score")):
        return  # nothing has been validated yet
    then = _of_the_measure(settings_of(state, source))
    now = _of_the_measure(config.plain() if isinstance(config, Config) else plain_settings(config))
    differing = {key: (then[key], now[key]) for key in then if then[key] is not None and then[key] != now[key]}
    if differing:
        raise ValueError(
            f"{source} has chosen its best epoch by another measure: {_why(differing)}; its score does not compare "
            f"with those to come; {_way_back(differing)}"
        )


def _of_the_measure(settings: Mapping[str, Any]) -> dict[str, Any]:
    mode = (settings.get("eval_args") or {}).get("mode")
    mode = mode.get("valid") if isinstance(mode, dict) else mode
    metric = settings.get("valid_metric")
    keys = {key: settings.get(key) for key in ("mask_history", "metric_decimal_place")}
    return {"valid_metric": metric and str(metric).lower(), "eval_args.mode": mode, **keys}


def note_loaded(state: dict[str, Any], source: str, config: Any, dataset: Any) -> None:
    """Note that a model was loaded on other data than its own; ``dataset``: the train split, described."""
    trained, now = split_hash_of(state), dataset.described["split_sha256"]
    columns = _other_columns(state, dataset)
    if trained is None and "names" in state:
        warn(config, f"{source} holds no hash of its split: its test rows may have been trained on")
    elif trained is not None and trained != now:
        text = _other_split(source, trained, now, differing_settings(state, config))
        warn(config, f"{text}; the test rows may have been trained on")
    elif columns:
        warn(config, _other_values(source, columns, differing_settings(state, config)))


def check_names(state: Any, source: str, config: Any, dataset: Any) -> None:
    """Compare the ids behind a file's rows with those of the data set.

    Raises:
        ValueError: the same id has another name.
    """
    vocabulary = names.unpack(state, source)
    if vocabulary is None:
        warn(config, numbering.no_names_warning(source))
        return
    field = names.first_difference(vocabulary, dataset)
    if field is not None:
        raise ValueError(
            f"{source} numbers the names of {str(field)!r} otherwise than the data set does: its rows would be those "
            "of other names; load it by recbole_diffusion.load or run(resume=...), which put the data into its order"
        )


def mismatch(config: Any, source: str, dataset: Any) -> str:
    """The beginning of the message about weights that do not fit; names users that the checkpoint does not know."""
    vocabulary = getattr(config, "vocabulary", None)
    new = () if vocabulary is None else names.unknown_users(vocabulary, dataset).tolist()
    if not new:
        return f"{source} does not fit the data"
    return (
        f"{source} does not fit the data, which have {len(new)} users that it does not know, e.g. {names.examples(new)}; "
        "leave their rows out, or train anew"
    )


def split_hash_of(state: Any) -> Optional[str]:
    """The hash of the split that a checkpoint was trained on; None where it holds none."""
    counts = state.get("data") if isinstance(state, dict) else None
    return counts.get("split_sha256") if isinstance(counts, dict) else None


def differing_settings(state: Any, config: Any) -> dict[str, tuple[Any, Any]]:
    """Settings of the data and the split that are not those of the checkpoint: by key, (then, now)."""
    then = _of_the_split(settings_of(state, "the checkpoint"))
    now = _of_the_split(config.plain() if isinstance(config, Config) else plain_settings(config))
    keys = [key for key in then if then[key] != now[key]]
    if "split_seed" in keys or then["split_seed"] is not None:
        keys = [key for key in keys if key != "seed"]
    return {key: (then[key], now[key]) for key in keys}


def warn(config: Any, text: str) -> None:
    """Add a warning to the run's, once, and log it."""
    notes = getattr(config, "notes", None)
    if notes is None or text not in notes:
        getLogger().warning(text)
    if notes is not None and text not in notes:
        notes.append(text)


def _of_the_split(settings: Mapping[str, Any]) -> dict[str, Any]:
    args = settings.get("eval_args") or {}
    parts = {f"eval_args.{key}": args.get(key) for key in ("split", "order", "group_by")}
    return {**{key: settings.get(key) for key in ("seed", "split_seed", "dataset", *DATA_KEYS)}, **parts}


def _other_columns(state: Any, dataset: Any) -> list[str]:
    """Columns with other values than a checkpoint was trained on; none where one of the two is not known."""
    return row_content.differing(state.get("columns"), getattr(dataset, "columns_described", None))


def _other_split(source: str, trained: str, now: Optional[str], keys: Mapping[str, tuple[Any, Any]]) -> str:
    hashes = f"{trained[:_SHOWN]}, now {(now or 'unknown')[:_SHOWN]}"
    return f"{source} was trained on another split ({hashes}): {_why(keys)}"


def _other_values(source: str, columns: list[str], keys: Mapping[str, tuple[Any, Any]]) -> str:
    return f"{source} was trained on other values of {', '.join(columns)} in the same split: {_why(keys)}"


def _why(keys: Mapping[str, tuple[Any, Any]]) -> str:
    return "; ".join(f"{key}={then!r}, now {value!r}" for key, (then, value) in keys.items()) or (
        "the data's files are not those of then"
    )


def _way_back(keys: Mapping[str, tuple[Any, Any]]) -> str:
    leave = f"leave {', '.join(keys)} out" if keys else "put the files back"
    return f"{leave} to resume, or start a new run"
