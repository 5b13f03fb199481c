"""The table of the README that says what the suite catches: `nox -s mutants` runs the bank and writes it again."""

import sys
from pathlib import Path

import pandas as pd

from cnnspec import ops
from cnnspec.cli import main

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- written by docs/mutants.py -->\n", "<!-- end -->\n"

KINDS = {
    "convolution": ("conv", "conv_transpose", "linear", "pad"),
    "pooling": ("pool", "adaptive_pool", "fractional_pool", "lp_pool", "unpool", "global_pool"),
    "normalisation": ("batch_norm", "instance_norm", "group_norm", "layer_norm", "lrn", "dropout"),
}
"""Families of operators by what the table calls them."""

REST = "activations, losses, rearranging, resizing"


def kind(operator: str) -> str:
    """Return what the table calls an operator's kind."""
    family = ops.family(operator)
    return next((name for name, families in KINDS.items() if family in families), REST)


def table(found: pd.DataFrame) -> str:
    """Return the table of the README: bugs, kills, and cases until a kill, by kind of operator."""
    frame = found.assign(kind=found["operator"].map(kind))
    lines = [
        "| operators | bugs | caught | cases until caught: median | 9 of 10 within |",
        "|---|---|---|---|---|",
    ]
    groups = [(name, frame[frame["kind"] == name]) for name in (*KINDS, REST)]
    for name, group in (*groups, ("all", frame)):
        killed = group[group["status"] == "killed"]["cases"]
        spread = f"{killed.median():.0f} | {killed.quantile(0.9, interpolation='higher'):.0f}"
        lines.append(f"| {name} | {len(group)} | {len(killed)} | {spread} |")
    return "\n".join(lines) + "\n"


def rewritten(text: str, found: pd.DataFrame) -> str:
    """Return the README with its table written again."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}{table(found)}{END}{after}"


if __name__ == "__main__":
    code = main(["mutants", "--out", "reports/mutants", *sys.argv[1:]])
    if code == 0:
        found = pd.read_csv("reports/mutants/mutants.csv")
        README.write_text(rewritten(README.read_text(encoding="utf-8"), found), encoding="utf-8")
    sys.exit(code)
