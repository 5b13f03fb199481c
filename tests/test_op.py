"""What every operator derives from its own formulas, and the wording of what is refused."""

from typing import Any

import numpy as np
import pytest

import cnnspec
from cnnspec import ops
from cnnspec.errors import ArgumentError, CnnspecError, ShapeError, UsageError
from cnnspec.op import Operator, arguments_of, bytes_per_element, integer, without_defaults
from cnnspec.ops.combine import Add
from cnnspec.ops.conv import Conv2d
from cnnspec.ops.linear import Linear
from cnnspec.ops.pool import MaxPool2d
from cnnspec.spec import spell


def test_costs_follow_from_the_formulas() -> None:
    conv = Conv2d(3, 64, 7, 2, 3)
    image = (1, 3, 224, 224)
    assert conv.parameter_count == 64 * 3 * 49 + 64
    assert conv.macs(image) == 112 * 112 * 64 * 3 * 49
    assert conv.flops(image) == 2 * conv.macs(image)
    assert conv.bias_adds(image) == 112 * 112 * 64
    assert conv.parameter_bytes("bfloat16") == 2 * conv.parameter_count
    assert conv.activation_bytes(image, dtype="float64") == 8 * 112 * 112 * 64
    pool = MaxPool2d(2)
    assert (pool.parameter_count, pool.macs(image), pool.flops(image), pool.bias_adds(image)) == (0, 0, 0, 0)
    assert Add().receptive_field() == ()


def test_an_operator_must_say_its_shape_and_value() -> None:
    for method in (Operator().output_shape, Operator().reference):
        with pytest.raises(NotImplementedError):
            method()


def test_arguments_take_one_form() -> None:
    """Lists, tuples, single integers and NumPy's integers say the same."""
    ways: list[Any] = [3, (3, 3), [3, 3], np.int64(3)]
    assert len({Conv2d(1, 1, kernel) for kernel in ways}) == 1
    assert arguments_of(MaxPool2d(2))["stride"] == (2, 2)
    assert repr(Linear(np.int64(2), 3)) == "Linear(in_features=2, out_features=3, bias=True)"  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        Linear(2, 3).bias = False  # type: ignore[misc]


def test_reference_takes_arrays_of_any_library() -> None:
    x, w = np.arange(8.0).reshape(1, 2, 4), np.ones((1, 2, 2))
    assert cnnspec.Conv1d(2, 1, 2, bias=False).reference(x, w) == [[[10, 14, 18]]]
    assert cnnspec.Linear(2, 1, bias=False).reference([1, 2], [[3, 4]], None) == [11]


WORDS: list[tuple[Any, type[CnnspecError], str]] = [
    (lambda: Conv2d(4, 6, 3, groups=3), ArgumentError, r"groups=3 must divide in_channels=4"),
    (
        lambda: Conv2d(4, 6, 3, padding="full"),
        ArgumentError,
        r"padding='full' must be integers, 'same' or 'valid'",
    ),
    (
        lambda: Conv2d(4, 6, 3, 2, "same"),
        ArgumentError,
        r"padding='same' needs stride=1, not stride=\(2, 2\)",
    ),
    (
        lambda: Conv2d(4, 6, 3, padding_mode="mirror"),
        ArgumentError,
        r"padding_mode='mirror' is not one of zeros, ref",
    ),
    (lambda: Conv2d(4, 6, "3"), ArgumentError, r"kernel_size='3' must be an integer"),  # type: ignore[arg-type]
    (
        lambda: Conv2d(4, 6, 3).output_shape((4, 7)),
        ShapeError,
        r"\(4, 7\) must have 4 axes \(batch, channels, 2 sp",
    ),
    (
        lambda: Conv2d(4, 6, 3).output_shape((1, 5, 7, 7)),
        ShapeError,
        r"in_channels=4 must be the 5 channels of",
    ),
    (
        lambda: Conv2d(4, 6, 9).output_shape((1, 4, 9, 7)),
        ShapeError,
        r"spans 9 pixels but spatial axis 1 has 7",
    ),
    (
        lambda: Conv2d(4, 6, (1, 2, 3)).output_shape((1, 4, 9, 7)),
        ShapeError,
        r"kernel_size=\(1, 2, 3\) must be 2 int",
    ),
    (
        lambda: MaxPool2d(3, 1, 2).output_shape((1, 9, 9)),
        ShapeError,
        r"padding=2 must be between 0 and half of k",
    ),
    (
        lambda: Linear(3, 2).output_shape((4, 5)),
        ShapeError,
        r"the last axis of \(4, 5\) must be in_features=3",
    ),
    (
        lambda: Linear(3, 2).reference([1, 2, 3], [[1, 2, 3]], [0, 0]),
        ShapeError,
        r"weight of shape \(1, 3\) must be",
    ),
    (
        lambda: Linear(3, 2).reference([1, 2, 3], [[1, 2, 3]] * 2),
        ShapeError,
        r"1 parameters given, expected weight",
    ),
    (lambda: bytes_per_element("float8"), ArgumentError, r"dtype='float8' is not one of float64"),
    (lambda: ops.spec("conv4d"), UsageError, r"unknown operator 'conv4d'; did you mean conv"),
    (lambda: ops.spec("zzz"), UsageError, r"known are conv1d"),
]


@pytest.mark.parametrize(
    ("call", "error", "words"), WORDS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_errors_name_the_argument_its_value_and_the_relation(call: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def test_errors_carry_their_values() -> None:
    with pytest.raises(ArgumentError) as caught:
        Conv2d(4, 6, 3, groups=4)
    assert caught.value.values == {"groups": 4}
    assert isinstance(caught.value, ValueError)


def test_helpers_of_domains() -> None:
    class First:
        def integer(self, low: int, high: int) -> int:
            return low

        def choice(self, options: Any) -> Any:
            return options[0]

    assert spell(First(), (2, 2)) == 2
    assert spell(First(), (2, 3)) == (2, 3)
    assert without_defaults(Conv2d, {"kernel_size": 3, "stride": 1, "groups": 2}) == {
        "kernel_size": 3,
        "groups": 2,
    }
    with pytest.raises(ArgumentError, match="dim=True must be an integer"):
        integer("dim", True)


def test_specs_are_complete() -> None:
    for name in ops.NAMES:
        spec = ops.spec(name)
        assert spec.name == name
        assert spec.layer == "" or hasattr(__import__("torch").nn, spec.layer)
        assert name in ops.FAMILIES[ops.family(name)]
        assert 1 <= spec.input_count <= len(spec.operands)
        assert set(spec.keywords) <= {field.name for field in spec.operator.__dataclass_fields__.values()}  # type: ignore[attr-defined]
