"""Error histograms as small SVG drawings, by matplotlib, in the colours of the page around them."""

import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cnnspec.report.cells import Row, status_of, text
from cnnspec.report.values import as_count

MOST_EXPONENT = 20
_FLOOR = 0.7  # where the logarithmic axis begins, so that one element still shows

# Colours that stand for a CSS value, which the finished drawing names instead.
INK, FAINT, WITHIN, BEYOND = "#010101", "#020202", "#030303", "#040404"
WASH, GROUND, GOOD, DOUBT, KNOWN = "#050505", "#060606", "#070707", "#080808", "#090909"
_CSS = {
    INK: "currentColor",
    FAINT: "var(--rule)",
    WITHIN: "var(--accent)",
    BEYOND: "var(--fail)",
    WASH: "var(--wash)",
    GROUND: "var(--bg)",
    GOOD: "var(--pass)",
    DOUBT: "var(--warn)",
    KNOWN: "var(--known)",
}


@dataclass(frozen=True)
class Histogram:
    """The errors of one operator's output elements: how many are exact, within and beyond the bound.

    Bin `e` holds errors from 2**e up to 2**(e + 1) bounds. An element at exactly the bound, which is
    within it, falls into bin 0; so bin 0 counts as beyond only in rows that did not pass.
    """

    operator: str
    exact: int
    within: Mapping[int, int]
    beyond: Mapping[int, int]

    @property
    def elements(self) -> int:
        """How many output elements were compared."""
        return self.exact + sum(self.within.values()) + sum(self.beyond.values())

    def count(self, exponent: int) -> int:
        """Return how many elements fall into one bin."""
        return self.within.get(exponent, 0) + self.beyond.get(exponent, 0)


def histograms_of(rows: Iterable[Row]) -> list[Histogram]:
    """Add up the histograms of all rows of each operator."""
    exact: Counter[str] = Counter()
    within: dict[str, Counter[int]] = {}
    beyond: dict[str, Counter[int]] = {}
    for row in rows:
        bins = row.get("histogram")
        if not isinstance(bins, Mapping):
            continue
        operator, held = text(row, "operator"), status_of(row) in {"pass", "xpass", "vacuous"}
        within.setdefault(operator, Counter())
        beyond.setdefault(operator, Counter())
        for name, count in bins.items():
            exponent = _exponent(name)
            if name == "exact":
                exact[operator] += as_count(count)
            elif exponent is not None:
                side = beyond if exponent > 0 or (exponent == 0 and not held) else within
                side[operator][exponent] += as_count(count)
    return [Histogram(name, exact[name], within[name], beyond[name]) for name in within]


def _exponent(name: Any) -> int | None:
    try:
        return max(-MOST_EXPONENT, min(MOST_EXPONENT, int(name)))
    except ValueError:
        return None


def drawings(histograms: list[Histogram]) -> dict[str, str]:
    """Draw each histogram on the same axes; operator to SVG markup."""
    if not histograms:
        return {}
    import matplotlib as mpl  # slow, and only the charts need it

    exponents = [e for one in histograms for e in (*one.within, *one.beyond)]
    low, high = min(exponents, default=-1), max((*exponents, 0)) + 1
    top = max(one.elements for one in histograms)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "cnnspec", "font.size": 8.5}):
        return {one.operator: _draw(one, low, high, top) for one in histograms}


def _draw(histogram: Histogram, low: int, high: int, top: int) -> str:
    from matplotlib.figure import Figure  # slow, and only the charts need it

    figure = Figure(figsize=(2.6, 1.25))
    axes = figure.add_axes((0.1, 0.17, 0.88, 0.8))
    axes.patch.set_visible(False)
    figure.patch.set_visible(False)
    axes.set_yscale("log")
    axes.set_ylim(_FLOOR, 10 ** math.ceil(math.log10(max(top, 10))))
    axes.set_xlim(low - 3, high + 0.2)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    within = {low - 3: histogram.exact, **histogram.within}
    for counts, colour in ((within, WITHIN), (histogram.beyond, BEYOND)):
        bins = sorted(exponent for exponent, count in counts.items() if count)
        heights = [counts[exponent] - _FLOOR for exponent in bins]
        axes.bar(bins, heights, 0.86, _FLOOR, align="edge", color=colour, clip_on=False)
    axes.axvline(0, color=INK, linewidth=0.8, dashes=(2, 2), clip_on=False)
    _label(axes, low, top)
    return inlined(figure)


def _label(axes: Any, low: int, top: int) -> None:
    exponents = [e for e in range(-MOST_EXPONENT, 1, 5) if e >= low + 1]
    axes.set_xticks([low - 2.57, *exponents], ["exact", *(f"2{raised(e)}" if e else "1" for e in exponents)])
    decades = range(0, math.ceil(math.log10(max(top, 10))) + 1, 2)
    axes.set_yticks([10.0**n for n in decades], [f"10{raised(n)}" if n else "1" for n in decades])
    axes.minorticks_off()
    axes.tick_params(left=False, bottom=False, labelcolor=INK, pad=2)
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)


def raised(number: int) -> str:
    """Write a number as an exponent.

    >>> raised(-12)
    '⁻¹²'
    """
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def inlined(figure: Any) -> str:
    """Return a figure of matplotlib as SVG that stands in a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return inline_svg(buffer.getvalue())


def inline_svg(svg: str) -> str:
    """Fit matplotlib's SVG into a page: no identifiers, metadata or sizes of its own; CSS for its colours.

    What is written between tags stays as it is.
    """
    svg = svg[svg.index("<svg") :]
    for pattern in (r"<!--.*?-->", r"<metadata>.*?</metadata>", r"<defs>.*?</defs>"):
        svg = re.sub(pattern, "", svg, flags=re.DOTALL)
    view = re.search(r'viewBox="[^"]*"', svg)
    opening = f'<svg {view.group() if view else ""} aria-hidden="true">'
    svg = opening + svg[svg.index(">") + 1 :]
    svg = re.sub(r"<[^>]+>", lambda tag: _plain(tag.group()), svg)
    svg = svg.replace("<g>", "").replace("</g>", "")
    return re.sub(r">\s+<", "><", svg).strip()


def _plain(tag: str) -> str:
    tag = re.sub(r' (id|clip-path)="[^"]*"', "", tag)
    tag = re.sub(r"font-family:[^;\"]*; ", "", tag)
    tag = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number.group()):.2f}".rstrip("0").rstrip("."), tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)
    for colour, css in _CSS.items():
        tag = tag.replace(colour, css)
    return tag.replace(" \n", " ")
