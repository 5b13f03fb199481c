"""Which of its kernels torch takes for a convolution, and torch without oneDNN as an implementation of its own."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch

from cnnspec import ops
from cnnspec.backends import Backend
from cnnspec.backends.layouts import strided
from cnnspec.cases import Case
from cnnspec.errors import CnnspecError


def kernel_of(case: Case, device: str = "cpu") -> str:
    """Return the kernel that torch's dispatcher takes for a convolution, as torch's switches stand now.

    It is the dispatcher's own name ("Mkldnn", "Slow2d", "NnpackSpatial"), asked about the call of the forward pass;
    "" for other operators, where there is nothing to compute, and where torch does not say. The gradients of what
    NNPACK computes come from Slow2d.

    >>> line = "conv2d(in_channels=1, out_channels=1, kernel_size=3, input=(2, 1, 5, 5), dtype='float64')"
    >>> kernel_of(Case.parse(line)), kernel_of(Case.parse("relu(input=(2,))"))
    ('Slow2d', '')
    """
    select = getattr(torch._C, "_select_conv_backend", None)  # private: other versions may lack or change it
    if select is None or ops.family(case.operator) not in ("conv", "conv_transpose"):
        return ""
    try:
        return _name(select(*_question(case, device)))
    except (CnnspecError, RuntimeError, TypeError):
        return ""


def _question(case: Case, device: str) -> tuple[Any, ...]:
    """Return input, weight, bias, stride, padding, dilation, transposed, output_padding and groups."""
    operation: Any = case.operation
    windows, spatial = operation.windows, operation.spatial
    transposed = ops.family(case.operator) == "conv_transpose"
    channel = len(case.inputs[0]) - spatial - 1
    input = _empty(case, "input", channel, device)
    input = input if channel else input.unsqueeze(0)
    padding = [min(window.before, window.after) for window in windows]
    if getattr(operation, "padding_mode", "zeros") != "zeros":
        input = _padded(input, [window.before + window.after for window in windows])
        padding = [0] * spatial
    elif any(window.before != window.after for window in windows):
        input = _padded(input, [abs(window.after - window.before) for window in windows])
    return (
        input,
        _empty(case, "weight", 1, device),
        None,
        [window.stride for window in windows],
        padding,
        [window.dilation for window in windows],
        transposed,
        list(operation.axes("output_padding")) if transposed else [0] * spatial,
        operation.groups,
    )


def _empty(case: Case, operand: str, channel: int, device: str) -> torch.Tensor:
    shape = case.operand_shapes()[operand]
    strides = strided(shape, case.layout.get(operand, "contiguous"), channel)[0]
    dtype = getattr(torch, case.dtype_of(operand))
    return torch.empty_strided(shape, strides, dtype=dtype, device=device)


def _padded(input: torch.Tensor, more: list[int]) -> torch.Tensor:
    """Return what torch convolves where it pads first: its borders, or the odd pixel of uneven padding."""
    spatial = [size + extra for size, extra in zip(input.shape[2:], more, strict=True)]
    return input.new_empty((*input.shape[:2], *spatial))


def _name(kernel: Any) -> str:
    """Return the name of a kernel, which torch lacks for transposed convolutions by oneDNN; "" for an empty one."""
    name, onednn = str(kernel.name), type(kernel).__members__["Mkldnn"]
    if name == "???" and int(kernel) == int(onednn) + 1:
        return "MkldnnTranspose"
    return "" if name.endswith("Empty") else name


@contextlib.contextmanager
def onednn_off() -> Iterator[None]:
    """Switch oneDNN off for torch, and back to what it was.

    The switch alone: `torch.backends.mkldnn.flags` sets the precisions of oneDNN as well.
    """
    switch: Any = torch.backends.mkldnn
    before = switch.enabled
    switch.enabled = False
    try:
        yield
    finally:
        switch.enabled = before


def without_onednn(backend: Backend, name: str, description: str) -> Backend:
    """Return a backend of torch's whose calls, forward and backward, run with oneDNN switched off."""
    assert backend.gradients
    assert backend.second_gradients
    return dataclasses.replace(
        backend,
        name=name,
        description=description,
        functions={one: onednn_off()(function) for one, function in backend.functions.items()},
        gradients=onednn_off()(backend.gradients),
        second_gradients=onednn_off()(backend.second_gradients),
        path=onednn_off()(backend.path),
    )
