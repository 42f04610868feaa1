"""The trajectory of some users' rankings along the reverse process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np
import torch
from torch import Tensor

from recbole_diffusion.experiment import figures
from recbole_diffusion.experiment.report import records
from recbole_diffusion.experiment.report.files import write_study_page
from recbole_diffusion.experiment.report.study_section import section_of
from recbole_diffusion.experiment.study.checkpoint_study import Studied, overlap
from recbole_diffusion.model import interventions
from recbole_diffusion.support.atomic_write import atomic_write_text

#: Users that are watched where none are named.
USERS = 5
_OVERLAP_AT = 10
RANK_NOTE = "Rank of the best held-out item after each step of the reverse process; equal scores count against it."


class WatchedRows(NamedTuple):
    """The evaluation rows of the watched users.

    Attributes:
        names: of the users, (n,).
        interaction: their batch.
        masked: whether an item is not a candidate, bool, (n, n_items).
        held_out: whether an item is held out, bool, (n, n_items).
    """

    names: list[str]
    interaction: Any
    masked: Tensor
    held_out: Tensor


class Trajectory(NamedTuple):
    """The rankings of the watched users after each step.

    Attributes:
        model, dataset: names.
        users: names of the users, (n,).
        ranks: rank of the best held-out item, from 1, (n_steps + 1, n); step 0 is the start.
        entropy: of the softmax of the candidates' scores, in nats, (n_steps + 1, n).
        overlap: share of the first 10 items that the last step has too, (n_steps + 1, n).
        item_ranks: rows with user, step, item, rank for each held-out item.
    """

    model: str
    dataset: str
    users: list[str]
    ranks: np.ndarray
    entropy: np.ndarray
    overlap: np.ndarray
    item_ranks: list[dict[str, Any]]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row per user and step."""
        return [
            {
                "user": user,
                "step": step,
                "best_rank": int(self.ranks[step, place]),
                "entropy": float(self.entropy[step, place]),
                f"overlap@{_OVERLAP_AT}": float(self.overlap[step, place]),
            }
            for place, user in enumerate(self.users)
            for step in range(len(self.ranks))
        ]

    def text(self) -> str:
        """Return the trajectory of each user in a line: the rank of the best held-out item at some steps."""
        from texttable import Texttable

        columns, rows = self.sampled()
        table = Texttable(max_width=0)
        table.set_deco(Texttable.HEADER)
        table.set_cols_dtype(["t"] * len(columns))
        table.set_cols_align(["l", *"r" * (len(columns) - 1)])
        table.header(columns)
        for row in rows:
            table.add_row(row)
        return f"{self.model} on {self.dataset}: rank of the best held-out item\n\n{table.draw()}"

    def sampled(self) -> tuple[list[str], list[list[str]]]:
        """Return columns and rows of a table: a row per user with the rank of the best held-out item at some steps."""
        last = len(self.ranks) - 1
        shown = sorted({round(place) for place in np.linspace(0, last, min(last + 1, 8))})
        columns = ["user", *(f"step {step}" if step else "start" for step in shown)]
        rows = [[user, *(str(int(self.ranks[step, place])) for step in shown)] for place, user in enumerate(self.users)]
        return columns, rows


def watched_rows(studied: Studied, users: Optional[Sequence[str]]) -> WatchedRows:
    """Collect the evaluation rows of users.

    Args:
        studied: the loaded checkpoint.
        users: names; None: the first :data:`USERS` with held-out items.

    Raises:
        ValueError: a user who is not in the evaluated part, or a sampled evaluation.
    """
    loaded = studied.loaded
    loader = loaded.valid_data if studied.split.phase == "valid" else loaded.test_data
    if not hasattr(loader, "uid2history_item") and not getattr(loader, "is_sequential", False):
        raise ValueError("watching needs a full ranking (eval_args mode: full)")
    names = np.asarray(loaded.dataset.field2id_token[loaded.dataset.uid_field], dtype=str)
    wanted = None if users is None else dict.fromkeys(users)
    rows_by_user: dict[str, tuple[Any, Tensor, Tensor]] = {}
    for interaction, history, positive_u, positive_i in loader:
        for row, name in enumerate(names[interaction[loaded.dataset.uid_field].numpy()].tolist()):
            is_wanted = len(rows_by_user) < USERS if wanted is None else name in wanted
            if is_wanted and name not in rows_by_user:
                masked = history[1][history[0] == row] if history is not None else torch.empty(0, dtype=torch.int64)
                rows_by_user[name] = (interaction[[row]], masked, positive_i[positive_u == row])
    missing = [user for user in users or () if user not in rows_by_user]
    if missing:
        raise ValueError(f"user {missing[0]!r} has no held-out items in the {studied.split.phase} split")
    chosen = list(users or rows_by_user)
    return _stacked(chosen, [rows_by_user[name] for name in chosen], loaded.dataset.item_num)


def _stacked(names: list[str], rows: Sequence[tuple[Any, Tensor, Tensor]], n_items: int) -> WatchedRows:
    from recbole.data.interaction import cat_interactions

    masked, held_out = (torch.zeros(len(rows), n_items, dtype=torch.bool) for _ in range(2))
    masked[:, 0] = True
    for place, (_, history, positives) in enumerate(rows):
        masked[place, history.long()] = True
        held_out[place, positives.long()] = True
    return WatchedRows(names, cat_interactions([row for row, *_ in rows]), masked, held_out)


@torch.no_grad()
def watch(studied: Studied, users: Optional[Sequence[str]] = None) -> Trajectory:
    """Rank the items of some users after each step of the reverse process.

    Raises:
        ValueError: the model has no reverse process; see also :func:`watched_rows`.
    """
    model, loaded = studied.model, studied.loaded
    if not interventions.reverse_processes(model):
        raise ValueError(f"{type(model).__name__} has no reverse process to watch")
    rows = watched_rows(studied, users)
    interaction = rows.interaction.to(loaded.config["device"])
    n_steps = _count_steps(model, interaction)
    steps = [_scores_after(model, interaction, rows.masked, count) for count in range(n_steps + 1)]
    tops = [scores.topk(_OVERLAP_AT).indices.numpy() for scores in steps]
    last = tops[-1]
    per_user = [[overlap(top[[n]], last[[n]], _OVERLAP_AT) for n in range(len(rows.names))] for top in tops]
    item_names = np.asarray(loaded.dataset.field2id_token[loaded.dataset.iid_field], dtype=str)
    item_ranks = [
        {"user": user, "step": step, "item": str(item_names[item]), "rank": int(rank)}
        for step, scores in enumerate(steps)
        for user, row, held_out in zip(rows.names, scores, rows.held_out)
        for item, rank in zip(held_out.nonzero().flatten().tolist(), _ranks(row, held_out).tolist())
    ]
    best = np.array([[int(_ranks(row, held_out).min()) for row, held_out in zip(s, rows.held_out)] for s in steps])
    entropy = np.array([[_entropy(row) for row in scores] for scores in steps])
    return Trajectory(
        loaded.config.model_name(), loaded.config["dataset"], rows.names, best, entropy, np.array(per_user), item_ranks
    )


def _count_steps(model: Any, interaction: Any) -> int:
    """The number of steps of the model's longest reverse process."""
    solvers: list[interventions.StoppedAfter] = []

    def counting(module: Any) -> interventions.StoppedAfter:
        solvers.append(interventions.StoppedAfter(module.solver, float("inf")))
        return solvers[-1]

    with interventions.solvers_replaced(model, counting):
        model.full_sort_predict(interaction)
    return max(solver.taken for solver in solvers)


def _scores_after(model: Any, interaction: Any, masked: Tensor, count: int) -> Tensor:
    """The scores after ``count`` steps, items that are no candidates at -inf, on the CPU, (n, n_items)."""
    with interventions.solvers_replaced(model, lambda module: interventions.StoppedAfter(module.solver, count)):
        scores: Tensor = model.full_sort_predict(interaction).view(len(masked), -1).float().cpu()
    return scores.masked_fill(masked, -torch.inf)


def _ranks(scores: Tensor, held_out: Tensor) -> Tensor:
    """The rank of each held-out item among the candidates, from 1; equal scores count against it; (n_held_out,)."""
    return (scores[None, :] >= scores[held_out][:, None]).sum(dim=1)


def _entropy(scores: Tensor) -> float:
    """The entropy of the softmax of the candidates' scores, in nats."""
    log_p = scores[scores > -torch.inf].double().log_softmax(0)
    return float(-(log_p.exp() * log_p).sum())


def write(trajectory: Trajectory, folder: Union[str, Path], command: str = "") -> list[Path]:
    """Write ``trajectory.csv``, ``held_out.csv``, with matplotlib the plots, and the page; return the files."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "trajectory.csv", folder / "held_out.csv"]
    for file, rows in zip(files, (trajectory.rows(), trajectory.item_ranks)):
        atomic_write_text(file, records.to_csv(rows).decode())
    files += _plot(trajectory, folder)
    title = f"Trajectory: {trajectory.model} on {trajectory.dataset}"
    section = section_of(title, *trajectory.sampled(), [RANK_NOTE], folder, files)
    return [*files, write_study_page(folder, section, command)]


def _plot(trajectory: Trajectory, folder: Path) -> list[Path]:
    """Plot rank, entropy and overlap against the steps, a line per user."""
    panels = (
        ("rank of the best held-out item", trajectory.ranks),
        ("entropy of the scores' softmax, nats", trajectory.entropy),
        (f"overlap@{_OVERLAP_AT} with the last step", trajectory.overlap),
    )
    with figures.figure(11, 3.4) as figure:
        if figure is None:
            return []
        for axes, (label, values) in zip(figure.subplots(1, 3), panels):
            for place, user in enumerate(trajectory.users):
                colour = figures.COLOURS[place % len(figures.COLOURS)]
                axes.plot(range(len(values)), values[:, place], color=colour, label=user, linewidth=1.4)
            axes.set_xlabel("steps of the reverse process")
            axes.set_ylabel(label)
        figure.axes[0].set_yscale("log")
        figures.logarithmic(figure.axes[0].yaxis)
        figure.axes[0].invert_yaxis()
        figure.axes[-1].legend(title="user")
        figure.suptitle(f"{trajectory.model} on {trajectory.dataset}", fontsize=10)
        return figures.save(figure, folder / "trajectory")
