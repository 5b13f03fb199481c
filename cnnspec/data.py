"""The operands of a case: float64 (or int64) arrays of values that its dtype represents, from (regime, seed).

integers: every partial sum is representable in every order, and so is every output: equality decides
sparse:   few non-zero products with full significands and wide exponents: the bound n u S is sharp
dense:    normal, positive, constant, or big and small numbers
special:  NaN, infinities, signed zeros, subnormals, near-overflow, ties, all negative, constant
impulse:  one element that is not zero, which shows where it goes
"""

import math
import random
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec.bounds import FORMATS
from cnnspec.cases import BORDERLINE, GRAD_OUTPUT, Case

Values = npt.NDArray[Any]


def operands(case: Case) -> dict[str, Values]:
    """Return the operands of `case` by name.

    >>> operands(Case.parse("relu(input=(3,), data={'input': [1.0, 'nan', -0.0]})"))
    {'input': array([ 1., nan, -0.])}
    """
    shapes = case.operand_shapes()
    if case.data is not None:
        return {name: _explicit(case, name, shape) for name, shape in shapes.items()}
    if case.regime == BORDERLINE:  # only the shapes are in question
        return {name: np.zeros(shape, _kind(case, name)) for name, shape in shapes.items()}
    arrays = _drawn(case, shapes)
    for name, fill in case.spec.fill.items():
        if name in shapes:
            rng = random.Random(f"{case.seed} {name}")  # noqa: S311 - no secret
            values = np.array(fill(case.operation, shapes, rng), dtype=_kind(case, name))
            arrays[name] = values.reshape(shapes[name])
            if name not in case.spec.integers and case.dtype in FORMATS:
                arrays[name] = represented(arrays[name], case.dtype)
    return {name: arrays[name] for name in shapes}


def grad_output(case: Case, shape: tuple[int, ...]) -> Values:
    """Return the gradient of the output, of `shape`: as finite as the regime's data, a few integers where they are.

    In "integers" its sums with the operands stay representable as theirs do.
    """
    if case.data is not None:
        return _explicit(case, GRAD_OUTPUT, shape)
    rng = np.random.default_rng([case.seed, zlib.crc32(f"{case.operator} {shape} {GRAD_OUTPUT}".encode())])
    if case.regime == "integers":
        exact = 2 ** min(FORMATS[case.dtype].precision, 24)
        largest = 9 if exact > 4096 else 2
        values = _nonzero(rng, largest, shape)
        room = 2 if case.spec.judged == "copy" else 16 * 9  # the gradients of a copy meet no weights
        kept = max(1, exact // (room * largest))
        here = rng.random(shape) * values.size < kept if values.size > kept else True
        return np.where(here, values, 0.0)
    if case.regime == "impulse":
        count = math.prod(shape)
        return ((np.arange(count) % 7) - 3.0).reshape(shape)
    if case.regime == "sparse":
        values = _full(case, rng, shape, 12)
        return represented(np.where(rng.random(shape) < 0.4, values, 0.0), case.dtype)
    return represented(rng.standard_normal(shape), case.dtype)


def _explicit(case: Case, name: str, shape: tuple[int, ...]) -> Values:
    given = (case.data or {}).get(name, [0] * math.prod(shape))
    return np.array(given, dtype=_kind(case, name)).reshape(shape)


def _kind(case: Case, name: str) -> Any:
    return np.float64 if case.dtype_of(name) in FORMATS else np.int64


def _drawn(case: Case, shapes: dict[str, tuple[int, ...]]) -> dict[str, Values]:
    key = zlib.crc32(f"{case.operator} {sorted(shapes.items())}".encode())
    rng = np.random.default_rng([case.seed, key])
    if case.dtype not in FORMATS:
        return {name: _whole(case, rng, shape) for name, shape in shapes.items()}
    make = {
        "integers": _integers,
        "sparse": _sparse,
        "dense": _dense,
        "special": _special,
        "impulse": _impulse,
    }
    arrays = make[case.regime](case, rng, shapes)
    return {name: represented(array, case.dtype) for name, array in arrays.items()}


def represented(array: Values, dtype: str) -> Values:
    """Return float64 values of format `dtype` next to `array` (towards zero for bfloat16; clipped to finite)."""
    finite = np.isfinite(array)
    largest = math.ldexp(2 - 2.0 ** (1 - FORMATS[dtype].precision), FORMATS[dtype].largest - 1)
    array = np.where(finite, np.clip(array, -largest, largest), array)
    if dtype == "bfloat16":
        bits = np.array(array, dtype=np.float32, order="C").view(np.uint32)
        kept = np.where(finite, bits & np.uint32(0xFFFF0000), bits)
        return np.where(finite, kept.astype(np.uint32).view(np.float32), array).astype(np.float64)
    return array.astype(dtype).astype(np.float64)


def _whole(case: Case, rng: np.random.Generator, shape: tuple[int, ...]) -> Values:
    largest = 2**62 if case.regime == "special" and case.spec.judged == "copy" else 99
    return rng.integers(-largest, largest, shape, endpoint=True)


def _terms(case: Case, shapes: dict[str, tuple[int, ...]]) -> int:
    """Return how many terms one output sums."""
    if "weight" in shapes:
        return math.prod(shapes["weight"][1:])
    kernel = getattr(case.operation, "kernel_size", None)
    return math.prod(kernel) if isinstance(kernel, tuple) else max(1, math.prod(shapes["input"][2:]))


def _integers(case: Case, rng: np.random.Generator, shapes: dict[str, tuple[int, ...]]) -> dict[str, Values]:
    """Draw |x| <= a and |w| <= b, and so few weights that 6 S stays below the output's exact integers."""
    exact = 2 ** min(FORMATS[case.dtype].precision, 24)
    if "weight" not in shapes:
        if case.spec.judged == "function":
            largest = 12
        elif case.spec.judged == "copy":
            largest = case.spec.largest or exact // 2
        else:
            largest = max(1, exact // (16 * _terms(case, shapes)))
        return {name: rng.integers(-largest, largest, s, endpoint=True) * 1.0 for name, s in shapes.items()}
    a, b = (9, 9) if exact > 4096 else (4, 3) if exact > 256 else (3, 2)
    kept = max(1, exact // (8 * a * b))
    arrays = {name: rng.integers(-a, a, shape, endpoint=True) * 1.0 for name, shape in shapes.items()}
    arrays["weight"] = _thinned(rng, _nonzero(rng, b, shapes["weight"]), kept)
    return arrays


def _nonzero(rng: np.random.Generator, largest: int, shape: tuple[int, ...]) -> Values:
    values: Values = rng.integers(1, largest, shape, endpoint=True) * rng.choice([-1.0, 1.0], shape)
    return values


def _thinned(rng: np.random.Generator, weight: Values, kept: int) -> Values:
    """Zero all but `kept` weights of each output channel."""
    rows = weight.reshape(weight.shape[0], -1) if weight.size else weight.reshape(weight.shape[0], 0)
    if kept < rows.shape[1]:
        ranks = rng.random(rows.shape).argsort(axis=1).argsort(axis=1)
        rows = np.where(ranks < kept, rows, 0.0)
    return rows.reshape(weight.shape)


def _full(case: Case, rng: np.random.Generator, shape: tuple[int, ...], spread: float) -> Values:
    """Draw random significands and signs with exponents within +-spread (16-bit formats: a sixth of it)."""
    if case.dtype == "float16":
        spread /= 6
    return (
        rng.choice([-1.0, 1.0], shape) * rng.uniform(1, 2, shape) * 2.0 ** rng.uniform(-spread, spread, shape)
    )


def _sparse(case: Case, rng: np.random.Generator, shapes: dict[str, tuple[int, ...]]) -> dict[str, Values]:
    arrays = {name: _full(case, rng, shape, 12) for name, shape in shapes.items()}
    if "weight" in shapes:
        arrays["weight"] = _thinned(rng, arrays["weight"], int(rng.integers(1, 8, endpoint=True)))
    elif case.spec.judged != "function":
        arrays["input"] = np.where(rng.random(shapes["input"]) < 0.4, arrays["input"], 0.0)
    return arrays


def _dense(case: Case, rng: np.random.Generator, shapes: dict[str, tuple[int, ...]]) -> dict[str, Values]:
    kind = rng.choice(["normal", "positive", "constant", "wide"])
    arrays = {}
    for name, shape in shapes.items():
        if kind == "wide":
            arrays[name] = _full(case, rng, shape, 24)
        elif kind == "constant":
            arrays[name] = np.full(shape, rng.standard_normal())
        else:
            values = rng.standard_normal(shape) * (8 if case.spec.judged == "function" else 1)
            arrays[name] = abs(values) if kind == "positive" else values
    return arrays


def _special(case: Case, rng: np.random.Generator, shapes: dict[str, tuple[int, ...]]) -> dict[str, Values]:
    arrays = _dense(case, rng, shapes)
    form = FORMATS[case.dtype]
    smallest, largest = math.ldexp(1, form.smallest), math.ldexp(1 - 2.0**-form.precision, form.largest)
    kinds = ["nan", "mixed", "mixed", "infinite", "zeros", "large", "ties", "negative"]
    if case.dtype != "bfloat16" or case.spec.judged != "sum":
        kinds.append(
            "subnormal"
        )  # the processors' bfloat16 dot products (VDPBF16PS, AMX) take these for zero
    weighted = "weight" in shapes and case.spec.judged == "sum" and not _is_padded(case)
    kind = rng.choice([*kinds, "weight"] if weighted else kinds)
    x = arrays["input"]
    if kind == "weight":
        weight = arrays["weight"]
        odd = rng.choice([math.nan, math.inf, -math.inf, -0.0], weight.shape)
        return {**arrays, "weight": np.where(rng.random(weight.shape) < 0.15, odd, weight)}
    here = rng.random(x.shape) < 0.15
    if kind == "nan":
        x = np.where(here, math.nan, x)
    elif kind == "mixed":
        x = np.where(here, rng.choice([math.nan, math.nan, math.inf, -math.inf, -0.0, largest], x.shape), x)
    elif kind == "infinite":
        x = np.where(here, rng.choice([-math.inf, math.inf], x.shape), x)
    elif kind == "zeros":
        x = np.where(rng.random(x.shape) < 0.7, rng.choice([-0.0, 0.0], x.shape), x)
    elif kind == "subnormal":
        x = rng.integers(-9, 9, x.shape, endpoint=True) * smallest
    elif kind == "large":
        x = np.where(here, rng.choice([-largest, largest], x.shape) * rng.uniform(0.2, 1, x.shape), x)
    elif kind == "ties":
        x = rng.integers(0, 2, x.shape, endpoint=True) * 1.0
    else:
        x = -abs(x) - 1
    return {**arrays, "input": x}


def _is_padded(case: Case) -> bool:
    """Say whether windows reach beside the input, where libraries multiply the weight by zeros or leave it out."""
    return any(window.before or window.after for window in getattr(case.operation, "windows", ()))


def _impulse(case: Case, rng: np.random.Generator, shapes: dict[str, tuple[int, ...]]) -> dict[str, Values]:
    """Draw one 1 among zeros for the input, and small integers, all different while the format holds them."""
    arrays = {name: np.zeros(shape) for name, shape in shapes.items()}
    if "weight" in shapes:
        count, most = math.prod(shapes["weight"]), 2 ** min(FORMATS[case.dtype].precision, 20)
        arrays["weight"] = ((np.arange(count) % (most - 1)) + 1.0).reshape(shapes["weight"])
    if math.prod(shapes["input"]):
        value = 1.0 if case.spec.judged != "function" else rng.standard_normal()
        arrays["input"].flat[int(rng.integers(math.prod(shapes["input"])))] = value
    if "input2" in shapes:
        arrays["input2"] = arrays["input2"] + 2.0
    return arrays
