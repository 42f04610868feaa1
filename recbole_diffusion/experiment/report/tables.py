"""The tables of a comparison: accuracy, beyond accuracy and cost, as markdown, LaTeX and plain text."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional

from recbole_diffusion.evaluation.metric_names import paper_name
from recbole_diffusion.experiment.report.analysis import Analysis, ranked
from recbole_diffusion.experiment.report.results import ModelResult, higher_is_better

DASH = "–"
MARK = "†"
TUNING = "s of tuning"
#: Aligns numbers of which some have signs; texttable strips spaces.
NO_BREAK = "\N{NO-BREAK SPACE}"


class Value(NamedTuple):
    """An entry of a table.

    Attributes:
        text: as it is shown.
        place: 1 for the best of its column, 2 for the second, else 0.
        marked: whether the model differs significantly from the reference.
    """

    text: str
    place: int = 0
    marked: bool = False


class Table(NamedTuple):
    """A table; every row has one value per column."""

    name: str
    columns: list[str]
    rows: list[list[Value]]


def accuracy(analysis: Analysis, metrics: Optional[Sequence[str]] = None) -> Table:
    """Return ``mean ± sd`` over seeds of the metrics that are averaged over users, sorted by the main metric."""
    return _metrics_table("accuracy", analysis, list(metrics or analysis.accuracy), _four_digits)


def beyond(analysis: Analysis) -> Table:
    """Return ``mean ± sd`` of the metrics of all recommended lists together, such as coverage."""
    return _metrics_table("beyond accuracy", analysis, analysis.beyond, _significant_digits)


def cost(analysis: Analysis) -> Table:
    """Return each model's cost beside its main metric."""
    columns = [column for column in COSTS if column[0] != TUNING or _is_tuned(analysis)]
    rows = []
    for result in sorted_results(analysis):
        values = [(value_of(result), to_text) for _, value_of, to_text in columns]
        texts = [DASH if value is None else to_text(value) for value, to_text in values]
        score = _mean_and_sd(result.mean(analysis.main), None, 4)
        rows.append([Value(text) for text in (result.label, score, *texts)])
    return Table("cost", ["model", _title(analysis.main), *(column[0] for column in columns)], rows)


def _metrics_table(name: str, analysis: Analysis, metrics: list[str], digits: Callable[..., int]) -> Table:
    """A table of metrics; ``digits(means, sds)`` returns the digits after the point of one column."""
    results = sorted_results(analysis)
    partial = any(result.missing for result in results)
    columns = {metric: _column(analysis, results, metric, digits) for metric in metrics}
    rows = []
    for index, result in enumerate(results):
        row = [Value(result.label)]
        if partial:
            row.append(Value(f"{len(result.runs)}/{len(result.runs) + len(result.missing)}"))
        if _is_tuned(analysis):
            row.append(Value(str(len(result.trials)) if result.trials_planned else DASH))
        rows.append(row + [columns[metric][index] for metric in metrics])
    head = ["model", *(["seeds"] if partial else []), *(["trials"] if _is_tuned(analysis) else [])]
    return Table(name, [*head, *(_title(metric) for metric in metrics)], rows)


def _column(analysis: Analysis, results: list[ModelResult], metric: str, digits: Callable[..., int]) -> list[Value]:
    """One metric of all models. Best and second best are found from the rounded texts, so that ties look like ties."""
    statistics = [(result.mean(metric), result.sd(metric) if result.varies(metric) else None) for result in results]
    means = [mean for mean, _ in statistics if mean is not None]
    n_digits = digits(means, [sd for _, sd in statistics if sd is not None])
    texts = [_mean_and_sd(mean, sd, n_digits) for mean, sd in statistics]
    rounded = [_rounded_mean(text) for text in texts]
    higher = higher_is_better(metric)
    order = sorted({mean for mean in rounded if mean is not None}, reverse=bool(higher))
    places = {mean: place for place, mean in enumerate(order[:2], 1)} if higher is not None and len(order) > 1 else {}
    return [
        Value(text, 0 if mean is None else places.get(mean, 0), analysis.differs(result.label, metric))
        for text, mean, result in zip(texts, rounded, results)
    ]


def sorted_results(analysis: Analysis) -> list[ModelResult]:
    """Return the models by the main metric, then those without a finished run."""
    finished = ranked(analysis.results, analysis.main)
    return finished + [result for result in analysis.results if result not in finished]


def _is_tuned(analysis: Analysis) -> bool:
    return any(result.trials_planned for result in analysis.results)


def _title(metric: str) -> str:
    """The metric's name, with an arrow if a lower value is better, more even or less popular."""
    return paper_name(metric) if higher_is_better(metric) is True else f"{paper_name(metric)} ↓"


def _rounded_mean(text: str) -> Optional[float]:
    """The mean in a text such as ``0.1234 ± 0.0010``; None for a dash."""
    return None if text == DASH else float(text.partition(" ")[0].replace(",", ""))


def _mean_and_sd(mean: Optional[float], sd: Optional[float], digits: int) -> str:
    if mean is None:
        return DASH
    return f"{mean:,.{digits}f}" + (f" ± {sd:,.{digits}f}" if sd is not None else "")


def _four_digits(means: Sequence[float], sds: Sequence[float]) -> int:
    return 4


def _significant_digits(means: Sequence[float], sds: Sequence[float]) -> int:
    """Digits that show two digits of the median standard deviation; without one, four digits of the largest mean."""
    positive = sorted(sd for sd in sds if sd > 1e-9)  # smaller ones are rounding errors
    scale = positive[len(positive) // 2] if positive else max(map(abs, means), default=0.0) / 100
    return min(6, max(0, 1 - math.floor(math.log10(scale)))) if scale else 1


def _three_digits(value: float) -> str:
    """Three significant digits; whole numbers below a thousand unchanged."""
    if float(value).is_integer() and abs(value) < 1000:
        return f"{value:.0f}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{min(max(0, digits), 6)}f}"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _cost(name: str) -> Callable[[ModelResult], Optional[float]]:
    return lambda result: result.cost(name)


def _s_per_epoch(result: ModelResult) -> Optional[float]:
    return result.cost("train_s_per_epoch") or None  # 0 for a model that is not trained


#: Columns of the cost table: name, value of a model, text of a value.
COSTS: tuple[tuple[str, Callable[[ModelResult], Optional[float]], Callable[[float], str]], ...] = (
    ("parameters", _cost("parameters"), _whole),
    ("epochs", _cost("epochs"), _three_digits),
    ("s per epoch", _s_per_epoch, _three_digits),
    ("s in all", _cost("total_s"), _three_digits),
    (TUNING, lambda result: result.tuning_s, _three_digits),
    ("test users/s", _cost("test_users_per_s"), _three_digits),
    ("network calls per user", _cost("denoiser_calls_per_user"), _three_digits),
    ("peak MiB", _cost("peak_memory_mib"), _whole),
    ("peak GPU MiB", _cost("peak_gpu_memory_mib"), _whole),
)


def markdown(table: Table) -> str:
    """Return the table as markdown: the best bold, the second underlined, ``†`` if significantly different."""
    wrap = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}

    def line(texts: Sequence[str]) -> str:
        return "| " + " | ".join(text.replace("|", r"\|") for text in texts) + " |"

    body = [line([wrap[v.place].format(v.text) + MARK * v.marked for v in row]) for row in table.rows]
    return "\n".join([line(table.columns), "| --- |" + " ---: |" * (len(table.columns) - 1), *body])


def plain(table: Table) -> str:
    """Return the table for the terminal: ``*`` after the best, ``†`` after significantly different values."""
    from texttable import Texttable

    drawn = Texttable(max_width=0)
    drawn.set_deco(Texttable.HEADER)
    drawn.set_cols_align(["l", *"r" * (len(table.columns) - 1)])
    drawn.set_cols_dtype(["t"] * len(table.columns))
    drawn.header([textwrap.fill(column, 12) for column in table.columns])
    widths = [max((len(_signs(value)) for value in column), default=0) for column in zip(*table.rows)]
    spreads = [max((len(_spread(value)) for value in column), default=0) for column in zip(*table.rows)]
    for row in table.rows:
        drawn.add_row([_padded(*entry) for entry in zip(row, spreads, widths)])
    return str(drawn.draw())


def _padded(value: Value, spread: int, signs: int) -> str:
    """The text with room for ± and signs, so that the means of a column are aligned."""
    room = spread - len(_spread(value)) if value.text != DASH else 0
    return value.text + _signs(value).ljust(signs + room, NO_BREAK)


def _spread(value: Value) -> str:
    """The standard deviation in a text such as ``0.1234 ± 0.0010``, with the sign; empty without one."""
    _, sign, sd = value.text.partition(" ± ")
    return sign + sd


def _signs(value: Value) -> str:
    return "*" * (value.place == 1) + MARK * value.marked


_ESCAPES: dict[str, str] = {
    **{character: "\\" + character for character in "&%$#_{}"},
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
    """Return the text with LaTeX's special characters escaped."""
    return "".join(_ESCAPES.get(character, character) for character in text)


def latex(table: Table, caption: str, label: str, notes: Sequence[str] = ()) -> str:
    """Return a ``table`` environment, scaled down to the line width if wider; needs booktabs and graphicx."""
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
