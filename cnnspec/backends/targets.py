"""From the words on a command line to a `Backend`."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from cnnspec import ops
from cnnspec.backends import Backend, check_signature
from cnnspec.errors import UsageError

BUILTIN = {
    "torch": "torch.nn.functional, with torch.flatten, torch.add and torch.cat",
    "torch-nn": "the layers of torch.nn, parameters loaded, lazy variants, train and eval mode",
    "torch-native": "torch.nn.functional without oneDNN: torch's own kernels and NNPACK's, on a CPU",
}


def resolve(target: Any, only: list[str] | None = None, device: str = "cpu") -> list[Backend]:
    """Return the backends that `target` names; UsageError where it names none.

    A built-in name, a dotted module, a .py file, `module:function`, `file.py:function`, `module:backend`, or the
    object itself. `only` are the operators asked for; a function of another name needs exactly one.
    On CUDA the built-in targets come twice, without and with TF32: two error models.
    """
    if isinstance(target, Backend):
        return [target]
    if not isinstance(target, str):
        return [_from_object(target, getattr(target, "__name__", "target"), only, device)]
    if target in BUILTIN:
        return _builtin(target, device)
    return [_from_object(named(target), target, only, device)]


def named(target: str) -> Any:
    """Return the module, or the object of one, that a target names; UsageError where there is none."""
    path, _, attribute = target.rpartition(":") if ":" in target else (target, "", "")
    module = _load(path)
    if not attribute:
        return module
    if not hasattr(module, attribute):
        raise UsageError(f"{path} has no {attribute!r}{_near(attribute, dir(module))}", target=target)
    return getattr(module, attribute)


def _builtin(target: str, device: str) -> list[Backend]:
    torch = _torch()
    if device not in ("cpu", "cuda"):
        raise UsageError(f"device={device!r} must be 'cpu' or 'cuda'", device=device)
    if target == "torch-native":
        if device != "cpu":
            raise UsageError(
                f"{target} is for device='cpu', where oneDNN runs, not {device!r}", device=device
            )
        return [torch.native()]
    make = torch.functional if target == "torch" else torch.layers
    return [make(device=device)] if device == "cpu" else [make(device=device), make(device=device, tf32=True)]


def _torch() -> Any:
    try:
        return importlib.import_module("cnnspec.backends.torch")
    except ImportError as error:
        raise UsageError(
            f"torch cannot be imported ({error}); install it with: pip install 'cnnspec[check]'"
        ) from None


def missing_device(backend: Backend) -> str:
    """Return why the backend's device cannot be used here, or ""."""
    if not backend.device.startswith("cuda"):
        return ""
    return "" if _torch().cuda_is_present() else "no CUDA device is present"


def _load(path: str) -> ModuleType:
    """Import a dotted module or a file; UsageError, with the reason, where that fails."""
    try:
        if not path.endswith(".py"):
            sys.path.insert(0, "") if "" not in sys.path else None
            return importlib.import_module(path)
        file = Path(path)
        if not file.is_file():
            raise UsageError(f"there is no file {path}", target=path)
        spec = importlib.util.spec_from_file_location(file.stem, file.resolve())
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(file.resolve().parent))
        sys.modules.setdefault(file.stem, module)
        spec.loader.exec_module(module)
        return module
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        hint = _near(path, [*BUILTIN]) if error.name == path.partition(".")[0] else ""
        raise UsageError(f"target {path!r} cannot be imported: {error}{hint}", target=path) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's file may raise anything
        raise UsageError(
            f"target {path!r} fails while it is imported: {type(error).__name__}: {error}"
        ) from None


def _near(word: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, [name for name in known if not name.startswith("_")])
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _from_object(target: Any, name: str, only: list[str] | None, device: str) -> Backend:
    """Return a module, a function or a Backend as a Backend."""
    if isinstance(target, Backend):
        return target
    torch = _torch()
    if isinstance(target, ModuleType):
        named = {op: getattr(target, torch.functional_name(op), None) for op in ops.NAMES}
        functions = {op: function for op, function in named.items() if callable(function)}
        if not functions:
            raise UsageError(f"{name} defines no operator; it may define {', '.join(ops.NAMES)}", target=name)
    else:
        functions = {_operator_of(target, name, only): target}
    for op, function in functions.items():
        check_signature(function, ops.spec(op))
    beside = [f"{op}_{operand}" for op in functions for operand in ("input", "weight")]
    home = target if isinstance(target, ModuleType) else inspect.getmodule(target)
    return Backend(
        name,
        functions,
        device,
        torch.tensor,
        torch.output,
        prepare=lambda: torch._prepare(False),
        gradients=torch.gradients,
        second_gradients=torch.second_gradients,
        beside={one: getattr(home, one) for one in beside if callable(getattr(home, one, None))},
        whole=isinstance(target, ModuleType),
        elementary_ulps=torch.ELEMENTARY_ULPS,
        elementary_ulps_of=torch.ELEMENTARY_ULPS_OF,
    )


def _operator_of(function: Callable[..., Any], name: str, only: list[str] | None) -> str:
    """Return the operator that one function implements: the one asked for, or its own name."""
    if only and len(only) == 1:
        return only[0]
    own = name.rpartition(":")[2] or getattr(function, "__name__", "")
    if own in ops.NAMES:
        return own
    raise UsageError(
        f"{own!r} is no operator's name: say which one it is with --op, one of {', '.join(ops.NAMES)}"
    )
