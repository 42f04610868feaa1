"""The result of a run: a dict with RecBole's keys, and the table of its metrics and cost."""

from __future__ import annotations

import sys
from typing import Any

from recbole.utils import set_color

from recbole_diffusion.data.account import rows_line
from recbole_diffusion.support import terminal
from recbole_diffusion.support.json_values import nan_to_null


class RunResult(dict[str, Any]):
    """A dict with RecBole's keys and a ``repr`` of one line. ``print(result.table())`` prints the command's output.

    It can be pickled. For ``json.dumps`` use :meth:`plain`, since ``per_user`` and ``lists`` hold arrays.
    """

    def __repr__(self) -> str:
        metrics = self.get("test_result") or self.get("best_valid_result") or {}
        split = "test" if self.get("test_result") else "valid"
        scores = ", ".join(f"{metric} {value:.4f}" for metric, value in metrics.items())
        name = f"{self.get('model')} on {self.get('dataset')}, seed {self.get('seed')}"
        return f"<RunResult: {name}; {split}: {scores or 'no metrics'}; folder {self.get('folder')}>"

    def table(self) -> str:
        """The table of metrics, cost, folder and warnings, see :func:`result_table`."""
        return result_table(self)

    def plain(self) -> dict[str, Any]:
        """The result as plain values: ``per_user`` as lists, no ``lists``, and None for numbers that are not finite."""
        per_user = self.get("per_user")
        if per_user is None:
            lists = None
        else:
            metrics = {metric: values.tolist() for metric, values in per_user.metrics.items()}
            lists = {"users": per_user.users.tolist(), "metrics": metrics}
        plain: dict[str, Any] = nan_to_null({**self, "per_user": lists})
        plain.pop("lists", None)
        return plain


def result_table(result: dict[str, Any], coloured: bool = False) -> str:
    """The metrics and the cost of a run as text.

    Args:
        result: of a run.
        coloured: colour the title.
    """
    cost, data = result["timing"], result["data"]
    best = "" if cost["best_epoch"] is None else f" (best: {cost['best_epoch']})"
    title = f"{result['model']} on {result['dataset']}"
    test_speed = cost["test_users_per_s"]
    speed = "nothing was tested" if test_speed is None else f"test: {test_speed:.0f} users/s"
    gpu = "" if cost["peak_gpu_memory_mib"] is None else f" ({cost['peak_gpu_memory_mib']:.0f} on the GPU)"
    calls = "a varying number of" if cost["denoiser_calls_per_user"] is None else cost["denoiser_calls_per_user"]
    lines = [
        "",
        (set_color(title, "pink") if coloured else title)
        + f" (seed {result['seed']}; {data['users']} users, {data['items']} items, "
        f"{data['train']} / {data['valid']} / {data['test']} rows)",
        *([f"data: {rows_line(data['account'])}"] if "account" in data else []),
        *_measured(result),
        f"{cost['epochs']} epochs{best}, {cost['train_s_per_epoch']:.2f} s each; "
        f"{speed}, {calls} network calls per user; "
        f"{cost['parameters']:,} parameters; peak {cost['peak_memory_mib']:.0f} MiB{gpu}; "
        f"{cost['total_s']:.1f} s in all{_energy(cost)}",
        f"folder: {result['folder']}" + (f"   checkpoint: {result['checkpoint']}" if result["checkpoint"] else ""),
        *(f"warning: {note}" for note in result["warnings"]),
    ]
    return "\n".join(lines)


def _energy(cost: dict[str, Any]) -> str:
    """The energy of the run, where it was read."""
    if cost.get("energy_wh") is None:
        return ""
    co2 = "" if cost["co2_g"] is None else f", {cost['co2_g']:.2g} g CO2"
    return f"; {cost['energy_wh']:.3g} Wh{co2}"


def _measured(result: dict[str, Any]) -> list[str]:
    """The table of the metrics, and a line about splits that were trained on."""
    valid, test, fit_on = result["best_valid_result"] or {}, result["test_result"] or {}, result.get("fit_on", "train")
    lines = [_metrics_table(valid, test)] if valid or test else []
    if fit_on not in (None, "train"):
        untested = "not validated and not tested" if fit_on == "all" else "not validated"
        lines.append(f"fit_on={fit_on}: trained on these splits for a fixed number of epochs, {untested}")
    return lines


def _metrics_table(valid: dict[str, float], test: dict[str, float]) -> str:
    """One row per metric with its validation and test value; ``-`` where it was not measured."""
    from texttable import Texttable

    table = Texttable(max_width=100)
    table.set_deco(Texttable.HEADER)
    table.set_cols_align(["l", "r", "r"])
    table.set_cols_dtype(["t", "t", "t"])
    table.header(["metric", "valid", "test"])
    for metric in test or valid:
        table.add_row([metric, *(f"{split[metric]:.4f}" if metric in split else "-" for split in (valid, test))])
    return str(table.draw())


def print_table(result: dict[str, Any]) -> None:
    """Print :func:`result_table` to stdout, in colour where that is a terminal."""
    print(result_table(result, coloured=terminal.colours(sys.stdout)))
