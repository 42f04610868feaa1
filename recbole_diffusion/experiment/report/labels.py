"""Labels beside the points of a plot, placed so that they overlap neither each other nor a point."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """Return the area of the intersection."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(width, 0.0) * max(height, 0.0)

    @property
    def area(self) -> float:
        """Width times height."""
        return (self.right - self.left) * (self.top - self.bottom)


def place(
    points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], within: Box, mark: float = 6.0
) -> list[tuple[float, float]]:
    """Return the centres of the labels. Each takes the free position nearest to its point, one after the other.

    Args:
        points: centres of the marks, in pixels.
        sizes: width and height of each label, in pixels.
        within: the rectangle that labels must not leave.
        mark: half the width of a mark, in pixels.
    """
    marks = [Box(x - mark, y - mark, x + mark, y + mark) for x, y in points]
    taken: list[Box] = []
    for point, size in zip(points, sizes):
        candidates = [Box(x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2)
                      for x, y in _around(point, size, mark)]  # fmt: skip
        costs = [
            sum(box.overlap(other) for other in [*taken, *marks]) + (box.area - box.overlap(within))
            for box in candidates
        ]
        taken.append(candidates[costs.index(min(costs))])
    return [((box.left + box.right) / 2, (box.bottom + box.top) / 2) for box in taken]


def _around(point: tuple[float, float], size: tuple[float, float], mark: float) -> Iterator[tuple[float, float]]:
    """Candidate centres at growing distance: right, left, above, below, then between these."""
    for ring in range(8):
        gap = mark * (1.3 + 1.5 * ring)
        for angle in (0, 180, 90, 270, 45, 315, 135, 225, 20, 340, 160, 200, 65, 115, 245, 295):
            x, y = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            yield point[0] + x * (gap + size[0] / 2), point[1] + y * (gap + size[1] / 2)


def write(axes: Any, names: Sequence[str], xs: Sequence[float], ys: Sequence[float]) -> None:
    """Write labels into axes whose layout is final, with a line to those that are far from their point."""
    figure = axes.figure
    renderer = figure.canvas.get_renderer()
    scale = figure.dpi / 72
    points = [tuple(axes.transData.transform(pair)) for pair in zip(xs, ys)]
    texts = [
        axes.annotate(name, (x, y), xytext=(0, 0), textcoords="offset points", ha="center", va="center", fontsize=8)
        for name, x, y in zip(names, xs, ys)
    ]
    extents = [text.get_window_extent(renderer) for text in texts]
    frame = axes.get_window_extent(renderer)
    centres = place(
        points,
        [(extent.width + 2 * scale, extent.height) for extent in extents],
        Box(frame.x0, frame.y0, frame.x1, frame.y1),
        mark=4.5 * scale,
    )
    for text, point, centre, extent in zip(texts, points, centres, extents):
        text.set_position(((centre[0] - point[0]) / scale, (centre[1] - point[1]) / scale))
        far = math.hypot(
            max(abs(centre[0] - point[0]) - extent.width / 2, 0), max(abs(centre[1] - point[1]) - extent.height / 2, 0)
        )
        if far > 12 * scale:
            axes.plot(*zip(point, centre), transform=None, color="#999999", linewidth=0.6, zorder=0.5)
