"""A comparison as a markdown page and as LaTeX tables, for readers."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_diffusion.experiment.report import accounts, captions, data_tables, tables
from recbole_diffusion.experiment.report.analysis import Analysis
from recbole_diffusion.experiment.report.results import ComparisonResults


def notes(comparison: ComparisonResults, analysis: Analysis) -> list[str]:
    """Return the notes of the plan, then those of the results."""
    return [*(comparison.plan.get("notes") or ()), *analysis.notes]


def markdown(comparison: ComparisonResults, analyses: Sequence[Analysis], pictures: Sequence[str]) -> str:
    """Return ``results.md``; ``pictures`` are the file names of the plots beside it."""
    parts = ["# Comparison"]
    if comparison.plan.get("command"):
        parts.append(f"`{comparison.plan['command']}`")
    parts += ["## Data", data_tables.DATA, tables.markdown(data_tables.datasets(comparison))]
    for analysis in analyses:
        parts += _section(
            comparison, analysis, [name for name in pictures if name.endswith(f"-{analysis.file_name}.png")]
        )
    return "\n\n".join(parts) + "\n"


def _section(comparison: ComparisonResults, analysis: Analysis, pictures: Sequence[str]) -> list[str]:
    parts = [
        f"## {analysis.dataset}",
        captions.caption(comparison, analysis),
        tables.markdown(tables.accuracy(analysis)),
    ]
    parts += [line for line in _sentences(analysis) if line]
    for title, lines in (("Notes", notes(comparison, analysis)), ("Data", accounts.account_lines(analysis.results))):
        parts += ["\n".join([f"{title}:", "", *(f"- {line}" for line in lines)])] if lines else []
    energy = captions.energy(analysis)
    parts += ["### Cost", f"{captions.COST} {energy}".strip(), tables.markdown(tables.cost(analysis))]
    if analysis.beyond:
        parts += ["### Beyond accuracy", captions.BEYOND, tables.markdown(tables.beyond(analysis))]
    group_table = data_tables.groups(comparison, analysis)
    if group_table is not None:
        parts += ["### Groups of users and items", data_tables.GROUPS, tables.markdown(group_table)]
    if pictures:
        parts += ["### Plots", *(f"![{name.partition('-')[0].replace('_', ' ')}]({name})" for name in pictures)]
    return parts


def _sentences(analysis: Analysis) -> list[str]:
    """The sentences under the accuracy table."""
    return [captions.verdict(analysis), captions.beside_yardsticks(analysis), captions.over_seeds(analysis)]


def latex(comparison: ComparisonResults, analyses: Sequence[Analysis]) -> str:
    """Return ``results.tex``, tables for ``\\input``."""
    parts = [r"% \usepackage{booktabs,graphicx}"]
    parts.append(tables.latex(data_tables.datasets(comparison), data_tables.DATA, "data"))
    for analysis in analyses:
        note_text = "; ".join(notes(comparison, analysis))
        below = [line for line in (captions.verdict(analysis), f"Notes: {note_text}." if note_text else "") if line]
        name = analysis.file_name
        parts.append(tables.latex(tables.accuracy(analysis), captions.caption(comparison, analysis), name, below))
        prefix = f"{analysis.dataset}: "
        parts.append(tables.latex(tables.cost(analysis), prefix + captions.COST, f"{name}-cost"))
        if analysis.beyond:
            parts.append(tables.latex(tables.beyond(analysis), prefix + captions.BEYOND, f"{name}-beyond"))
        group_table = data_tables.groups(comparison, analysis)
        if group_table is not None:
            parts.append(tables.latex(group_table, prefix + data_tables.GROUPS, f"{name}-groups"))
    return "\n\n".join(parts) + "\n"
