"""Charts by matplotlib for a page: axes on logarithmic scales, and many points in one path."""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cnnspec.report.charts import FAINT, INK, inlined

Point = tuple[float, float]


def _ring(count: int, turn: float = 0.0, radii: Sequence[float] = (1.0,)) -> list[Point]:
    angles = [math.tau * (place / count) + turn for place in range(count)]
    return [
        (radii[place % len(radii)] * math.cos(angle), radii[place % len(radii)] * math.sin(angle))
        for place, angle in enumerate(angles)
    ]


_UP = math.pi / 2
_BARS = ((0.25, 1), (0.25, 0.25), (1, 0.25), (1, -0.25), (0.25, -0.25), (0.25, -1))
_PLUS = [*_BARS, *((-x, -y) for x, y in _BARS)]
_HALF = math.sqrt(0.5)
SHAPES: dict[str, list[Point]] = {
    "●": _ring(8, math.pi / 8, (0.9,)),
    "■": _ring(4, math.pi / 4, (1.1,)),
    "▲": _ring(3, _UP, (1.2,)),
    "◆": _ring(4, 0, (1.2,)),
    "▼": _ring(3, -_UP, (1.2,)),
    "★": _ring(10, _UP, (1.3, 0.55)),
    "+": _PLUS,
    "×": [((x - y) * _HALF, (x + y) * _HALF) for x, y in _PLUS],
    "▸": _ring(3, 0, (1.2,)),
    "◂": _ring(3, math.pi, (1.2,)),
    "-": [(-1.2, 0.3), (1.2, 0.3), (1.2, -0.3), (-1.2, -0.3)],
}
"""Forms of points by the sign that names them in words; the last is for all that have none of their own."""


def figure(width: float, height: float, box: tuple[float, float, float, float], paint: Any) -> str:
    """Return the SVG of axes in a figure of so many inches; `box` is the inches left free: left, bottom, right, top."""
    import matplotlib as mpl  # slow, and only the charts need it
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "cnnspec",
        "font.size": 8.5,
        "text.parse_math": False,  # a name may hold dollar signs
        "path.simplify": False,
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # a name may hold signs that no font has; the page's own fonts write it
        drawing = Figure(figsize=(width, height), dpi=72)
        left, bottom, right, top = box
        axes = drawing.add_axes(
            (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
        )
        axes.patch.set_visible(False)
        drawing.patch.set_visible(False)
        for side in ("left", "right", "top"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(FAINT)
        paint(axes)
        axes.minorticks_off()
        axes.tick_params(left=False, bottom=False, labelcolor=INK, pad=3)
        axes.grid(axis="both", color=FAINT, linewidth=0.5)
        axes.set_axisbelow(True)
        return inlined(drawing)


def marks(
    axes: Any,
    points: Iterable[Point],
    sign: str,
    colour: str,
    *,
    size: float = 3.0,
    hollow: bool = False,
    ground: str = "none",
) -> None:
    """Draw points of one form as one path, hollow ones filled with `ground`; the limits of the axes must be set."""
    outlines = []
    for x, y in axes.transData.transform([*points]) if points else ():
        outlines.append([(x + size * dx, y + size * dy) for dx, dy in SHAPES[sign]])
    _draw(
        axes, outlines, closed=True, facecolor=ground if hollow else colour, edgecolor=colour, linewidth=0.8
    )


def segments(
    axes: Any, ends: Iterable[tuple[Point, Point]], colour: str, width: float = 1.0, *, faint: bool = False
) -> None:
    """Draw straight lines as one path, so faint that others show through; the limits of the axes must be set."""
    found = [axes.transData.transform([*pair]).tolist() for pair in ends]
    _draw(
        axes,
        found,
        closed=False,
        facecolor="none",
        edgecolor=colour,
        linewidth=width,
        alpha=0.5 if faint else None,
    )


def _draw(axes: Any, outlines: Sequence[Sequence[Point]], *, closed: bool, **look: Any) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path
    from matplotlib.transforms import IdentityTransform

    if not outlines:
        return
    corners: list[Point] = []
    codes: list[Any] = []
    for outline in outlines:
        corners += [*outline, outline[0]] if closed else [*outline]
        codes += [Path.MOVETO] + [Path.LINETO] * (len(outline) - 1) + [Path.CLOSEPOLY] * closed
    axes.figure.add_artist(PathPatch(Path(corners, codes), transform=IdentityTransform(), **look))


def around(values: Iterable[float], margin: float = 0.06, least: float = 1.5) -> Point:
    """Return limits of a logarithmic axis that hold positive values, with room on both sides.

    >>> around([1.0, 100.0], margin=0.5), around([], margin=0.0, least=4.0)
    ((0.1, 1000.0), (0.5, 2.0))
    """
    found = [value for value in values if 0 < value < math.inf] or [1.0]
    low, high = min(found), max(found)
    if high / low < least:
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(least), middle * math.sqrt(least)
    room = (high / low) ** margin
    return low / room, high * room


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Return round numbers within limits, at most about so many: 1, 1.2, 1.4 or 1, 2, 5, 10 or 1, 10, 100 or fewer.

    >>> log_ticks(0.9, 30), log_ticks(0.5, 2e4), log_ticks(0.9, 1.5)
    ([1.0, 2.0, 5.0, 10.0, 20.0], [1.0, 10.0, 100.0, 1000.0, 10000.0], [0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5])
    """
    if high / low < 3:
        unit = 10.0 ** math.floor(math.log10(high - low)) / 10
        step = next(unit * one for one in (1, 2, 5, 10, 20, 50, 100) if (high - low) / (unit * one) <= most)
        return [
            float(f"{n * step:.12g}")
            for n in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)
        ]
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1,)):
        found = [float(f"{step}e{e}") for e in exponents for step in steps]
        found = [one for one in found if low <= one <= high]
        if len(found) <= most:
            break
    return found[:: max(1, math.ceil(len(found) / most))]


def set_ticks(axis: Any, places: Sequence[float], words: Callable[[float], str]) -> None:
    """Give an axis its ticks and nothing else."""
    axis.set_ticks(places, [words(place) for place in places])


def thinned(values: Iterable[float], apart: float) -> list[float]:
    """Return values, in order, each at least so many times the one before; the last is among them.

    >>> thinned([1, 2, 3, 4, 8, 9], 2.0)
    [1, 2, 4, 9]
    """
    kept: list[float] = []
    for value in sorted(set(values), reverse=True):
        if not kept or value * apart <= kept[-1]:
            kept.append(value)
    return kept[::-1]


def rough(count: float) -> str:
    """Write a round number of an axis shortly.

    >>> rough(0.001), rough(1000.0), rough(2.0), rough(1e7)
    ('0.001', '1000', '2', '10M')
    """
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e4, "")):
        if sign and count >= size:
            return f"{count / size:g}{sign}"
    return f"{count:g}" if count < 1e5 else f"{count / 1e3:g}k"
