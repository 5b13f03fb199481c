"""Each feature tells cases that have it from cases that do not, and the generators reach all of them."""

import dataclasses
from collections.abc import Iterator

import pytest

from cnnspec import ops, strategies
from cnnspec.backends import layouts
from cnnspec.cases import REGIMES, Case
from cnnspec.corners import CORNERS
from cnnspec.coverage import FEATURES, hits
from cnnspec.features import LAYOUTS, Feature, View
from cnnspec.op import BYTES_PER_ELEMENT
from cnnspec.shrink import generate
from cnnspec.where import parse

CONV = "conv2d(in_channels=4, out_channels=6, kernel_size=3, {}input=(2, 4, 7, 8))"
POOL = "max_pool2d(kernel_size=3, {}input=(2, 4, 7, 8))"
MEAN = "avg_pool2d(kernel_size=3, {}input=(2, 4, 7, 8))"
PAD = "pad(padding={}, input=(2, 3, 5, 7))"


def conv(
    kernel: object = 3, channels: tuple[int, int] = (4, 6), shape: str = "(2, 4, 7, 8)", more: str = ""
) -> str:
    c, o = channels
    return f"conv2d(in_channels={c}, out_channels={o}, kernel_size={kernel}, {more}input={shape})"


PLAIN, POOLED, MEANT = CONV.format(""), POOL.format(""), MEAN.format("")

# feature: a case that has it, one that does not although it might, one that is not asked (None: all are)
EXAMPLES: dict[str, tuple[str, str, str | None]] = {
    "kernel of 1": (conv(1), conv((1, 3)), POOLED),
    "even kernel": (conv((2, 3)), PLAIN, "relu(input=(2,))"),
    "different kernel per axis": (
        conv((2, 3)),
        PLAIN,
        "conv1d(in_channels=1, out_channels=1, kernel_size=1, input=(1, 2))",
    ),
    "stride > 1": (CONV.format("stride=(1, 2), "), PLAIN, "relu(input=(2,))"),
    "different stride per axis": (
        CONV.format("stride=(1, 2), "),
        CONV.format("stride=2, "),
        "relu(input=(2,))",
    ),
    "kernel < stride": (CONV.format("stride=(1, 4), "), CONV.format("stride=3, "), "relu(input=(2,))"),
    "dilation > 1": (CONV.format("dilation=2, "), PLAIN, MEANT),
    "different dilation per axis": (POOL.format("dilation=(1, 2), "), POOL.format("dilation=2, "), MEANT),
    "dilation x stride": (CONV.format("dilation=2, stride=2, "), CONV.format("dilation=2, "), MEANT),
    "dilation x padding": (CONV.format("dilation=2, padding=1, "), CONV.format("padding=1, "), MEANT),
    "padding > 0": (CONV.format("padding=(0, 1), "), PLAIN, "relu(input=(2,))"),
    "padding >= kernel": (CONV.format("padding=3, "), CONV.format("padding=2, "), POOLED),
    "different padding per axis": (
        CONV.format("padding=(0, 1), "),
        CONV.format("padding=1, "),
        "relu(input=(2,))",
    ),
    "uneven padding": (conv(2, more="padding='same', "), conv(3, more="padding='same', "), POOLED),
    # (7 - 3) % 2 = 0 and (8 - 3) % 2 = 1
    "remainder zero": (CONV.format("stride=2, "), CONV.format("stride=(3, 3), "), "relu(input=(2,))"),
    "remainder non-zero": (CONV.format("stride=2, "), PLAIN, "relu(input=(2,))"),
    "smallest legal input axis": (conv(shape="(4, 3, 8)"), PLAIN, "relu(input=(2,))"),
    # windows start at -3 ... 7 on 7 pixels
    "window starts in the padding behind": (CONV.format("padding=3, "), CONV.format("padding=2, "), POOLED),
    "window without a tap": (CONV.format("padding=3, "), CONV.format("padding=2, "), MEANT),
    "ceil_mode": (POOL.format("ceil_mode=True, "), POOLED, PLAIN),
    # windows start at 0, 3, 6 on 7 pixels
    "overhanging last window": (POOL.format("ceil_mode=True, "), POOLED, PLAIN),
    # ceil((2 + 2 - 2) / 3) + 1 = 2 windows, but the second starts at 2, behind 2 pixels
    "last window dropped": (
        "max_pool1d(kernel_size=2, stride=3, padding=1, ceil_mode=True, input=(1, 2))",
        POOL.format("ceil_mode=True, "),
        PLAIN,
    ),
    "stride left to the kernel": (POOLED, POOL.format("stride=3, "), PLAIN),
    "count_include_pad off": (
        MEAN.format("padding=1, count_include_pad=False, "),
        MEAN.format("count_include_pad=False, "),
        POOLED,
    ),
    "divisor_override": (
        MEAN.format("divisor_override=5, "),
        MEANT,
        "avg_pool1d(kernel_size=3, input=(1, 7))",
    ),
    "return_indices": (POOL.format("return_indices=True, "), POOLED, MEANT),
    "arguments spelled as int": (conv(3), conv((3, 3)), "relu(input=(2,))"),
    "arguments spelled as tuple": (conv((3, 3)), conv(3), "relu(input=(2,))"),
    "groups strictly between 1 and C": (CONV.format("groups=2, "), PLAIN, POOLED),
    "depthwise": (conv(channels=(4, 8), more="groups=4, "), CONV.format("groups=2, "), POOLED),
    "multiplier > 1": (
        conv(channels=(4, 8), more="groups=4, "),
        conv(channels=(4, 4), more="groups=4, "),
        POOLED,
    ),
    "groups x stride": (CONV.format("groups=2, stride=2, "), CONV.format("groups=2, "), POOLED),
    "bias": (PLAIN, CONV.format("bias=False, "), POOLED),
    "no bias": ("linear(in_features=3, out_features=2, bias=False, input=(3,))", PLAIN, POOLED),
    "batch 0": (conv(shape="(0, 4, 7, 8)"), PLAIN, "relu(input=(0, 2))"),
    "batch 1": (conv(shape="(1, 4, 7, 8)"), PLAIN, "relu(input=(1, 2))"),
    "batch > 1": (PLAIN, conv(shape="(4, 7, 8)"), "relu(input=(3, 2))"),
    "batch of 16 or more": (conv(shape="(16, 4, 7, 8)"), conv(shape="(15, 4, 7, 8)"), POOLED),
    "size of a network's layer": (
        "relu(input=(1, 64, 8, 8))",
        "relu(input=(1, 64, 8, 7))",
        "sigmoid(input=(1, 64, 8, 8))",
    ),
    "unbatched": (conv(shape="(4, 7, 8)"), PLAIN, "relu(input=(3, 2))"),
    "channels 1": ("max_pool1d(kernel_size=1, input=(1, 2))", POOLED, PAD.format("(1, 1)")),
    "channels odd": (conv(channels=(4, 5)), PLAIN, PAD.format("(1, 1)")),
    "padding same": (CONV.format("padding='same', "), PLAIN, POOLED),
    "padding valid": (CONV.format("padding='valid', "), PLAIN, POOLED),
    "different padding per side": (PAD.format("(1, 2)"), PAD.format("(1, 1, 2, 2)"), PLAIN),
    "negative padding": (
        PAD.format("(1, -2)"),
        PAD.format("(1, 2)"),
        "pad(padding=(1, 1), mode='reflect', input=(1, 3))",
    ),
    "value not zero": (
        PAD.format("(1, 1), value=2"),
        PAD.format("(1, 1)"),
        "pad(padding=(1, 1), mode='reflect', input=(1, 3))",
    ),
    "empty input": ("relu(input=(2, 0))", "relu(input=(2, 1))", PLAIN),
    "broadcast": ("add(input=(2, 3), input2=(3,))", "add(input=(2, 3), input2=(2, 3))", PLAIN),
    "empty part": ("concat(input=(2, 3), input2=(2, 0))", "concat(input=(2, 3), input2=(2, 1))", PLAIN),
    "axis not last": ("softmax(dim=0, input=(2, 3))", "softmax(dim=1, input=(2, 3))", "softmax(input=(2,))"),
}
BACK = "conv_transpose2d(in_channels=1, out_channels=1, kernel_size=3, stride=2, {}input=(1, 1, 4, 5))"
ADAPTIVE = "adaptive_avg_pool2d(output_size={}, input=(1, 2, 4, 6))"
SCALED = "interpolate({}, input=(1, 1, 4{}))"
NORM = "batch_norm1d(num_features=3, {}input=(4, 3))"
GROUPS = "group_norm(num_groups={}, num_channels=4, input=(2, 4, 3))"
CLASSES = "cross_entropy({}input=(2, 3{}), target=(2,{}))"
EXAMPLES |= {
    "output_padding > 0": (BACK.format("output_padding=(0, 1), "), BACK.format(""), PLAIN),
    "output larger than input": (ADAPTIVE.format("(4, 7)"), ADAPTIVE.format("(4, 6)"), POOLED),
    "output does not divide input": (ADAPTIVE.format("(2, 4)"), ADAPTIVE.format("(2, 3)"), POOLED),
    "output size left open": (ADAPTIVE.format("(None, 4)"), ADAPTIVE.format("(2, 4)"), POOLED),
    "output_ratio given": (
        "fractional_max_pool2d(kernel_size=1, output_ratio=0.5, input=(1, 1, 4, 4), _random_samples=(1, 1, 2))",
        "fractional_max_pool2d(kernel_size=1, output_size=2, input=(1, 1, 4, 4), _random_samples=(1, 1, 2))",
        POOLED,
    ),
    "norm_type inf": (
        "lp_pool1d(norm_type=inf, kernel_size=2, input=(1, 4))",
        "lp_pool1d(norm_type=2, kernel_size=2, input=(1, 4))",
        POOLED,
    ),
    "output_size given": (
        "max_unpool1d(kernel_size=2, output_size=(5,), input=(1, 2), indices=(1, 2))",
        "max_unpool1d(kernel_size=2, input=(1, 2), indices=(1, 2))",
        POOLED,
    ),
    "mode nearest": (SCALED.format("size=3", ""), SCALED.format("size=3, mode='linear'", ""), PLAIN),
    "mode linear": (SCALED.format("size=3, mode='linear'", ""), SCALED.format("size=3", ""), PLAIN),
    "mode bilinear": (SCALED.format("size=3, mode='bilinear'", ", 4"), SCALED.format("size=3", ""), PLAIN),
    "mode trilinear": (
        SCALED.format("size=3, mode='trilinear'", ", 4, 4"),
        SCALED.format("size=3", ""),
        PLAIN,
    ),
    "align_corners True": (
        SCALED.format("size=3, mode='linear', align_corners=True", ""),
        SCALED.format("size=3, mode='linear'", ""),
        PLAIN,
    ),
    "scale_factor given": (SCALED.format("scale_factor=2.0", ""), SCALED.format("size=3", ""), PLAIN),
    "training True": (NORM.format("training=True, "), NORM.format("training=False, "), PLAIN),
    "training False": (NORM.format("training=False, "), NORM.format("training=True, "), PLAIN),
    "momentum None": (NORM.format("momentum=None, "), NORM.format("momentum=0.5, "), PLAIN),
    "affine False": (NORM.format("affine=False, "), NORM.format(""), PLAIN),
    "track_running_stats False": (NORM.format("track_running_stats=False, "), NORM.format(""), PLAIN),
    "groups of one channel": (GROUPS.format(4), GROUPS.format(2), PLAIN),
    "approximate tanh": ("gelu(approximate='tanh', input=(2,))", "gelu(input=(2,))", "elu(input=(2,))"),
    "label smoothing": (
        CLASSES.format("label_smoothing=0.25, ", "", ""),
        CLASSES.format("", "", ""),
        "nll_loss(input=(2, 3), target=(2,))",
    ),
    "class weights": (CLASSES.format("weight=3, ", "", ""), CLASSES.format("", "", ""), PLAIN),
    "one class per pixel": (CLASSES.format("", ", 4", " 4"), CLASSES.format("", "", ""), PLAIN),
    "grad_output not contiguous": (
        f"{PLAIN[:-1]}, layout={{'grad_output': 'offset'}})",
        f"{PLAIN[:-1]}, layout={{'input': 'offset'}})",
        "relu(input=(2,))",
    ),
    "gradients of some operands": (f"{PLAIN[:-1]}, grad=('weight',))", PLAIN, POOLED),
}
for one, other in (("none", "sum"), ("sum", "mean"), ("mean", "none")):
    EXAMPLES[f"reduction {one}"] = (
        f"mse_loss(reduction='{one}', input=(2,), target=(2,))",
        f"mse_loss(reduction='{other}', input=(2,), target=(2,))",
        PLAIN,
    )
for size in (4, 8, 16, 32):
    linear = "linear(in_features=64, out_features={}, input=(64,))"
    EXAMPLES[f"channels around {size}"] = (
        linear.format(size + 1),
        linear.format(size + 2),
        PAD.format("(1, 1)"),
    )
for one, other in (
    ("zeros", "circular"),
    ("circular", "zeros"),
    ("reflect", "zeros"),
    ("replicate", "zeros"),
):
    mode = "padding=1, padding_mode='{}', "
    EXAMPLES[f"padding_mode {one}"] = (CONV.format(mode.format(one)), CONV.format(mode.format(other)), POOLED)
for one, other in (
    ("constant", "circular"),
    ("circular", "constant"),
    ("reflect", "constant"),
    ("replicate", "constant"),
):
    EXAMPLES[f"mode {one}"] = (
        PAD.format(f"(1, 1), mode='{one}'"),
        PAD.format(f"(1, 1), mode='{other}'"),
        POOLED,
    )
ONE = "conv2d(in_channels=1, out_channels=2, kernel_size=2, input=(1, 1, 5, 7))"
for operand, names in (("input", LAYOUTS), ("weight", LAYOUTS), ("bias", ("contiguous", "step_2", "offset"))):
    for name in names:
        other = "offset" if name == "contiguous" else "contiguous"
        laid, plain = (f"{ONE[:-1]}, layout={{'{operand}': '{one}'}})" for one in (name, other))
        EXAMPLES[f"{operand} {name}"] = (
            laid,
            plain,
            "relu(input=())" if operand == "input" else "relu(input=(2,))",
        )
for name in REGIMES:
    other = "integers" if name != "integers" else "special"
    unasked = None if name in ("integers", "special") else "relu(input=(2,), dtype='int64')"
    EXAMPLES[f"regime {name}"] = (
        f"relu(input=(2,), regime='{name}')",
        f"relu(input=(2,), regime='{other}')",
        unasked,
    )
for name in BYTES_PER_ELEMENT:
    spelled = "relu(input=(2,), dtype='{}')"
    if name in ops.spec("relu").dtypes:
        other = "float32" if name != "float32" else "float64"
        unasked = None if name != "int64" else PLAIN
        EXAMPLES[f"dtype {name}"] = (spelled.format(name), spelled.format(other), unasked)


def named(name: str) -> Feature:
    return next(feature for feature in FEATURES if feature.name == name)


def told(feature: Feature, line: str) -> bool | None:
    """Return whether a case has the feature, None where it is not asked."""
    view = View(Case.parse(line))
    return feature.hit(view) if feature.applies(view) else None


@pytest.mark.parametrize("name", EXAMPLES)
def test_feature_tells_cases_apart(name: str) -> None:
    has, lacks, unasked = EXAMPLES[name]
    feature = named(name)
    assert [told(feature, has), told(feature, lacks)] == [True, False]
    assert unasked is None or told(feature, unasked) is None


def test_every_feature_has_its_examples() -> None:
    tested = {name for operator in ops.NAMES for name in ops.spec(operator).dtypes}
    names = [feature.name for feature in FEATURES]
    idle = {f"dtype {name}" for name in BYTES_PER_ELEMENT if name not in tested}
    assert len(names) == len(set(names))
    assert set(names) - idle - {corner.feature.name for corner in CORNERS} == set(EXAMPLES)
    assert all(feature.why for feature in FEATURES)


def test_layouts_are_those_of_the_backends() -> None:
    assert LAYOUTS == layouts.LAYOUTS


def test_cases_are_counted_once_and_by_family() -> None:
    lines = [
        PLAIN,
        PLAIN,
        CONV.format("stride=2, "),
        "conv1d(in_channels=1, out_channels=1, kernel_size=1, input=(1, 2))",
        POOLED,
    ]
    counts = {(one.family, one.feature): (one.hit, one.applicable) for one in hits(lines)}
    assert counts["conv", "stride > 1"] == (1, 3)
    assert counts["conv", "different stride per axis"] == (0, 2)
    assert counts["pool", "stride > 1"] == (1, 1)
    assert ("pool", "depthwise") not in counts
    assert [family for family, _ in counts] == sorted(
        (family for family, _ in counts), key=list(ops.FAMILIES).index
    )


def test_dtype_is_asked_only_where_the_run_has_it() -> None:
    lines = ["relu(input=(2,), dtype='float16')", "add(input=(2,), input2=(2,), dtype='float32')"]
    asked = [(one.family, one.feature, one.hit) for one in hits(lines) if one.feature.startswith("dtype")]
    assert asked == [
        ("pointwise", "dtype float32", 0),
        ("pointwise", "dtype float16", 1),
        ("combine", "dtype float32", 1),
        ("combine", "dtype float16", 0),
    ]


def test_nothing_run_nothing_covered() -> None:
    assert hits([]) == []


def drawn(family: str, examples: int = 150, where: str = "rank") -> Iterator[str]:
    for operator in ops.FAMILIES[family]:
        yield from map(
            str,
            generate(strategies.cases(operator, where=parse(where), large=True, corners=True), 0, examples),
        )


@pytest.mark.parametrize("family", ["conv", "pool"])
def test_generators_leave_no_corner_out(family: str) -> None:
    assert [one.feature for one in hits(drawn(family)) if not one.hit] == []


def test_a_corner_left_out_is_seen() -> None:
    missed = {one.feature for one in hits(drawn("conv", 50, "stride == 1")) if not one.hit}
    assert {"stride > 1", "different stride per axis", "remainder non-zero", "groups x stride"} <= missed


def test_a_coverage_says_why() -> None:
    (one,) = (one for one in hits([PLAIN]) if one.feature == "kernel of 1")
    assert dataclasses.astuple(one) == ("conv", "kernel of 1", 0, 1, "is a matrix product")
