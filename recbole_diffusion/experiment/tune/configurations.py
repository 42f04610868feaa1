"""The configurations that a tuning knows beforehand: the model's defaults, random draws, or a grid."""

from __future__ import annotations

from typing import Optional

from recbole_diffusion.experiment.space.dimensions import Settings, Space, canonical_json
from recbole_diffusion.experiment.tune.options import ADAPTIVE_SEARCHES, DEFAULT_TRIALS
from recbole_diffusion.settings.config import Config


def known_configurations(
    space: Space, config: Config, search: str, trials: Optional[int], seed: int
) -> tuple[list[Settings], list[str]]:
    """Return the configurations that are known before the first trial, in their order.

    An adaptive search begins with the model's defaults and chooses the rest itself.

    Args:
        space: the search space.
        config: the settings of a trial, from which the defaults are taken.
        search: one of :data:`recbole_diffusion.experiment.tune.options.SEARCHES`.
        trials: the budget; None for the default.
        seed: seed of the draws.

    Returns:
        The configurations, and notes for the user.
    """
    if search == "grid":
        return _grid_configurations(space, trials, seed)
    settings, budget = config.plain(), trials or DEFAULT_TRIALS
    # An own model may have no default for a key of the space.
    has_defaults = {*space.dimensions} <= {*settings}
    defaults = [{key: settings[key] for key in space.dimensions}] if has_defaults else []
    if search in ADAPTIVE_SEARCHES:
        return defaults, []
    known = set(map(canonical_json, defaults))
    draws = [draw for draw in space.sample(budget, seed) if canonical_json(draw) not in known]
    configurations = [*defaults, *draws][:budget]
    if len(configurations) == budget:
        return configurations, []
    note = f"the space has {space.size} configurations: {len(configurations)} trials are the defaults and all of it"
    return configurations, [f"{note}, not {budget}"]


def _grid_configurations(space: Space, trials: Optional[int], seed: int) -> tuple[list[Settings], list[str]]:
    """The whole grid, or a random part of it where the budget is smaller.

    Raises:
        ValueError: a key is continuous.
    """
    points = space.grid()
    size = int(space.size or 0)
    if trials is None or trials >= size:
        excess = f", not {trials}" if trials not in (None, size) else ""
        return list(points), [f"the grid has {size} points: all of them are run{excess}"]
    note = f"the grid has {size} points: it is cut to {trials} of them, drawn at random with seed {seed}"
    return space.sample(trials, seed), [note]


def limit_to_space(space: Space, trials: int) -> tuple[int, list[str]]:
    """Limit the budget of an adaptive search to the number of configurations of the space, and the defaults.

    Returns:
        The number of trials, and notes for the user.
    """
    limit = trials if space.size is None else min(trials, space.size + 1)
    if limit == trials:
        return trials, []
    return limit, [f"the space has {space.size} configurations: {limit} trials instead of {trials}"]
