"""The casebook holds, and catches statements and operators that are wrong."""

import dataclasses
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import pytest

from cnnspec import casebook, ops
from cnnspec.casebook import (
    Accept,
    CasebookError,
    Entry,
    Example,
    Finding,
    NetworkTable,
    ReceptiveFields,
    Refuse,
)
from cnnspec.nested import Array, elementwise, ravel, shape_of, unravel

SPECS = casebook.specs_directory()
ENTRIES = casebook.load_all(SPECS)


def entry(name: str) -> Entry:
    return next(entry for entry in ENTRIES if entry.name == name)


def own(operator: str, arguments: Mapping[str, Any], operands: Mapping[str, Array]) -> Array:
    return ops.spec(operator).operator(**arguments).reference(*operands.values())


# What is there


def test_every_file_is_read() -> None:
    assert {entry.file for entry in ENTRIES} == set(casebook.find(SPECS))
    assert {type(entry) for entry in ENTRIES} == set(casebook.entries.KINDS.values())


def test_every_entry_has_a_name_of_its_own_and_a_source() -> None:
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)
    assert [entry.name for entry in ENTRIES if not entry.source.author or not entry.source.section] == []


def test_every_operator_has_an_example() -> None:
    shown = {entry.operator for entry in ENTRIES if isinstance(entry, Example)}
    assert shown == {*ops.NAMES, *casebook.TEXTBOOK}


def test_every_family_has_calls_that_must_be_refused() -> None:
    refused = {ops.family(entry.operator) for entry in ENTRIES if isinstance(entry, Refuse)}
    any_call_is_legal = {
        "pointwise",
        "relu6",
        "leaky_relu",
        "hardswish",
        "elu",
        "silu",
        "softplus",
        "global_pool",
    }
    assert {*ops.FAMILIES} - refused == any_call_is_legal


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_entry_holds(entry: Entry) -> None:
    assert casebook.check(entry) == []


# What a wrong statement gives


IMAGE = "conv2d of 0 to 8"
DILATION = "guide: dilation"
LENET = "LeNet-5 of d2l"
CARD = "resnet18: model card"
DAG = "graph of the lecture: w1 is used twice"
TIE = "max_pool1d tie: the first index wins"
LEGAL = {"in_channels": 1, "out_channels": 1, "kernel_size": 3}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (IMAGE, {"output": [[[[19, 25], [37, 44]]]]}, "[0][0][1][1] is 43, expected 44; 1 of 4 are wrong"),
        (IMAGE, {"output": [[19, 25], [37, 43]]}, "output has shape (1, 1, 2, 2), expected (2, 2)"),
        ("softmax of 1, 2, 3", {"digits": 5}, "expected 0.09 to 5 digits; 3 of 3 are wrong"),
        (TIE, {"indices": [[[1, 1, 3, 3]]]}, "indices[0][0][0] is 0, expected 1"),
        ("pad constant on the last axis", {"output": [[[-0.0, 1, 2, 3, 0, 0]]]}, "is 0, expected -0.0"),
        (DILATION, {"output_shape": (1, 1, 4, 4)}, "output shape is (1, 1, 3, 3), expected (1, 1, 4, 4)"),
        (DILATION, {"input_shapes": ((1, 1, 2, 2),)}, "raised ShapeError"),
        ("conv2d on a batch", {"macs": 216}, "macs is 864, expected 216"),
        ("conv2d on a batch", {"additions": 864}, "additions is 816, expected 864"),
        ("conv2d on a batch", {"flops": 864}, "flops is 1728, expected 864"),
        ("group_norm has statistics of its own", {"norm_ops": 1024}, "norm_ops is 3072, expected 1024"),
        ("conv2d four groups", {"parameter_shapes": {"weight": (8, 1, 3, 3)}}, "parameter_shapes is {"),
        ("conv2d empty batch", {"input_shapes": ((1, 2, 5, 5),)}, "raised ShapeError: in_channels=3"),
        ("conv2d empty batch", {"output_shape": (1, 4, 3, 3)}, "output shape is (0, 4, 3, 3), expected"),
        ("conv2d stride 0", {"arguments": LEGAL}, "accepted with output shape (1, 1, 3, 3)"),
        ("conv2d stride 0", {"when": "constructed"}, "constructed, though it must be refused"),
        ("conv2d no groups", {"when": "called"}, "refused when constructed, not when called: groups=0"),
        (LENET, {"parameter_count": 61705}, "parameter_count is 61706, expected 61705"),
        (LENET, {"input_shapes": ((1, 1, 32, 32),)}, "output shape of layer 0 (conv2d) is (1, 6, 32, 32)"),
        ("AlexNet of torchvision", {"giga_macs": Fraction(715, 1000)}, "giga_macs is 0.714, expected 0.715"),
        (CARD, {"parameter_count": 11689513}, "parameter_count is 11689512, expected 11689513"),
        (CARD, {"giga_macs": Fraction(1815, 1000)}, "giga_macs is 1.814, expected 1.815"),
        (CARD, {"network": "resnet34"}, "parameter_count is 21797672, expected 11689512"),
        (CARD, {"input_shapes": ((1, 4, 224, 224),)}, "raised ShapeError: layer conv1, Conv2d(3, 64, 7"),
        (DAG, {"output": [89]}, "output[0] is 90, expected 89"),
        (DAG, {"parameter_count": 3}, "parameter_count is 2, expected 3"),
        (DAG, {"gradients": {"w1": [[45]]}}, "gradient of w1[0][0] is 85, expected 45"),
    ],
)  # fmt: skip
def test_false_statement_is_found(name: str, change: Mapping[str, Any], message: str) -> None:
    findings = casebook.check(dataclasses.replace(entry(name), **change))
    assert {finding.name for finding in findings} == {name}
    assert any(message in finding.message for finding in findings)


def test_false_receptive_field_is_found() -> None:
    true = entry("alexnet_v2")
    assert isinstance(true, ReceptiveFields)
    last = dataclasses.replace(true.layers[-1], size=227)
    false = dataclasses.replace(true, layers=(*true.layers[:-1], last))
    assert casebook.check(false) == [
        Finding("alexnet_v2", "size after layer 7 (max_pool2d) is (195, 195), expected (227, 227)")
    ]


def test_false_statement_on_a_node_is_found() -> None:
    true = entry("receptive field of VGG-16")
    assert isinstance(true, NetworkTable)
    for change, message in (
        ({"size": 211}, "size after features.30 is (212, 212), expected (211, 211)"),
        ({"padding": 89}, "padding after features.30 is (90, 90), expected (89, 89)"),
        (
            {"output_shape": (1, 512, 8, 8)},
            "output_shape of features.30 is (1, 512, 7, 7), expected (1, 512, 8, 8)",
        ),
        ({"macs": 1}, "macs of features.30 is 0, expected 1"),
        ({"node": "classifier.6"}, "after classifier.6 the receptive field is all, expected 212"),
        ({"node": "features.31"}, "raised ArgumentError: 'features.31' is no node and no path to nodes"),
    ):
        false = dataclasses.replace(true, nodes=(dataclasses.replace(true.nodes[1], **change),))
        assert message in casebook.check(false)[0].message


# What a wrong operator gives

Wrong = Callable[[str, Mapping[str, Any], Mapping[str, Array]], Array]


def flipped(array: Array) -> Array:
    """Reverse the kernel of a weight."""
    shape, values = shape_of(array), ravel(array)
    size = len(values) // (shape[0] * shape[1])
    rows = [values[i : i + size][::-1] for i in range(0, len(values), size)]
    return unravel([value for row in rows for value in row], shape)


def true_convolution(operator: str, arguments: Mapping[str, Any], operands: Mapping[str, Array]) -> Array:
    return own(operator, arguments, {**operands, "weight": flipped(operands["weight"])})


def no_bias(operator: str, arguments: Mapping[str, Any], operands: Mapping[str, Array]) -> Array:
    return own(operator, {**arguments, "bias": False}, operands)


def without(name: str, value: Any) -> Wrong:
    """Return an operator that takes `value` whatever the argument `name` says."""

    def wrong(operator: str, arguments: Mapping[str, Any], operands: Mapping[str, Array]) -> Array:
        return own(operator, {**arguments, name: value}, operands)

    return wrong


def on_other(change: Callable[[Any], Any]) -> Wrong:
    """Return an operator that sees its input changed."""

    def wrong(operator: str, arguments: Mapping[str, Any], operands: Mapping[str, Array]) -> Array:
        return own(operator, arguments, {**operands, "input": elementwise(change, operands["input"])})

    return wrong


def reversed_pairs(operator: str, arguments: Mapping[str, Any], operands: Mapping[str, Array]) -> Array:
    return own(operator, {**arguments, "padding": arguments["padding"][::-1]}, operands)


def reversed_inputs(operator: str, arguments: Mapping[str, Any], operands: Mapping[str, Array]) -> Array:
    return own(operator, arguments, dict(zip(operands, [*operands.values()][::-1], strict=True)))


def nothing(operator: str, arguments: Mapping[str, Any], operands: Mapping[str, Array]) -> Array:
    raise NotImplementedError(operator)


def anything(operator: str, arguments: Mapping[str, Any], operands: Mapping[str, Array]) -> Array:
    return operands["input"]


@pytest.mark.parametrize(
    ("operator", "wrong", "least"),
    [
        ("conv2d", true_convolution, 5),
        ("conv1d", true_convolution, 10),
        ("conv2d", no_bias, 2),
        ("conv1d", without("padding_mode", "zeros"), 5),
        ("conv1d", without("dilation", 1), 3),
        ("conv1d", without("stride", 1), 2),
        ("conv1d", without("padding", 0), 10),
        ("max_pool1d", without("ceil_mode", value=False), 1),
        ("max_pool1d", without("dilation", 1), 1),
        ("max_pool2d", without("stride", None), 3),
        ("max_pool1d", on_other(lambda x: 0 if x != x else x), 1),
        ("avg_pool1d", without("count_include_pad", value=True), 2),
        ("avg_pool1d", without("count_include_pad", value=False), 2),
        ("avg_pool2d", without("divisor_override", None), 3),
        ("pad", reversed_pairs, 5),
        ("pad", without("mode", "constant"), 8),
        ("relu", on_other(abs), 1),
        ("sigmoid", on_other(lambda x: x / 2), 1),
        ("softmax", without("dim", -1), 2),
        ("concat", reversed_inputs, 3),
        ("flatten", without("start_dim", 0), 1),
        ("conv2d", nothing, 10),
    ],
)
def test_wrong_operator_is_caught(operator: str, wrong: Wrong, least: int) -> None:
    examples = [entry for entry in ENTRIES if isinstance(entry, Example) and entry.operator == operator]
    assert [entry.name for entry in examples if casebook.check(entry, own)] == []
    assert sum(bool(casebook.check(entry, wrong)) for entry in examples) >= least


def test_a_backend_that_refuses_nothing_is_caught() -> None:
    refusals = [entry for entry in ENTRIES if isinstance(entry, Refuse)]
    assert [entry.name for entry in refusals if not casebook.check(entry, anything)] == []
    assert [entry.name for entry in refusals if casebook.check(entry, nothing)] == []


def test_a_backend_that_refuses_everything_is_caught() -> None:
    edges = [entry for entry in ENTRIES if isinstance(entry, Accept)]
    assert [entry.name for entry in edges if not casebook.check(entry, nothing)] == []
    assert [entry.name for entry in edges if casebook.check(entry, own)] == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("guide: dilation", "a backend states no shape"),
        ("vgg_16", "a backend states no receptive_field"),
        ("corr2d of 0 to 8", "corr2d is a textbook function, which backends do not have"),
    ],
)
def test_what_no_backend_can_answer(name: str, reason: str) -> None:
    assert casebook.not_for_backends(entry(name)) == reason
    with pytest.raises(CasebookError, match=reason):
        casebook.check(entry(name), own)
