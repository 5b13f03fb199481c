"""What explains each wrong kernel of `tests.kernels.localised`: one sentence, worked out by hand."""

from collections.abc import Callable
from typing import Any

from cnnspec.cases import Case
from tests.kernels import localised, localised_others, wrong_kernels

Kernel = Callable[..., Any]


def case(text: str, **data: list[Any]) -> Case:
    """Return a case with explicit data."""
    line = Case.parse(text)
    return line.with_data(data) if data else line


def upto(n: int) -> list[float]:
    return [float(i) for i in range(1, n + 1)]


def conv(
    arguments: str = "", weights: int = 16, pixels: int = 18, shape: str = "(1, 2, 3, 3)", **more: Any
) -> Case:
    text = f"conv2d(in_channels=2, out_channels=2, kernel_size=(2, 2), input={shape}, dtype='float32'{arguments})"
    data = {"input": upto(pixels), "weight": upto(weights), "bias": [5.0, 7.0], "grad_output": upto(8)}
    return case(text, **data, **more)


PLAIN = conv()
PADDED = conv(", padding=(1, 1)")
WIDE = conv(", stride=(1, 2)")
DILATED = conv(", dilation=(2, 1)", pixels=18)
GROUPED = case(
    "conv2d(in_channels=4, out_channels=4, groups=4, kernel_size=(2, 2), input=(1, 4, 2, 2), dtype='float32')",
    input=upto(16),
    weight=upto(16),
    bias=upto(4),
)
POOL = case(
    "max_pool2d(kernel_size=(2, 2), stride=(1, 1), input=(1, 1, 3, 3), dtype='float32')", input=upto(9)
)
CORNER = case("max_pool2d(kernel_size=(2, 2), input=(1, 1, 2, 2), dtype='float32')", input=upto(4))
FIRST = "output (0, 0, 0, 0)"
MORE = " (and 1 more term like it)"

FORWARD: list[tuple[Kernel, Case, str]] = [
    (
        localised.conv2d_missing_tap,
        PLAIN,
        f"the term input (0, 0, 1, 1) times weight (0, 0, 1, 1) is missing from {FIRST}{MORE}",
    ),
    (
        localised.conv2d_half_tap,
        PLAIN,
        f"the term input (0, 0, 1, 1) times weight (0, 0, 1, 1) counts 1/2 times in {FIRST}{MORE}",
    ),
    (
        localised.conv2d_tap_one_off,
        PLAIN,
        f"{FIRST} reads input (0, 0, 1, 2) times weight (0, 0, 1, 1); it should read input (0, 0, 1, 1){MORE}",
    ),
    (localised.conv2d_extra_pixel, PLAIN, f"{FIRST} adds input (0, 0, 2, 2), which it must not read"),
    (localised.conv2d_bias_of_neighbour, PLAIN, f"{FIRST} reads bias (1); it should read bias (0)"),
    (localised.conv2d_bias_twice, PLAIN, "the bias is added twice"),
    (localised.conv2d_bias_twice_in_one_place, PLAIN, "output (0, 1, 0, 0) adds bias (1) twice"),
    (localised.conv2d_bias_missing_in_one_place, PLAIN, "output (0, 1, 0, 0) lacks bias (1)"),
    (wrong_kernels.conv2d_dropped_bias, PLAIN, "the bias is missing"),
    (
        localised.conv2d_channels_of_other_group,
        GROUPED,
        "output (0, 3, 0, 0) reads channel 0 of group 0 of input; it should read channel 0 of group 3",
    ),
    (wrong_kernels.conv2d_ignored_groups, GROUPED, "every group reads the channels of group 0"),
    (
        localised.conv2d_channels_last_output,
        PLAIN,
        "the output holds its numbers in the order of the axes (0, 2, 3, 1)",
    ),
    (
        localised.conv2d_two_outputs_exchanged,
        PLAIN,
        "output (0, 0, 0, 1) holds what belongs to output (0, 0, 1, 0)",
    ),
    (
        localised.conv2d_quarter_of_one_output,
        PLAIN,
        f"{FIRST} is 1/4 times what it must be: every term has that factor",
    ),
    (wrong_kernels.conv2d_flipped_kernel, PLAIN, "the kernel is flipped"),
    (
        wrong_kernels.conv2d_swapped_strides,
        WIDE,
        "the output is that of stride=(2, 1), the call has stride=(1, 2)",
    ),
    (
        wrong_kernels.conv2d_ignored_dilation,
        DILATED,
        "the output is that of dilation=(1, 1): dilation=(2, 1) is ignored",
    ),
    (
        wrong_kernels.conv2d_padding_on_one_side,
        PADDED,
        "all of padding=(1, 1) lies behind the input, none on the other side",
    ),
    (
        localised.conv2d_ignores_strides,
        conv(", layout={'input': 'transposed'}"),
        "input is read as if it were contiguous, for input of strides (1, 1, 2, 6) and offset 0 (transposed) only",
    ),
    (
        localised.conv2d_reads_what_lies_before,
        conv(", layout={'input': 'offset'}"),
        (f"{FIRST} reads memory outside input of strides (18, 9, 3, 1) and offset 3 (offset): what lies around it "
        "reaches the result"),
    ),
    (
        localised_others.conv_transpose2d_flipped,
        case(
            "conv_transpose2d(in_channels=1, out_channels=1, kernel_size=(2, 2), input=(1, 1, 2, 2), dtype='float32')",
            input=upto(4),
            weight=upto(4),
            bias=[0.0],
        ),
        "the kernel is flipped",
    ),
    (
        localised_others.linear_transposed_output,
        case("linear(in_features=2, out_features=2, input=(2, 2))", input=upto(4), weight=upto(4), bias=upto(2)),
        "the output has its axes 0 and 1 exchanged",
    ),
    (
        localised_others.linear_skips_zeros,
        case("linear(in_features=2, out_features=1, bias=False, input=(1, 2))", input=[1.0, float("inf")],
             weight=[1.0, 0.0]),
        "output (0, 0) is 1.0 where input (0, 1) is inf; it must be nan, and is right where all numbers are finite",
    ),
    (
        localised_others.unfold_kernel_reversed,
        case("unfold(kernel_size=(2, 2), input=(1, 1, 3, 3))", input=upto(9)),
        "the output is reversed along axis 1",
    ),
    (
        localised_others.fold_overwrites,
        case("fold(output_size=(1, 3), kernel_size=(1, 2), input=(1, 2, 2))", input=upto(4)),
        "the term input (0, 0, 1) is missing from output (0, 0, 0, 1)",
    ),
    (
        localised_others.pad_before_behind,
        case("pad(padding=(1, 2), input=(2, 3))", input=upto(6)),
        "the output is that of padding=(2, 1), the call has padding=(1, 2)",
    ),
    (
        localised_others.pixel_shuffle_columns_first,
        case("pixel_shuffle(upscale_factor=2, input=(1, 4, 2, 2))", input=upto(16)),
        "the output has its axes 2 and 3 exchanged",
    ),
    (
        localised_others.avg_pool2d_without_padding,
        case("avg_pool2d(kernel_size=(2, 2), padding=(1, 1), input=(1, 1, 3, 3))", input=upto(9)),
        "the output is that of count_include_pad=False, the call has count_include_pad=True",
    ),
    (
        localised_others.avg_pool2d_one_pixel_missing,
        case("avg_pool2d(kernel_size=(2, 3), input=(1, 1, 4, 6))", input=upto(24)),
        f"the term input (0, 0, 1, 1) is missing from {FIRST}",
    ),
    (
        localised_others.max_pool2d_of_minima,
        CORNER,
        f"{FIRST} takes input (0, 0, 0, 0); it should take input (0, 0, 1, 1)",
    ),
    (
        localised_others.max_pool2d_one_pixel_missing,
        CORNER,
        f"{FIRST} never takes input (0, 0, 1, 1), which lies in its window",
    ),
    (
        localised_others.max_pool2d_one_pixel_more,
        POOL,
        f"{FIRST} may take input (0, 0, 2, 2), which lies outside its window",
    ),
    (
        wrong_kernels.max_pool2d_zero_padding,
        case("max_pool2d(kernel_size=(2, 2), padding=(1, 1), input=(1, 1, 2, 2))", input=[-1.0, -2.0, -3.0, -4.0]),
        "max_pool2d follows the convention of Keras with ZeroPadding2D: padding is zero to a maximum",
    ),
    (
        localised_others.max_pool2d_without_nan,
        case("max_pool2d(kernel_size=(2, 2), input=(1, 1, 2, 2))", input=[1.0, 2.0, float("nan"), 3.0]),
        f"{FIRST} is 3.0 where input (0, 0, 1, 0) is nan; it must be nan, and is right where all numbers are finite",
    ),
    (
        localised_others.relu_of_nothing,
        case("relu(input=(2,))", input=[1.0, -1.0]),
        "output (1) takes input (1) where it should be 0",
    ),
    (
        localised_others.softmax_over_rows,
        case("softmax(dim=1, input=(2, 3))", input=upto(6)),
        "the output is that of dim=0, the call has dim=1",
    ),
    (
        localised_others.layer_norm_unbiased,
        case("layer_norm(normalized_shape=(3,), input=(2, 3))", input=[1.0, 2.0, 4.0, 3.0, 5.0, 4.0],
             weight=[1.0, 2.0, 1.0], bias=[0.0, 1.0, 0.0]),
        "layer_norm follows the convention of torch.var, R: the input is divided by the root of the unbiased variance",
    ),
    (
        localised_others.layer_norm_without_eps,
        case("layer_norm(normalized_shape=(3,), eps=0.5, input=(2, 3))", input=[1.0, 2.0, 4.0, 3.0, 5.0, 4.0],
             weight=[1.0, 2.0, 1.0], bias=[0.0, 1.0, 0.0]),
        "the output is that of eps=0.0, the call has eps=0.5",
    ),
    (
        localised_others.tanh_of_one_neighbour,
        case("tanh(input=(3,))", input=[0.25, 0.5, 1.0]),
        "output (0) answers to input (2); it should answer to input (0)",
    ),
    (
        localised_others.mse_loss_summed,
        case("mse_loss(input=(2, 3), target=(2, 3))", input=upto(6), target=[0.0] * 6),
        "the output is that of reduction='sum', the call has reduction='mean'",
    ),
]  # fmt: skip

BACKWARD: list[tuple[Kernel, str]] = [
    (
        localised.conv2d_lacks_one_output,
        "the gradient of weight (1, 0, 0, 0) lacks the contribution of output (0, 1, 0, 1)",
    ),
    (
        localised.conv2d_counts_one_output_twice,
        "the gradient of bias (1) counts the contribution of output (0, 1, 0, 1) twice",
    ),
    (
        localised.conv2d_counts_other_channel,
        "the gradient of bias (0) counts a contribution of output (0, 1, 0, 0), which does not use it",
    ),
    (localised.conv2d_half_weight_gradient, "the gradient of weight is 1/2 times what it must be"),
    (
        localised.conv2d_gradient_of_flipped_kernel,
        "the gradient of input is computed as if the kernel is flipped",
    ),
    (
        localised.conv2d_gradient_reads_other_pixel,
        (
            "the gradient of weight (0, 0, 0, 0) reads the gradient of output (0, 0, 0, 0) times input (0, 0, 2, 2); "
            "it should read input (0, 0, 0, 0)"
        ),
    ),
]
