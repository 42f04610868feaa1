"""Scopes of settings: one table of what a key's value can affect, used by caches, fingerprints and checks.

A key that is not in the table affects the training, and with it every number. That default is safe: a cache whose key
includes too many settings trains once more, but one that includes too few returns the numbers of another run.
"""

from __future__ import annotations

from enum import Flag, auto


class Scope(Flag):
    """Scopes of a key; a key may have several.

    Attributes:
        DERIVED: computed from other settings or from the machine; never stored as a setting.
        PATH: the path of a file or folder; stored as an absolute path, and found again if its folder has moved.
        CONTENT: a path to content that the numbers depend on; the path itself does not matter.
        WHERE: the location of files; changes no number.
        SHOWN: printed, logged or saved output; changes no number.
        BATCHED: the number of rows scored at once; changes numbers by rounding only.
        DEVICE: the device of the tensors; changes numbers by rounding only.
        MEASURED: the metrics and the rows that they are computed on; numbers of different values do not compare.
        LOADER: part of RecBole's saved loaders, beside the data and the split.
    """

    DERIVED = auto()
    PATH = auto()
    CONTENT = auto()
    WHERE = auto()
    SHOWN = auto()
    BATCHED = auto()
    DEVICE = auto()
    MEASURED = auto()
    LOADER = auto()


_DERIVED, _PATH, _CONTENT, _WHERE, _SHOWN = Scope.DERIVED, Scope.PATH, Scope.CONTENT, Scope.WHERE, Scope.SHOWN
_BATCHED, _DEVICE, _MEASURED, _LOADER = Scope.BATCHED, Scope.DEVICE, Scope.MEASURED, Scope.LOADER

TABLE: dict[str, Scope] = {
    **dict.fromkeys(("MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type", "device", "single_spec", "local_rank"), _DERIVED),
    **dict.fromkeys(("world_size", "valid_metric_bigger", "config_files"), _DERIVED),
    **dict.fromkeys(("valid_neg_sample_args", "test_neg_sample_args"), _DERIVED | _LOADER),
    "model": _DERIVED | _MEASURED,
    "dataset": _DERIVED | _MEASURED,
    # files and folders
    "data_path": _PATH | _WHERE | _MEASURED,
    **dict.fromkeys(("checkpoint_dir", "output_dir", "prepared_data", "pretrain_dir"), _PATH | _WHERE),
    **dict.fromkeys(("dataset_save_path", "dataloaders_save_path"), _PATH | _CONTENT),
    **dict.fromkeys(("pretrain", "base_checkpoint"), _PATH | _CONTENT),
    **dict.fromkeys(("pre_model_path", "mlp_pretrain_path", "mf_pretrain_path"), _PATH | _CONTENT),  # RecBole's models
    # output
    **dict.fromkeys(("show_progress", "state", "log_wandb", "wandb_project", "loss_decimal_place"), _SHOWN),
    **dict.fromkeys(("save_per_user", "keep_lists", "save_last_every", "save_dataset", "save_dataloaders"), _SHOWN),
    **dict.fromkeys(("carbon_intensity", "carbon_country"), _SHOWN),
    # rounding
    **dict.fromkeys(("eval_memory", "eval_users_per_batch"), _BATCHED | _LOADER),
    **dict.fromkeys(("gpu_id", "use_gpu"), _DEVICE),
    # measurement
    **dict.fromkeys(("split_seed", "seed", "fit_on"), _MEASURED | _LOADER),
    **dict.fromkeys(("eval_args", "metrics", "topk", "valid_metric", "metric_decimal_place"), _MEASURED),
    **dict.fromkeys(("user_inter_num_interval", "item_inter_num_interval"), _MEASURED),
    **dict.fromkeys(("benchmark_filename", "val_interval"), _MEASURED),
    **dict.fromkeys(("mask_history", "repeatable", "fixed_eval_negatives"), _MEASURED),
    **dict.fromkeys(("item_category_field", "ild_distance", "popularity_shares", "activity_quantiles"), _MEASURED),
    "cold_max_interactions": _MEASURED,
    **dict.fromkeys(("train_noise", "train_noise_ratio", "train_noise_seed"), _MEASURED | _LOADER),
    # loaders
    **dict.fromkeys(("train_neg_sample_args", "shuffle", "transform", "train_padding_user", "worker"), _LOADER),
    **dict.fromkeys(("train_batch_size", "eval_batch_size"), _LOADER),
}


def keys(*scopes: Scope) -> frozenset[str]:
    """The keys that have at least one of the scopes.

    >>> sorted(keys(Scope.DEVICE))
    ['gpu_id', 'use_gpu']
    """
    return frozenset(key for key, key_scopes in TABLE.items() if any(key_scopes & scope for scope in scopes))


def without_effect() -> frozenset[str]:
    """The keys that change numbers by rounding at most, so that a stored result is valid for any of their values."""
    return keys(Scope.WHERE, Scope.SHOWN, Scope.BATCHED)
