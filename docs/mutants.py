"""The tables of the README that say what the suite catches: `nox -s mutants` runs the bank and writes them again."""

import inspect
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from cnnspec import ops
from cnnspec.backends.targets import named, resolve
from cnnspec.cli import main
from cnnspec.conformance import Session
from cnnspec.judge import Trial
from cnnspec.plan import EXAMPLES, Plan

ROOT = Path(__file__).parents[1]
README, KERNELS = ROOT / "README.md", ROOT / "tests" / "kernels" / "wrong_kernels.py"
BANK, TEXTBOOK, END = (
    f"<!-- {words} -->\n" for words in ("the bank, by docs/mutants.py", "textbook mistakes, likewise", "end")
)
SEEDS = range(8)

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


def textbook() -> str:
    """Return the table of kernels with textbook mistakes: cases until each is caught in float32, over all seeds."""
    lines = [
        "| kernel | mistake | cases: seed 0 | median | most | milliseconds |",
        "|---|---|---|---|---|---|",
    ]
    for name, kernel in inspect.getmembers(named(str(KERNELS)), inspect.isfunction):
        operator, _, mistake = name.partition("d_")
        if not mistake:
            continue
        found = [cases_until_caught(f"{operator}d", kernel, seed) for seed in SEEDS]
        counts, seconds = zip(*found, strict=True)
        told = f"{counts[0]} | {median(counts):g} | {max(counts)} | {1e3 * median(seconds):.0f}"
        lines.append(f"| `{operator}d` | {mistake.replace('_', ' ')} | {told} |")
    return "\n".join(lines) + "\n"


def cases_until_caught(operator: str, kernel: Callable[..., Any], seed: int) -> tuple[int, float]:
    """Return how many cases of a default run are judged until a kernel fails a law, and the seconds."""
    (backend,) = resolve(kernel, [operator])
    plan = Plan((kernel.__name__,), operators=(operator,), dtypes=("float32",), seed=seed, examples=EXAMPLES)
    session, started = Session(plan, [backend]), time.perf_counter()
    for number, case in enumerate(cases(session), start=1):
        trial = Trial(case)
        if any(trial.violates(backend, law) for law in trial.laws()):
            return number, time.perf_counter() - started
    raise AssertionError(f"{kernel.__name__} is not caught")


def cases(session: Session) -> Iterator[Any]:
    """Yield the cases of a session."""
    for chunk in session.plan.chunks():
        yield from session.cases(chunk)


def rewritten(text: str, begin: str, table: str) -> str:
    """Return the README with the table after `begin` written again."""
    before, _, rest = text.partition(begin)
    return f"{before}{begin}{table}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    code = main(["mutants", "--out", "reports/mutants", *sys.argv[1:]])
    if code == 0:
        found = pd.read_csv("reports/mutants/mutants.csv")
        text = rewritten(README.read_text(encoding="utf-8"), BANK, table(found))
        README.write_text(rewritten(text, TEXTBOOK, textbook()), encoding="utf-8")
    sys.exit(code)
