"""The command ``recbole-diffusion evaluate``: metrics of checkpoints and of lists of other software."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from recbole_diffusion.cli.command import Command
from recbole_diffusion.cli.option_names import UsageError
from recbole_diffusion.cli.options import config_files
from recbole_diffusion.cli.resources import short_path

_EPILOG = """\
A checkpoint is evaluated as a run does it, at any metrics and cut-offs, without training.
A file of lists has the columns user, item, and rank or score: .csv, .tsv, .parquet, .jsonl, also .gz and .xz. Names are
those of the data's files. Several entries are compared user by user on one split.

examples:
  recbole-diffusion evaluate outputs/DiffRec-.../checkpoint.pth --topk=[5,10,50] --metrics=[Recall,NDCG,ILD]
  recbole-diffusion evaluate top.csv --like=outputs/DiffRec-.../checkpoint.pth
  recbole-diffusion evaluate top.csv --dataset=ml-100k --seed=2020
  recbole-diffusion evaluate theirs.csv ours.pth --out=comparison

--key=value             a setting: of the split (eval_args, split_seed, val_interval), or data_path, gpu_id"""
_COLUMNS = ("user", "item", "rank", "score")


def parser() -> Command:
    """Declare the arguments of the command."""
    command = Command("evaluate", "CHECKPOINT|LISTS ... [--split=test] [--topk=[5,10]] [options]", _EPILOG)
    command.option("split", "test", "part whose targets count: test, valid or train", default="test")
    command.option("topk", "[5,10,50]", "cut-offs; default: those of the checkpoint, else 10")
    command.option(
        "metrics",
        "[Recall,ILD]",
        "metrics; default: those of the checkpoint, else RecBole's; docs/evaluate.md lists them",
    )
    command.option("like", "CHECKPOINT", "evaluate lists on the split of this checkpoint")
    command.option("dataset", "NAME", "data set of lists, or another one for the checkpoint")
    command.option("model", "NAME", "with --dataset: model whose settings define the split; default: Pop")
    command.option("config_files", '"A B"', "yaml files of settings")
    command.option("out", "PATH", "folder, or a file: .json (metrics, tests), .csv or .npz (values of each user)")
    for kind in _COLUMNS:
        command.option(kind, "COLUMN", f"column of the lists that holds the {kind}; default: guessed and printed")
    command.flag("keep-seen", "keep items of the user's past in lists; default: removed, as for models")
    command.option(
        "missing", "zero", "users of the split without a list: zero (they count as 0) or drop", default="zero"
    )
    command.option("metric", "NDCG@10", "metric by which several entries are ranked")
    command.option("reference", "LABEL", "entry with which the others are compared; default: the best one")
    command.flag("trust-checkpoint", "load a checkpoint that holds pickled objects; they can run code")
    command.flag("debug", "print the traceback of an error")
    return command


def main(words: Sequence[str]) -> int:
    """Run the command, and return the exit code."""
    command = parser()
    count = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    code = command.print_help_if_needed(words, complete=count > 0)
    if code is not None:
        return code
    options, settings = command.read(words[count:])
    out = None if options.out is None else Path(options.out)
    from recbole_diffusion.experiment import evaluate
    from recbole_diffusion.experiment.evaluate import results

    if out is not None:
        results.check_out(out)
    evaluation = evaluate.evaluate(
        list(words[:count]),
        options.dataset,
        split=options.split,
        metrics=_listed("metrics", options.metrics),
        topk=_listed("topk", options.topk),
        like=options.like,
        **({} if options.model is None else {"model": options.model}),
        config_file_list=config_files(options.config_files or ""),
        config_dict=settings,
        columns={kind: getattr(options, kind) for kind in _COLUMNS},
        keep_seen=options.keep_seen,
        missing=options.missing,
        main_metric=options.metric,
        reference=options.reference,
        trust=options.trust_checkpoint,
    )
    print(evaluation.table())
    if out is not None:
        print("\n" + "\n".join(short_path(file) for file in evaluation.write(out)))
    return 0


def _listed(key: str, text: Optional[str]) -> Optional[list[Any]]:
    """A list in the notation of settings; one value, or several with commas, without brackets too."""
    if text is None:
        return None
    from recbole_diffusion.settings import schema

    value = schema.parse_value(text)
    if isinstance(value, str):
        value = [schema.parse_value(part.strip()) for part in value.split(",")]
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    kind: type = int if key == "topk" else str
    if not values or not all(isinstance(entry, kind) and entry not in ("", 0) for entry in values):
        example = "[5,10,50]" if key == "topk" else "[Recall,NDCG]"
        raise UsageError(f"--{key}={text} is not allowed; allowed: a list such as {example}")
    return values
