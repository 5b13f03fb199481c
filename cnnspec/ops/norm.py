"""What batch, instance, group and layer normalization share: groups of elements, brought to mean 0 and variance 1.

    y_i = (x_i - m) r w_c + b_c        m = sum_i x_i / n,  v = sum_i (x_i - m)^2 / n,  r = 1 / sqrt(v + eps)

i runs over the n elements of a group, c is the place of the element in the weight and the bias. The gradients,
with h_i = g_i w_c, of an input whose statistics are its own, and of the parameters over all groups:

    dx_i = (h_i - sum_j h_j / n - (x_i - m) r^2 sum_j h_j (x_j - m) / n) r
    dw_c = sum g_i (x_i - m) r,  db_c = sum g_i

With given statistics (evaluation) dx_i = h_i r. What bounds the rounding errors stands in `norm_bounds`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from cnnspec import nested
from cnnspec.laws import always, replaced
from cnnspec.nested import Array, Shape
from cnnspec.op import Operator
from cnnspec.ops import norm_bounds
from cnnspec.ops.norm_bounds import Bound, Row, total
from cnnspec.rounding import Rounded, RoundingTerms
from cnnspec.scalars import constant, divide, sqrt
from cnnspec.spec import Call, Dialect, Law

EPS = (1e-5, 1e-3, 0.5, 2.0**-20)
"""What domains draw for eps."""

Scale = Callable[[Any, float, int], Any]
"""scale(variance, eps, n) -> r, the factor that brings the variance of n elements to 1."""


def one_over_root(variance: Any, eps: float, n: int) -> Any:
    """Return 1 / sqrt(variance + eps).

    >>> one_over_root(3, 1.0, 5)
    Fraction(1, 2)
    """
    return divide(1, sqrt(variance + constant(eps, variance)))


class Norm(Operator):
    """What normalizations share; they say which elements form a group, and each element's place in the weight."""

    eps: float

    sums_stored_parts: ClassVar[bool] = False
    """Whether libraries sum the gradients of the parameters over images after storing those of each."""

    @property
    def from_batch(self) -> bool:
        """Whether mean and variance are those of the input, not running statistics."""
        return True

    def partition(self, input_shape: Shape) -> tuple[list[Sequence[int]], list[int]]:
        """Return the offsets of each group's elements, and the place in the weight of every element."""
        raise NotImplementedError

    def given_statistics(self, place: int, given: Mapping[str, list[Any]]) -> tuple[Any, Any]:
        """Return mean and variance where they are not those of the input."""
        raise NotImplementedError

    def norm_ops(self, *input_shapes: Shape) -> int:
        """Return 2 per element, y = a x + b with a and b known per channel; 6 where mean and variance are the input's.

        The mean is one addition more, the variance a difference, its square and an addition.
        """
        return math.prod(self.output_shape(*input_shapes)) * (6 if self.from_batch else 2)

    def reference(self, *arrays: Array) -> Array:
        """Return (x - mean) / sqrt(variance + eps) * weight + bias."""
        return self.normalized(one_over_root, *arrays)

    def normalized(self, scale: Scale, *arrays: Array) -> Array:
        """Return (x - mean) * scale(variance, eps, n) * weight + bias."""
        given, places, shape = self._read(arrays)
        x, weight, bias = given["input"], given.get("weight"), given.get("bias")
        y: list[Any] = [0] * len(x)
        for group, mean, r in self._groups(given, shape, scale):
            for i in group:
                z = (x[i] - mean) * r
                z = z * weight[places[i]] if weight else z
                y[i] = z + bias[places[i]] if bias else z
        return nested.unravel(y, shape)

    def gradients(self, grad_output: Array, *operands: Array) -> list[Array | None]:
        """Return the gradients of input, weight and bias; None for running statistics."""
        given, places, shape = self._read(operands)
        x, weight, g = given["input"], given.get("weight"), nested.ravel(grad_output)
        dx: list[Any] = [0] * len(x)
        dw: list[Any] = [0] * len(given.get("weight", ()))
        db: list[Any] = [0] * len(given.get("bias", ()))
        for group, mean, r in self._groups(given, shape):
            h = {i: g[i] * weight[places[i]] if weight else g[i] for i in group}
            if self.from_batch:
                shift = divide(total([h[i] for i in group]), len(group))
                slope = divide(total([h[i] * (x[i] - mean) for i in group]) * r * r, len(group))
                h = {i: h[i] - shift - (x[i] - mean) * slope for i in group}
            for i in group:
                dx[i] = h[i] * r
                if dw:
                    dw[places[i]] = dw[places[i]] + g[i] * (x[i] - mean) * r
                if db:
                    db[places[i]] = db[places[i]] + g[i]
        rows = {"input": dx, "weight": dw, "bias": db}
        shapes = {"input": shape, **self.parameter_shapes()}
        return [nested.unravel(rows[name], shapes[name]) if name in rows else None for name in given]

    def rounding_terms(self, *arrays: Array) -> RoundingTerms:
        """Return the bounds of the outputs: see `norm_bounds`."""
        given, places, shape = self._read(arrays)
        found: list[Bound | None] = [None] * math.prod(shape)
        for group, bounds in self._bounds(given, shape):
            weights, biases = (
                Row([given[name][places[i]] for i in group] if name in given else [default] * len(group))
                for name, default in (("weight", 1), ("bias", 0))
            )
            for i, bound in zip(group, bounds.outputs(weights, biases), strict=True):
                found[i] = bound
        return norm_bounds.terms(found, self.kind.stored_forward)

    def gradient_terms(self, grad_output: Array, *operands: Array) -> list[RoundingTerms | None]:
        """Return the bounds of the gradients: see `norm_bounds`."""
        given, places, shape = self._read(operands)
        g, weight = nested.ravel(grad_output), given.get("weight")
        names = [name for name in ("input", "weight", "bias") if name in given]
        found: dict[str, list[Bound | None]] = {name: [None] * len(given[name]) for name in names}
        for group, bounds in self._bounds(given, shape):
            cotangent = Row(g[i] for i in group)
            h = Row(g[i] * weight[places[i]] for i in group) if weight else cotangent
            parts = {
                "weight": bounds.weight_gradients(cotangent),
                "bias": bounds.bias_gradients(cotangent),
            }
            for i, bound in zip(group, bounds.input_gradients(cotangent, h), strict=True):
                found["input"][i] = bound
            for name in names[1:]:
                for i, part in zip(group, parts[name], strict=True):
                    before = found[name][places[i]]
                    found[name][places[i]] = part if before is None else before + part
        stored = self.stored_gradients
        bounded: dict[str, RoundingTerms] = {
            name: norm_bounds.terms(found[name], stored[name]) for name in names
        }
        return [bounded.get(name) for name in given]

    @property
    def kind(self) -> type[norm_bounds.Given]:
        """The bounds of a group of elements."""
        return norm_bounds.Own if self.from_batch else norm_bounds.Given

    @property
    def stored_gradients(self) -> dict[str, int]:
        """How many intermediate results of each gradient libraries store in the output's format."""
        parts, kind = int(self.sums_stored_parts), self.kind
        return {"input": kind.stored_input, "weight": kind.stored_weight + parts, "bias": parts}

    def _bounds(
        self, given: Mapping[str, list[Any]], shape: Shape
    ) -> Iterator[tuple[Sequence[int], norm_bounds.Given]]:
        for group, mean, r in self._groups(given, shape):
            yield group, self.kind(Row(given["input"][i] for i in group), mean, r)

    def _read(self, operands: Sequence[Array]) -> tuple[dict[str, list[Any]], list[int], Shape]:
        """Return the operands as rows by name, each element's place in the weight, and the input's shape."""
        arrays = [array for array in operands if array is not None]
        shape = self.output_shape(nested.shape_of(arrays[0]))
        buffers = self.buffer_shapes()
        self.check_parameters(arrays[1 + len(buffers) :])
        names = ("input", *buffers, *self.parameter_shapes())
        given = {name: nested.ravel(array) for name, array in zip(names, arrays, strict=True)}
        return given, self.partition(shape)[1], shape

    def _groups(
        self, given: Mapping[str, list[Any]], shape: Shape, scale: Scale = one_over_root
    ) -> Iterator[tuple[Sequence[int], Any, Any]]:
        """Yield (offsets of its elements, mean, r) of each group that has elements."""
        groups, places = self.partition(shape)
        for group in groups:
            if not group:
                continue
            if self.from_batch:
                mean, variance = moments([given["input"][i] for i in group])
            else:
                mean, variance = self.given_statistics(places[group[0]], given)
            yield group, mean, scale(variance, self.eps, len(group))


def moments(values: Sequence[Any]) -> tuple[Any, Any]:
    """Return mean and variance, the sum of squares divided by the number of values.

    `Rounded` values get the bounds of `norm_bounds`: |v' - v| <= 4 d s + d^2 / 64 + (n + 5) u v, not those of a
    formula whose errors cancel.

    >>> moments([1, 2, 6])
    (3, Fraction(14, 3))
    """
    n = len(values)
    if isinstance(values[0], Rounded):
        mean, variance = moments([x.value for x in values])
        return rounded_moments(mean, variance, divide(total([abs(x.value) for x in values]), n), n)
    mean = divide(total(values), n)
    return mean, divide(total([(x - mean) * (x - mean) for x in values]), n)


def rounded_moments(mean: Any, variance: Any, size: Any, n: int) -> tuple[Rounded, Rounded]:
    """Return the moments of n values with their bounds; `size` is the mean of their magnitudes."""
    spread = variance + 4 * sqrt(variance) * size + divide(size * size, 64)
    return (
        Rounded(mean, size, 2 * n + 7, stores=1, summed=size * n),
        Rounded(variance, spread, 2 * n + 8, stores=1, summed=4 * size * size * n * n),
    )


def rows(elements: int, length: int, size: int, places: int) -> tuple[list[Sequence[int]], list[int]]:
    """Return groups of `length` elements one after another, and weights that `size` elements in a row share.

    >>> rows(8, 4, 2, 2)
    ([range(0, 4), range(4, 8)], [0, 0, 1, 1, 0, 0, 1, 1])
    """
    groups = [range(start, start + length) for start in range(0, elements, max(1, length))]
    return [*groups], [i // size % places for i in range(elements)]


# Laws: negation and powers of two pass through every rounding, whatever the data


def _scaled(op: Norm, arrays: Sequence[Array], factors: Mapping[str, int]) -> list[Array]:
    """Return the operands, those named multiplied by their factor."""
    names = ("input", *op.buffer_shapes(), *op.parameter_shapes())
    return [
        nested.unravel(
            [factors.get(name, 1) * value for value in nested.ravel(array)], nested.shape_of(array)
        )
        for name, array in zip(names, arrays, strict=True)
    ]


def _negated(op: Norm, call: Call, *arrays: Array) -> tuple[Array, Array]:
    y = call(op, *arrays)
    negated = call(op, *_scaled(op, arrays, {"input": -1, "running_mean": -1, "weight": -1}))
    return negated, y if op.parameter_shapes() else nested.elementwise(lambda value: -value, y)


def _doubled(op: Norm, call: Call, *arrays: Array) -> tuple[Array, Array]:
    doubled = _scaled(op, arrays, {"input": 2, "running_mean": 2, "running_var": 4})
    return call(replaced(op, eps=4 * op.eps), *doubled), call(op, *arrays)


LAWS = (
    Law("sign", "f(-x), mean and weight negated too, is f(x)", always, _negated),
    Law("scale", "2 x with 4 eps, twice the mean and 4 variances is x", always, _doubled),
)


# Dialects


def _eps_outside(variance: Any, eps: float, n: int) -> Any:
    return divide(1, sqrt(variance) + constant(eps, variance))


def _unbiased(variance: Any, eps: float, n: int) -> Any:
    return one_over_root(divide(variance * n, max(1, n - 1)), eps, n)


DIALECTS = (
    Dialect(
        "eps outside the root",
        "eps is added to the standard deviation, not to the variance",
        lambda op: op.eps != 0,
        lambda op, *arrays: op.normalized(_eps_outside, *arrays),
    ),
    Dialect(
        "torch.var, R",
        "the input is divided by the root of the unbiased variance",
        lambda op: op.from_batch,
        lambda op, *arrays: op.normalized(_unbiased, *arrays),
    ),
)
