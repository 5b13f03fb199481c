"""torch as a backend: torch.nn.functional, and the layers of torch.nn, on CPU and CUDA."""

import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cnnspec.backends import Backend, Output, UnsupportedCase
from cnnspec.backends.layouts import strided
from cnnspec.backends.torch_paths import kernel_of, without_onednn
from cnnspec.cases import Case
from cnnspec.models import MODELS, ErrorModel
from cnnspec.op import arguments_of
from cnnspec.ops import NAMES

F = torch.nn.functional

DTYPES = {
    name: getattr(torch, name)
    for name in ("float64", "float32", "bfloat16", "float16", "int64", "int32", "uint8")
}

ELEMENTARY_ULPS = 3
"""The error of the elementary functions that torch calls, in units in the last place; all of these sources say less.

SLEEF, in vectorised loops: 1.0, as the names `Sleef_tanhf16_u10` and so on say (SLEEF, Math library reference).
MKL's vector functions in their default mode of high accuracy: 1 (oneMKL, Vector Mathematics Performance and Accuracy).
glibc, in scalar loops: 2 for tanh and tanhf, 1 for the others, the largest known (GNU C Library manual, Known Maximum
Errors in Math Functions); tanhf(0.23296523) errs by 2.1, and Zimmermann's exhaustive search of 2021 finds no 3
("Accuracy of Mathematical Functions in Single, Double, Extended Double and Quadruple Precision").
"""

ELEMENTARY_ULPS_OF = {"softmax": 20, "log_softmax": 20, "cross_entropy": 20, "gelu": 10}
"""Where it is more in float32 (ATen/cpu/vec/vec512/vec512_float.h, and vec256's alike; in float64 both are SLEEF's).

Softmaxes call `exp_u20`, "a faster version of exp with ULP=20". The error function of GELU, in ATen and in oneDNN's
jit_uni_eltwise_injector.cpp, is Abramowitz & Stegun's 7.1.26, whose error of 1.5e-7 is 2.5 units of 2^-24 where the
sum with 1 is at least 1; its steps, which round 3 times in t = 1 / (1 + p x), by which the slope of the polynomial
multiplies 3.5, 3 times in the polynomial, 3 times in exp and once in the sum, add 17. (With AVX-512 oneDNN takes a
polynomial of its own, of no stated error.)
"""


def tensor(
    values: Any, dtype: str, layout: str, channel: int, device: str
) -> tuple[torch.Tensor, Callable[[], bytes]]:
    """Return a tensor of `values` in the given layout, and a function that reads its whole storage.

    What lies between and around its elements is NaN (or 77), so that a read of the wrong place shows.
    """
    strides, offset, size = strided(values.shape, layout, channel)
    kind = DTYPES[dtype]
    storage = torch.full((size,), math.nan if kind.is_floating_point else 77, dtype=kind, device=device)
    view = storage.as_strided(values.shape, strides, offset)
    view.copy_(torch.from_numpy(np.array(values, order="C")).to(kind))
    return view, lambda: storage.cpu().view(torch.uint8).numpy().tobytes()


def output(array: Any) -> Output:
    """Read an output tensor; TypeError for anything else."""
    if not isinstance(array, torch.Tensor):
        raise TypeError(f"returned {type(array).__name__}, not torch.Tensor")
    host = array.detach()
    host = torch.full(host.shape, math.nan) if host.is_meta else host.cpu()
    kind = torch.float64 if host.is_floating_point() else host.dtype
    flat = host.to(kind, copy=True).flatten()  # a target may use the memory of its output again
    return Output(flat.numpy(), tuple(host.shape), dtype_name(host.dtype), array.device.type, _formats(array))


def dtype_name(dtype: torch.dtype) -> str:
    """Return what torch calls a dtype.

    >>> dtype_name(torch.bfloat16)
    'bfloat16'
    """
    return str(dtype).removeprefix("torch.")


def _formats(array: torch.Tensor) -> tuple[str, ...]:
    """Return the memory formats in which a tensor is dense."""
    last = array.dim() == 4 and array.is_contiguous(memory_format=torch.channels_last)
    return ("contiguous",) * array.is_contiguous() + ("channels_last",) * last


def _global_average(input: torch.Tensor) -> torch.Tensor:
    """The mean over what lies behind batch and channels; ValueError where nothing does."""
    if not 3 <= input.dim() <= 5 or 0 in input.shape[1:]:
        raise ValueError(
            f"input of shape {tuple(input.shape)} must be (N, C, 1 to 3 spatial axes), none empty but N"
        )
    return input.mean(dim=tuple(range(2, input.dim())), keepdim=True)


OTHER_NAMES: dict[str, Any] = {
    "flatten": torch.flatten,
    "add": torch.add,
    "concat": torch.cat,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "global_avg_pool": _global_average,
}
"""Functions that stand elsewhere than in torch.nn.functional, or have another name."""

WITHOUT_LAYER = ("add", "concat")
AT_THE_CALL = {f"max_unpool{axes}d": ("output_size",) for axes in (1, 2, 3)}
"""Arguments that a layer takes when it is called, not when it is built."""


def functional(module: Any = F, name: str = "torch", device: str = "cpu", tf32: bool = False) -> Backend:
    """Return torch.nn.functional (with torch.flatten, add and cat) as a backend."""
    own: dict[str, Any] = {op: OTHER_NAMES.get(op) or getattr(module, functional_name(op)) for op in NAMES}
    functions = {op: _unimplemented_is_unsupported(function) for op, function in own.items()}
    return _backend(name, functions, device, tf32, "torch.nn.functional")


def functional_name(operator: str) -> str:
    """Return the name in torch.nn.functional: norms have one function for all numbers of axes.

    >>> functional_name("batch_norm2d"), functional_name("conv2d")
    ('batch_norm', 'conv2d')
    """
    return operator[:-2] if "norm" in operator and operator.endswith("d") else operator


def layers(device: str = "cpu", tf32: bool = False) -> Backend:
    """Return the layers of torch.nn as a backend: parameters loaded, lazy variants, train and eval mode."""
    functions = {op: _unimplemented_is_unsupported(_run_layer) for op in NAMES if op not in WITHOUT_LAYER}
    return _backend("torch-nn", functions, device, tf32, "layers of torch.nn", layers=True)


def native(device: str = "cpu") -> Backend:
    """Return torch.nn.functional with oneDNN switched off as a backend: torch's own kernels, and NNPACK's."""
    return without_onednn(functional(device=device), "torch-native", "torch.nn.functional without oneDNN")


def _backend(
    name: str, functions: Mapping[str, Any], device: str, tf32: bool, what: str, layers: bool = False
) -> Backend:
    suffix = "" if device == "cpu" else f"-{device}" + ("-tf32" if tf32 else "")
    models: dict[str, ErrorModel] = {"float32": MODELS["tf32 inputs"]} if tf32 else {}
    return Backend(
        name + suffix,
        functions,
        device=device,
        arrays=tensor,
        outputs=output,
        synchronize=torch.cuda.synchronize if device == "cuda" else lambda: None,
        prepare=lambda: _prepare(tf32),
        models=models,
        layers=layers,
        gradients=gradients,
        second_gradients=second_gradients,
        elementary_ulps=ELEMENTARY_ULPS,
        elementary_ulps_of=ELEMENTARY_ULPS_OF,
        description=what,
        builtin=True,
        whole=True,
        path=lambda case: kernel_of(case, device),
    )


def _prepare(tf32: bool) -> None:
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def _unimplemented_is_unsupported(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn torch's "not implemented for this dtype" into UnsupportedCase; everything else passes."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (RuntimeError, NotImplementedError) as error:
            if "not implemented for" in str(error):
                raise UnsupportedCase(str(error).splitlines()[0]) from None
            raise

    return call


def gradients(
    backend: Backend,
    case: Case,
    operands: Mapping[str, torch.Tensor],
    grad_output: torch.Tensor,
    wanted: Sequence[str],
) -> dict[str, torch.Tensor]:
    """Return the gradients by autograd; zeros where none reaches an operand.

    Raises UnsupportedCase where the output does not carry gradients.
    """
    output, leaves = _with_graph(backend, case, operands, wanted)
    return _differentiated(output, {name: leaves[name] for name in wanted}, grad_output)


def second_gradients(
    backend: Backend,
    case: Case,
    operands: Mapping[str, torch.Tensor],
    grad_output: torch.Tensor,
    tangents: Mapping[str, torch.Tensor],
    wanted: Sequence[str],
) -> dict[str, torch.Tensor]:
    """Return the gradients of sum(tangent * gradient), by autograd twice; as `gradients` else."""
    output, leaves = _with_graph(backend, case, operands, case.differentiated)
    g = grad_output.detach().requires_grad_()
    asked = {name: leaves[name] for name in case.differentiated}
    first = _differentiated(output, asked, g, create_graph=True)
    total = sum(((first[name] * tangents[name]).sum() for name in asked), torch.zeros_like(g).sum())
    return _differentiated(total, {name: leaves.get(name, g) for name in wanted}, None)


def _with_graph(
    backend: Backend, case: Case, operands: Mapping[str, torch.Tensor], wanted: Sequence[str]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the output, with its graph, and the operands; UnsupportedCase where it does not carry gradients."""
    leaves = {name: one.detach().requires_grad_(name in wanted) for name, one in operands.items()}
    output = backend.call(case.spec, case, leaves)
    output = output[0] if isinstance(output, tuple) else output
    if not getattr(output, "requires_grad", False):
        raise UnsupportedCase("the output carries no gradient")
    return output, leaves


def _differentiated(
    output: torch.Tensor, leaves: Mapping[str, torch.Tensor], grad_output: Any, create_graph: bool = False
) -> dict[str, torch.Tensor]:
    """Return the gradients of the leaves, zeros for one that no path reaches."""
    if not output.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    try:
        found: Sequence[Any] = torch.autograd.grad(
            output, [*leaves.values()], grad_output, allow_unused=True, create_graph=create_graph
        )
    except (RuntimeError, NotImplementedError) as error:
        if "not implemented for" in str(error):
            raise UnsupportedCase(str(error).splitlines()[0]) from None
        raise
    return {
        name: torch.zeros_like(leaf) if one is None else one
        for (name, leaf), one in zip(leaves.items(), found, strict=True)
    }


def _run_layer(case: Case, arrays: Mapping[str, torch.Tensor]) -> Any:
    """Build the layer, load parameters and buffers, and call it; odd seeds take the lazy variant, in eval mode."""
    spec = case.spec
    built_in = [name for name in spec.inputs if name == "_random_samples"]  # an argument of the constructor
    inputs = [arrays[name] for name in spec.inputs if name not in built_in]
    parameters = {name: array for name, array in arrays.items() if name not in spec.inputs}
    arguments = {**case.arguments, **{name: arrays[name] for name in built_in}}
    for name in {"training", *spec.constants} & case.arguments.keys():  # class weights are loaded as a buffer
        del arguments[name]
    training = getattr(case.operation, "training", None)
    kind = _kind_of_layer(case, arguments)
    lazy = getattr(torch.nn, f"Lazy{spec.layer}", None) if case.seed % 2 else None
    if lazy is not None:
        arguments = arguments_of(case.operation)  # the defaults of lazy layers may differ
        arguments.pop("training", None)
        for name in ("in_channels", "in_features", "num_features"):
            arguments.pop(name, None)
        kind = lazy
    if "device" in inspect.signature(kind).parameters:
        arguments |= {"device": inputs[0].device, "dtype": inputs[0].dtype}
    call = {name: arguments.pop(name) for name in AT_THE_CALL.get(case.operator, ()) if name in arguments}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lazy layers announce that they are experimental
        layer = kind(**arguments)
        if lazy is not None and parameters:
            layer.initialize_parameters(inputs[0])
    for name, value in parameters.items():
        if name in layer._parameters:
            del layer._parameters[name]
        setattr(layer, name, value)
    return layer.train(case.seed % 2 == 0 if training is None else training)(*inputs, **call)


def _kind_of_layer(case: Case, arguments: dict[str, Any]) -> Any:
    """Return the class of the layer, `arguments` made its own."""
    if case.operator == "pad":
        return _pad_layer(case, arguments)
    if case.operator == "global_avg_pool":
        arguments["output_size"] = 1
        return getattr(torch.nn, f"AdaptiveAvgPool{len(case.inputs[0]) - 2}d")
    return getattr(torch.nn, case.spec.layer)


def _pad_layer(case: Case, arguments: dict[str, Any]) -> Any:
    """Return the padding layer of the mode and number of axes."""
    axes = len(arguments["padding"]) // 2
    if not 1 <= axes <= 3:
        raise UnsupportedCase(f"torch.nn has no layer that pads {axes} axes")
    mode = arguments.pop("mode", "constant")
    if mode == "constant":
        arguments.setdefault("value", 0)
    else:
        arguments.pop("value", None)
    name = {
        "constant": "ConstantPad",
        "reflect": "ReflectionPad",
        "replicate": "ReplicationPad",
        "circular": "CircularPad",
    }
    return getattr(torch.nn, f"{name[mode]}{axes}d")


def cuda_is_present() -> bool:
    """Say whether torch finds a CUDA device."""
    return bool(torch.cuda.is_available())


def _said(question: Callable[..., Any]) -> Any:
    """Ask one of torch's functions that carry no annotations."""
    return question()


def environment() -> dict[str, Any]:
    """Return what of torch's build and switches can change a number."""
    facts: dict[str, Any] = {
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "mkldnn": _said(torch.backends.mkldnn.is_available),
        "mkl": _said(torch.backends.mkl.is_available),
        "threads": torch.get_num_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cuda": torch.version.cuda or "none",
    }
    if torch.cuda.is_available():
        facts |= {
            "gpu": torch.cuda.get_device_name(),
            "compute_capability": ".".join(map(str, torch.cuda.get_device_capability())),
            "cudnn": _said(torch.backends.cudnn.version),
            "cudnn_deterministic": True,
        }
    return facts
