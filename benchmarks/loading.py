"""How long the reading of an atomic file takes: RecBole's reader beside ours.

    python benchmarks/loading.py [--data PATH/ml-1m.inter] [--rows 1000000] [--repeats 5]

Both readers take turns in one process, and the medians of their seconds are printed, with their ratio. Without
``--data`` a file with the shape of ml-1m is drawn. A second file has a column of type token_seq, a third ISO dates,
which RecBole's reader takes as tokens. Markdown, on stdout.
"""

from __future__ import annotations

import argparse
import logging
import lzma
import shutil
import tempfile
import warnings
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, Callable, Optional

import numpy as np
import pandas as pd
from recbole.data.dataset import Dataset
from recbole.utils import FeatureSource

from recbole_diffusion.data.reading import atomic_files
from recbole_diffusion.quick_start import configure


def draw(file: Path, rows: int, more: Optional[str] = None) -> None:
    """A file with the columns of ml-1m, and one more."""
    random = np.random.default_rng(0)
    columns: dict[str, Any] = {
        "user_id:token": random.integers(1, 6041, rows),
        "item_id:token": random.integers(1, 3707, rows),
        "rating:float": random.integers(1, 6, rows),
    }
    times = random.integers(956_703_932, 1_046_454_590, rows)
    columns["timestamp:token" if more == "dates" else "timestamp:float"] = (
        pd.to_datetime(times, unit="s").strftime("%Y-%m-%d %H:%M:%S") if more == "dates" else times
    )
    if more == "sequences":
        tokens = random.integers(1, 3707, (rows, 5)).astype(str)
        columns["items:token_seq"] = [" ".join(row) for row in tokens]
    pd.DataFrame(columns).to_csv(file, sep="\t", index=False)


def bare(name: str, folder: str) -> Any:
    """RecBole's data set before it has read anything."""
    config = configure("BPR", name, config_dict={"data_path": folder, "load_col": None, "state": "error"})
    dataset = Dataset.__new__(Dataset)
    dataset.config, dataset.dataset_name, dataset.logger = config, name, logging.getLogger()
    dataset._get_preset()
    dataset._get_field_from_config()
    return dataset


def seconds(load_feat: Callable[..., Any], name: str, folder: str) -> float:
    dataset, file = bare(name, folder), f"{folder}/{name}/{name}.inter"
    start = process_time()
    load_feat(dataset, file, FeatureSource.INTERACTION)
    return process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    theirs = vars(Dataset)["_load_feat"]
    with tempfile.TemporaryDirectory() as folder:
        names = {"plain": "ml-1m's columns", "sequences": "and a token_seq", "dates": "times as ISO dates"}
        for name in names:
            (Path(folder) / name).mkdir()
            file = Path(folder) / name / f"{name}.inter"
            if name == "plain" and args.data is not None:
                with (lzma.open if args.data.suffix == ".xz" else open)(args.data, "rb") as source:
                    file.write_bytes(source.read())
                names[name] = args.data.name
            else:
                draw(file, args.rows, name)
        print(f"pandas {pd.__version__}\n\n| file | RecBole, s | ours, s | ours / RecBole |\n| --- | --- | --- | --- |")
        for name, what in names.items():
            times = [
                (seconds(theirs, name, folder), seconds(atomic_files.load_feat, name, folder))
                for _ in range(args.repeats)
            ]
            recbole, ours = median(one for one, _ in times), median(two for _, two in times)
            print(f"| {what} | {recbole:.2f} | {ours:.2f} | {ours / recbole:.2f} |", flush=True)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
