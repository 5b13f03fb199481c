"""Error models: what an implementation may get wrong, as explicit assumptions with a proven bound each.

A model bounds the error of a sum of products y = sum x w by E = relative(n) S + n 2**underflow_exponent(), where n
counts the roundings of the operator (its terms that are not zero) and S = sum |x| |w|; the rounding of the output
to a narrower format comes on top (`cnnspec.compare`).
"""

import math
import re
from dataclasses import dataclass, replace
from typing import Any

from cnnspec.bounds import FORMATS, Format
from cnnspec.errors import UsageError


@dataclass(frozen=True)
class ErrorModel:
    """How an implementation may compute: what its rounding errors are bounded by.

    accumulate:      format of the partial sums; every one rounds to it, in any order, with or without FMA
    inputs:          format that the operands are rounded to first, "" for none; they lie in its normal range
    elementary_ulps: largest error of the library's exp, log and tanh in units in the last place of `accumulate`
    truncates:       partial sums are cut off towards zero, not rounded to nearest; truncates_inputs: so are operands
    block:           terms are summed in blocks of this size, then the blocks' sums; 0 for any order
    intermediates:   format that sums of terms are stored in and added up in, "" for none
    stores:          how often a term is rounded to `intermediates`; never more often than there are terms
    flushes:         results below the normal range become 0; operands below it are read as they are
    compensated:     errors of products and sums are summed too (Dot2), and the sum is rounded once more at the end
    algorithm:       "direct" for sums of the products themselves; "winograd F(m,r)", "normwise"

    With u = 2^-p, p the precision of `accumulate`, E = c S where c is made up of these steps, each applied to the
    ones before it. `relative` computes it, and its parts say why it holds:

    any order     n u. Jeannerod & Rump, "Improved error bounds for inner products in floating-point arithmetic",
                  SIAM J. Matrix Anal. Appl. 34(2), 2013: without terms in u^2 and for every n.
    truncation    n v, v = 2u. A cut-off result is never larger than what is summed, so every partial sum is at most
                  S in magnitude, and each of n - 1 sums and one rounding of all products errs by v of that or less.
                  A tensor core that aligns j exact products p and the sum s so far to the largest, 2^e or more,
                  and cuts each off at g = 2^(e-p+1) loses j g there (the largest loses nothing), and (2^k - 1) g
                  where the sum reaches 2^(e+k) and is cut off too. With T = |s| + sum |p| >= 2^(e+k) and
                  j 2^k >= j + 2^k - 1 these are at most j v T: over all blocks n v S again, without any guard bit.
                  (That hardware does this: Fasi, Higham, Mikaitis & Pranesh, PeerJ Computer Science 7:e330, 2021.)
    blocks of k   (1 + k u)(1 + (J - 1) u) - 1, J = ceil(terms / k): k u of each block's own S, then the J - 1 sums of
                  what the blocks gave, (1 + k u) S in all. Zeros do not shorten it: n terms in n blocks are n - 1
                  sums again. So it takes how many terms there are, zeros included, and the smaller of both bounds.
    elementary    2 u for each unit in the last place, which is at most 2 u of its result.
    compensated   n^2 u^2 / (1 - n u)^2 for n < 2^(p-1), before the result is rounded: Ogita, Rump & Oishi, "Accurate
                  sum and dot product", SIAM J. Sci. Comput. 26(6), 2005, proposition 5.5; with 5 n smallest subnormals.
    intermediates (1 + c)(1 + l)(1 + (q - 1) l) - 1 with l of that format, q = min(stores, n): each of q partial sums
                  errs by c, rounds by l when it is stored, and q - 1 sums of them err by (q - 1) l of their sizes.
    inputs        (1 + i)^2 (1 + c) - 1, i of that format: both factors of every product change by 1 + i or less.
    underflow     half the smallest subnormal for each product (sums of floats that fall below the normal range are
                  exact), all of it where they are cut off; the smallest normal where they are flushed: once for each
                  product that is, and for each sum of two that are not, so n times.
    """

    name: str
    accumulate: str
    inputs: str = ""
    elementary_ulps: int = 1
    truncates: bool = False
    truncates_inputs: bool = False
    block: int = 0
    intermediates: str = ""
    stores: int = 0
    flushes: bool = False
    compensated: bool = False
    algorithm: str = "direct"

    @property
    def format(self) -> Format:
        """The format of the partial sums; of twice the precision where their errors are summed too."""
        form = FORMATS[self.accumulate]
        if self.compensated:
            return Format(f"{form.name} pair", 2 * form.precision, form.smallest, form.largest)
        return form

    @property
    def largest(self) -> int:
        """The exponent that partial sums must stay below: that of the narrowest format they pass."""
        return min(FORMATS[name].largest for name in (self.accumulate, self.intermediates) if name)

    @property
    def unproven(self) -> str:
        """Why no element can be held to this model, "" where one can."""
        if self.algorithm == "direct":
            return ""
        if self.algorithm == "normwise":
            return "no proven model: normwise bounds say nothing of single elements"
        return (
            f"no proven model: the bound of {self.algorithm} depends on tiles, not on n and S alone "
            "(cnnspec.winograd.winograd_bound computes it)"
        )

    def reads(self, least: float, most: float) -> bool:
        """Say whether operands of magnitudes from `least` (of those that are not 0) to `most` are what E is for.

        Those that are rounded first must lie in the normal range of that format, which ends at its largest number.

        >>> model("fp16").reads(2.0**-14, 65504.0), model("fp16").reads(2.0**-15, 1.0), model("fp32").reads(0.0, 1e38)
        (True, False, True)
        """
        if not self.inputs:
            return True
        form = FORMATS[self.inputs]
        return least >= form.smallest_normal and most <= math.ldexp(
            2 - 2.0 ** (1 - form.precision), form.largest - 1
        )

    def relative(self, roundings: Any, one: Any, elementary: int = 0, terms: Any = None) -> Any:
        """Return the coefficient of S in E, for a number or an array of `roundings`.

        one: 1 as the number to compute with: a Fraction for the exact coefficient, a float for one within 2**-48 of it
        terms: how many terms there are, zeros included, for a model that sums them in blocks
        Raises UsageError for a model that is `unproven`.
        """
        if self.unproven:
            raise UsageError(f"{self.name}: {self.unproven}")
        u = _unit(self.accumulate, one, truncated=self.truncates)
        found = roundings * u
        if self.block and terms is not None:
            sums = -(-terms // self.block) - 1
            blocked = (self.block + sums) * u + self.block * sums * u * u
            found = found * (found <= blocked) + blocked * (blocked < found)
        if self.compensated:
            found = found * found / ((one - found) * (one - found))
        found = found + 2 * elementary * self.elementary_ulps * u
        if self.intermediates:
            low = _unit(self.intermediates, one)
            stores = roundings * (roundings <= self.stores) + self.stores * (roundings > self.stores)
            found = _both(found, _both(low * (stores > 0), (stores - (stores > 0)) * low))
        if self.inputs:
            i = _unit(self.inputs, one, truncated=self.truncates_inputs)
            found = _both(found, _both(i, i))
        return found

    def underflow_exponent(self) -> int:
        """Return e where one rounding below the normal range errs by at most 2**e.

        Sums whose terms are all multiples of 2**(e + 1) stay clear of it.
        """
        forms = [FORMATS[name] for name in (self.accumulate, self.intermediates) if name]
        if self.flushes:
            return max(form.smallest + form.precision - 1 for form in forms)
        return max(form.smallest for form in forms) - (not self.truncates) + 4 * self.compensated

    @property
    def keeps_exact_sums(self) -> bool:
        """Whether sums whose every partial sum is a normal number, or 0, of `accumulate` are exact."""
        return not (self.inputs or self.intermediates or self.compensated)

    def __str__(self) -> str:
        """Return the model in words.

        >>> print(MODELS["tf32 tensor cores"])
        accumulates in float32, truncating; operands in tf32, truncated
        """
        if self.algorithm != "direct":
            return self.unproven
        said = f"accumulates in {self.accumulate}" + ", truncating" * self.truncates
        said += f", {self.block} terms at a time" if self.block else ""
        said += ", and the errors as well" * self.compensated + ", subnormals flushed" * self.flushes
        if self.intermediates:
            said += f"; up to {self.stores} partial sums in {self.intermediates}"
        if self.inputs:
            said += f"; operands in {self.inputs}" + ", truncated" * self.truncates_inputs
        return said


def _unit(name: str, one: Any, *, truncated: bool = False) -> Any:
    """Return the largest relative error of one rounding to a format."""
    return one / 2 ** (FORMATS[name].precision - truncated)


def _both(a: Any, b: Any) -> Any:
    """Return (1 + a)(1 + b) - 1 without cancellation."""
    return a + b + a * b


def direct(dtype: str) -> ErrorModel:
    """Return the strictest direct model of `dtype`: 16-bit formats accumulate in float32.

    >>> direct("bfloat16").accumulate
    'float32'
    """
    accumulate = "float32" if dtype in ("float16", "bfloat16") else dtype
    return ErrorModel(f"direct {accumulate}", accumulate)


def blocked(size: int, accumulate: str = "float32") -> ErrorModel:
    """Return the model of sums in blocks of `size` terms.

    >>> blocked(64).relative(576, 1.0, terms=576) * 2**24, direct("float32").relative(576, 1.0) * 2**24
    (72.00003051757812, 576.0)
    """
    return ErrorModel(f"blocked {accumulate} {size}", accumulate, block=size)


def intermediates(low: str, stores: int) -> ErrorModel:
    """Return the model of float32 sums that are stored and added up in the format `low`, `stores` roundings in all."""
    return ErrorModel(f"{low} intermediates {stores}", "float32", intermediates=low, stores=stores)


TAPS = 10
"""The taps of a 3x3 kernel, each a partial sum, and one rounding more: what "intermediates" alone means."""

MODELS = {
    model.name: model
    for model in (
        ErrorModel("direct float64", "float64"),
        ErrorModel("compensated float32", "float32", compensated=True),
        ErrorModel("direct float32", "float32"),
        ErrorModel("float32 flushing subnormals", "float32", flushes=True),
        ErrorModel("float32 truncation", "float32", truncates=True),
        ErrorModel("tf32 inputs", "float32", inputs="tf32"),
        ErrorModel("float16 inputs", "float32", inputs="float16"),
        ErrorModel("tf32 tensor cores", "float32", inputs="tf32", truncates=True, truncates_inputs=True),
        ErrorModel("float16 intermediates", "float32", intermediates="float16", stores=TAPS),
        ErrorModel("float16 accumulation", "float16"),
        ErrorModel("float16 throughout", "float16", inputs="float16"),
        ErrorModel("bfloat16 inputs", "float32", inputs="bfloat16"),
        ErrorModel("bfloat16 intermediates", "float32", intermediates="bfloat16", stores=TAPS),
        ErrorModel("bfloat16 accumulation", "bfloat16"),
        ErrorModel("bfloat16 throughout", "bfloat16", inputs="bfloat16"),
    )
}
"""The models by name, from the strictest to the widest on sums of a dozen terms."""

UNPROVEN = {
    model.name: model
    for model in (
        ErrorModel("winograd F(2,3)", "float32", algorithm="winograd F(2,3)"),
        ErrorModel("winograd F(4,3)", "float32", algorithm="winograd F(4,3)"),
        ErrorModel("normwise", "float32", algorithm="normwise"),
    )
}
"""What can be declared, but holds no element to anything: see `ErrorModel.unproven`."""

SHORT = {
    "fp64": "direct float64",
    "float64": "direct float64",
    "fp32": "direct float32",
    "float32": "direct float32",
    "tf32": "tf32 inputs",
    "fp16": "float16 inputs",
    "bf16": "bfloat16 inputs",
}
"""Other names of models on the command line."""


def model(name: str) -> ErrorModel:
    """Return the error model `name`; short forms such as "fp32" and "tf32", and numbers of one's own, are understood.

    >>> model("tf32").name, model("float16 intermediates 26").stores, model("blocked float32 64").block
    ('tf32 inputs', 26, 64)
    """
    full = SHORT.get(name, name)
    known = MODELS | UNPROVEN
    if full in known:
        return known[full]
    if numbered := re.fullmatch(r"(float16|bfloat16) intermediates ([1-9]\d{0,8})", full):
        return intermediates(numbered[1], int(numbered[2]))
    if numbered := re.fullmatch(r"blocked (float32|float64) ([1-9]\d{0,8})", full):
        return blocked(int(numbered[2]), numbered[1])
    raise UsageError(f"unknown error model {name!r}; known are {', '.join((*known, *SHORT))}")


def with_elementary(base: ErrorModel, ulps: int) -> ErrorModel:
    """Return `base` with another error of the elementary functions."""
    return replace(base, elementary_ulps=ulps)
