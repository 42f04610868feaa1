"""What a setting's value can change: one table of scopes, which caches, fingerprints and checks ask.

A key that is not in the table changes the training: weights, and with them every number. That is the safe side: a cache
that knows too many keys trains once more, one that knows too few gives the numbers of something else.
"""

from __future__ import annotations

from enum import Flag, auto


class Scope(Flag):
    """Scopes of a key; a key may have several.

    Attributes:
        DERIVED: computed from other settings or from the machine; never stored as a setting.
        PATH: names a file or folder; kept as an absolute path, and found again when its folder has moved.
        CONTENT: a path whose content the numbers depend on, not its place.
        WHERE: where files lie; changes no number.
        SHOWN: what is printed, logged or kept beside the numbers; changes none.
        BATCHED: how many rows are scored at once; changes numbers by rounding only.
        DEVICE: where tensors are; changes numbers by rounding only.
        MEASURED: what is measured and on which rows; numbers of different values do not compare.
        LOADER: what RecBole's saved loaders hold beside the data and the split.
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


_D, _P, _C, _W, _S = Scope.DERIVED, Scope.PATH, Scope.CONTENT, Scope.WHERE, Scope.SHOWN
_B, _G, _M, _L = Scope.BATCHED, Scope.DEVICE, Scope.MEASURED, Scope.LOADER

TABLE: dict[str, Scope] = {
    **dict.fromkeys(("MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type", "device", "single_spec", "local_rank"), _D),
    **dict.fromkeys(("world_size", "valid_metric_bigger", "config_files"), _D),
    **dict.fromkeys(("valid_neg_sample_args", "test_neg_sample_args"), _D | _L),
    "model": _D | _M,
    "dataset": _D | _M,
    # files and folders
    "data_path": _P | _W | _M,
    **dict.fromkeys(("checkpoint_dir", "output_dir", "prepared_data", "pretrain_dir"), _P | _W),
    **dict.fromkeys(("dataset_save_path", "dataloaders_save_path"), _P | _C),
    **dict.fromkeys(("pretrain", "base_checkpoint"), _P | _C),
    **dict.fromkeys(("pre_model_path", "mlp_pretrain_path", "mf_pretrain_path"), _P | _C),  # RecBole's models
    # what is shown and kept
    **dict.fromkeys(("show_progress", "state", "log_wandb", "wandb_project", "loss_decimal_place"), _S),
    **dict.fromkeys(("save_per_user", "save_last_every", "save_dataset", "save_dataloaders"), _S),
    # rounding
    **dict.fromkeys(("eval_memory", "eval_users_per_batch"), _B | _L),
    **dict.fromkeys(("gpu_id", "use_gpu"), _G),
    # what is measured
    **dict.fromkeys(("split_seed", "seed"), _M | _L),
    **dict.fromkeys(("eval_args", "metrics", "topk", "valid_metric", "metric_decimal_place"), _M),
    **dict.fromkeys(("benchmark_filename", "val_interval", "user_inter_num_interval", "item_inter_num_interval"), _M),
    **dict.fromkeys(("mask_history", "repeatable", "fixed_eval_negatives"), _M),
    # loaders
    **dict.fromkeys(("train_neg_sample_args", "shuffle", "transform", "train_padding_user", "worker"), _L),
    **dict.fromkeys(("train_batch_size", "eval_batch_size"), _L),
}


def keys(*scopes: Scope) -> frozenset[str]:
    """The keys that have one of the scopes.

    >>> sorted(keys(Scope.DEVICE))
    ['gpu_id', 'use_gpu']
    """
    return frozenset(key for key, scope in TABLE.items() if any(scope & each for each in scopes))


def without_effect() -> frozenset[str]:
    """Keys that change no number but by rounding on the same device, so that a kept result holds for any value."""
    return keys(Scope.WHERE, Scope.SHOWN, Scope.BATCHED)
