"""A comparison as a page of markdown and as LaTeX tables: what people read and print."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_diffusion.experiment.report import accounts, captions, tables
from recbole_diffusion.experiment.report.analysis import Analysis
from recbole_diffusion.experiment.report.results import Comparison


def notes(comparison: Comparison, found: Analysis) -> list[str]:
    """Those of the plan, then those of the results."""
    return [*(comparison.plan.get("notes") or ()), *found.notes]


def markdown(comparison: Comparison, analyses: Sequence[Analysis], pictures: Sequence[str]) -> str:
    """``results.md``; ``pictures``: the names of the plots beside it."""
    parts = ["# Comparison"]
    if comparison.plan.get("command"):
        parts.append(f"`{comparison.plan['command']}`")
    for found in analyses:
        parts += _section(comparison, found, [name for name in pictures if name.endswith(f"-{found.file_name}.png")])
    return "\n\n".join(parts) + "\n"


def _section(comparison: Comparison, found: Analysis, pictures: Sequence[str]) -> list[str]:
    parts = [f"## {found.dataset}", captions.caption(comparison, found), tables.markdown(tables.accuracy(found))]
    parts += [line for line in (captions.verdict(found), captions.over_seeds(found)) if line]
    for title, there in (("Notes", notes(comparison, found)), ("Data", accounts.account_lines(found.results))):
        parts += ["\n".join([f"{title}:", "", *(f"- {line}" for line in there)])] if there else []
    parts += ["### Cost", captions.COST, tables.markdown(tables.cost(found))]
    if found.beyond:
        parts += ["### Beyond accuracy", captions.BEYOND, tables.markdown(tables.beyond(found))]
    if pictures:
        parts += ["### Plots", *(f"![{name.partition('-')[0].replace('_', ' ')}]({name})" for name in pictures)]
    return parts


def latex(comparison: Comparison, analyses: Sequence[Analysis]) -> str:
    """``results.tex``: tables to be input."""
    parts = [r"% \usepackage{booktabs,graphicx}"]
    for found in analyses:
        there = "; ".join(notes(comparison, found))
        below = [line for line in (captions.verdict(found), f"Notes: {there}." if there else "") if line]
        name = found.file_name
        parts.append(tables.latex(tables.accuracy(found), captions.caption(comparison, found), name, below))
        about = f"{found.dataset}: "
        parts.append(tables.latex(tables.cost(found), about + captions.COST, f"{name}-cost"))
        if found.beyond:
            parts.append(tables.latex(tables.beyond(found), about + captions.BEYOND, f"{name}-beyond"))
    return "\n\n".join(parts) + "\n"
