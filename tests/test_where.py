"""`--where`: which cases an expression selects, and what it refuses to be."""

import pickle

import pytest

from cnnspec import ops
from cnnspec.cases import Case
from cnnspec.errors import UsageError
from cnnspec.where import known_names, parse, values_of

CONV = Case.parse(
    "conv2d(in_channels=8, out_channels=12, kernel_size=(3, 2), stride=1, padding=(0, 1), groups=4, "
    "bias=False, input=(2, 8, 5, 7), dtype='float16', regime='sparse', layout={'input': 'channels_last'})"
)
SAME = Case.parse("conv2d(in_channels=3, out_channels=4, kernel_size=3, padding='same', input=(3, 5, 7))")
POOL = Case.parse("max_pool2d(kernel_size=2, stride=(1, 2), ceil_mode=True, input=(3, 9, 11))")
LINE = Case.parse("max_pool1d(kernel_size=3, input=(4, 5, 11))")
RELU = Case.parse("relu(input=(7,))")
ADD = Case.parse("add(input=(2, 3), input2=(3,), dtype='int64')")


@pytest.mark.parametrize(
    ("text", "case", "selected"),
    [
        # a value per axis: every axis
        ("stride == 1", CONV, True),
        ("stride == 1", POOL, False),
        ("stride != 1", POOL, False),
        ("not stride == 1", POOL, True),
        ("stride == 2", LINE, False),
        ("stride == 3", LINE, True),  # the default is filled in: the kernel
        ("kernel_size == (3, 2)", CONV, True),
        ("kernel_size == (2, 3)", CONV, False),
        ("kernel_size == (3, 2, 1)", CONV, False),
        ("kernel_size != (3, 2, 1)", CONV, True),
        ("kernel_size > (3, 2, 1)", CONV, False),
        ("kernel_size > padding", CONV, True),
        ("kernel_size - 2 * padding + 1 > 0", CONV, True),
        ("kernel_size - 2 * padding > 0", CONV, False),
        ("stride in (1, 2)", POOL, True),
        ("stride in (1,)", POOL, False),
        ("stride not in (3, 4)", POOL, True),
        ("stride in ((1, 2), (3, 4))", POOL, True),
        ("2 in stride", POOL, True),
        ("1 <= stride <= 2", POOL, True),
        ("1 <= stride < 2", POOL, False),
        # numbers
        ("in_channels % 8 == 0", CONV, True),
        ("in_channels % 3 == 0 or out_channels % 3 == 0", CONV, True),
        ("in_channels // groups == 2 and -groups + 4 == 0", CONV, True),
        ("in_channels % (groups - 4) == 0", CONV, False),  # division by zero
        ("not bias", CONV, True),
        ("bias", SAME, True),
        ("ceil_mode == True and not return_indices", POOL, True),
        # names of every case
        ("operator == 'conv2d' and dtype in ('float16', 'bfloat16') and regime == 'sparse'", CONV, True),
        ("batch == 2 and batched and channels == 8 and rank == 4", CONV, True),
        ("batch == 1 and not batched and channels == 3 and rank == 3", POOL, True),
        ("height == 5 and width == 7 and sizes < 8 and input_shape == (2, 8, 5, 7)", CONV, True),
        ("width == 11 and sizes == 11", LINE, True),
        ("layout_input == 'channels_last' and layout_weight == 'contiguous'", CONV, True),
        ("layout_input == 'contiguous'", RELU, True),
        ("input2_shape == 3 and dtype == 'int64'", ADD, True),
        # text where a number stands elsewhere
        ("padding == 'same'", SAME, True),
        ("padding == 'same'", CONV, False),
        ("padding == 0", SAME, False),
        ("padding > 0", SAME, False),
        ("padding + 1 > 0", SAME, False),
        ("2 in padding", SAME, False),
        # what a case lacks does not restrict it
        ("groups == 1", POOL, True),
        ("not groups == 1", POOL, True),
        ("groups == 1 and stride == 1", POOL, False),
        ("groups == 1 and stride <= 2", POOL, True),
        ("groups == 1 or stride == 1", POOL, True),
        ("height == 9", LINE, True),
        ("channels == 9 and sizes == 2", RELU, True),
        ("operator == 'conv2d' and groups == 1", POOL, False),
        ("operator != 'conv2d' or groups == 1", POOL, True),
        ("(groups == 1) + (stride == 1) == 2", POOL, True),
        ("(stride == 1) + (kernel_size == 2) == 1", POOL, True),
    ],
)
def test_selection(text: str, case: Case, selected: bool) -> None:
    assert parse(text)(case) is selected


def test_verdict_tells_nothing_from_yes() -> None:
    where = parse("groups == 1")
    assert [where.verdict(case) for case in (SAME, CONV, POOL)] == [True, False, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("strid == 1", "unknown name 'strid' in 'strid == 1': did you mean 'stride'?"),
        ("stride == 1 and xyzzy", "unknown name 'xyzzy' in 'stride == 1 and xyzzy': known are input_shape, "),
        ("True == true", "unknown name 'true' in 'True == true'"),
        (
            "stride = 1",
            "not an expression: 'stride = 1' (invalid syntax); an expression takes ",
        ),
        ("", "not an expression: '' (invalid syntax)"),
        ("stride == 1 && groups == 1", "not an expression: 'stride == 1 && groups == 1'"),
        ("stride\0", "not an expression: 'stride\\x00'"),
        (
            "__import__('os')",
            "\"__import__('os')\" in \"__import__('os')\" is not allowed; an expression takes",
        ),
        ("stride.__class__ == 1", "'stride.__class__' in 'stride.__class__ == 1' is not allowed"),
        ("stride[0] == 1", "'stride[0]' in"),
        ("9 ** 9 ** 9 > 1", "'9 ** 9 ** 9' in"),
        ("[s for s in stride] == 1", "'[s for s in stride]' in"),
        ("(lambda: 1) == 1", "'lambda: 1' in"),
        ("stride / 2 == 1", "'stride / 2' in"),
        ("groups is 1", "'groups is 1' in"),
        ("stride & 1", "'stride & 1' in"),
        ("groups == 1 if bias else 2", "'groups == 1 if bias else 2' in"),
        ("dtype == b'x'", "\"b'x'\" in"),
        ("groups == 1j", "'1j' in"),
        ("(g := 1) == 1", "'(g := 1)' in"),
        ("f'{stride}' == 1", "'{stride}'"),
        ("not " * 60 + "bias", "is nested more than 50 deep"),
    ],
)
def test_refusal_names_the_word(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    assert message in str(error.value)


def test_names_are_those_of_the_operators_at_hand() -> None:
    assert parse("groups == 1", ["relu", "conv1d"]).names == {"groups"}
    with pytest.raises(UsageError, match="unknown name 'groups'"):
        parse("groups == 1", ["relu", "max_pool2d"])


def test_text_is_never_repeated_at_length() -> None:
    assert parse("'a' * 10000000000 == 'b'")(RELU) is False


@pytest.mark.parametrize("case", [CONV, SAME, POOL, LINE, RELU, ADD], ids=lambda case: case.operator)
def test_every_value_has_a_known_name(case: Case) -> None:
    assert set(values_of(case)) <= set(known_names(case.operator))


@pytest.mark.parametrize("operator", ops.NAMES)
def test_no_argument_hides_a_name_of_every_case(operator: str) -> None:
    names = known_names(operator)
    assert len(names) == len(set(names))


def test_expression_travels_to_a_worker() -> None:
    where = pickle.loads(pickle.dumps(parse("stride == 1")))
    assert where == parse("stride == 1")
    assert where(CONV)
