"""Standalone scripts that repeat one call and say whether it still goes wrong; they import torch alone.

The data of a script come from here: operands with their strides, and what is right for each output element.
What it does with them stands in `templates/repro.py.txt`.
"""

import itertools
import math
import re
import textwrap
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from cnnspec import borderline, data
from cnnspec.backends import positions
from cnnspec.backends.layouts import strided
from cnnspec.calls import channel_axis, promised_format
from cnnspec.cases import GRAD_OUTPUT, Case
from cnnspec.compare import accepted
from cnnspec.exact import Exact, evaluate, gradients, updates
from cnnspec.exact.double import second_gradients, tangents
from cnnspec.models import ErrorModel
from cnnspec.op import arguments_of

WIDTH = 110
LONG = 1000
MOST = 4096
"""Elements of an array that a script checks, and the worst."""
USAGE = """Run it with `python repro.py [TARGET]`; it needs torch alone.
TARGET is torch (torch.nn.functional), torch-nn (its layers), torch-native (torch without oneDNN),
a dotted module, a .py file, module:function or file.py:function; a module or a file has a function of the
operator's name.
Exit status: 1 it reproduces, 0 it does not, 2 the target cannot be loaded or does not take this call."""
LAZY = ("Conv", "Linear", "BatchNorm", "InstanceNorm")
PAD_LAYERS = {
    "constant": "ConstantPad",
    "reflect": "ReflectionPad",
    "replicate": "ReplicationPad",
    "circular": "CircularPad",
}


def file_name(backend: str, law: str, case: Case) -> str:
    """Return a name for the script of a failure.

    >>> file_name("kernels.py:relu", "forward", Case.parse("relu(input=(2,), dtype='float16', seed=3)"))
    'relu-kernels_py_relu-float16-forward-315f87.py'
    """
    safe = re.sub(r"[^A-Za-z0-9-]+", "_", backend).strip("_-")[-60:]
    checksum = zlib.crc32(str(case).encode()) % 2**24
    return f"{case.operator}-{safe}-{case.dtype}-{law}-{checksum:06x}.py"


def script(
    case: Case,
    target: str,
    *,
    message: str,
    model: ErrorModel | None,
    law: str = "forward",
    device: str = "cpu",
    timeout_seconds: int = 60,
    layers: bool = False,
    worst: Sequence[int] = (),
    memory: int = 0,
    before: Sequence[Case] = (),
) -> str:
    """Return the text of a script that calls `target` as `case` says.

    It checks that the call returns, what it returns (each element with the verdict that `model` gives), that
    it leaves its inputs as they were, and that 20 calls give the same bits.

    message: what was found;   law: what was broken; neither changes what is checked
    layers:  the target was called through layers of torch.nn, which are lazy for odd seeds
    worst:   the index of the worst element, which is checked whatever the size of its array
    memory:  bytes that the process may allocate, 0 for any number;   before: the calls that come first
    """
    refused = borderline.refusal(case)
    operands = data.operands(case)
    parts = [
        _constants(TARGET=_located(target), DEVICE=device, TIMEOUT=timeout_seconds, MEMORY=memory),
        _call(case, lazy=layers and case.seed % 2 == 1),
        f"REFUSED = {_literal(refused)}",
        *(
            _results(case, operands, law, Accepted(case.dtype, model, worst))
            if not refused
            else _refused(case, operands)
        ),
        *_earlier(before, layers=layers),
    ]
    template = files("cnnspec").joinpath("templates/repro.py.txt").read_text(encoding="utf-8")
    return Template(template).substitute(
        docstring=_docstring(case, message, law),
        data="\n".join(parts),
        tf32=model is not None and model.inputs == "tf32",
    )


def _earlier(before: Sequence[Case], *, layers: bool) -> Iterable[str]:
    """Yield a function for each earlier call that returns its constants, and the list of them."""
    for place, case in enumerate(before):
        made = data.operands(case)
        names = [*made] if case.spec.gathers else [*case.spec.operands]
        parts = [_call(case, lazy=layers and case.seed % 2 == 1), *_operands(case, made, names)]
        body = textwrap.indent("\n".join([*parts, "return locals()"]), "    ")
        yield f"\n\ndef before_{place}():\n{body}\n\n"
    yield f"BEFORE = [{', '.join(f'before_{place}' for place in range(len(before)))}]"


def _docstring(case: Case, message: str, law: str) -> str:
    """Return what the script says of itself; a case line may be wrapped, and long data stand below."""
    line = str(case)
    if len(line) > LONG and case.data is not None:
        line = f"{line.partition(', data=')[0]}, data=...)"
    paragraphs = [_wrapped(message), _wrapped(line, "    "), f"The law that it breaks is {law!r}.", USAGE]
    text = "".join(c if c.isprintable() or c == "\n" else " " for c in "\n\n".join(paragraphs))
    return text.replace("\\", "\\\\").replace('"', "'")


def _located(target: str) -> str:
    """Return a target as the script finds it anywhere: a file by its full path, torch by its bare name."""
    path, colon, name = (target, "", "") if target.endswith(".py") else target.rpartition(":")
    if path.endswith(".py") and Path(path).is_file():
        return f"{Path(path).absolute()}{colon}{name}"
    return re.sub(r"^(torch|torch-nn)-cuda(-tf32)?$", r"\1", target)


def _call(case: Case, lazy: bool) -> str:
    """Return how the functional form takes the arguments, and how the layer does."""
    spec, arguments = case.spec, case.arguments
    order = [name for name in positions(spec) if name in spec.operands or name in spec.keywords]
    values, defaults = spec.keyword_arguments(arguments)
    named = {name: value for name, value in values.items() if name not in order}
    layer, layer_arguments = _layer(case)
    layer_arguments.pop("training", None)
    if lazy and "weight" in spec.operands and layer.startswith(LAZY):
        layer = f"Lazy{layer}"
        unknown = ("in_channels", "in_features", "num_features", "training")
        everything = arguments_of(case.operation)  # the defaults of lazy layers may differ
        layer_arguments = {k: v for k, v in everything.items() if k not in unknown}
    mode = arguments.get("padding_mode", "zeros")
    return _constants(
        OPERATOR=spec.name,
        DTYPE=case.dtype,
        INPUTS=[*case.spec.inputs] if not spec.gathers else [],
        ORDER=order,
        GIVEN={name: arguments[name] for name in order if name not in spec.operands},
        NAMED=named,
        AT_DEFAULT=[name for name in named if named[name] == defaults[name]],
        GATHERS=spec.gathers,
        LAYER=layer,
        LAYER_ARGUMENTS=layer_arguments,
        LAYER_ALONE=[f"padding_mode={mode!r}"] if mode != "zeros" else [],
        TRAINING=arguments.get("training", False),
    )


def _layer(case: Case) -> tuple[str, dict[str, Any]]:
    """Return the name of the layer in torch.nn and its arguments; those that are operands are loaded later."""
    arguments = {name: value for name, value in case.arguments.items() if name not in case.spec.constants}
    if case.operator == "global_avg_pool":
        return f"AdaptiveAvgPool{len(case.inputs[0]) - 2}d", {"output_size": 1}
    if case.operator != "pad":
        return case.spec.layer, arguments
    mode = arguments.pop("mode", "constant")
    value = {"value": arguments.get("value", 0)} if mode == "constant" else {}
    return f"{PAD_LAYERS[mode]}{len(arguments['padding']) // 2}d", {"padding": arguments["padding"], **value}


@dataclass(frozen=True)
class Accepted:
    """Per element, what a verdict takes: of large arrays for MOST elements and the worst, anything for the others."""

    dtype: str
    model: ErrorModel | None
    worst: Sequence[int] = ()

    def __call__(self, exact: Exact) -> list[list[Any]]:
        """Return the least number that is taken, the expected one and the largest; None for anything."""
        size = math.prod(exact.shape)
        chosen = set(range(0, size, size // MOST + 1))
        if len(self.worst) == len(exact.shape) and all(map(int.__lt__, self.worst, exact.shape)):
            chosen.add(int(np.ravel_multi_index(tuple(self.worst), exact.shape)) if self.worst else 0)
        taken = (accepted(exact, i, self.dtype, self.model) if i in chosen else None for i in range(size))
        bounds = [one or (None,) * 3 for one in taken]
        return [[bound[k] for bound in bounds] for k in range(3)]


def _results(case: Case, operands: Mapping[str, Any], law: str, taken: Accepted) -> Iterable[str]:
    """Yield the operands, and what is right for the output, for the gradients or for what the call updates."""
    output = evaluate(case.spec, case.operation, operands)
    names = (
        [name for name in case.spec.operands if name in operands] if not case.spec.gathers else [*operands]
    )
    missing = [name for name in case.spec.operands if name not in operands and not case.spec.gathers]
    made, wanted, moved = dict(operands), {}, updates(case.operation, operands)
    along: dict[str, Any] = {}
    if law in ("backward", "accumulation", "double_backward"):
        gradient = data.grad_output(case, output.shape)
        made[GRAD_OUTPUT] = gradient
        rule = gradients if law != "double_backward" else second_gradients
        wanted = rule(case.spec, case.operation, gradient, operands, case.differentiated)
        along = tangents(operands, case.differentiated) if rule is second_gradients else {}
    yield from _operands(case, made, [*names, *missing, *([GRAD_OUTPUT] if wanted else [])])
    yield from _output(output, case, taken)
    yield from _bounds_of("GRADIENTS", wanted, taken)
    yield from (_numbers(f"ALONG_{name.upper()}", along[name].ravel().tolist()) for name in along)
    yield f"ALONG = {{{', '.join(f'{_literal(name)}: ALONG_{name.upper()}' for name in along)}}}"
    yield from _bounds_of("UPDATES", moved if law == "updates" else {}, taken)
    yield f"FORMAT = {_literal(promised_format(case) if law == 'memory_format' else '')}"
    yield f"CHANGED = {[*moved]}".replace("'", '"')


def _refused(case: Case, operands: Mapping[str, Any]) -> Iterable[str]:
    """Yield the operands of a call that has no result."""
    yield from _operands(case, operands, [*operands])
    yield 'SHAPE, EXPECTED, LOWEST, HIGHEST, INDICES = (), "", "", "", None'
    yield 'GRADIENTS, ALONG, UPDATES, CHANGED, FORMAT = {}, {}, {}, [], ""'


def _bounds_of(name: str, wanted: Mapping[str, Exact], taken: Accepted) -> Iterable[str]:
    """Yield, by operand, what is right for each element of its gradient or its new value."""
    lines = []
    for operand, one in wanted.items():
        lowest, expected, highest = taken(one)
        prefix = f"{name}_{operand.upper().lstrip('_')}"
        for suffix, values in (("LOWEST", lowest), ("EXPECTED", expected), ("HIGHEST", highest)):
            yield _numbers(f"{prefix}_{suffix}", values)
        lines.append(f'    "{operand}": ({one.shape}, {prefix}_LOWEST, {prefix}_EXPECTED, {prefix}_HIGHEST),')
    yield "\n".join([f"{name} = {{", *lines, "}"]) if lines else f"{name} = {{}}"


def _operands(case: Case, operands: Mapping[str, Any], names: Sequence[str]) -> Iterable[str]:
    """Yield the operands: their values, and how they lie in memory."""
    lines = []
    for name in names:
        if name not in operands:
            lines.append(f"    {name!r}: None,")
            continue
        array = operands[name]
        strides, offset, size = strided(
            array.shape, case.layout.get(name, "contiguous"), channel_axis(case, name, array.ndim)
        )
        yield _numbers(name.upper(), array.ravel().tolist())
        kind = case.dtype_of(name)
        lines.append(f"    {name!r}: ({array.shape}, {strides}, {offset}, {size}, {name.upper()}, {kind!r}),")
    head = "OPERANDS = {  # name: (shape, strides, offset, elements of the storage, values, dtype)"
    yield "\n".join([head, *lines, "}"]).replace("'", '"')


def _output(exact: Exact, case: Case, taken: Accepted) -> Iterable[str]:
    """Yield the shape of the output and what is right for each element."""
    lowest, expected, highest = taken(exact)
    yield f"SHAPE = {tuple(exact.shape)}"
    yield _numbers("EXPECTED", expected)
    if repr(lowest) == repr(highest):
        yield "LOWEST = HIGHEST = EXPECTED"
    else:
        yield _numbers("LOWEST", lowest)
        yield _numbers("HIGHEST", highest)
    indices = exact.indices if getattr(case.operation, "return_indices", False) else None
    yield (
        _numbers("INDICES", [None if i < 0 else i for i in indices])
        if indices is not None
        else "INDICES = None"
    )


def _numbers(name: str, values: Sequence[Any]) -> str:
    runs = [(word, len(list(run))) for word, run in itertools.groupby(map(_spelled, values))]
    words = [f"{word}*{count}" if count > 3 else " ".join([word] * count) for word, count in runs]
    return f'{name} = """\n{_wrapped(" ".join(words))}\n"""'


def _spelled(value: Any) -> str:
    """Return a number as the script reads it: exactly, and in decimal where that is short.

    >>> [_spelled(value) for value in (3.0, -0.0, 0.1, 1 / 3, math.nan, None)]
    ['3', '-0.0', '0.1', '0x1.5555555555555p-2', 'nan', '?']
    """
    if value is None:
        return "?"
    short = repr(value)
    if not isinstance(value, float) or short == "0.0" or (value.is_integer() and 0 < abs(value) < 1e6):
        return str(int(value))
    return short if len(short) <= 7 else re.sub(r"\.?0*p", "p", value.hex())


def _constants(**values: Any) -> str:
    return "\n".join(f"{name} = {_literal(value)}" for name, value in values.items())


def _literal(value: Any) -> str:
    """Return a literal with the quotes that Python's formatters prefer; infinities and NaN have none.

    >>> _literal({"norm_type": math.inf, "mode": "zeros"})
    '{"norm_type": float("inf"), "mode": "zeros"}'
    """
    text = re.sub(r"(?<![\w'])(-?inf|nan)(?![\w'])", r"float('\1')", repr(value))
    return text if '"' in text or "\\" in text else text.replace("'", '"')


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
