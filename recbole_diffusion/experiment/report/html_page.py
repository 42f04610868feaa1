"""``index.html``: a comparison as one file for the browser.

The page calls no address: style, script, data and plots are inside, and its content security policy forbids everything
else. Names from data and settings are escaped; the script writes them as text. The table of results is made by the
script (``page.js``), from json; without scripts the page shows the accuracy tables.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from recbole_diffusion.evaluation.metric_names import paper_name
from recbole_diffusion.experiment.report import accounts, captions, data_tables, pages, points, tables
from recbole_diffusion.experiment.report.analysis import Analysis
from recbole_diffusion.experiment.report.page_data import page_data
from recbole_diffusion.experiment.report.results import ComparisonResults
from recbole_diffusion.experiment.report.tables import Table
from recbole_diffusion.support.json_values import nan_to_null

_TITLES = {
    "accuracy": "Accuracy: mean, interval, and difference from the reference",
    "accuracy_cost": "Accuracy against cost",
    "accuracy_coverage": "Accuracy against coverage",
    "learning_curves": "Learning curves; a star marks the epoch that a seed has chosen",
    "tuning": "Tuning trials",
}
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src {style_hash}; \
script-src {script_hash}; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
{head}
</header>
<main>
{main}
</main>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""
_STUDY_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src {style_hash}; \
base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
{head}
</header>
<main>
{main}
</main>
</body>
</html>
"""
_RESULTS = """\
<h2 id="results-title">Results</h2>
<noscript><p class="warn">Sorting and filtering need JavaScript. These are the accuracy tables.</p>{tables}</noscript>
<div class="controls" role="search">
<label>Filter<input id="q" type="search" placeholder="model or data set" autocomplete="off"></label>
<label>Columns<select id="view">{views}</select></label>
<label>Rows<select id="rows"><option value="models">models: means over seeds</option>\
<option value="runs">single runs</option></select></label>
</div>
<div class="wide" role="region" aria-labelledby="results-title" tabindex="0"><table id="results"></table></div>
<p class="quiet"><span id="count" role="status"></span>. A click on a column's name sorts, one on a model opens its \
settings and runs. ↓: lower is better or, for Gini and popularity, neither is.</p>
"""


def page(
    comparison: ComparisonResults,
    analyses: Sequence[Analysis],
    pictures: Mapping[str, bytes],
    files: Sequence[str],
    study: Optional[str] = None,
) -> str:
    """Return the page.

    Args:
        comparison: the results.
        analyses: of each data set.
        pictures: the plots as svg, by file name.
        files: names of the files beside the page, which are linked.
        study: the section of the study whose variants are compared, as html; None without one.
    """
    content = page_data(comparison, analyses)
    style, script = (_text(name) for name in ("page.css", "page.js"))
    title = f"Comparison on {', '.join(comparison.results)}" if comparison.results else "Comparison"
    sections = [_data_sets(comparison), *(_section(comparison, analysis, pictures) for analysis in analyses)]
    return _PAGE.format(
        title=html.escape(title),
        style=style,
        style_hash=_csp_hash(style),
        script=script,
        script_hash=_csp_hash(script),
        head=_head(comparison, analyses),
        main="\n".join([*([study] if study else []), _results(content, analyses), *sections, _links(files)]),
        data=_json(content),
    )


def study_page(title: str, command: str, study: str) -> str:
    """Return the page of a study that is not a comparison; ``study``: its section, as html."""
    style = _text("page.css")
    head = f"<p><code>{html.escape(command)}</code></p>" if command else ""
    return _STUDY_PAGE.format(title=html.escape(title), style=style, style_hash=_csp_hash(style), head=head, main=study)


@functools.cache
def _text(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _csp_hash(text: str) -> str:
    """The source of a content security policy that allows this inline text alone."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(content: Any) -> str:
    """Return json that cannot end its script element: <, > and & are escaped."""
    text = json.dumps(nan_to_null(content), default=str)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _head(comparison: ComparisonResults, analyses: Sequence[Analysis]) -> str:
    plan = comparison.plan
    results = [result for of_dataset in comparison.results.values() for result in of_dataset]
    finished, missing = (sum(len(getattr(result, name)) for result in results) for name in ("runs", "missing"))
    state = f"{finished} of {finished + missing} runs finished" if missing else f"{finished} runs"
    seeds = f"seed{'s' * (len(plan['seeds']) > 1)} {', '.join(map(str, plan['seeds']))}"
    line = html.escape(f"{state}; {seeds}. {captions.machine(plan)}")
    parts = [f'<p class="{"warn" if missing else "quiet"}">{line}</p>']
    parts += [f'<p class="verdict">{html.escape(_verdict(analysis, analyses))}</p>' for analysis in analyses]
    command = plan.get("command")
    return "\n".join([*parts, *([f"<p><code>{html.escape(str(command))}</code></p>"] if command else [])])


def _verdict(analysis: Analysis, analyses: Sequence[Analysis]) -> str:
    prefix = f"{analysis.dataset}: " if len(analyses) > 1 else ""
    sentences = [line for line in (captions.verdict(analysis), captions.beside_yardsticks(analysis)) if line]
    return prefix + (" ".join(sentences) or "no finished run yet")


def _results(content: Mapping[str, Any], analyses: Sequence[Analysis]) -> str:
    options = (
        f'<option value="{html.escape(view["key"])}">{html.escape(view["name"])}</option>' for view in content["views"]
    )
    static = "\n".join(_table(tables.accuracy(analysis), analysis.dataset) for analysis in analyses)
    marks = "".join(
        f'<p class="quiet">{html.escape(_verdict_of_marks(analysis, analyses))}</p>\n'
        for analysis in analyses
        if captions.marks(analysis)
    )
    return _RESULTS.format(views="".join(options), tables=static) + marks


def _verdict_of_marks(analysis: Analysis, analyses: Sequence[Analysis]) -> str:
    prefix = f"{analysis.dataset}: " if len(analyses) > 1 else ""
    over_seeds = captions.over_seeds(analysis)
    return f"{prefix}{captions.marks(analysis)} Rows: means ± standard deviations over seeds. {over_seeds}".strip()


def _data_sets(comparison: ComparisonResults) -> str:
    table = _table(data_tables.datasets(comparison), "Data sets", text_columns=("protocol",))
    return f'<h2>Data</h2>\n{table}\n<p class="quiet">{html.escape(data_tables.DATA)}</p>'


def _section(comparison: ComparisonResults, analysis: Analysis, pictures: Mapping[str, bytes]) -> str:
    """Groups, notes and plots of a data set."""
    parts = [f"<h2>{html.escape(analysis.dataset)}</h2>"]
    budget = captions.tuning(comparison.plan, analysis)
    parts += [f"<p>{html.escape(budget)}</p>"] if budget else []
    groups = data_tables.groups(comparison, analysis)
    if groups is not None:
        parts += ["<h3>Recall by groups of users and items</h3>", _table(groups, f"Groups, {analysis.dataset}")]
        parts.append(f'<p class="quiet">{html.escape(data_tables.GROUPS)}</p>')
    for title, lines in (
        ("Notes", pages.notes(comparison, analysis)),
        ("Rows of the files", accounts.account_lines(analysis.results)),
    ):
        parts += [f"<h3>{title}</h3>", _list(lines)] if lines else []
    figures = [_figure(analysis, name, pictures) for name in points.PLOTS]
    return "\n".join([*parts, *(figure for figure in figures if figure)])


def _figure(analysis: Analysis, name: str, pictures: Mapping[str, bytes]) -> Optional[str]:
    """A plot as an image inside the page: nothing in it can run, and its ids cannot meet those of another plot."""
    content = pictures.get(f"{name}-{analysis.file_name}.svg")
    if content is None:
        return None
    caption = html.escape(f"{_TITLES[name]}; {analysis.dataset}, {paper_name(analysis.main)}.")
    image = base64.b64encode(content).decode()
    source = f"data:image/svg+xml;base64,{image}"
    return f'<figure><img alt="{caption}" src="{source}"><figcaption>{caption}</figcaption></figure>'


def _list(lines: Sequence[str]) -> str:
    return '<ul class="plain">' + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"


def _links(files: Sequence[str]) -> str:
    """Links to the files beside the page."""
    items = "".join(f'<li><a href="{html.escape(name)}">{html.escape(name)}</a></li>' for name in sorted(files))
    return f'<h2>Files</h2>\n<ul class="files">{items}</ul>'


def _table(table: Table, label: str, text_columns: Sequence[str] = ()) -> str:
    """A static table; the first column heads the rows."""
    classes = ["text" if column in text_columns else "" for column in table.columns]
    head = "".join(
        f'<th scope="col" class="{name}">{html.escape(column)}</th>' for name, column in zip(classes, table.columns)
    )
    body = "\n".join(
        f'<tr><th scope="row">{html.escape(row[0].text)}</th>'
        + "".join(_cell(value, name) for value, name in zip(row[1:], classes[1:]))
        + "</tr>"
        for row in table.rows
    )
    return (
        f'<div class="wide" role="region" aria-label="{html.escape(label)}" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(value: tables.Value, column_class: str) -> str:
    classes = " ".join(name for name in (column_class, {1: "best", 2: "second"}.get(value.place, "")) if name)
    mark = f'<span class="mark">{tables.MARK}</span>' if value.marked else ""
    return f'<td class="{classes}">{html.escape(value.text)}{mark}</td>'
