"""The style of all plots, and their files. matplotlib's global state is not touched."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from recbole_diffusion.support.atomic_write import atomic_write

#: Okabe and Ito's palette for colour-blind readers, with grey in place of yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
#: Of the first lines in these colours, of the next ones in the same colours, and so on.
MARKERS = ("o", "s", "^", "D")
FORMATS = ("png", "svg", "pdf")
DPI = 200
#: Metadata that are left out, since they differ from call to call.
METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,  # names of data sets may hold dollar signs
    "svg.fonttype": "none",
    "svg.hashsalt": "recbole-diffusion",
    "pdf.fonttype": 42,  # TrueType: some publishers refuse matplotlib's default
}


@contextlib.contextmanager
def figure(width: float, height: float) -> Iterator[Optional[Any]]:
    """Yield a matplotlib figure in this style; None without matplotlib.

    Args:
        width, height: in inches.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        yield None
        return
    with rc_context(STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def logarithmic(axis: Any, ticks: Optional[list[int]] = None) -> None:
    """Give the axis of a logarithmic scale ticks with plain numbers.

    Args:
        axis: ``axes.xaxis`` or ``axes.yaxis``.
        ticks: None: powers of ten, and 2 and 5 times these.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if ticks is None else FixedLocator(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def save(picture: Any, stem: Path) -> list[Path]:
    """Write a figure in all formats, the same bytes for the same figure; return the files."""
    files = [stem.with_name(f"{stem.name}.{suffix}") for suffix in FORMATS]
    for suffix, file in zip(FORMATS, files):
        write = functools.partial(picture.savefig, format=suffix, dpi=DPI, metadata=METADATA[suffix])
        atomic_write(file, write)
    return files


def errorbars(
    axes: Any,
    x: list[float],
    values: list[tuple[Optional[float], Optional[float], Optional[float]]],
    style: dict[str, Any],
    label: str,
) -> None:
    """Draw values with their intervals (value, low, high); a missing bound is the value, without a value no point."""
    points = [(place, value, low, high) for place, (value, low, high) in zip(x, values) if value is not None]
    below = [value - (value if low is None else low) for _, value, low, _ in points]
    above = [(value if high is None else high) - value for _, value, _, high in points]
    places, means = [point[0] for point in points], [point[1] for point in points]
    axes.errorbar(places, means, [below, above], capsize=2, elinewidth=0.9, label=label, **style)
