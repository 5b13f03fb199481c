"""torch's layer for a drawn operator, or its function where there is none, in float64."""

from typing import Any

import torch

from cnnspec import nested, ops
from cnnspec.nested import Array
from cnnspec.op import arguments_of
from tests.ops.draws import Draw

F = torch.nn.functional
FUNCTIONS: dict[str, Any] = {
    "add": lambda op, a, b: a + b,
    "concat": lambda op, *inputs: torch.cat(inputs, op.dim),
    **{
        f"max_unpool{n}d": lambda op, x, indices, function=function: function(
            x, indices.long(), op.kernel_size, op.stride, op.padding, op.output_size
        )
        for n, function in enumerate((F.max_unpool1d, F.max_unpool2d, F.max_unpool3d), 1)
    },
    **{
        f"fractional_max_pool{n}d": lambda op, x, samples, function=function: function(
            x, op.kernel_size, op.output_size, op.output_ratio, op.return_indices, _random_samples=samples
        )
        for n, function in ((2, F.fractional_max_pool2d), (3, F.fractional_max_pool3d))
    },
    "global_avg_pool": lambda op, x: x.mean(tuple(range(2, x.dim())), keepdim=True),
    "pad": lambda op, x: torch.nn.functional.pad(
        x, op.padding, op.mode, op.value if op.mode == "constant" else None
    ),
}


def tensor(values: Array, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(nested.ravel(values), dtype=dtype).reshape(nested.shape_of(values))


def torch_output(draw: Draw, tensors: list[torch.Tensor]) -> Any:
    """Return the output for the inputs and parameters."""
    spec = ops.spec(draw.name)
    inputs, parameters = tensors[: len(draw.inputs)], tensors[len(draw.inputs) :]
    whole = [place for place, name in enumerate(spec.inputs) if name in spec.integers]
    inputs = [one.long() if place in whole else one for place, one in enumerate(inputs)]
    if draw.name in FUNCTIONS:
        return FUNCTIONS[draw.name](draw.op, *inputs)
    arguments = {name: value for name, value in arguments_of(draw.op).items() if name not in spec.constants}
    if draw.name == "avg_pool1d":
        del arguments["divisor_override"]
    training = arguments.pop("training", True)
    layer = getattr(torch.nn, ops.spec(draw.name).layer)(**arguments).double().train(training)
    names = (*draw.op.buffer_shapes(), *draw.op.parameter_shapes())
    return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), tuple(inputs))
