"""Models: what each describes stays within its bound, what is worse does not, and refusals have their reasons."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from cnnspec import exact
from cnnspec.bounds import FORMATS, half_ulp_exponent
from cnnspec.cases import Case
from cnnspec.compare import verdict
from cnnspec.errors import UsageError
from cnnspec.models import MODELS, UNPROVEN, ErrorModel, blocked, direct, intermediates, model
from tests.kernels.arithmetic import KERNELS, Kernel, Values, cut_off, in_order, of, tensor_core

Data = Callable[[np.random.Generator], tuple[Values, Values]]
TINY = 2.0**-63


def as_float32(values: Values) -> Values:
    return values.astype(np.float32).astype(np.float64)


def pair(make: Callable[[np.random.Generator, int], Values], smallest: int, largest: int) -> Data:
    def draw(rng: np.random.Generator) -> tuple[Values, Values]:
        n = int(rng.integers(smallest, largest + 1))
        return as_float32(make(rng, n)), as_float32(make(rng, n))

    return draw


def normal(rng: np.random.Generator, n: int) -> Values:
    return rng.standard_normal(n) + np.copysign(0.01, rng.standard_normal(n))


def positive(rng: np.random.Generator, n: int) -> Values:
    return rng.random(n) + 0.01


def wide(rng: np.random.Generator, n: int) -> Values:
    values: Values = rng.choice((-1.0, 1.0), n) * (1 + rng.random(n)) * 2.0 ** rng.integers(-10, 4, n)
    return values


def sparse(rng: np.random.Generator, n: int) -> Values:
    return np.where(rng.random(n) < 0.3, wide(rng, n), 0.0)


def constant(rng: np.random.Generator, n: int) -> Values:
    return np.full(n, 0.2 + rng.random())


DATA = {
    "normal": pair(normal, 1, 40),
    "positive": pair(positive, 1, 40),
    "wide": pair(wide, 1, 40),
    "sparse": pair(sparse, 1, 60),
    "constant": pair(constant, 1, 60),
    "few": pair(wide, 1, 4),
}
LONG = pair(constant, 2000, 2000)
SHORT = pair(normal, 1, 2)
FAINT: Data = lambda rng: tuple(TINY * values for values in DATA["normal"](rng))  # type: ignore[assignment,return-value]  # noqa: E731


def within(which: ErrorModel, x: Values, w: Values, value: float) -> bool:
    """Say whether a float32 (or, from float64 sums, float64) value is within the bound, in exact numbers."""
    products = [Fraction(a) * Fraction(b) for a, b in zip(x.tolist(), w.tolist(), strict=True)]
    n = sum(product != 0 for product in products)
    y, size = sum(products, Fraction(0)), sum(map(abs, products), Fraction(0))
    bound = which.relative(n, Fraction(1), terms=len(products)) * size
    bound += n * Fraction(2) ** which.underflow_exponent()
    if which.compensated:
        reach = abs(y) + bound
        bound += Fraction(2) ** half_ulp_exponent(reach.numerator, reach.denominator, 0, FORMATS["float32"])
    return bool(abs(Fraction(value) - y) <= bound)


def share_beyond(which: ErrorModel, kernel: Kernel, data: Data, trials: int, sums: int) -> float:
    """Return in how many of `trials` any of `sums` sums is beyond the bound."""
    rng = np.random.default_rng(1)
    beyond = 0
    for _ in range(trials):
        drawn = [data(rng) for _ in range(sums)]
        beyond += any(not within(which, x, w, kernel(x, w)) for x, w in drawn)
    return beyond / trials


@pytest.mark.parametrize("data", [*DATA.values(), FAINT], ids=[*DATA, "faint"])
@pytest.mark.parametrize("name", KERNELS)
def test_a_kind_of_computation_stays_within_its_model(name: str, data: Data) -> None:
    """Faint products lie around the smallest normal float32; there the 16-bit formats hold nothing but zeros."""
    if data is FAINT and MODELS.get(name, direct("float32")).inputs == "float16":
        return  # operands below the normal range of `inputs` are outside the model
    with np.errstate(under="ignore"):
        assert share_beyond(model(name), KERNELS[name], data, trials=1, sums=60) == 0


@pytest.mark.parametrize("name", ["blocked float32 8", "float16 intermediates", "bfloat16 intermediates"])
def test_it_does_for_thousands_of_terms_as_well(name: str) -> None:
    assert share_beyond(model(name), KERNELS[name], LONG, trials=1, sums=4) == 0


@pytest.mark.parametrize(
    ("name", "worse", "data"),
    [
        ("direct float64", "compensated float32", DATA["normal"]),
        ("compensated float32", "direct float32", DATA["normal"]),
        ("direct float32", "float32 flushing subnormals", FAINT),
        ("direct float32", "float32 truncation", DATA["few"]),
        ("float32 flushing subnormals", "float32 truncation", DATA["few"]),
        ("float32 truncation", "tf32 inputs", DATA["few"]),
        ("tf32 inputs", "tf32 tensor cores", DATA["few"]),
        ("tf32 tensor cores", "bfloat16 inputs", DATA["few"]),
        ("float16 inputs", "bfloat16 inputs", DATA["few"]),
        ("float16 intermediates", "float16 accumulation", LONG),
        ("float16 accumulation", "float16 throughout", SHORT),
        ("float16 throughout", "bfloat16 inputs", DATA["few"]),
        ("bfloat16 inputs", "bfloat16 accumulation", LONG),
        ("bfloat16 intermediates", "bfloat16 accumulation", LONG),
        ("bfloat16 accumulation", "bfloat16 throughout", SHORT),
        ("blocked float32 8", "direct float32", LONG),
    ],
)
def test_the_next_worse_kind_does_not(name: str, worse: str, data: Data) -> None:
    trials, sums = (6, 4) if data is LONG else (30, 16)
    with np.errstate(under="ignore"):
        assert share_beyond(model(name), KERNELS[worse], data, trials, sums) > 0.5


@pytest.mark.parametrize("block", [1, 2, 4, 16])
def test_tensor_cores_without_guard_bits_are_within_truncation(block: int) -> None:
    """Operands of 11 bits, whose products are exact; blocks of any size."""
    rng = np.random.default_rng(2)
    kernel = of(lambda x: x.astype(np.float16).astype(np.float64), lambda x, w: tensor_core(x, w, block))
    both = MODELS["float32 truncation"]
    for data in DATA.values():
        for _ in range(30):
            x, w = (values.astype(np.float16).astype(np.float64) for values in data(rng))
            assert within(both, x, w, kernel(x, w))
    assert share_beyond(MODELS["direct float32"], kernel, pair(positive, 2, 3), 20, 30) > 0.5


def test_truncation_is_what_it_says_by_hand() -> None:
    assert cut_off(Fraction(2**24 + 1)) == 2**24
    assert cut_off(Fraction(-(2**25) - 3)) == -(2**25)
    assert cut_off(Fraction(7, 2), unit=1) == 2


@pytest.mark.parametrize("name", KERNELS)
def test_sums_of_small_integers_are_exact_where_the_model_says_so(name: str) -> None:
    """Six terms of at most 5 x 5, whose sums every format holds."""
    rng = np.random.default_rng(3)
    for _ in range(40):
        x, w = (rng.integers(-5, 6, 6).astype(float) for _ in range(2))
        assert KERNELS[name](x, w) == float(x @ w)
    exact = name.startswith(("direct", "blocked", "float32")) or name.endswith("accumulation")
    assert model(name).keeps_exact_sums is exact


def test_sums_that_fit_the_accumulation_may_still_round_elsewhere() -> None:
    x, w = np.array([4097.0, 1.0]), np.array([1.0, 1.0])

    assert in_order(x, w) == 4098.0
    for name in ("tf32 inputs", "float16 inputs", "float16 intermediates", "bfloat16 inputs"):
        assert KERNELS[name](x, w) != 4098.0
        assert not MODELS[name].keeps_exact_sums


@pytest.mark.parametrize("name", KERNELS)
def test_the_coefficient_in_floats_is_next_to_the_exact_one(name: str) -> None:
    which, counts = model(name), [0, 1, 2, 9, 10, 11, 576, 4608, 2**20]
    found = which.relative(np.array(counts), 1.0, elementary=1, terms=np.array(counts))
    for count, near in zip(counts, found.tolist(), strict=True):
        exact = which.relative(count, Fraction(1), elementary=1, terms=count)
        assert abs(Fraction(near) - exact) <= exact / 2**48
        assert near == which.relative(float(count), 1.0, elementary=1, terms=float(count))


@pytest.mark.parametrize(
    ("which", "count", "coefficient"),
    [
        (direct("float32"), 9, Fraction(9, 2**24)),
        (MODELS["float32 truncation"], 9, Fraction(9, 2**23)),
        (MODELS["float32 flushing subnormals"], 9, Fraction(9, 2**24)),
        (MODELS["bfloat16 accumulation"], 3, Fraction(3, 256)),
        (MODELS["compensated float32"], 2**22, Fraction(1, 9)),  # n u = 1/4: (1/4)^2 / (3/4)^2
        (ErrorModel("halves", "bfloat16", inputs="float16"), 0, Fraction(2**12 + 1, 2**22)),  # 2 v + v^2
        (
            ErrorModel("cut", "float16", inputs="float16", truncates_inputs=True),
            0,
            Fraction(2**11 + 1, 2**20),
        ),
        (intermediates("bfloat16", 2), 0, Fraction(0)),
        (ErrorModel("low", "bfloat16", intermediates="bfloat16", stores=9), 1, Fraction(2 * 256 + 1, 2**16)),
        (blocked(4), 3, Fraction(3, 2**24)),
    ],
)
def test_coefficients_by_hand(which: ErrorModel, count: int, coefficient: Fraction) -> None:
    assert which.relative(count, Fraction(1)) == coefficient


@pytest.mark.parametrize(
    ("count", "terms", "steps"),
    [
        (16, 16, 7 + Fraction(4 * 3, 2**24)),  # 4 in each block, 3 sums of 4
        (4, 16, 4),  # four blocks with one term each: as in any order
        (16, None, 16),
        (17, 17, 8 + Fraction(4 * 4, 2**24)),
    ],
)
def test_blocks_shorten_sums_that_are_not_sparse(count: int, terms: int | None, steps: Fraction) -> None:
    assert blocked(4).relative(count, Fraction(1), terms=terms) == steps / 2**24


@pytest.mark.parametrize(
    ("which", "exponent"),
    [
        (direct("float32"), -150),
        (MODELS["float32 flushing subnormals"], -126),
        (MODELS["float32 truncation"], -149),
        (MODELS["float16 accumulation"], -25),
        (MODELS["float16 intermediates"], -25),
        (MODELS["bfloat16 intermediates"], -134),
        (MODELS["compensated float32"], -146),
    ],
)
def test_what_is_lost_below_the_normal_range(which: ErrorModel, exponent: int) -> None:
    assert which.underflow_exponent() == exponent


@pytest.mark.parametrize(
    ("least", "most", "holds"),
    [(2.0**-126, 2.0**128 - 2.0**120, True), (2.0**-127, 1.0, False), (1.0, 2.0**128 - 2.0**104, False)],
)
def test_operands_that_are_rounded_stay_in_the_range_of_their_format(
    least: float, most: float, holds: bool
) -> None:
    """The largest float32 number, 2^128 - 2^104, rounds to infinity in bfloat16."""
    assert MODELS["bfloat16 inputs"].reads(least, most) is holds
    assert MODELS["direct float32"].reads(least, most)


def test_partial_sums_stay_in_the_narrowest_range() -> None:
    assert (MODELS["direct float32"].largest, MODELS["float16 intermediates"].largest) == (128, 16)


@pytest.mark.parametrize(
    ("name", "holds"),
    [("direct float32", False), ("float32 flushing subnormals", True), ("float16 intermediates", True)],
)
def test_a_verdict_lets_a_model_lose_what_it_may_below_the_normal_range(name: str, holds: bool) -> None:
    """The sum 2^-126 - 2^-127 is a subnormal number of float32 that every direct sum has."""
    case = Case("linear", {"in_features": 2, "out_features": 1, "bias": False}, ((1, 2),))
    operands = {"input": np.array([[2.0**-126, -(2.0**-127)]]), "weight": np.ones((1, 2))}
    right = exact.evaluate(case.spec, case.operation, operands)

    assert verdict(right, [2.0**-127], "float32", MODELS[name]).holds
    assert verdict(right, [0.0], "float32", MODELS[name]).holds is holds


def test_a_verdict_says_nothing_of_sums_beyond_the_narrowest_range() -> None:
    case = Case("linear", {"in_features": 1, "out_features": 1, "bias": False}, ((1, 1),))
    operands = {"input": np.array([[2.0**16]]), "weight": np.ones((1, 1))}
    right = exact.evaluate(case.spec, case.operation, operands)

    assert verdict(right, [np.inf], "float32", MODELS["float16 intermediates"]).judged == 0
    assert not verdict(right, [np.inf], "float32", MODELS["bfloat16 intermediates"]).holds


def test_models_are_found_by_name_and_short_name() -> None:
    assert model("tf32") is MODELS["tf32 inputs"]
    assert model("fp32") == direct("bfloat16")
    assert model("bf16") is MODELS["bfloat16 inputs"]
    assert model("fp16") is MODELS["float16 inputs"]
    assert all(model(name) is found for name, found in (MODELS | UNPROVEN).items())
    assert model("float16 intermediates 26") == intermediates("float16", 26)
    assert model("float16 intermediates").stores == 10
    assert model("blocked float64 256") == blocked(256, "float64")


@pytest.mark.parametrize("name", ["fp8", "float16 intermediates 0", "blocked float32", "direct float32 2"])
def test_unknown_models_are_refused_with_what_there_is(name: str) -> None:
    with pytest.raises(UsageError, match=f"unknown error model '{name}'; known are direct float64"):
        model(name)


@pytest.mark.parametrize("which", UNPROVEN.values(), ids=list(UNPROVEN))
def test_what_has_no_bound_says_why_and_gives_none(which: ErrorModel) -> None:
    assert which.unproven.startswith("no proven model: ")
    assert str(which) == which.unproven
    with pytest.raises(UsageError, match=which.name.replace("(", r"\(").replace(")", r"\)")):
        which.relative(9, Fraction(1))


def test_models_with_a_bound_say_nothing_against_it_and_differ_in_words() -> None:
    assert not any(which.unproven for which in MODELS.values())
    assert len({str(which) for which in MODELS.values()}) == len(MODELS)


def test_stricter_models_come_first() -> None:
    """Flushing has the coefficient of its neighbour, TF32 that of float16."""
    coefficients: list[Any] = [which.relative(12, Fraction(1)) for which in MODELS.values()]

    assert coefficients == sorted(coefficients)
