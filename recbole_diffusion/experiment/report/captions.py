"""Captions of a comparison's tables: data, seeds, tuning budget, tests, machine, and the best models."""

from __future__ import annotations

from typing import Any, Optional

from recbole_diffusion import registry
from recbole_diffusion.evaluation.metric_names import paper_name
from recbole_diffusion.experiment.report.analysis import AGAINST_REFERENCE, ALL_PAIRS, LIMIT, Analysis, ranked
from recbole_diffusion.experiment.report.results import ComparisonResults, ModelResult, higher_is_better
from recbole_diffusion.experiment.report.tables import MARK

COST = (
    "Means over seeds, peaks the largest. Seconds in all: loading, training, validation and test of one run, and the "
    "training of its base where it has one. Network calls: for one user's scores. Peak memory: of the process, of the "
    "GPU."
)
BEYOND = (
    "Of the recommended lists as a whole: coverage, tail share and novelty (bits) tell how far they go beyond the "
    "popular items; ↓ less is more even (Gini) or less popular, which is neither better nor worse."
)
IN_TABLE, IN_TEXT = "Best bold, second underlined", "* best"


def caption(comparison: ComparisonResults, analysis: Analysis) -> str:
    """Return the caption of the accuracy table: data, seeds, budget, tests and machine."""
    plan = comparison.plan
    parts = [data(plan, analysis.dataset), _seeds(plan), tuning(plan, analysis), marks(analysis), machine(plan)]
    return " ".join(part for part in parts if part)


def data(plan: dict[str, Any], dataset: str) -> str:
    """Return a sentence such as ``ml-100k: 943 users, 1,682 items, …, full ranking.``"""
    counts = (plan.get("datasets") or {}).get(dataset) or {}
    parts = [f"{counts[key]:,} {key}" for key in ("users", "items") if counts.get(key) is not None]
    rows = [counts.get(key) for key in ("train", "valid", "test")]
    if None not in rows:
        parts.append(" / ".join(f"{count:,}" for count in rows) + " rows (train / valid / test)")
    if counts.get("split_sha256"):
        parts.append(f"split {counts['split_sha256'][:12]}")
    if counts.get("evaluated_users") is not None:
        parts.append(f"{counts['evaluated_users']:,} users tested")
    parts.append(_ranking(plan.get("mode") or "full"))
    return f"{dataset}: {', '.join(parts)}."


def _ranking(mode: Any) -> str:
    """The ranking in words. RecBole's ``mode`` is one word, or one for each split."""
    mode = mode.get("test", "full") if isinstance(mode, dict) else mode
    return "full ranking" if mode == "full" else f"ranking among sampled items only ({mode})"


def _seeds(plan: dict[str, Any]) -> str:
    seeds = plan["seeds"]
    if len(seeds) == 1:
        return f"One seed ({seeds[0]})."
    listed = ", ".join(map(str, seeds))
    return f"Mean ± standard deviation over {len(seeds)} seeds ({listed}); no ± where all seeds give the same value."


def tuning(plan: dict[str, Any], analysis: Analysis) -> str:
    """Return the tuning budget and whether it was equal for all models; empty without tuning."""
    planned = plan.get("tune")
    if not planned:
        return ""
    how = f" ({plan['search']})" if plan.get("search") else ""
    budget = f"{planned} trial{'s' * (planned > 1)} each{how}"
    if {len(result.trials) for result in analysis.results} == {planned} and plan.get("equal_budget", True):
        return f"Tuned on the validation split, equal budget: {budget}."
    return f"Tuned on the validation split, budget: {budget}; the table tells how many each had."


def marks(analysis: Analysis, text: str = IN_TABLE) -> str:
    """Return the meaning of bold, underlined and marked values."""
    family = [row for row in analysis.pairs if (row["family"], row["metric"]) == (AGAINST_REFERENCE, analysis.main)]
    tests = [row for row in family if row["p_wilcoxon"] is not None]
    if not any(result.tested for result in analysis.results):
        return ""
    if not tests:
        return text + "."
    return (
        f"{text}; {MARK} differs from {analysis.reference} (Wilcoxon's signed-rank test over {analysis.users:,} users, "
        f"p < .05 after Holm's correction for {len(tests)} comparison{'s' * (len(tests) > 1)})."
    )


def beside_yardsticks(analysis: Analysis) -> str:
    """Return which yardsticks each diffusion model does not significantly beat; empty without both."""
    yardsticks = [result for result in analysis.results if registry.is_yardstick(result.model) and result.tested]
    sentences = []
    for result in (result for result in analysis.results if result.diffusion and result.tested):
        unbeaten = [other.label for other in yardsticks if not _beats(analysis, result.label, other.label)]
        if yardsticks:
            text = f"does not significantly beat {', '.join(unbeaten)}" if unbeaten else "beats every yardstick"
            sentences.append(f"{result.label} {text}")
    if not sentences:
        return ""
    names = ", ".join(result.label for result in yardsticks)
    return f"Beside models without training ({names}), at {paper_name(analysis.main)}: {'; '.join(sentences)}."


def _beats(analysis: Analysis, label: str, other: str) -> bool:
    """Whether a model is significantly better than another (Wilcoxon over users, Holm over all pairs)."""
    sign = -1 if higher_is_better(analysis.main) is False else 1
    for row in analysis.pairs:
        if (
            row["family"] == ALL_PAIRS
            and row["metric"] == analysis.main
            and {row["first"], row["second"]} == {label, other}
        ):
            difference = row["difference"] if row["first"] == label else -row["difference"]
            return sign * difference > 0 and row["p_wilcoxon_holm"] is not None and row["p_wilcoxon_holm"] < LIMIT
    return False


def energy(analysis: Analysis) -> str:
    """Return how the energy of the runs was read, or why it was not; empty without finished runs."""
    timings = [run["timing"] for result in analysis.results for run in result.runs]
    sources = dict.fromkeys(str(timing["energy_source"]) for timing in timings if timing.get("energy_source"))
    if not sources:
        return ""
    if all(timing.get("energy_wh") is None for timing in timings):
        return f"Energy: not read; {'; '.join(sources)}."
    shared = " Runs beside each other share it." if len(timings) > 1 else ""
    return f"Energy of the whole machine during a run, by {'; '.join(sources)}.{shared}"


def over_seeds(analysis: Analysis) -> str:
    """Return a warning about the degrees of freedom of tests over seeds; empty without such tests."""
    seeds = max((row["seeds"] for row in analysis.pairs if row["p_seeds"] is not None), default=0)
    if seeds < 2:
        return ""
    return (
        "Tests over users take the trained models as they are; tests over seeds (p_seeds in significance.csv) have "
        f"{seeds - 1} degree{'s' * (seeds > 2)} of freedom only."
    )


def machine(plan: dict[str, Any]) -> str:
    """Return threads, workers, machine and library versions; seconds depend on them."""
    environment = plan.get("environment") or {}
    threads, workers = plan.get("threads"), plan.get("workers") or 1
    parts = []
    if threads:
        parts.append(f"{threads} thread{'s' * (threads > 1)} per run")
    if workers > 1:
        parts.append(f"{workers} runs at a time")
    if environment.get("cpu_count"):
        parts.append(f"{environment['cpu_count']} CPU cores")
    parts += [str(environment[key]) for key in ("cuda", "platform") if environment.get(key)]
    parts += [f"{key} {environment[key]}" for key in ("recbole-diffusion", "torch") if environment.get(key)]
    return f"Machine: {', '.join(parts)}." if parts else ""


def verdict(analysis: Analysis) -> str:
    """Return the best model and how far the best of the other kind (diffusion or not) is behind; empty without runs."""
    order = ranked(analysis.results, analysis.main)
    if not order:
        return ""
    best = order[0]
    rival = next((result for result in order if result.diffusion != best.diffusion), None)
    if not any(result.diffusion for result in order):
        return f"Best at {paper_name(analysis.main)}: {_with_value(best, analysis.main)}."
    kind = ", a diffusion model" if best.diffusion else ""
    text = f"Best at {paper_name(analysis.main)}: {_with_value(best, analysis.main)}{kind}"
    if rival is None:
        return text + "."
    rival_kind = "best without diffusion" if best.diffusion else "best diffusion model"
    return f"{text}; {rival_kind}: {_with_value(rival, analysis.main)}, {_behind(analysis, best, rival)}."


def _with_value(result: ModelResult, metric: str) -> str:
    return f"{result.label} ({result.mean(metric):.4f})"


def _behind(analysis: Analysis, best: ModelResult, rival: ModelResult) -> str:
    """How far the rival is behind, e.g. ``1.3 % lower (p = .012)``."""
    best_mean, rival_mean = best.mean(analysis.main) or 0.0, rival.mean(analysis.main) or 0.0
    direction = "higher" if higher_is_better(analysis.main) is False else "lower"
    share = f"{100 * abs(best_mean - rival_mean) / abs(best_mean):.1f} % {direction}" if best_mean else "behind"
    row = analysis.against_reference(rival.label, analysis.main) if analysis.reference == best.label else None
    p = row["p_wilcoxon_holm"] if row else None
    return share if p is None else f"{share} ({p_text(p)})"


def p_text(p: Optional[float]) -> str:
    """Return a p-value such as ``p = .012``; empty for None."""
    if p is None:
        return ""
    return "p < .001" if p < 0.001 else "p = " + f"{p:.3f}".replace("0.", ".", 1)
