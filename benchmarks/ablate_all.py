"""What carries the number, for every diffusion model that is trained: a checkpoint of each, and its ablations.

    python benchmarks/ablate_all.py --folder FOLDER [--models DiffRec DDRM] [--pages docs/models]
        [--table docs/results/ablation.md]

Each model is trained with its preset ``quick``, where it has one, and with the settings of BUDGET; ``ablate --train``
makes the table, at the same budget and with the seeds of SEEDS. Finished evaluations and trainings in the folder are
not repeated.
The models are those whose card names an ablation. ``--pages`` writes each model's block in its page, ``--table`` the
block with all of them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from recbole_diffusion import registry, run
from recbole_diffusion.cards.card import NO_DIFFUSION
from recbole_diffusion.experiment import study
from recbole_diffusion.support import yaml_files
from recbole_diffusion.support.atomic_write import atomic_write_text

COMMON: dict[str, Any] = {
    "epochs": 20,
    "eval_step": 2,
    "stopping_step": 5,
    "metrics": ["NDCG", "Recall"],
    "topk": [10],
    "valid_metric": "NDCG@10",
    "metric_decimal_place": 6,
    "use_gpu": False,
    "state": "ERROR",
    "show_progress": False,
    "seed": 2020,
    "split_seed": 2020,
}
#: A base model's budget, the same for all models on embeddings; its seed makes it one model for all seeds above it.
BASE: dict[str, Any] = {"seed": 1, "epochs": 15, "eval_step": 3, "stopping_step": 5}
LIGHTGCN = {**BASE, "embedding_size": 64, "learning_rate": 0.005}
_LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
_ROWS = {"epochs": 10, "train_batch_size": 100}
_LATENTS = {**_ROWS, "pretrain": {"model": "LightGCN", "config": LIGHTGCN}}
#: What differs from COMMON, so that all of it ends on two busy cores within the hour.
BUDGET: dict[str, dict[str, Any]] = {
    "DiffRec": _ROWS,
    "TDiffRec": _ROWS,
    "LDiffRec": _LATENTS,
    "LTDiffRec": _LATENTS,
    "DDRM": {"epochs": 3, "eval_step": 1, "dims": [50, 100], "base_config": LIGHTGCN},
    "HDRM": {"epochs": 3, "eval_step": 1, "dims": [50, 100], "base_config": BASE},
    "CDDRec": {
        **{"epochs": 2, "eval_step": 1, "steps": 3, "hidden_size": 32, "inner_size": 64, "n_heads": 2},
        **{"learning_rate": 0.003, "eval_args": _LEAVE_ONE_OUT},
    },
    "DiffuRec": {
        **{"epochs": 3, "eval_step": 1, "hidden_size": 32, "n_layers": 1, "MAX_ITEM_LIST_LENGTH": 10},
        **{"inference_steps": 8, "train_batch_size": 1024, "eval_args": _LEAVE_ONE_OUT},
    },
}
#: Seeds of the trainings; for the other models 1.
SEEDS = {
    **dict.fromkeys(("DiffRec", "FlowCF", "GiffCF"), (1, 2, 3)),
    **dict.fromkeys(("LDiffRec", "DDRM", "DiffuRec"), (1, 2)),
}
_COLUMNS = ("full chain", "one call", "no call", "no noise", "x_t = noise", "x_t = 0", "x_t = target")


def models() -> list[str]:
    """The models whose card names an ablation."""
    return [name for name, spec in registry.specs().items() if spec.card is not None and spec.card.ablation]


def ablated(model: str, dataset: str, folder: Path, pages: Optional[Path]) -> study.StudyResult:
    """Train a checkpoint, unless the folder holds one, and ablate it."""
    of_model = folder / model
    (checkpoint,) = [*of_model.glob("saved/*.pth")] or [_train(model, dataset, of_model)]
    spec = registry.specs()[model]
    page = None if pages is None or spec.card is None or spec.card.page is None else pages / Path(spec.card.page).name
    seeds = SEEDS.get(model, (1,))
    script = (
        f"python benchmarks/ablate_all.py --folder=FOLDER --models {model}    # its checkpoint and budget, and then"
    )
    command = f"{script}\nrecbole-diffusion ablate CHECKPOINT --train --seeds={len(seeds)}"
    return study.ablate(
        checkpoint,
        folder=of_model / "study",
        config_dict={"pretrain_dir": str(folder / "pretrain")},
        train=True,
        seeds=seeds,
        page=page,
        command=command,
    )


def _train(model: str, dataset: str, folder: Path) -> Path:
    preset = {"preset": "quick"} if (yaml_files.properties() / "quick" / f"{model}.yaml").is_file() else {}
    folders = {"checkpoint_dir": str(folder / "saved"), "output_dir": str(folder / "outputs")}
    settings = {**COMMON, **BUDGET.get(model, {}), **preset, **folders, "pretrain_dir": str(folder.parent / "pretrain")}
    return Path(run(model, dataset, config_dict=settings)["checkpoint"])


def line(model: str, result: study.StudyResult) -> str:
    """The row of a model in the table of all."""
    rows = {row.label: row for row in result.rows}
    full, again = rows["full chain"], rows["retrained"]
    mark = {label: "*" if row.p is not None and row.p < 0.05 else "" for label, row in rows.items()}
    cells = [f"{rows[name].value:.4f}{mark[name]}" if name in rows else "–" for name in _COLUMNS]
    without = rows.get(f"retrained with {NO_DIFFUSION}")
    spread = {row.label: "" if row.sd is None else f" ± {row.sd:.4f}" for row in result.rows}
    retrained = [f"{row.value:.4f}{spread[row.label]}{mark[row.label]}" if row else "–" for row in (again, without)]
    return "| " + " | ".join([model, str(full.nfe), *cells, *retrained]) + " |"


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Ablate all models, and write the pages and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--models", nargs="+", choices=models(), default=models())
    parser.add_argument("--pages", type=Path, help="folder of the models' pages")
    parser.add_argument("--table", type=Path, help="markdown page with the block <!-- ablate all -->")
    options = parser.parse_args(arguments)
    pages, table = (path and path.resolve() for path in (options.pages, options.table))
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)  # RecBole logs where it is started
    lines = []
    for model in options.models:
        print(f"== {model}", flush=True)
        result = ablated(model, options.dataset, folder, pages)
        print(result.text(), flush=True)
        lines.append(line(model, result))
    head = ["model", "calls", *_COLUMNS, "retrained", NO_DIFFUSION]
    content = "\n".join(["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1), *lines])
    print(content)
    if table is not None:
        text = table.read_text(encoding="utf-8")
        start, end = "<!-- ablate all -->", "<!-- /ablate all -->"
        before, _, rest = text.partition(start)
        atomic_write_text(table, f"{before}{start}\n{content}\n{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    main()
