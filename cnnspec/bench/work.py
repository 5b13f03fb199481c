"""What a call must do at least: its FLOPs, and the bytes that it must read and write once.

    flops = 2 macs    bytes = sum over operands and output of (elements that are read or written) * element size

Input elements that no window reads, such as every second one before a 1x1 convolution of stride 2, are not counted,
nor are taps of the kernel that only ever meet padding. With gradients come, for each factor of the products that is
differentiated, as many products again; grad_output is read, and each gradient is written.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from cnnspec import ops
from cnnspec.cases import Case
from cnnspec.op import bytes_per_element
from cnnspec.window import Window

SLIDING = ("conv", "pool")
"""Families whose windows may leave elements of the input unread."""


class Work(NamedTuple):
    """FLOPs with and without the products on padding, and compulsory bytes."""

    flops: int
    flops_effective: int
    bytes: int

    @property
    def intensity(self) -> float:
        """FLOPs per byte."""
        return self.flops / self.bytes if self.bytes else 0.0


def work(case: Case, backward: bool = False) -> Work:
    """Return the work of a call, with that of its gradients where they are asked for.

    >>> line = "conv2d(in_channels=1, out_channels=1, kernel_size=1, stride=2, bias=False, input=(1, 1, 4, 4))"
    >>> work(Case.parse(line))  # 4 products; 4 of 16 pixels, 1 weight and 4 outputs of 4 bytes
    Work(flops=8, flops_effective=8, bytes=36)
    """
    operation, elements = case.operation, elements_read(case)
    output = math.prod(operation.output_shape(*case.inputs))
    size = bytes_per_element(case.dtype)
    moved = output * size + sum(n * bytes_per_element(case.dtype_of(name)) for name, n in elements.items())
    passes = 1
    if backward:
        wanted, shapes = case.differentiated, case.operand_shapes()
        passes += sum(name in wanted for name in ("input", "weight"))
        moved += size * (output + sum(math.prod(shapes[name]) for name in wanted))
    macs, effective = operation.macs(*case.inputs), operation.macs_effective(*case.inputs)
    return Work(2 * macs * passes, 2 * effective * passes, moved)


def elements_read(case: Case) -> dict[str, int]:
    """Return how many elements of each operand the output depends on.

    >>> elements_read(Case.parse("max_pool2d(kernel_size=2, input=(1, 3, 5, 7))"))
    {'input': 72}
    """
    shapes = case.operand_shapes()
    found = {name: math.prod(shape) for name, shape in shapes.items()}
    if ops.family(case.operator) not in SLIDING:
        return found
    operation: Any = case.operation
    border = getattr(operation, "padding_mode", "zeros")
    spatial = shapes["input"][-operation.spatial :]
    taps, pixels = _met(operation.windows, spatial, border)
    found["input"] = math.prod(shapes["input"][: -operation.spatial]) * pixels
    if "weight" in found:
        found["weight"] = math.prod(shapes["weight"][:2]) * taps
    return found


def _met(windows: Sequence[Window], sizes: Sequence[int], border: str) -> tuple[int, int]:
    """Return how many taps of a window meet the input at any position, and how many pixels they meet."""
    taps = pixels = 1
    for window, size in zip(windows, sizes, strict=True):
        met = [pair for p in range(window.output_size(size)) for pair in window.taps(p, size, border)]
        taps *= len({tap for tap, _ in met})
        pixels *= len({index for _, index in met})
    return taps, pixels
