"""The tables of a comparison for people: accuracy, beyond accuracy, cost; as markdown, LaTeX and plain text."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional

from recbole_diffusion.experiment.report.analysis import Analysis, ranked
from recbole_diffusion.experiment.report.results import Result, higher_is_better

DASH = "–"
MARK = "†"
TUNING = "s of tuning"
#: Keeps numbers below one another where some have signs; texttable strips spaces.
NO_BREAK = "\N{NO-BREAK SPACE}"


class Value(NamedTuple):
    """What stands in a place of a table: ``place`` is 1 for the best, 2 for the second, else 0."""

    text: str
    place: int = 0
    marked: bool = False


class Table(NamedTuple):
    """One table; every row has as many values as there are columns."""

    name: str
    columns: list[str]
    rows: list[list[Value]]


def accuracy(found: Analysis, metrics: Optional[Sequence[str]] = None) -> Table:
    """``mean ± sd`` of the metrics that are averaged over users; models in the order of the main one."""
    return _metrics_table("accuracy", found, list(metrics or found.accuracy), _four)


def beyond(found: Analysis) -> Table:
    """The metrics of the lists as a whole."""
    return _metrics_table("beyond accuracy", found, found.beyond, _as_sure)


def cost(found: Analysis) -> Table:
    """What each model costs beside what it reaches."""
    columns = [column for column in _COSTS if column[0] != TUNING or _tuned(found)]
    rows = []
    for result in _in_order(found):
        numbers = [(number(result), text) for _, number, text in columns]
        texts = [DASH if value is None else text(value) for value, text in numbers]
        rows.append([Value(each) for each in (result.label, _mean_and_sd(result.mean(found.main), None, 4), *texts)])
    return Table("cost", ["model", _title(found.main), *(column[0] for column in columns)], rows)


def _metrics_table(name: str, found: Analysis, metrics: list[str], digits: Callable[..., int]) -> Table:
    """``digits(means, sds)``: after the point, in one column."""
    results = _in_order(found)
    partial = any(result.missing for result in results)
    columns = {metric: _column(found, results, metric, digits) for metric in metrics}
    rows = []
    for place, result in enumerate(results):
        row = [Value(result.label)]
        if partial:
            row.append(Value(f"{len(result.runs)}/{len(result.runs) + len(result.missing)}"))
        if _tuned(found):
            row.append(Value(str(len(result.trials)) if result.trials_planned else DASH))
        rows.append(row + [columns[metric][place] for metric in metrics])
    head = ["model", *(["seeds"] if partial else []), *(["trials"] if _tuned(found) else [])]
    return Table(name, [*head, *(_title(metric) for metric in metrics)], rows)


def _column(found: Analysis, results: list[Result], metric: str, digits: Callable[..., int]) -> list[Value]:
    """Best and second are told from what is shown, so that what looks equal is treated as equal."""
    pairs = [(result.mean(metric), result.sd(metric)) for result in results]
    there = [mean for mean, _ in pairs if mean is not None]
    after = digits(there, [sd for _, sd in pairs if sd is not None])
    shown = [_mean_and_sd(mean, sd, after) for mean, sd in pairs]
    numbers = [_number(each) for each in shown]
    better = higher_is_better(metric)
    order = sorted({each for each in numbers if each is not None}, reverse=bool(better))
    places = {each: place for place, each in enumerate(order[:2], 1)} if better is not None and len(order) > 1 else {}
    return [
        Value(each, 0 if number is None else places.get(number, 0), found.differs(result.label, metric))
        for each, number, result in zip(shown, numbers, results)
    ]


def _in_order(found: Analysis) -> list[Result]:
    """By the main metric, then those without a finished run."""
    there = ranked(found.results, found.main)
    return there + [result for result in found.results if result not in there]


def _tuned(found: Analysis) -> bool:
    return any(result.trials_planned for result in found.results)


def _title(metric: str) -> str:
    """An arrow where less of it is better, or more even, or less popular."""
    lower = higher_is_better(metric) is not True
    return f"{metric} ↓" if lower else metric


def _number(text: str) -> Optional[float]:
    """The mean as it is shown."""
    return None if text == DASH else float(text.partition(" ")[0].replace(",", ""))


def _mean_and_sd(mean: Optional[float], sd: Optional[float], digits: int) -> str:
    if mean is None:
        return DASH
    return f"{mean:,.{digits}f}" + (f" ± {sd:,.{digits}f}" if sd is not None else "")


def _four(means: Sequence[float], sds: Sequence[float]) -> int:
    return 4


def _as_sure(means: Sequence[float], sds: Sequence[float]) -> int:
    """Two digits of the column's middle standard deviation; without one, four digits of its largest mean."""
    varied = sorted(sd for sd in sds if sd > 1e-9)  # less is of rounding
    scale = varied[len(varied) // 2] if varied else max(map(abs, means), default=0.0) / 100
    return min(6, max(0, 1 - math.floor(math.log10(scale)))) if scale else 1


def _rough(value: float) -> str:
    """Three digits; whole numbers below a thousand as they are."""
    if float(value).is_integer() and abs(value) < 1000:
        return f"{value:.0f}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{min(max(0, digits), 6)}f}"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _of_timing(name: str) -> Callable[[Result], Optional[float]]:
    return lambda result: result.cost(name)


def _s_per_epoch(result: Result) -> Optional[float]:
    return result.cost("train_s_per_epoch") or None  # 0 where nothing is trained


#: Of each column: its name, its number, its text.
_COSTS: tuple[tuple[str, Callable[[Result], Optional[float]], Callable[[float], str]], ...] = (
    ("parameters", _of_timing("parameters"), _whole),
    ("epochs", _of_timing("epochs"), _rough),
    ("s per epoch", _s_per_epoch, _rough),
    ("s in all", _of_timing("total_s"), _rough),
    (TUNING, lambda result: result.tuning_s, _rough),
    ("test users/s", _of_timing("test_users_per_s"), _rough),
    ("network calls per user", _of_timing("denoiser_calls_per_user"), _rough),
    ("peak MiB", _of_timing("peak_memory_mib"), _whole),
    ("peak GPU MiB", _of_timing("peak_gpu_memory_mib"), _whole),
)


def markdown(table: Table) -> str:
    """The best bold, the second underlined, ``†`` where the model differs from the reference."""
    wrap = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    body = [line([wrap[v.place].format(v.text) + MARK * v.marked for v in row]) for row in table.rows]
    return "\n".join([line(table.columns), "| --- |" + " ---: |" * (len(table.columns) - 1), *body])


def plain(table: Table) -> str:
    """For the terminal: ``*`` after the best, ``†`` after what differs from the reference."""
    from texttable import Texttable

    drawn = Texttable(max_width=0)
    drawn.set_deco(Texttable.HEADER)
    drawn.set_cols_align(["l", *"r" * (len(table.columns) - 1)])
    drawn.set_cols_dtype(["t"] * len(table.columns))
    drawn.header([textwrap.fill(column, 12) for column in table.columns])
    widths = [max((len(_signs(value)) for value in column), default=0) for column in zip(*table.rows)]
    for row in table.rows:
        drawn.add_row([value.text + _signs(value).ljust(width, NO_BREAK) for value, width in zip(row, widths)])
    return str(drawn.draw())


def _signs(value: Value) -> str:
    return "*" * (value.place == 1) + MARK * value.marked


_ESCAPES: dict[str, str] = {
    **{each: "\\" + each for each in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "↓": r"$\downarrow$",
    MARK: r"$^{\dagger}$",
    DASH: "--",
}


def escape(text: str) -> str:
    """The text as LaTeX shows it."""
    return "".join(_ESCAPES.get(each, each) for each in text)


def latex(table: Table, caption: str, label: str, notes: Sequence[str] = ()) -> str:
    """A ``table`` that asks for booktabs and graphicx, narrowed to the line where it is wider."""
    wrap = {0: "%s", 1: r"\textbf{%s}", 2: r"\underline{%s}"}
    rows = [[wrap[v.place] % escape(v.text) + escape(MARK) * v.marked for v in row] for row in table.rows]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escape(caption)}}}",
        rf"\label{{tab:{label}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
        r"\toprule",
        " & ".join(map(escape, table.columns)) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}}",
        *(rf"\par\smallskip\footnotesize {escape(note)}" for note in notes),
        r"\end{table}",
    ]
    return "\n".join(lines)
