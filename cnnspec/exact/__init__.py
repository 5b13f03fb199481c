"""Exact results of operators on floating-point data: the value, and what bounds its rounding errors.

`conv2d` and its like take and return NumPy arrays, correctly rounded, at the speed of matrix products: see
`cnnspec.exact.functional` and `cnnspec.exact.transposed`. For the judge `evaluate` is the one door: sums of products
over scaled integers (a matrix product per tap where the operator has one, else the operator's own loop), special
values over extended rationals; exp, log and roots over rigorous balls, those of whole layers over float64 numbers
with a bound.
"""

import importlib
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec import nested, rounding
from cnnspec.errors import CnnspecError
from cnnspec.exact import alike, balls, copies, layers, normalized, planes
from cnnspec.exact.balls import enclosed
from cnnspec.exact.integers import common_unit, scaled
from cnnspec.exact.results import Exact, output_shape
from cnnspec.nested import Array, Shape
from cnnspec.op import Operator
from cnnspec.rounding import RoundingTerms
from cnnspec.scalars import Extended
from cnnspec.spec import Dialect, Spec

__all__ = ["Exact", "evaluate", "evaluate_dialect", "gradients", "infinities", "updates"]

Values = npt.NDArray[Any]
_ENGINE = {
    "functional": ("conv1d", "conv2d", "conv3d", "linear", "matmul", "golden_hash"),
    "transposed": ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    "averages": (
        "avg_pool1d",
        "avg_pool2d",
        "avg_pool3d",
        "adaptive_avg_pool1d",
        "adaptive_avg_pool2d",
        "adaptive_avg_pool3d",
    ),
    "maxima": ("max_pool1d", "max_pool2d", "max_pool3d"),
    "elementwise": ("add", "relu"),
    "norms": ("batch_norm",),
    "powers": ("lp_pool1d", "lp_pool2d", "lp_pool3d"),
}


def evaluate(spec: Spec, operator: Operator, operands: Mapping[str, Values]) -> Exact:
    """Return the exact outputs of `operator` on float64 (or integer) arrays of any represented format."""
    arrays = list(operands.values())
    for served in (layers.outputs, planes.outputs, copies.outputs):
        found = served(operator, arrays)
        if found is not None:
            return found
    if spec.judged == "function":
        found = normalized.outputs(operator, operands) or alike.outputs(operator, arrays)
        if found is not None:
            return found
    return _by_loops(spec, operator, arrays)


def _by_loops(spec: Spec, operator: Operator, arrays: list[Values]) -> Exact:
    """Return the exact outputs by the operator's own loop."""
    if spec.judged == "copy":
        return _copied(operator, arrays)
    if spec.judged == "function":
        return balls.outputs(operator, arrays)
    finite = [np.where(np.isfinite(array), array, 0) for array in arrays]
    exact = _sums(operator, finite) if _is_homogeneous(operator) else _rational(operator, finite)
    if any(not np.isfinite(array).all() for array in arrays):
        exact.special = infinities(operator, arrays)
    return exact


def evaluate_dialect(
    spec: Spec, operator: Operator, dialect: Dialect, operands: Mapping[str, Values]
) -> Exact | None:
    """Return the exact outputs as another framework's convention has them; None where it refuses the call."""
    arrays = [_nested(array) for array in operands.values()]
    try:
        if spec.judged == "function":
            fields = enclosed(
                arrays,
                lambda *numbers: dialect.reference(operator, *numbers),
                lambda *numbers: rounding.terms(dialect.reference(operator, *map(rounding.rounded, numbers))),
            )
            return Exact(operator.output_shape(*_input_shapes(spec, operands)), **fields)
        if spec.judged == "copy":
            return _copy_of(dialect.reference(operator, *arrays))
        finite = [nested.elementwise(Fraction, np.where(np.isfinite(a), a, 0)) for a in operands.values()]
        output = dialect.reference(operator, *finite)
        size = dialect.reference(operator, *(nested.elementwise(abs, one) for one in finite))
        terms = [max(1, *(array.size for array in operands.values()))] * len(nested.ravel(output))
        found = _of_rationals(output, RoundingTerms(nested.ravel(size), terms))
        if any(not np.isfinite(array).all() for array in operands.values()):
            extended = [nested.elementwise(Extended, array) for array in arrays]
            found.special = _not_finite(dialect.reference(operator, *extended))
        return found
    except (ArithmeticError, CnnspecError):
        return None


def gradients(
    spec: Spec, operator: Operator, grad_output: Values, operands: Mapping[str, Values], wanted: Sequence[str]
) -> dict[str, Exact]:
    """Return the exact gradients of the operands `wanted`: vector-Jacobian products with `grad_output`."""
    arrays = list(operands.values())
    if spec.judged == "function":
        normal = normalized.gradients(operator, grad_output, operands, wanted)
        if normal is not None:
            return normal
        one = alike.gradients(operator, grad_output, arrays) if "input" in wanted else None
        return {"input": one} if one else balls.gradients(operator, grad_output, operands, wanted)
    if 0 in grad_output.shape:
        found: list[Exact | None] = [_zeros(array.shape) for array in arrays]
    else:
        fast = (
            layers.gradients(operator, grad_output, arrays)
            or planes.gradients(operator, grad_output, arrays)
            or copies.gradients(operator, grad_output, arrays)
        )
        found = [*fast] if fast else _gradients_by_loops(spec, operator, grad_output, arrays)
    return {
        name: one for name, one in zip(operands, found, strict=True) if name in wanted and one is not None
    }


def updates(operator: Operator, operands: Mapping[str, Values]) -> dict[str, Exact]:
    """Return the exact new values of the operands that a call changes."""
    if type(operator).updates is Operator.updates:
        return {}
    found = normalized.updates(operator, operands)
    return balls.updates(operator, operands) if found is None else found


def _nested(array: Values) -> Any:
    return nested.unravel(array.ravel().tolist(), array.shape)


def _is_homogeneous(operator: Operator) -> bool:
    """Say whether every term of the sums is a product of all operands but the bias: one unit holds them all."""
    return not operator.parameter_shapes() or hasattr(operator, "bias")


def _rational(operator: Operator, arrays: list[Values]) -> Exact:
    """Return a sum of any terms over rational numbers."""
    plain = [nested.elementwise(Fraction, array) for array in arrays]
    return _of_rationals(operator.reference(*plain), operator.rounding_terms(*plain))


def _of_rationals(output: Array, bound: RoundingTerms) -> Exact:
    """Return rational values with their bound as integers of one unit, each divided by its own odd divisor."""
    values = [Fraction(value) for value in nested.ravel(output)]
    sizes = [Fraction(size) for size in bound.magnitude]
    if bound.divisors:
        sizes = [size / divisor for size, divisor in zip(sizes, bound.divisors, strict=True)]
    bottoms = [math.lcm(v.denominator, s.denominator) for v, s in zip(values, sizes, strict=True)]
    odd = [bottom // (bottom & -bottom) for bottom in bottoms]
    exponent = -max(((bottom & -bottom).bit_length() - 1 for bottom in bottoms), default=0)
    scale = Fraction(2) ** -exponent
    return Exact(
        nested.shape_of(output),
        [int(v * d * scale) for v, d in zip(values, odd, strict=True)],
        exponent,
        odd if any(d != 1 for d in odd) else None,
        {},
        [int(s * d * scale) for s, d in zip(sizes, odd, strict=True)],
        [math.ceil(count) for count in bound.roundings],
    )


def _gradients_by_loops(
    spec: Spec, operator: Operator, grad_output: Values, arrays: list[Values]
) -> list[Exact | None]:
    """Return the exact gradients by the operator's own loop."""
    finite = [np.where(np.isfinite(array), array, 0) for array in (grad_output, *arrays)]
    bilinear = bool(operator.parameter_shapes()) and _is_homogeneous(operator)
    if bilinear:
        found = _bilinear_gradients(operator, finite)
    else:
        g, unit = scaled(finite[0])
        plain = [_nested(g), *(nested.elementwise(Fraction, array) for array in finite[1:])]
        if spec.judged == "copy":
            plain[1:] = [_nested(array) for array in arrays]
        values, bounds = operator.gradients(*plain), operator.gradient_terms(*plain)
        found = []
        for value, bound in zip(values, bounds, strict=True):
            one = None if value is None or bound is None else _of_rationals(value, bound)
            if one is not None:
                one.exponent += unit
                one.lattice = one.exponent if one.divisors is None and spec.judged == "copy" else None
            found.append(one)
    if any(not np.isfinite(array).all() for array in (grad_output, *arrays)):
        extended = [nested.elementwise(Extended, _nested(grad_output)), *map(_nested, arrays)]
        if spec.judged != "copy":
            extended[1:] = [nested.elementwise(Extended, array) for array in extended[1:]]
        for one, value in zip(found, operator.gradients(*extended), strict=True):
            if one is not None and value is not None:
                one.special = _not_finite(value)
    return found


def _zeros(shape: Shape) -> Exact:
    nothing = [0] * math.prod(shape)
    return Exact(shape, nothing, magnitude=nothing, roundings=nothing, lattice=0)


def _bilinear_gradients(operator: Operator, arrays: list[Values]) -> list[Exact | None]:
    """Return the gradients of a sum of products input * weight and a bias, over scaled integers."""
    pairs = [scaled(array) for array in arrays]
    g, x, w = (exponent for _, exponent in pairs[:3])
    units = [g + w, g + x, g]
    plain = [_nested(n) for n, _ in pairs]
    values, bounds = operator.gradients(*plain), operator.gradient_terms(*plain)
    terms = [
        (nested.ravel(value), bound.magnitude, bound.roundings)
        for value, bound in zip(values, bounds, strict=True)
        if value is not None and bound is not None
    ]
    return [
        Exact(array.shape, values, unit, None, {}, magnitude, roundings, lattice=unit)
        for array, unit, (values, magnitude, roundings) in zip(arrays[1:], units, terms, strict=False)
    ]


def _input_shapes(spec: Spec, operands: Mapping[str, Values]) -> list[Shape]:
    return [operands[name].shape for name in spec.inputs if name in operands]


def _copied(operator: Operator, arrays: list[Values]) -> Exact:
    return _copy_of(operator.reference(*map(_nested, arrays)))


def _copy_of(output: Any) -> Exact:
    indices = None
    if isinstance(output, tuple):
        output, indices = output[0], nested.ravel(output[1])
    values = nested.ravel(output)
    constants = np.array([isinstance(value, int) for value in values], bool)
    large = any(isinstance(value, int) and abs(value) > 1 << 53 for value in values)
    copies = np.array(values, object if large else np.float64)
    return Exact(nested.shape_of(output), copies=copies, constants=constants, indices=indices)


def _sums(operator: Operator, arrays: list[Values]) -> Exact:
    """Return value, S and count of a sum of products of finite operands, over scaled integers."""
    pairs = [scaled(array) for array in arrays]
    integers, exponent = common_unit(operator, [n for n, _ in pairs], [e for _, e in pairs])
    shape = output_shape(operator, arrays)
    plain = [_nested(array) for array in integers]
    values = nested.ravel(operator.reference(*plain))
    bound = operator.rounding_terms(*plain)
    divisors = bound.divisors
    numerators = [value * d for value, d in zip(values, divisors, strict=True)] if divisors else values
    return Exact(
        shape,
        [int(n) for n in numerators],
        exponent,
        divisors,
        {},
        bound.magnitude,
        bound.roundings,
        lattice=exponent,
        divisions=bound.divisions,
    )


def infinities(operator: Operator, arrays: Sequence[Values]) -> dict[int, float]:
    """Return the outputs that are NaN or infinite, by the definition's loop over extended numbers."""
    return _not_finite(operator.reference(*(nested.elementwise(Extended, array) for array in arrays)))


def _not_finite(output: Array) -> dict[int, float]:
    values = [value.value if isinstance(value, Extended) else value for value in nested.ravel(output)]
    return {i: v for i, v in enumerate(values) if isinstance(v, float) and not math.isfinite(v)}


def __getattr__(name: str) -> Any:
    for module, names in _ENGINE.items():
        if name in names:
            return getattr(importlib.import_module(f"cnnspec.exact.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
