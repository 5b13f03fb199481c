"""Whole networks in a report: the first wrong node of each pass, and the error of every node along the depth."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnspec.report.cells import Key, Row, status_of, text
from cnnspec.report.charts import BEYOND, FAINT, INK, WITHIN, inlined, raised
from cnnspec.report.values import as_count, as_float, plural, ratio_key

LEAST_EXPONENT = -24
"""Errors below 2**-24 bounds, and none, are drawn here."""

_HEIGHT = 0.9
"""Of a point, in powers of two."""

_BAD = frozenset({"fail", "crash", "timeout", "harness", "xpass"})
_DIRECTIONS = ("forward", "backward")
_AXES = ("net", "backend", "variant", "regime", "dtype_of_network")


@dataclass(frozen=True)
class NodeResult:
    """One node of one pass: its place along the depth, its worst status, and error / bound in both directions."""

    name: str
    operator: str
    place: int
    status: str
    ratios: Mapping[str, float]
    message: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether any of its laws is violated."""
        return self.status in _BAD


@dataclass(frozen=True)
class NetworkPass:
    """One run of one network: the nodes in the order of the network."""

    net: str
    backend: str
    variant: str
    regime: str
    dtype: str
    nodes: tuple[NodeResult, ...]
    told: str = ""
    """What is said of the whole, as information."""

    @property
    def title(self) -> str:
        """What ran, in words."""
        return f"{self.net}, {self.variant}, {self.regime} weights, {self.dtype}"

    @property
    def first_wrong(self) -> NodeResult | None:
        """The first node, along the depth, that violates a law."""
        return next((node for node in self.nodes if node.is_bad), None)

    @property
    def status(self) -> str:
        """The status of the first wrong node; else pass, or skip where nothing was judged."""
        wrong = self.first_wrong
        judged = any(node.status in ("pass", "xfail") for node in self.nodes)
        return wrong.status if wrong else "pass" if judged else "skip"

    @property
    def sentence(self) -> str:
        """What the pass found."""
        wrong = self.first_wrong
        if wrong is not None:
            return f"first wrong node: {wrong.name or 'the whole run'} ({wrong.operator}): {wrong.message}"
        held = sum(node.status in ("pass", "xfail") for node in self.nodes)
        skipped = [node for node in self.nodes if node.status not in ("pass", "xfail")]
        rest = f", {len(skipped)} not judged ({skipped[0].message})" if skipped else ""
        return f"{plural(held, 'node')} within their bounds{rest}"


def passes_of(rows: Iterable[Row]) -> list[NetworkPass]:
    """Return the passes over whole networks that rows name; none where no row names one.

    >>> row = {"net": "lenet5", "backend": "torch", "variant": "eval", "regime": "dense", "dtype_of_network": "float32"}
    >>> row |= {"node": "conv1", "operator": "conv2d", "place": 0, "law": "forward", "status": "pass", "ratio": 0.5}
    >>> [(one.title, one.sentence) for one in passes_of([row])]
    [('lenet5, eval, dense weights, float32', '1 node within their bounds')]
    """
    groups: dict[Key, dict[tuple[int, str], list[Row]]] = {}
    for row in rows:
        if text(row, "net"):
            net, backend, variant, regime, dtype = (text(row, name) for name in _AXES)
            nodes = groups.setdefault((net, backend, variant, regime, dtype), {})
            nodes.setdefault((as_count(row.get("place")), text(row, "node")), []).append(row)
    return [_pass(key, nodes) for key, nodes in groups.items()]


def _pass(key: Key, nodes: Mapping[tuple[int, str], Sequence[Row]]) -> NetworkPass:
    told = (text(row, "end_to_end") for group in nodes.values() for row in group)
    found = tuple(_node(*place, group) for place, group in sorted(nodes.items()))
    return NetworkPass(*key, nodes=found, told=next(filter(None, told), ""))


def _node(place: int, name: str, rows: Sequence[Row]) -> NodeResult:
    words = {status_of(row) for row in rows}
    bad = [row for row in rows if status_of(row) in _BAD]
    status = status_of(bad[0]) if bad else next((w for w in ("pass", "xfail") if w in words), "skip")
    told = bad or [row for row in rows if row.get("reason")]
    ratios: dict[str, float] = {}
    for row in rows:
        ratio, law = as_float(row.get("ratio")), text(row, "law")
        if ratio is not None and law in _DIRECTIONS:
            ratios[law] = max(ratio, ratios.get(law, 0.0), key=ratio_key)
    message = text(told[0], "message") or text(told[0], "reason") if told else ""
    return NodeResult(name, text(rows[0], "operator"), place, status, ratios, message)


def drawing(one: NetworkPass) -> str:
    """Draw error / bound of each node along the depth, forward and backward, as SVG markup."""
    import matplotlib as mpl  # slow, and only the charts need it
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "cnnspec", "font.size": 8.5}):
        figure = Figure(figsize=(7.2, 1.9))
        axes = figure.add_axes((0.07, 0.14, 0.92, 0.82))
        highest = max(
            [_plot(axes, one, "forward", filled=True), _plot(axes, one, "backward", filled=False), 0]
        )
        odd = [
            node.place for node in one.nodes if node.is_bad and not any(map(_is_beyond, node.ratios.values()))
        ]
        axes.bar(odd, 2, _width(len(one.nodes)) / 2, -1, color=BEYOND)
        axes.axhline(0, color=INK, linewidth=0.8, dashes=(2, 2))
        axes.set_ylim(LEAST_EXPONENT - 1, highest + 1.5)
        _frame(axes, len(one.nodes), highest)
        return inlined(figure)


def _plot(axes: Any, one: NetworkPass, law: str, *, filled: bool) -> float:
    """Draw the points of one direction, and return the highest."""
    points = [
        (node.place, _exponent(node.ratios[law]), node.ratios[law])
        for node in one.nodes
        if law in node.ratios
    ]
    for beyond, colour in ((False, WITHIN), (True, BEYOND)):
        shown = [(x, y) for x, y, ratio in points if _is_beyond(ratio) == beyond]
        bottoms = [y - _HEIGHT / 2 for _, y in shown]  # a bar is drawn in place, which a marker is not
        face = colour if filled else "none"
        look = {"facecolor": face, "edgecolor": colour, "linewidth": 0.7, "clip_on": False}
        axes.bar([x for x, _ in shown], _HEIGHT, _width(len(one.nodes)), bottoms, **look)
    return max((y for _, y, _ in points), default=0.0)


def _width(nodes: int) -> float:
    """Return the width of a point in nodes, so that it is about square."""
    return max(0.35, nodes / 170)


def _frame(axes: Any, nodes: int, highest: float) -> None:
    axes.patch.set_visible(False)
    axes.figure.patch.set_visible(False)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    low, high = LEAST_EXPONENT, math.ceil(highest / 8) * 8
    ticks = [e for e in range(low, high + 1, 8) if e <= highest + 1]
    names = {low: "exact", 0: "1"}
    axes.set_yticks(ticks, [names.get(e, f"2{raised(e)}") for e in ticks])
    step = max(1, math.ceil(nodes / 12))
    places = [*range(0, nodes, step)]
    axes.set_xticks(places, [str(place + 1) for place in places])
    axes.set_xlim(-0.6, max(1, nodes) - 0.4)
    axes.tick_params(left=False, bottom=False, labelcolor=INK, pad=2)
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)


def _is_beyond(ratio: float) -> bool:
    return not ratio <= 1


def _exponent(ratio: float) -> float:
    """Return the height of a point; what is infinite stands at 2**8, below the names of nothing."""
    if not math.isfinite(ratio):
        return 8.0
    return max(float(LEAST_EXPONENT), min(24.0, math.log2(ratio))) if ratio > 0 else float(LEAST_EXPONENT)
