"""Names beside points, so that none hides another."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxtask.terminal import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Where a name may stand, the best first: offset in points, and how it is aligned.
_PLACES = [
    (5.0, 0.0, "left", "center"), (-5.0, 0.0, "right", "center"),
    (0.0, 5.0, "center", "bottom"), (0.0, -5.0, "center", "top"),
    (4.0, 4.0, "left", "bottom"), (-4.0, 4.0, "right", "bottom"),
    (4.0, -4.0, "left", "top"), (-4.0, -4.0, "right", "top"),
    (12.0, 12.0, "left", "bottom"), (-12.0, 12.0, "right", "bottom"),
    (12.0, -12.0, "left", "top"), (-12.0, -12.0, "right", "top"),
]  # fmt: skip


def shorten(name: str, most: int) -> str:
    """`visible`, and at most `most` characters: the ends of a name tell more than its middle."""
    name = visible(name)
    if len(name) <= most:
        return name
    end = (most - 1) // 2
    return f"{name[: most - 1 - end]}…{name[-end:] if end else ''}"


def short_names(names: Sequence[str], most: int) -> list[str]:
    """All of them so shortened; those that would then be alike have their number in front."""
    short = [shorten(name, most) for name in names]
    return [
        f"{n} {shorten(name, most - len(str(n)) - 1)}" if short.count(own) > 1 else own
        for n, (name, own) in enumerate(zip(names, short, strict=True), 1)
    ]


def place_labels(axes: "Axes", at: np.ndarray, names: Sequence[str], fontsize: float) -> None:
    """Write every name beside its point, where it hides least.

    Args:
        axes: Where the points are drawn; their figure is laid out.
        at: [N, 2], in data coordinates.
        names: N of them.
        fontsize: Font size in points.

    """
    points = axes.transData.transform(at)
    half = 3.5 * axes.figure.dpi / 72
    taken = [(x - half, y - half, x + half, y + half) for x, y in points]
    inside = axes.get_window_extent()
    for n, (point, name) in enumerate(zip(at, names, strict=True)):
        best = None
        for dx, dy, ha, va in _PLACES:
            text = axes.annotate(
                name, tuple(point), (dx, dy), textcoords="offset points", ha=ha, va=va,
                fontsize=fontsize, annotation_clip=False,
                arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "0.6"}
                if abs(dx) > 10 else None,
            )  # fmt: skip
            box = text.get_window_extent()
            own = (box.x0, box.y0, box.x1, box.y1)
            others = [b for other, b in enumerate(taken) if other != n]
            outside = max(0, own[2] - inside.x1) + max(0, inside.x0 - own[0])
            hidden = sum(_shared(own, other) for other in others) + outside * (own[3] - own[1])
            if best is None or hidden < best[0]:
                if best is not None:
                    best[1].remove()
                best = hidden, text, own
            else:
                text.remove()
            if hidden == 0:
                break
        assert best is not None
        taken.append(best[2])


def _shared(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Area that two boxes share."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)
