"""Provenance of weights: fingerprints of the training data, stored in the checkpoint and compared when it is used.

A checkpoint holds the names behind its ids (:mod:`recbole_diffusion.data.names`), ``data``: the counts and the
fingerprint of its split, and ``columns``: hashes of the columns beside users and items
(:mod:`recbole_diffusion.data.row_content`). To resume a training on other data is an error. To load a model on other
data is a warning, since models are loaded to recommend on new data.
"""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from typing import Any, Optional

from recbole_diffusion.data import names, numbering, pipeline, row_content
from recbole_diffusion.data.cache_key import DATA_KEYS
from recbole_diffusion.settings.config import Config, plain_settings, settings_of

_HASH_DIGITS = 12  # of a hash in messages


def describe(dataset: Any, loaders: Any) -> dict[str, Any]:
    """Compute :func:`pipeline.describe` and the column hashes, and attach both to the train split.

    The trainer reads them there when it writes a checkpoint (:func:`record`).
    """
    counts, train = pipeline.describe(dataset, loaders), loaders[0]._dataset
    train.described, train.columns_described = counts, row_content.digests(dataset, loaders)
    return counts


def record(train_data: Any) -> dict[str, Any]:
    """The entries ``names``, ``data`` and ``columns`` of a checkpoint.

    The last two are None if :func:`describe` has not been called for the split.
    """
    train = getattr(train_data, "_dataset", None)
    counts = getattr(train, "described", None)
    return {
        "names": None if train is None else names.pack(train),
        "data": counts and {key: value for key, value in counts.items() if key != "account"},
        "columns": getattr(train, "columns_described", None),
    }


def check_resumed(state: dict[str, Any], source: str, config: Any, dataset: Any, described: Any) -> None:
    """Compare a checkpoint with the data of the run that resumes its training.

    Args:
        state: the content of the checkpoint.
        source: its name for messages.
        config: the settings of the resuming run.
        dataset: its train split.
        described: the result of :func:`pipeline.describe` for its splits; None if not known.

    Raises:
        ValueError: other ids, another split, or other values in its rows; one line with the differences and the way
            out.
    """
    check_names(state, source, config, dataset)
    _check_validation(state, source, config)
    trained, current = split_hash_of(state), (described or {}).get("split_sha256")
    columns = _differing_columns(state, dataset)
    if "names" in state and (trained is None or current is None):
        warn(config, f"{source} holds no hash of its split: whether it was this one cannot be checked")
    elif trained is not None and trained != current:
        keys = differing_settings(state, config)
        text = f"{_other_split(source, trained, current, keys)}; its test rows may have been trained on"
        raise ValueError(f"{text}; {_way_out(keys)}")
    elif columns:
        keys = differing_settings(state, config)
        raise ValueError(f"{_other_values(source, columns, keys)}; {_way_out(keys)}")


def _check_validation(state: dict[str, Any], source: str, config: Any) -> None:
    """Check that the best score so far is comparable with those of the next epochs.

    Raises:
        ValueError: another metric, mode or masking of the validation split.
    """
    if not (state.get("best_valid_result") or state.get("best_valid_score")):
        return  # nothing has been validated yet
    stored = _validation_settings(settings_of(state, source))
    current = _validation_settings(_settings_of_run(config))
    differing = {
        key: (stored[key], current[key]) for key in stored if stored[key] is not None and stored[key] != current[key]
    }
    if differing:
        raise ValueError(
            f"{source} has chosen its best epoch by another measure: {_list_differences(differing)}; its score does "
            f"not compare with those to come; {_way_out(differing)}"
        )


def _settings_of_run(config: Any) -> dict[str, Any]:
    return config.plain() if isinstance(config, Config) else plain_settings(config)


def _validation_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the validation score depends on."""
    mode = (settings.get("eval_args") or {}).get("mode")
    mode = mode.get("valid") if isinstance(mode, dict) else mode
    metric = settings.get("valid_metric")
    keys = {key: settings.get(key) for key in ("mask_history", "metric_decimal_place")}
    return {"valid_metric": metric and str(metric).lower(), "eval_args.mode": mode, **keys}


def note_loaded(state: dict[str, Any], source: str, config: Any, dataset: Any) -> None:
    """Warn if a model was loaded on other data than it was trained on.

    Args:
        state: the content of the checkpoint.
        source: its name for messages.
        config: the settings of the run.
        dataset: its train split, after :func:`describe`.
    """
    trained, current = split_hash_of(state), dataset.described["split_sha256"]
    columns = _differing_columns(state, dataset)
    if trained is None and "names" in state:
        warn(config, f"{source} holds no hash of its split: its test rows may have been trained on")
    elif trained is not None and trained != current:
        text = _other_split(source, trained, current, differing_settings(state, config))
        warn(config, f"{text}; the test rows may have been trained on")
    elif columns:
        warn(config, _other_values(source, columns, differing_settings(state, config)))


def check_names(state: Any, source: str, config: Any, dataset: Any) -> None:
    """Compare the names behind a checkpoint's ids with those of the data set; warn if it holds no names.

    Raises:
        ValueError: an id stands for another name.
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
    """The beginning of the message about weights that do not fit the data, with users that the checkpoint lacks."""
    vocabulary = getattr(config, "vocabulary", None)
    users = () if vocabulary is None else names.unknown_users(vocabulary, dataset).tolist()
    if not users:
        return f"{source} does not fit the data"
    return (
        f"{source} does not fit the data, which have {len(users)} users that it does not know, e.g. "
        f"{names.examples(users)}; leave their rows out, or train anew"
    )


def split_hash_of(state: Any) -> Optional[str]:
    """The fingerprint of the split that a checkpoint was trained on; None if it holds none."""
    counts = state.get("data") if isinstance(state, dict) else None
    return counts.get("split_sha256") if isinstance(counts, dict) else None


def differing_settings(state: Any, config: Any) -> dict[str, tuple[Any, Any]]:
    """The settings of data and split that differ between a checkpoint and a run: (stored, current) by key."""
    stored = _split_settings(settings_of(state, "the checkpoint"))
    current = _split_settings(_settings_of_run(config))
    keys = [key for key in stored if stored[key] != current[key]]
    if "split_seed" in keys or stored["split_seed"] is not None:  # then the split does not depend on seed
        keys = [key for key in keys if key != "seed"]
    return {key: (stored[key], current[key]) for key in keys}


def warn(config: Any, text: str) -> None:
    """Add a warning to the notes of the run and log it, unless it is there already."""
    notes = getattr(config, "notes", None)
    if notes is None or text not in notes:
        getLogger().warning(text)
    if notes is not None and text not in notes:
        notes.append(text)


def _split_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the data and the split depend on."""
    eval_args = settings.get("eval_args") or {}
    split_args = {f"eval_args.{key}": eval_args.get(key) for key in ("split", "order", "group_by")}
    keys = ("seed", "split_seed", "dataset", *DATA_KEYS)
    return {**{key: settings.get(key) for key in keys}, **split_args, "fit_on": settings.get("fit_on") or "train"}


def _differing_columns(state: Any, dataset: Any) -> list[str]:
    """The columns with other values than in the checkpoint's data; empty if either is not known."""
    return row_content.differing(state.get("columns"), getattr(dataset, "columns_described", None))


def _other_split(source: str, trained: str, current: Optional[str], keys: Mapping[str, tuple[Any, Any]]) -> str:
    hashes = f"{trained[:_HASH_DIGITS]}, now {(current or 'unknown')[:_HASH_DIGITS]}"
    return f"{source} was trained on another split ({hashes}): {_list_differences(keys)}"


def _other_values(source: str, columns: list[str], keys: Mapping[str, tuple[Any, Any]]) -> str:
    difference = _list_differences(keys)
    return f"{source} was trained on other values of {', '.join(columns)} in the same split: {difference}"


def _list_differences(keys: Mapping[str, tuple[Any, Any]]) -> str:
    """Format the settings that differ; without any, the files must differ."""
    return "; ".join(f"{key}={stored!r}, now {current!r}" for key, (stored, current) in keys.items()) or (
        "the data's files are not those of then"
    )


def _way_out(keys: Mapping[str, tuple[Any, Any]]) -> str:
    leave = f"leave {', '.join(keys)} out" if keys else "put the files back"
    return f"{leave} to resume, or start a new run"
