"""How much faster a summary is than other counters of products: `python -m cnnspec.bench.summary [COUNTER ...]`.

Every ratio is the median over interleaved pairs of the CPU time of their call and of ours, in one process with one
thread; the A/A rows hold ours against itself. All count ResNet-152 at 224 x 224: they a module of torch, made by
`cnnspec.to_torch` and ready, we a network that is built for it, one that is ready, and one that was summed up before.
Nothing is timed before our totals are the published ones, nor a counter whose parameters are others.
"""

import argparse
import importlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from cnnspec import nets
from cnnspec.bench.paired import Row, compared, conditions, one_thread
from cnnspec.tables import Summary, summary

SHAPE = (1, 3, 224, 224)
PARAMETERS, MACS = 60_192_808, 11_513_626_624  # torchvision's model card; torch.utils.flop_counter, halved
GOAL = 100
PAIRS = 7


class Totals(NamedTuple):
    """What a counter says of a network; parameters are None where it does not count them."""

    parameters: int | None
    products: int


class Counter(NamedTuple):
    """A counter: the package that it comes with, and how to make the call that counts a module of torch."""

    name: str
    package: str
    made: Callable[[Any], Callable[[], Totals]]
    device: str = "cpu"


def torchinfo(module: Any) -> Callable[[], Totals]:
    """Return the call of torchinfo; parameters of norms count as products."""
    tool: Any = importlib.import_module("torchinfo")
    device = next(module.parameters()).device

    def call() -> Totals:
        table = tool.summary(module, input_size=SHAPE, verbose=0, device=device)
        return Totals(table.total_params, table.total_mult_adds)

    return call


def fvcore(module: Any) -> Callable[[], Totals]:
    """Return the call of fvcore's count of operations; those of norms and pools count as products."""
    tool: Any = importlib.import_module("fvcore.nn")
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    x = _zeros(module)

    def call() -> Totals:
        count = tool.FlopCountAnalysis(module, x).unsupported_ops_warnings(False)
        return Totals(None, int(count.uncalled_modules_warnings(False).total()))

    return call


def flop_counter(module: Any) -> Callable[[], Totals]:
    """Return the call of torch's own counter, for which a product is two operations."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    x = _zeros(module)

    def call() -> Totals:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(x)
        return Totals(None, counter.get_total_flops() // 2)

    return call


def _zeros(module: Any) -> Any:
    import torch

    return torch.zeros(SHAPE, device=next(module.parameters()).device)


def again(module: Any) -> Callable[[], Totals]:
    """Return our own call, for the A/A row; it needs no module."""
    return lambda: _totals(summary(nets.resnet152(), SHAPE))


def _totals(table: Summary) -> Totals:
    return Totals(table.parameter_count, table.macs or 0)


COUNTERS = (
    Counter("A/A cnnspec", "cnnspec", again),
    Counter("torchinfo", "torchinfo", torchinfo),
    Counter("torchinfo on meta", "torchinfo", torchinfo, "meta"),
    Counter("fvcore", "fvcore", fvcore),
    Counter("torch.utils.flop_counter", "torch", flop_counter),
    Counter("torch.utils.flop_counter on meta", "torch", flop_counter, "meta"),
)


def ours(pairs: int = PAIRS) -> dict[str, Callable[[], Totals]]:
    """Return our calls by what they do; each can be made once more than there are pairs."""
    known = nets.resnet152()
    summary(known, SHAPE)
    new = iter([nets.resnet152() for _ in range(pairs + 1)])
    return {
        "build and sum up": lambda: _totals(summary(nets.resnet152(), SHAPE)),
        "sum up": lambda: _totals(summary(next(new), SHAPE)),
        "sum up again": lambda: _totals(summary(known, SHAPE)),
    }


def prepared(counter: Counter) -> tuple[Callable[[], Totals] | None, Totals | None, str]:
    """Return the call of a counter and what it counts; in place of the call None, and why there is none."""
    try:
        importlib.import_module(counter.package)
    except ImportError as error:
        return None, None, f"MISSING: {error}"
    from cnnspec.backends.torch_modules import to_torch

    module = to_torch(nets.resnet152()).eval().to(counter.device)
    try:
        theirs = counter.made(module)
        totals = theirs()
    except Exception as error:  # noqa: BLE001 - whatever another counter raises, the others are measured
        return None, None, f"FAILED: {type(error).__name__}: {error}"
    if totals.parameters not in (None, PARAMETERS):
        return None, totals, f"WRONG: there are {PARAMETERS} parameters"
    return theirs, totals, ""


def rows(counter: Counter, pairs: int = PAIRS) -> Iterator[dict[str, Any]]:
    """Yield a row of the table for each of our calls, or one that says why nothing is timed."""
    told: dict[str, Any] = {"counter": counter.name}
    theirs, totals, note = prepared(counter)
    if totals:
        told |= {"its parameters": totals.parameters or "", "its products": totals.products}
    if theirs is None:
        yield told | {"note": note}
        return
    for name, call in ours(pairs).items():
        found = compared(Row(counter.name, call, theirs), pairs)
        times = {"times": 1 / found.median, "quartile 1": 1 / found.high, "quartile 3": 1 / found.low}
        yield told | times | {"cnnspec": name, "its ms": found.theirs, "our ms": found.ours, "note": ""}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of the counters whose names contain a given part, of all where none is given."""
    parser = argparse.ArgumentParser(prog="cnnspec.bench.summary", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="COUNTER", help="a part of the names of the counters")
    parts = parser.parse_args(arguments).parts
    chosen = [one for one in COUNTERS if not parts or any(part in one.name for part in parts)]
    if not chosen:
        known = ", ".join(repr(one.name) for one in COUNTERS)
        parser.error(f"no counter has {' or '.join(map(repr, parts))} in its name; they are {known}")
    one_thread()
    import pandas as pd

    warnings.simplefilter("ignore")  # what other counters warn of
    calls = ours()
    for name, call in calls.items():
        if call() != (PARAMETERS, MACS):
            parser.exit(
                1, f"{name}: cnnspec counts {call()} and not {(PARAMETERS, MACS)}: nothing is timed\n"
            )
    print(conditions(PAIRS))
    table = pd.DataFrame([row for counter in chosen for row in rows(counter)])
    print(table.to_string(index=False, float_format="{:.1f}".format, na_rep=""))
    print(f"\ntimes: CPU time of the counter / CPU time of cnnspec; the goal is {GOAL}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
