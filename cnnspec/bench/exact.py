"""What correct rounding costs, as ratios to torch: `python -m cnnspec.bench.exact [ROW ...]`.

Every ratio is the median over interleaved pairs of the CPU time of one call each, in one process with one thread;
the A/A rows hold torch against itself and say how far such a ratio strays by chance.
"""

import argparse
import gc
import math
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from cnnspec.bench.paired import Row, compared, conditions, one_thread

if TYPE_CHECKING:
    import pandas as pd

    from cnnspec.bench.desk import Desk
    from cnnspec.bench.figures import Entry

DOUBLE, SINGLE = "torch float64", "torch float32"
"""What the rows are held against."""
LEAST_SECONDS = 5.0
"""What a comparison gets at least: time that is short measures fewer of them, not worse ones."""
# (channels, outputs, kernel, stride, padding, size of the input, how often), He et al. 2016, table 1, at 224 x 224
RESNET18 = (
    (3, 64, 7, 2, 3, 224, 1),
    (64, 64, 3, 1, 1, 56, 4),
    (64, 128, 3, 2, 1, 56, 1),
    (64, 128, 1, 2, 0, 56, 1),
    (128, 128, 3, 1, 1, 28, 3),
    (128, 256, 3, 2, 1, 28, 1),
    (128, 256, 1, 2, 0, 28, 1),
    (256, 256, 3, 1, 1, 14, 3),
    (256, 512, 3, 2, 1, 14, 1),
    (256, 512, 1, 2, 0, 14, 1),
    (512, 512, 3, 1, 1, 7, 3),
    (512, 1000, 1, 1, 0, 1, 1),  # the linear layer
)


def peak_bytes(call: Callable[[], Any]) -> int:
    """Return the most memory that NumPy and Python held at once during a call, its result included."""
    gc.collect()
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


class Layer:
    """One convolution on random data, for both sides."""

    def __init__(
        self, images: int, channels: int, outputs: int, kernel: int, stride: int, padding: int, size: int
    ) -> None:
        import numpy as np
        import torch

        from cnnspec.exact.functional import conv2d

        rng = np.random.default_rng(size + outputs)
        self.conv2d: Any = conv2d
        self.torch: Any = torch
        self.arguments = (stride, padding)
        self.x, self.w = (
            rng.standard_normal(shape).astype(np.float32)
            for shape in ((images, channels, size, size), (outputs, channels, kernel, kernel))
        )
        positions = (size + 2 * padding - kernel) // stride + 1
        self.dy = rng.standard_normal((images, outputs, positions, positions)).astype(np.float32)
        self.tensors = [torch.from_numpy(array) for array in (self.dy, self.x, self.w)]
        self.doubles = [array.astype(np.float64) * (1 + 2.0**-30) for array in (self.x, self.w)]
        self.double_tensors = [torch.from_numpy(array) for array in self.doubles]

    def ours(self, **options: Any) -> Any:
        """Return the correctly rounded float32 output."""
        return self.conv2d(self.x, self.w, None, *self.arguments, **options)

    def ours_double(self) -> Any:
        """Return the correctly rounded float64 output of float64 data."""
        return self.conv2d(*self.doubles, None, *self.arguments)

    def ours_gradient(self, name: str) -> Any:
        """Return one correctly rounded gradient."""
        return self.conv2d.backward(self.dy, self.x, self.w, None, *self.arguments, wanted=[name])

    def theirs_double(self) -> Any:
        """Return torch's float64 output."""
        stride, padding = self.arguments
        return self.torch.nn.functional.conv2d(*self.double_tensors, stride=stride, padding=padding)

    def theirs_gradient(self, name: str) -> Any:
        """Return one float32 gradient of torch."""
        if name == "bias":  # its backward does more work than that
            return self.tensors[0].sum((0, 2, 3))
        stride, padding = self.arguments
        wanted = [name == one for one in ("input", "weight", "bias")]
        return self.torch.ops.aten.convolution_backward(
            *self.tensors, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, wanted
        )


def rows() -> Iterator[Row]:
    """Yield what is measured."""
    first, stage4, small = (
        Layer(8, 64, 64, 3, 1, 1, 56),
        Layer(8, 512, 512, 3, 1, 1, 7),
        Layer(1, 16, 16, 3, 1, 1, 16),
    )
    network = [Layer(1, *shape) for *shape, count in RESNET18 for _ in range(count)]

    def row(
        name: str, ours: Callable[[], Any], theirs: Callable[[], Any], target: float = 0, **told: Any
    ) -> Row:
        return Row(name, ours, theirs, target, **{"against": DOUBLE, **told})

    yield row("A/A torch float64, 8x64x56x56", first.theirs_double, first.theirs_double)
    yield row("8x64x56x56 * 64x64x3x3, float32", first.ours, first.theirs_double, 2.0)
    yield row("the same with tight S", lambda: first.ours(full=True), first.theirs_double, 2.5)
    yield row("8x512x7x7 * 512x512x3x3, float32", stage4.ours, stage4.theirs_double, 2.5)
    yield row("8x64x56x56, float64 to float64", first.ours_double, first.theirs_double, 6)
    yield row("8x512x7x7, float64 to float64", stage4.ours_double, stage4.theirs_double, 6)
    yield row(
        "ResNet-18 at 224, batch 1, with S",
        lambda: [layer.ours(full=True) for layer in network],
        lambda: [layer.theirs_double() for layer in network],
        4,
    )
    yield row(
        "ResNet-18 at 224, batch 1",
        lambda: [layer.ours() for layer in network],
        lambda: [layer.theirs_double() for layer in network],
        4,
    )

    def gradients(side: str, name: str) -> Callable[[], Any]:
        return lambda: [getattr(layer, f"{side}_gradient")(name) for layer in network]

    for name in ("input", "weight", "bias"):
        yield row(
            f"gradient of {name}, to torch float32",
            gradients("ours", name),
            gradients("theirs", name),
            12,
            against=SINGLE,
        )
    yield row(
        "A/A torch float32, gradient of weight",
        gradients("theirs", "weight"),
        gradients("theirs", "weight"),
        against=SINGLE,
    )
    yield row("1x16x16x16 * 16x16x3x3, float32", small.ours, small.theirs_double, 0, calls=100)


def entries(desk: "Desk", seconds: float) -> "Iterator[Entry]":
    """Yield an entry for each row as a part of a run of benchmarks: the engine's time over torch's."""
    from cnnspec.bench.figures import SPENT, cut

    started, plan = desk.now(), desk.plan
    if plan.device != "cpu":
        yield cut("exact engine", f"it runs on the CPU, and not on {plan.device}")
        return
    timer, chosen = desk.timers[0], list(rows())
    for place, row in enumerate(chosen):
        told = {
            "kind": "engine",
            "what": row.name,
            "against": row.against,
            "target_ratio": row.target or None,
        }
        left = seconds - (desk.now() - started)
        if plan.smoke:
            row.ours(), row.theirs()
            yield {**told, "mode": "smoke"}
        elif left <= 0:
            yield cut(row.name, SPENT)
        else:
            theirs, ours = (partial(timer.sample, call) for call in (row.theirs, row.ours))
            share = min(plan.case_seconds, max(LEAST_SECONDS, left / (len(chosen) - place)))
            yield {**told, "mode": timer.mode, **desk.compared(theirs, ours, share)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of the rows whose names contain a given part, of all where none is given."""
    parser = argparse.ArgumentParser(prog="cnnspec.bench.exact", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="ROW", help="a part of the names of the rows to measure")
    parts = parser.parse_args(arguments).parts
    one_thread()
    import pandas as pd

    chosen = [row for row in rows() if not parts or any(part in row.name for part in parts)]
    if not chosen:
        names = ", ".join(repr(row.name) for row in rows())
        parser.error(f"no row has {' or '.join(map(repr, parts))} in its name; they are {names}")
    print(conditions())
    measured = [(row, compared(row)) for row in chosen]
    table = [
        {
            "work": row.name,
            "ratio": found.median,
            "quartile 1": found.low,
            "quartile 3": found.high,
            "at most": row.target or math.nan,
            "ours ms": found.ours,
            "theirs ms": found.theirs,
        }
        for row, found in measured
    ]
    print(pd.DataFrame(table).to_string(index=False, float_format="{:.2f}".format, na_rep=""))
    if not parts:
        print(f"\n{peaks().to_string(index=False, float_format='{:.1f}'.format)}")
    return 0


def peaks() -> "pd.DataFrame":
    """Return the memory that one layer takes beside its operands and its result."""
    import pandas as pd

    layer = Layer(8, 64, 64, 3, 1, 1, 56)
    calls: dict[str, tuple[Callable[[], Any], int]] = {
        "float32": (layer.ours, 4),
        "float32 with S and counts": (lambda: layer.ours(full=True), 4 + 8 + 4),
        "float64": (layer.ours_double, 8),
    }
    extra = {
        name: (peak_bytes(call) - result * layer.dy.size) / 2**20 for name, (call, result) in calls.items()
    }
    return pd.DataFrame({"8x64x56x56": extra.keys(), "extra peak MiB": extra.values()})


if __name__ == "__main__":
    sys.exit(main())
