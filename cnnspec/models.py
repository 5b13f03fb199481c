"""Error models: what an implementation may get wrong, as explicit assumptions with a proven bound each.

A model bounds the error of a sum of products y = sum x w by E = relative(n) S + n underflow, where n counts the
roundings of the operator, S = sum |x| |w|; the rounding of the output itself comes on top (`cnnspec.compare`).
"""

from dataclasses import dataclass, replace
from typing import Any

from cnnspec.bounds import FORMATS, Format
from cnnspec.errors import UsageError


@dataclass(frozen=True)
class ErrorModel:
    """How an implementation may compute: what its rounding errors are bounded by.

    accumulate:      format of the partial sums; every one rounds to it
    inputs:          format that the operands are rounded to first, "" for none
    elementary_ulps: largest error of the library's exp, log and tanh in units in the last place of `accumulate`
    products:        "any order" of a direct sum (n u S); no other algorithm has a proven model here

    E = c S with c = (roundings + 2 * elementary * elementary_ulps) * u, and with rounded inputs
    (1 + v)^2 (1 + c) - 1 in place of c, where u and v are the unit roundoffs of `accumulate` and `inputs`; the
    output's own rounding comes on top. Where a product can fall below the normal range of `accumulate`, each
    rounding adds half its smallest subnormal.
    Sources: Jeannerod & Rump 2013 (n u S); Higham, "Accuracy and Stability of Numerical Algorithms", 2002, 3.1.
    """

    name: str
    accumulate: str
    inputs: str = ""
    elementary_ulps: int = 1

    @property
    def format(self) -> Format:
        """The format of the partial sums."""
        return FORMATS[self.accumulate]

    def relative(self, roundings: Any, one: Any, elementary: int = 0) -> Any:
        """Return the coefficient of S in E, for a number or an array of `roundings`.

        one: 1 as the number to compute with: a Fraction for the exact coefficient, a float for one near it
        """
        u = one / 2**self.format.precision
        found = (roundings + 2 * elementary * self.elementary_ulps) * u
        if self.inputs:
            v = one / 2 ** FORMATS[self.inputs].precision
            found = (1 + v) ** 2 * (1 + found) - 1
        return found

    def underflow_exponent(self) -> int:
        """Return e where one rounding below the normal range errs by at most 2**e."""
        return self.format.smallest - 1

    @property
    def keeps_exact_sums(self) -> bool:
        """Whether sums whose every partial sum is representable are exact."""
        return not self.inputs


def direct(dtype: str) -> ErrorModel:
    """Return the strictest direct model of `dtype`: 16-bit formats accumulate in float32.

    >>> direct("bfloat16").accumulate
    'float32'
    """
    accumulate = "float32" if dtype in ("float16", "bfloat16") else dtype
    return ErrorModel(f"direct {accumulate}", accumulate)


MODELS = {
    model.name: model
    for model in (
        ErrorModel("direct float64", "float64"),
        ErrorModel("direct float32", "float32"),
        ErrorModel("tf32 inputs", "float32", inputs="tf32"),
        ErrorModel("bfloat16 inputs", "float32", inputs="bfloat16"),
        ErrorModel("float16 inputs", "float32", inputs="float16"),
        ErrorModel("float16 accumulation", "float16"),
        ErrorModel("bfloat16 accumulation", "bfloat16"),
    )
}
"""The models by name, from the strictest to the widest."""


def model(name: str) -> ErrorModel:
    """Return the error model `name`; short forms such as "fp32" and "tf32" are understood.

    >>> model("tf32").name
    'tf32 inputs'
    """
    short = {
        "fp64": "direct float64",
        "fp32": "direct float32",
        "tf32": "tf32 inputs",
        "float32": "direct float32",
    }
    full = short.get(name, name)
    if full not in MODELS:
        raise UsageError(f"unknown error model {name!r}; known are {', '.join((*MODELS, *short))}")
    return MODELS[full]


def with_elementary(base: ErrorModel, ulps: int) -> ErrorModel:
    """Return `base` with another error of the elementary functions."""
    return replace(base, elementary_ulps=ulps)
