"""Operators as text: parsed, spelled, and refused by name."""

import pytest

from cnnspec.errors import UsageError
from cnnspec.spelling import parse_operator, spelled


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("Conv2d(3, 64, 7, stride=2, padding=3)", "Conv2d(3, 64, 7, stride=2, padding=3)"),
        ("conv2d(3, 64, kernel_size=(7, 7))", "Conv2d(3, 64, 7)"),
        (" Conv1d(in_channels=4, out_channels=8, kernel_size=3, bias=False) ", "Conv1d(4, 8, 3, bias=False)"),
        ("Conv2d(4, 8, (3, 1), 1, 'same', groups=2)", "Conv2d(4, 8, (3, 1), padding='same', groups=2)"),
        ("max_pool2d(2)", "MaxPool2d(2)"),
        ("MaxPool2d((3, 2), stride=(3, 2))", "MaxPool2d((3, 2))"),
        ("AvgPool2d(3, stride=2, divisor_override=5)", "AvgPool2d(3, stride=2, divisor_override=5)"),
        ("ReLU", "ReLU()"),
        ("relu()", "ReLU()"),
        ("LogSoftmax(dim=1)", "LogSoftmax(dim=1)"),
        ("Pad((1, -1), value=-2.5)", "Pad((1, -1), value=-2.5)"),
    ],
)
def test_operator_from_text(text: str, canonical: str) -> None:
    operator = parse_operator(text)
    assert spelled(operator) == canonical
    assert parse_operator(canonical) == operator


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Conv2D(3, 64, 7)", "unknown operator 'Conv2D' in 'Conv2D(3, 64, 7)': did you mean 'Conv2d'?"),
        ("Dense(3)", "unknown operator 'Dense' in 'Dense(3)': known are Conv1d, Conv2d, "),
        (
            "Conv2d(3, 64, 7, strid=2)",
            "unknown argument 'strid' in 'Conv2d(3, 64, 7, strid=2)': did you mean 'stride'?",
        ),
        ("Conv2d(3, 64)", "'Conv2d(3, 64)': missing a required argument: 'kernel_size'"),
        ("Conv2d(3, 64, 7, in_channels=3)", "multiple values for argument 'in_channels'"),
        ("ReLU(1, 2)", "'ReLU(1, 2)': too many positional arguments"),
        ("Conv2d(3, 64, 7, groups=2)", "groups=2 must divide in_channels=3"),
        ("Conv2d('3', 64, 7)", "\"Conv2d('3', 64, 7)\": in_channels='3' must be an integer"),
        ("Conv2d(3, 64", "not an operator: 'Conv2d(3, 64' ('(' was never closed)"),
        ("Conv2d(3, 64, size)", "not an operator: 'Conv2d(3, 64, size)' (every argument must be a literal)"),
        ("Conv2d(*[3, 64, 7])", "every argument must be a literal"),
        ("Conv2d(**{'in_channels': 3})", "it must read as Name(value, argument=value, ...)"),
        ("nn.Conv2d(3, 64, 7)", "it must read as Name(value, argument=value, ...)"),
        ("3", "it must read as Name(value, argument=value, ...)"),
        ("", "not an operator: '' (invalid syntax)"),
    ],
)
def test_what_is_no_operator_is_named(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_operator(text)
    assert message in str(error.value)
