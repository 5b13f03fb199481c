"""The numbers, the table and the picture of no-tolerance.md: `nox -s figures` writes them again.

A layer of ResNet-18 is computed by torch in four ways and held to the exact result: error / (n u S) for every output.
"""

import io
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from cnnspec import exact

Values = npt.NDArray[Any]

HERE = Path(__file__).parent
LOW, HIGH = -24, 24  # octaves of error / bound that are drawn; what lies outside falls into the last bin
TOP = 1.4  # of a panel whose tallest bar is 1
KEPT = 4  # weights of an output channel that are not zero in sparse data
SCALE = 2.0**-20
BEGIN, END = "<!-- written by docs/figures.py -->\n", "<!-- end -->\n"


@dataclass(frozen=True)
class Layer:
    """A 3x3 convolution with padding 1 of one image."""

    channels: int
    size: int

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes of input and weight."""
        return (1, self.channels, self.size, self.size), (self.channels, self.channels, 3, 3)

    @property
    def terms(self) -> int:
        """How many products an output sums away from the border."""
        return 9 * self.channels


FIRST, LAST = Layer(64, 56), Layer(512, 7)
"""Layers of the first and the last stage of ResNet-18 at 224 x 224."""


@dataclass(frozen=True)
class Finding:
    """What one implementation came to; of a dropped tap, among the outputs that miss a term.

    unequal: not the correctly rounded value;   beyond: error > n u S;   mismatched: by torch.testing.assert_close
    histogram: outputs by floor(log2(error / bound))
    """

    outputs: int
    unequal: int
    beyond: int
    mismatched: int
    histogram: dict[int, int]


def integers(rng: np.random.Generator, shape: tuple[int, ...]) -> Values:
    """Draw integers of at most 4 bits: sums of 4608 products stay below 2**24."""
    return rng.integers(-9, 9, shape, endpoint=True).astype(np.float32)


def dense(rng: np.random.Generator, shape: tuple[int, ...]) -> Values:
    """Draw from the normal distribution."""
    return rng.standard_normal(shape, np.float32)


def significands(rng: np.random.Generator, shape: tuple[int, ...]) -> Values:
    """Draw full significands with any sign and magnitudes from 2**-4 to 2**5."""
    values = rng.choice([-1.0, 1.0], shape) * rng.uniform(1, 2, shape) * 2.0 ** rng.uniform(-4, 4, shape)
    return values.astype(np.float32)


def thinned(rng: np.random.Generator, weight: Values) -> Values:
    """Keep KEPT weights of each output channel."""
    rows = weight.reshape(len(weight), -1)
    ranks = rng.random(rows.shape).argsort(axis=1).argsort(axis=1)
    return np.where(ranks < KEPT, rows, np.float32(0)).reshape(weight.shape)


@dataclass(frozen=True)
class Data:
    """A layer and what it is given."""

    title: str
    layer: Layer
    draw: Callable[[np.random.Generator, tuple[int, ...]], Values]
    sparse: bool = False
    scale: float = 1.0

    def operands(self) -> tuple[Values, Values]:
        """Return input and weight."""
        rng = np.random.default_rng(2013)
        x, w = (self.draw(rng, shape) for shape in self.layer.shapes)
        return x * np.float32(self.scale), thinned(rng, w) if self.sparse else w


DATA = {
    "integers": Data("integers up to 9", FIRST, integers),
    "sparse": Data("sparse, n at most 4", FIRST, significands, sparse=True),
    "sparse last": Data("sparse, 512 channels, n at most 4", LAST, significands, sparse=True),
    "dense": Data("dense, n = 576", FIRST, dense),
    "dense scaled": Data("the same times 2⁻²⁰", FIRST, dense, scale=SCALE),
    "dense last": Data("dense, 512 channels, n = 4608", LAST, dense),
}
IMPLEMENTATIONS = {
    "float32": "float32",
    "tf32": "TF32 inputs",
    "bfloat16": "bfloat16 inputs",
    "dropped": "dropped tap",
}


def cut(array: Values, bits: int) -> Values:
    """Round to `bits` significand bits, ties to even."""
    significand, exponent = np.frexp(array.astype(np.float64))
    rounded: Values = np.ldexp(np.rint(np.ldexp(significand, bits)), exponent - bits).astype(np.float32)
    return rounded


def without_a_tap(w: Values) -> Values:
    """Zero one kernel position of output channel 0: that of its first weight."""
    _, row, column = np.unravel_index(np.flatnonzero(w[0])[0], w[0].shape)
    dropped = w.copy()
    dropped[0, :, row, column] = 0
    return dropped


def by_torch(x: Values, w: Values) -> Values:
    """Compute the layer in float32, on one thread: the order of the sums depends on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(w), padding=1).numpy()
    finally:
        torch.set_num_threads(threads)


def mismatched(actual: Values, expected: Values) -> int:
    """Return how many elements torch.testing.assert_close objects to."""
    try:
        torch.testing.assert_close(torch.from_numpy(actual), torch.from_numpy(expected))
    except AssertionError as error:
        if (count := re.search(r"Mismatched elements: (\d+)", str(error))) is None:
            raise
        return int(count[1])
    return 0


def ratios(actual: Values, value: Values, bound: Values) -> Values:
    """Return error / bound; refuse a ratio so near 1 that the rounding of `value` to float64 could decide.

    value: exact results rounded to float64, which moves a ratio by less than 2**-27, since |y| <= S
    """
    error = np.abs(actual.astype(np.float64) - value)
    found = np.divide(error, bound, out=np.where(error > 0, np.inf, 0.0), where=bound > 0)
    if (np.abs(found - 1) < 2.0**-27).any():
        raise ArithmeticError("an error is so near its bound that float64 cannot tell on which side it lies")
    return found


def octaves(found: Values) -> dict[int, int]:
    """Count ratios by floor(log2(ratio)) within LOW .. HIGH; none is in LOW."""
    exponents = np.frexp(found)[1] - 1
    exponents = np.where(found == 0, LOW, np.where(np.isinf(found), HIGH, np.clip(exponents, LOW, HIGH)))
    return dict(sorted(Counter(exponents.ravel().tolist()).items()))


def measure(data: Data) -> dict[str, Finding]:
    """Return what each implementation comes to."""
    x, w = data.operands()
    dropped = without_a_tap(w)
    reference = exact.conv2d(x, w, padding=1, out_dtype="float64", full=True)
    correct = exact.conv2d(x, w, padding=1)
    bound = reference.n_eff * 2.0**-24 * reference.bound_sum
    fewer = exact.conv2d(x, dropped, padding=1, full=True).n_eff < reference.n_eff
    everywhere = np.ones_like(fewer)
    outputs = {
        "float32": (by_torch(x, w), everywhere),
        "tf32": (by_torch(cut(x, 11), cut(w, 11)), everywhere),
        "bfloat16": (by_torch(cut(x, 8), cut(w, 8)), everywhere),
        "dropped": (by_torch(x, dropped), fewer),
    }
    findings = {}
    for name, (actual, here) in outputs.items():
        found = ratios(actual, reference.value, bound)[here]
        y, right = actual[here], correct[here]
        unequal, beyond = int((y != right).sum()), int((found > 1).sum())
        findings[name] = Finding(y.size, unequal, beyond, mismatched(y, right), octaves(found))
    return findings


Findings = dict[str, dict[str, Finding]]


def saved(findings: Findings) -> str:
    """Return findings as JSON, with what they were found on."""
    on = {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "vectors": torch.backends.cpu.get_cpu_capability(),
    }
    found = {data: {name: asdict(one) for name, one in row.items()} for data, row in findings.items()}
    return json.dumps({"on": on, "findings": found}, indent=1) + "\n"


def loaded(text: str) -> Findings:
    """Return the findings of `saved`."""

    def finding(one: dict[str, Any]) -> Finding:
        return Finding(**{**one, "histogram": {int(e): count for e, count in one["histogram"].items()}})

    found = json.loads(text)["findings"]
    return {data: {name: finding(one) for name, one in row.items()} for data, row in found.items()}


def table(findings: Findings) -> str:
    """Return the page's table."""
    heads = ["data", "asked", *IMPLEMENTATIONS.values()]
    lines = [f"| {' | '.join(heads)} |", "|---|---|" + "---:|" * len(IMPLEMENTATIONS)]
    for name, row in findings.items():
        outputs = row["float32"].outputs
        first = ("`==`", "unequal") if name == "integers" else ("n u S", "beyond")
        for asked, key in (first, ("`assert_close`", "mismatched")):
            cells = [f"{getattr(row[one], key):,}" for one in IMPLEMENTATIONS]
            cells[-1] += f" of {row['dropped'].outputs:,}"
            title = f"{DATA[name].title}; {outputs:,} outputs" if key != "mismatched" else ""
            lines.append(f"| {title} | {asked} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def with_table(page: str, findings: Findings) -> str:
    """Return the page with its table replaced."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + "\n" + table(findings) + "\n" + END + rest.split(END)[1]


# The picture


@dataclass(frozen=True)
class Theme:
    """The colours of a drawing."""

    page: str
    ink: str
    soft: str
    rule: str
    within: str
    beyond: str


THEMES = {
    "no-tolerance.svg": Theme("#ffffff", "#1b1d20", "#595e66", "#dddcd6", "#2a6496", "#b3310b"),
    "no-tolerance-dark.svg": Theme("#0d1117", "#e4e4e0", "#a2a7ae", "#33373c", "#6fa5cf", "#ff9069"),
}
ROWS = {
    "sparse": "sparse data\nn at most 4",
    "dense": "dense data\nn = 576",
    "dense last": "dense data\nn = 4608",
}


def share(count: int, total: int) -> str:
    """Return count / total for people; only none and all are called so.

    >>> share(0, 9), share(9, 9), share(1, 3), share(1, 9000), share(8999, 9000)
    ('none', 'all', '33.3 %', '< 0.1 %', '> 99.9 %')
    """
    if count in {0, total}:
        return "all" if count else "none"
    tenths = round(1000 * count / total)
    return "< 0.1 %" if tenths == 0 else "> 99.9 %" if tenths == 1000 else f"{tenths / 10} %"


def picture(findings: Findings, theme: Theme) -> str:
    """Draw histograms of error / bound: a row for each kind of data, a column for each implementation."""
    drawn = [[findings[name][one] for one in IMPLEMENTATIONS] for name in ROWS]
    style: Any = {
        "svg.hashsalt": "cnnspec",
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.color": theme.ink,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(9.6, 5.2), facecolor=theme.page)
        grid = figure.subplots(len(ROWS), len(IMPLEMENTATIONS), sharex=True, sharey=True, squeeze=False)
        figure.subplots_adjust(left=0.115, right=0.985, top=0.9, bottom=0.115, wspace=0.07, hspace=0.16)
        for label, row, axes in zip(ROWS.values(), drawn, grid, strict=True):
            axes[0].text(
                -0.1, 0.5, label, transform=axes[0].transAxes, ha="right", va="center", linespacing=1.5
            )
            for finding, panel in zip(row, axes, strict=True):
                _panel(panel, finding, theme)
        for title, panel in zip(IMPLEMENTATIONS.values(), grid[0], strict=True):
            panel.set_title(title, fontsize=10.5, pad=12)
        grid[0][0].text(-1.5, TOP, "error = bound", ha="right", va="top", fontsize=8.5)
        grid[0][-1].set_title("where a tap was dropped", fontsize=10.5, pad=12)
        caption = "error / bound of each output by powers of two; heights are relative to the tallest bar of a panel"
        figure.text(0.55, 0.02, caption, ha="center", color=theme.soft)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", facecolor=theme.page, metadata={"Date": None})
    return re.sub(r"[ \t]+$", "", buffer.getvalue(), flags=re.MULTILINE)


def _panel(axes: Axes, finding: Finding, theme: Theme) -> None:
    axes.set_facecolor(theme.page)
    bins = sorted(finding.histogram)
    tallest = max(finding.histogram.values())
    heights = [finding.histogram[e] / tallest for e in bins]
    colours = [theme.beyond if e >= 0 else theme.within for e in bins]
    axes.bar(bins, heights, 0.9, align="edge", color=colours, zorder=2)
    axes.axvline(0, color=theme.ink, linewidth=0.9, zorder=3)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.rule)
    axes.set_xlim(LOW - 1, HIGH + 3)
    axes.xaxis.set_major_locator(FixedLocator([-20, -10, 0, 10, 20]))
    axes.set_xticklabels(["2⁻²⁰", "2⁻¹⁰", "1", "2¹⁰", "2²⁰"])
    axes.set_yticks([])
    axes.tick_params(bottom=False, labelcolor=theme.soft, pad=2)
    said = f"{share(finding.beyond, finding.outputs)} beyond"
    axes.text(
        HIGH + 3,
        TOP,
        said,
        ha="right",
        va="top",
        fontsize=8.5,
        color=theme.beyond if finding.beyond else theme.soft,
    )
    axes.set_ylim(0, TOP)


def main(folder: Path = HERE) -> int:
    """Measure, and write the numbers, both pictures and, where the page stands, its table."""
    findings = {name: measure(data) for name, data in DATA.items()}
    (folder / "no-tolerance.json").write_text(saved(findings), encoding="utf-8")
    for name, theme in THEMES.items():
        (folder / name).write_text(picture(findings, theme), encoding="utf-8")
    if (page := folder / "no-tolerance.md").exists():
        page.write_text(with_table(page.read_text(encoding="utf-8"), findings), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
