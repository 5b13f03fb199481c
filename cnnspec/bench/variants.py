"""What may be changed about a side of a comparison, by words such as channels_last and bfloat16."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from cnnspec.backends import Backend
from cnnspec.backends.torch_paths import onednn_off
from cnnspec.cases import GRAD_OUTPUT, Case
from cnnspec.errors import UsageError
from cnnspec.models import MODELS
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
}
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
    if "compile" in words:
        compiled = {name: torch.compile(one, dynamic=False) for name, one in backend.functions.items()}
        backend = dataclasses.replace(backend, functions=compiled)
    return backend


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
