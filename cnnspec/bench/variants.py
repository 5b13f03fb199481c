"""What may be changed about a side of a comparison, by words such as channels_last and bfloat16."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from cnnspec.backends import Backend, UnsupportedCase
from cnnspec.backends.torch_paths import onednn_off
from cnnspec.cases import GRAD_OUTPUT, Case
from cnnspec.errors import UsageError
from cnnspec.models import MODELS
from cnnspec.nested import Shape
from cnnspec.ops.conv import Conv2d
from cnnspec.where import hint

Around = Callable[[], contextlib.AbstractContextManager[None]]

VARIANTS = {
    "plain": "as it is",
    "channels_last": "what has four axes lies with its channels together, grad_output too",
    "bfloat16": "all numbers are bfloat16",
    "float16": "all numbers are float16",
    "float64": "all numbers are float64",
    "onednn_off": "torch's own kernels in place of oneDNN's, on a CPU",
    "tf32": "TensorFloat-32 for the inputs of products, on CUDA",
    "compile": "torch.compile of each function",
    "im2col": "conv2d as a table of its windows and one matrix product for each group",
}
REPLACED = ("compile", "im2col")
"""Variants in which other functions than the target's own are called."""
DTYPES = ("bfloat16", "float16", "float64")
PLAIN = "plain"


def parts(variant: str) -> tuple[str, ...]:
    """Return the words of a variant, joined by +; UsageError for one that is unknown.

    >>> parts("channels_last+bfloat16")
    ('channels_last', 'bfloat16')
    """
    words = tuple(variant.split("+"))
    for word in words:
        if word not in VARIANTS:
            raise UsageError(f"unknown variant {word!r}{hint(word, [*VARIANTS])}", variant=word)
    return words


def case_of(case: Case, variant: str) -> Case:
    """Return the case as a variant lays it out and with its dtype.

    >>> line = "conv2d(in_channels=1, out_channels=1, kernel_size=3, input=(2, 1, 5, 5), dtype='float32')"
    >>> case_of(Case.parse(line), "channels_last+bfloat16").layout
    {'input': 'channels_last', 'weight': 'channels_last', 'grad_output': 'channels_last'}
    """
    words = parts(variant)
    dtypes = [word for word in words if word in DTYPES]
    if dtypes:
        case = dataclasses.replace(case, dtype=dtypes[-1])
    if "channels_last" in words:
        shapes = {**case.operand_shapes(), GRAD_OUTPUT: case.operation.output_shape(*case.inputs)}
        images = [name for name, shape in shapes.items() if len(shape) == 4]
        case = dataclasses.replace(case, layout=dict.fromkeys(images, "channels_last"))
    return case


def backend_of(backend: Backend, variant: str) -> Backend:
    """Return the backend that a variant makes, for the judge and for the clock; UsageError where it cannot be."""
    words = parts(variant)
    if "onednn_off" in words and backend.device != "cpu":
        raise UsageError("variant onednn_off is for the CPU, where oneDNN runs")
    if "tf32" in words:
        if not (backend.builtin and backend.device.startswith("cuda")):
            raise UsageError("variant tf32 is for built-in targets on CUDA")
        backend = dataclasses.replace(backend, models={"float32": MODELS["tf32 inputs"]})
    if "im2col" in words:
        backend = dataclasses.replace(backend, functions={"conv2d": im2col})
    if "compile" in words:
        compiled = {name: torch.compile(one, dynamic=False) for name, one in backend.functions.items()}
        backend = dataclasses.replace(backend, functions=compiled)
    return backend


def im2col(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> torch.Tensor:
    """Return conv2d of images (N, C, H, W), every window of which becomes a column of C k_h k_w numbers."""
    if isinstance(padding, str) or input.dim() != 4:
        raise UnsupportedCase("im2col takes a batch of images, and padding in numbers")
    columns = F.unfold(input, weight.shape[2:], dilation, padding, stride)
    per_group = columns.reshape(len(input), groups, -1, columns.shape[-1])
    y = (weight.reshape(groups, len(weight) // groups, -1) @ per_group).flatten(1, 2)
    arguments = (input.shape[1], len(weight), tuple(weight.shape[2:]), stride, padding, dilation, groups)
    y = y.reshape(_output_shape(arguments, tuple(input.shape)))
    return y if bias is None else y + bias[:, None, None]


@functools.lru_cache(maxsize=256)
def _output_shape(arguments: tuple[Any, ...], shape: Shape) -> Shape:
    """Return the shape of a convolution's output, worked out once: the calls that ask for it are timed."""
    return Conv2d(*arguments).output_shape(shape)


def switches(variant: str) -> Around:
    """Return what sets torch's switches for the calls of a variant, judged or timed, and sets them back."""
    entered = {"onednn_off": onednn_off, "tf32": _tf32}
    managers = [entered[word] for word in parts(variant) if word in entered]

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for manager in managers:
                stack.enter_context(manager())
            yield

    return around


@contextlib.contextmanager
def _tf32() -> Iterator[None]:
    places: Iterable[Any] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = True
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.allow_tf32 = value
