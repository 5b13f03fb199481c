"""torch as a backend: torch.nn.functional, and the layers of torch.nn, on CPU and CUDA."""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from cnnspec.backends import Backend, Output, UnsupportedCase
from cnnspec.backends.layouts import strided
from cnnspec.bounds import MODELS, ErrorModel
from cnnspec.cases import Case
from cnnspec.ops import NAMES

F = torch.nn.functional

DTYPES = {
    name: getattr(torch, name)
    for name in ("float64", "float32", "bfloat16", "float16", "int64", "int32", "uint8")
}
NAMES_OF_DTYPES = {dtype: name for name, dtype in DTYPES.items()}

ELEMENTARY_ULPS = 20
"""torch's vectorised softmax calls `exp_u20`, whose error its source states as 20 units in the last place."""


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
    name = NAMES_OF_DTYPES.get(host.dtype, str(host.dtype).removeprefix("torch."))
    values = (host.double() if host.is_floating_point() else host).flatten().tolist()
    return Output(values, tuple(host.shape), name, array.device.type)


def functional(module: Any = F, name: str = "torch", device: str = "cpu", tf32: bool = False) -> Backend:
    """Return torch.nn.functional (with torch.flatten, add and cat) as a backend."""
    others = {
        "flatten": torch.flatten,
        "add": torch.add,
        "concat": torch.cat,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
    }
    own: dict[str, Any] = {op: others.get(op) or getattr(module, op) for op in NAMES}
    functions = {op: _unimplemented_is_unsupported(function) for op, function in own.items()}
    return _backend(name, functions, device, tf32, "torch.nn.functional")


def layers(device: str = "cpu", tf32: bool = False) -> Backend:
    """Return the layers of torch.nn as a backend: parameters loaded, lazy variants, train and eval mode."""
    functions = {op: _unimplemented_is_unsupported(_run_layer) for op in NAMES if op not in ("add", "concat")}
    return _backend("torch-nn", functions, device, tf32, "layers of torch.nn", layers=True)


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
        elementary_ulps=ELEMENTARY_ULPS,
        description=what,
        builtin=True,
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


def _run_layer(case: Case, *arrays: torch.Tensor) -> Any:
    """Build the layer, load the parameters, and call it; odd seeds take the lazy variant, in eval mode."""
    spec = case.spec
    inputs, parameters = arrays[: spec.input_count], arrays[spec.input_count :]
    arguments = dict(case.arguments)
    kind = _pad_layer(case, arguments) if spec.name == "pad" else getattr(torch.nn, spec.layer)
    lazy = getattr(torch.nn, f"Lazy{spec.layer}", None) if case.seed % 2 else None
    if lazy is not None:
        arguments.pop("in_channels", None)
        arguments.pop("in_features", None)
        kind = lazy
    if parameters:
        arguments |= {"device": inputs[0].device, "dtype": inputs[0].dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lazy layers announce that they are experimental
        layer = kind(**arguments)
        if lazy is not None and parameters:
            layer.initialize_parameters(inputs[0])
    for name, value in zip(("weight", "bias"), parameters, strict=False):
        setattr(layer, name, torch.nn.Parameter(value, requires_grad=False))
    return layer.train(case.seed % 2 == 0)(*inputs)


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
