"""Random calls of the exact engine, and what holds their results to slower oracles."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from cnnspec import bounds, exact, nested
from cnnspec.exact import engine, sums
from cnnspec.exact.functional import conv1d, conv2d, conv3d, linear
from cnnspec.exact.transposed import conv_transpose1d, conv_transpose2d, conv_transpose3d
from cnnspec.op import Operator
from cnnspec.ops.conv import Conv1d, Conv2d, Conv3d
from cnnspec.ops.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d

Values = npt.NDArray[Any]

EPS = 2.0**-24  # half an ulp of float32 at 1
REGIMES = ("dense", "integers", "wide", "sparse", "special", "cancelling")
DTYPES = ("float16", "bfloat16", "float32", "float64")
FUNCTIONS: dict[str, tuple[Any, Any]] = {
    "conv1d": (conv1d, Conv1d),
    "conv2d": (conv2d, Conv2d),
    "conv3d": (conv3d, Conv3d),
    "conv_transpose1d": (conv_transpose1d, ConvTranspose1d),
    "conv_transpose2d": (conv_transpose2d, ConvTranspose2d),
    "conv_transpose3d": (conv_transpose3d, ConvTranspose3d),
}


def independent_rounding(value: Fraction, dtype: str) -> float:
    """Round by Python's own rounding of fractions, half to even."""
    form = bounds.FORMATS[dtype]
    if value == 0:
        return 0.0
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    exponent -= abs(value) < Fraction(2) ** exponent
    unit = Fraction(2) ** max(exponent - form.precision + 1, form.smallest)
    result = round(value / unit) * unit
    return math.copysign(math.inf, value) if abs(result) >= Fraction(2) ** form.largest else float(result)


@dataclass
class Call:
    """One call of a convolution, with the operator that defines it."""

    name: str
    operator: Any
    operands: dict[str, Values]
    out_dtype: str
    regime: str
    rng: np.random.Generator

    def forward(self, **options: Any) -> Any:
        return self.function(*self.operands.values(), **self.arguments, **options)

    def backward(self, grad_output: Values, **options: Any) -> dict[str, Any]:
        found = self.function.backward(grad_output, *self.operands.values(), **self.arguments, **options)
        return {name: one for name, one in found._asdict().items() if name in self.operands}

    def grad_output(self) -> Values:
        shape = self.operator.output_shape(self.operands["input"].shape)
        return draw(self.rng, shape, self.regime, "float32")

    @property
    def function(self) -> Any:
        return FUNCTIONS[self.name][0]

    @property
    def arguments(self) -> dict[str, Any]:
        own = "output_padding" if "transpose" in self.name else "padding_mode"
        names = ("stride", "padding", "dilation", "groups", own)
        given = {name: getattr(self.operator, name) for name in names}
        bias = {} if "bias" in self.operands else {"b": None}
        return {**given, **bias, "out_dtype": self.out_dtype}


def draw(rng: np.random.Generator, shape: tuple[int, ...], regime: str, dtype: str) -> Values:
    values = rng.standard_normal(shape)
    if regime == "integers":
        values = rng.integers(-8, 9, shape).astype(float)
    if regime == "wide":
        values = values * 2.0 ** rng.integers(-12, 12, shape)
    if regime in ("sparse", "special"):
        values = values * (rng.random(shape) < 0.3)
    if regime == "special":
        values = np.where(rng.random(shape) < 0.02, rng.choice([np.nan, np.inf, -np.inf], shape), values)
    if regime == "cancelling":
        values = np.where(rng.random(shape) < 0.4, 1e4, values) * rng.choice([1, -1], shape)
    form = bounds.FORMATS[dtype]
    if dtype == "bfloat16":
        return np.where(np.isfinite(values), sums.round_to(np.nan_to_num(values), form), values).astype(
            np.float32
        )
    return values.astype(dtype)


def calls(seed: int, size: int) -> Iterator[Call]:
    """Yield convolutions with all arguments at random, axes of up to `size` more than the kernel."""
    choose = random.Random(seed)
    rng = np.random.default_rng(seed)
    while True:
        axes, groups = choose.choice((1, 2, 2, 3)), choose.choice((1, 1, 2, 3))
        kernel = tuple(choose.randint(1, 3) for _ in range(axes))
        dilation = tuple(choose.randint(1, 2) for _ in range(axes))
        stride: Any = tuple(choose.randint(1, 3) for _ in range(axes))
        padding: Any = tuple(choose.randint(0, k) for k in kernel)
        channels, outputs = groups * choose.choice((1, 2, 3, 5)), groups * choose.choice((1, 2, 3))
        bias, kind = (
            choose.random() < 0.5,
            choose.choice(("numbers", "numbers", "same", "valid", "transposed")),
        )
        if kind == "transposed":
            name, padding = f"conv_transpose{axes}d", tuple(p // 2 for p in padding)
            extra = tuple(choose.randrange(max(pair)) for pair in zip(stride, dilation, strict=True))
            arguments: tuple[Any, ...] = (kernel, stride, padding, extra, groups, bias, dilation)
        else:
            name = f"conv{axes}d"
            stride, padding = 1 if kind == "same" else stride, padding if kind == "numbers" else kind
            mode = choose.choice(("zeros", "zeros", "reflect", "replicate", "circular"))
            arguments = (kernel, stride, padding, dilation, groups, bias, mode)
        operator = FUNCTIONS[name][1](channels, outputs, *arguments)
        spans = (d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
        sizes = tuple(max(4, span) + choose.randint(0, size) for span in spans)
        dtype, regime = choose.choice(DTYPES), choose.choice(REGIMES)
        shapes = {"input": (choose.randint(1, 3), channels, *sizes), **operator.parameter_shapes()}
        operands = {name: draw(rng, shape, regime, dtype) for name, shape in shapes.items()}
        yield Call(name, operator, operands, choose.choice((*DTYPES, dtype)), regime, rng)


def rounded_exact(found: exact.Exact, dtype: str) -> Values:
    form = bounds.FORMATS[dtype]
    values = [
        found.special.get(i, bounds.nearest(n, 1, found.exponent, form)) for i, n in enumerate(found.values)
    ]
    return np.array(values).reshape(found.shape)


def agrees(result: engine.Rounded, oracle: exact.Exact, dtype: str) -> None:
    """Hold values, counts and S to the oracle; S may be too large by a part in 2**36, never too small."""
    assert np.array_equal(result.value.astype(float), rounded_exact(oracle, dtype), equal_nan=True)
    assert not np.signbit(result.value[result.value == 0]).any()
    assert result.n_eff is not None
    assert result.n_eff.ravel().tolist() == oracle.roundings
    assert result.bound_sum is not None
    unit = Fraction(2) ** oracle.exponent
    for given, size in zip(result.bound_sum.ravel().tolist(), oracle.magnitude, strict=True):
        assert size * unit <= Fraction(given) <= size * unit * (1 + Fraction(1, 2**36))


def wide(operands: dict[str, Values]) -> dict[str, Values]:
    return {name: array.astype(float) for name, array in operands.items()}


def by_fractions(operator: Operator, operands: dict[str, Values], dtype: str) -> Values:
    arrays = [nested.unravel([Fraction(float(v)) for v in a.ravel()], a.shape) for a in operands.values()]
    output = operator.reference(*arrays)
    values = [independent_rounding(Fraction(value), dtype) for value in nested.ravel(output)]
    return np.array(values).reshape(nested.shape_of(output))


def dot(x: list[float], w: list[float], dtype: str, out_dtype: str | None = None) -> float:
    y = linear(np.array([x], dtype), np.array([w], dtype), out_dtype=out_dtype or dtype)
    return float(y[0, 0])
