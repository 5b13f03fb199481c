"""The corners that history teaches to test, as a table of features, and how often a run hit each of them.

A feature is asked only of the cases that can have it, so that no hit means a corner that was missed.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from cnnspec import ops
from cnnspec.cases import GRAD_OUTPUT, REGIMES, Case
from cnnspec.corners import CORNERS
from cnnspec.errors import CnnspecError
from cnnspec.features import LAYOUTS, Feature, View, argument, around, differ, dtype, is_wide, layout, regime
from cnnspec.op import BYTES_PER_ELEMENT


def _windowed(v: View) -> bool:
    return bool(v.windows)


def _pads(v: View) -> bool:
    return bool(v.windows) and "padding" in v.arguments


def _axes(v: View) -> bool:
    return len(v.windows) > 1


def _conv(v: View) -> bool:
    return v.family == "conv"


def _depthwise(v: View) -> bool:
    return bool(1 < v.groups == v.channels[0])


def _pool(v: View) -> bool:
    return v.family == "pool"


def _max(v: View) -> bool:
    return v.name.startswith("max_pool")


def _avg(v: View) -> bool:
    return v.name.startswith("avg")


def _dilates(v: View) -> bool:
    return "dilation" in v.arguments and bool(v.windows)


def _biased(v: View) -> bool:
    return "bias" in v.arguments


def _batched(v: View) -> bool:
    return v.family in ("conv", "pool") or v.name == "linear"


def _pad(v: View) -> bool:
    return v.family == "pad"


def _adaptive(v: View) -> bool:
    return v.family == "adaptive_pool"


def _weighted(v: View) -> bool:
    return "weight" in v.shapes and "weight" not in v.case.spec.constants


def _constant(v: View) -> bool:
    return v.arguments.get("mode") == "constant"


# fmt: off
_F = Feature
GEOMETRY = (
    _F("kernel of 1", _conv, lambda v: set(v.kernel) == {1}, "is a matrix product"),
    _F("even kernel", _windowed, lambda v: any(k % 2 == 0 for k in v.kernel), "has no centre"),
    _F("different kernel per axis", _axes, lambda v: differ(v.kernel), "axes get swapped"),
    _F("stride > 1", _windowed, lambda v: max(v.stride) > 1, "leaves the path for stride 1"),
    _F("different stride per axis", _axes, lambda v: differ(v.stride), "axes get swapped"),
    _F("kernel < stride", _windowed, lambda v: any(map(int.__lt__, v.kernel, v.stride)), "unread pixels"),
    _F("dilation > 1", _dilates, lambda v: max(v.dilation) > 1, "the span is not the kernel"),
    _F("different dilation per axis", lambda v: _dilates(v) and _axes(v), lambda v: differ(v.dilation),
       "axes get swapped"),
    _F("dilation x stride", _dilates, lambda v: max(v.dilation) > 1 < max(v.stride), "rarely tried"),
    _F("dilation x padding", _dilates, lambda v: max(v.dilation) > 1 and v.padded, "rarely tried"),
    _F("padding > 0", _pads, lambda v: v.padded, "windows start before the input"),
    _F("padding >= kernel", _conv, lambda v: any(map(int.__ge__, v.before, v.kernel)), "windows of padding"),
    _F("different padding per axis", lambda v: _pads(v) and _axes(v), lambda v: differ(v.before), "axes get swapped"),
    _F("uneven padding", _conv, lambda v: any(w.after > w.before for w in v.windows), "an even span"),
    _F("remainder zero", _windowed, lambda v: 0 in v.remainders, "the last window ends at the edge"),
    _F("remainder non-zero", _windowed, lambda v: any(v.remainders), "unread pixels at the end"),
    _F("smallest legal input axis", _windowed, lambda v: v.smallest, "blocks larger than the input"),
    _F("window starts in the padding behind", _conv, lambda v: any(start >= size for start, size in v.starts),
       "reads padding alone"),
    _F("window without a tap", lambda v: _conv(v) or _max(v), lambda v: v.tapless, "maximum of nothing"),
    _F("ceil_mode", _pool, lambda v: v.arguments["ceil_mode"] is True, "the output size rounds up"),
    _F("overhanging last window", _pool, lambda v: v.overhangs, "reads behind the padding"),
    _F("last window dropped", _pool, lambda v: v.drops, "it would start in the padding"),
    _F("stride left to the kernel", _pool, lambda v: not v.case.arguments.get("stride"), "a default"),
    _F("count_include_pad off", _avg, lambda v: v.padded and not v.arguments["count_include_pad"],
       "divisors differ at the border"),
    _F("divisor_override", lambda v: _avg(v) and _axes(v), lambda v: bool(v.arguments["divisor_override"]),
       "no divisor is counted"),
    _F("return_indices", lambda v: "return_indices" in v.arguments,
       lambda v: v.arguments["return_indices"] is True, "a second output"),
    _F("arguments spelled as int", _windowed, lambda v: v.spelled(int), "one number for all axes"),
    _F("arguments spelled as tuple", _windowed, lambda v: v.spelled(tuple), "a number for each axis"),
)
CHANNELS = (
    _F("groups strictly between 1 and C", _conv, lambda v: 1 < v.groups < v.channels[0], "channel blocks"),
    _F("depthwise", _conv, _depthwise, "has a path of its own"),
    _F("multiplier > 1", _conv, lambda v: _depthwise(v) and v.channels[1] > v.channels[0], "wider output"),
    _F("groups x stride", _conv, lambda v: v.groups > 1 < max(v.stride), "rarely tried"),
    _F("bias", _biased, lambda v: v.arguments["bias"] is True, "added once, in the right place"),
    _F("no bias", _biased, lambda v: v.arguments["bias"] is False, "nothing to read"),
    _F("batch 0", _batched, lambda v: v.batch == 0, "a grid without blocks"),
    _F("batch 1", _batched, lambda v: v.batch == 1, "has a path of its own"),
    _F("batch > 1", _batched, lambda v: (v.batch or 0) > 1, "strides between images"),
    _F("batch of 16 or more", lambda v: v.family in ("conv", "conv_transpose"), lambda v: (v.batch or 0) >= 16,
       "torch's way to NNPACK without oneDNN"),
    _F("unbatched", _batched, lambda v: v.batch is None, "one axis less"),
    _F("channels 1", is_wide, lambda v: 1 in v.channels, "layouts cannot be told apart"),
    _F("channels odd", is_wide, lambda v: any(c % 2 and c > 1 for c in v.channels), "no vector fits"),
    *map(around, (4, 8, 16, 32)),
    _F("size of a network's layer", lambda v: v.case.spec.large is not None and "int" not in v.case.dtype,
       lambda v: math.prod(v.shape) >= 4096, "tiles, blocks, threads, another algorithm"),
)
OTHERS = (
    *(argument(("conv",), "padding", word, "a word for numbers") for word in ("same", "valid")),
    *(argument(("conv",), "padding_mode", mode, "what the border reads")
      for mode in ("zeros", "reflect", "replicate", "circular")),
    *(argument(("pad",), "mode", mode, "what the border reads")
      for mode in ("constant", "reflect", "replicate", "circular")),
    _F("different padding per side", _pad,
       lambda v: v.arguments["padding"][::2] != v.arguments["padding"][1::2], "before and after get swapped"),
    _F("negative padding", _constant, lambda v: min(v.arguments["padding"], default=0) < 0, "crops"),
    _F("value not zero", _constant, lambda v: bool(v.arguments["value"]), "zero is not written but meant"),
    _F("empty input", lambda v: v.family == "pointwise", lambda v: 0 in v.shape, "nothing to do"),
    _F("broadcast", lambda v: v.name == "add", lambda v: v.shape != v.case.inputs[1], "axes repeat"),
    _F("empty part", lambda v: v.name == "concat", lambda v: any(0 in x for x in v.case.inputs), "no copy"),
    _F("axis not last", lambda v: v.family == "softmax" and len(v.shape) > 1,
       lambda v: v.arguments["dim"] % len(v.shape) != len(v.shape) - 1, "rows with a stride"),
    *(layout(operand, name) for operand in ("input", "weight") for name in LAYOUTS),
    *(layout("bias", name) for name in ("contiguous", "step_2", "offset")),
    *map(regime, REGIMES),
    *map(dtype, BYTES_PER_ELEMENT),
)
_NORMS, _CLASSES = ("batch_norm", "instance_norm"), ("nll_loss", "cross_entropy")
FAMILIES = (
    _F("output_padding > 0", lambda v: "output_padding" in v.arguments,
       lambda v: max(v.operation.axes("output_padding")) > 0, "pixels that no window may reach"),  # type: ignore[attr-defined]
    _F("output larger than input", _adaptive, lambda v: any(map(int.__gt__, v.output, v.spatial)), "repeats"),
    _F("output does not divide input", _adaptive,
       lambda v: any(map(int.__mod__, v.spatial, v.output)), "windows of several sizes"),
    _F("output size left open", _adaptive, lambda v: "None" in str(v.arguments["output_size"]),
       "as the input's"),
    _F("output_ratio given", lambda v: v.family == "fractional_pool",
       lambda v: v.arguments["output_ratio"] is not None, "the output size rounds down"),
    argument(("lp_pool",), "norm_type", math.inf, "a maximum, by another path"),
    _F("output_size given", lambda v: v.family == "unpool", lambda v: bool(v.arguments["output_size"]),
       "stride and kernel do not tell it"),
    *(argument(("upsample",), "mode", mode, "a kernel of its own")
      for mode in ("nearest", "linear", "bilinear", "trilinear")),
    argument(("upsample",), "align_corners", True, "other coordinates"),
    _F("scale_factor given", lambda v: v.family == "upsample", lambda v: bool(v.arguments["scale_factor"]),
       "coordinates come from it, not from the sizes"),
    *(argument(_NORMS, "training", mode, "two operators in one") for mode in (True, False)),
    argument(_NORMS, "momentum", None, "a cumulative average"),
    argument((*_NORMS, "group_norm"), "affine", False, "nothing to read"),
    argument(_NORMS, "track_running_stats", False, "the batch's statistics in evaluation too"),
    _F("groups of one channel", lambda v: v.name == "group_norm",
       lambda v: v.arguments["num_groups"] == v.arguments["num_channels"] > 1, "the instance norm"),
    argument(("gelu",), "approximate", "tanh", "another function"),
    *(argument(("losses", *_CLASSES), "reduction", word, "a sum, its mean, or neither")
      for word in ("none", "sum", "mean")),
    _F("class weights", lambda v: v.family in _CLASSES, lambda v: v.arguments["weight"] is not None,
       "the mean divides by their sum"),
    _F("label smoothing", lambda v: v.name == "cross_entropy", lambda v: v.arguments["label_smoothing"] > 0,
       "all classes count"),
    _F("one class per pixel", lambda v: v.family in _CLASSES, lambda v: len(v.shape) > 2,
       "axes behind the classes"),
    _F("grad_output not contiguous", lambda v: bool(v.case.differentiated) and len(v.shape) > 1,
       lambda v: v.case.layout.get(GRAD_OUTPUT, "contiguous") != "contiguous", "strides are read, not assumed"),
    _F("gradients of some operands", lambda v: len(v.case.differentiated) > 0 and _weighted(v),
       lambda v: v.case.grad is not None, "frozen operands take other paths"),
)
# fmt: on
FEATURES: tuple[Feature, ...] = (
    *(*GEOMETRY, *CHANNELS, *OTHERS, *FAMILIES),
    *(corner.feature for corner in CORNERS),
)


@dataclass(frozen=True)
class Coverage:
    """How many cases of an operator family have a feature, and of how many it was asked."""

    family: str
    feature: str
    hit: int
    applicable: int
    why: str = ""


def hits(case_lines: Iterable[str]) -> list[Coverage]:
    """Return the coverage of each operator family over the distinct cases; what was never asked is left out.

    What not every run can have, a dtype or an argument of layers alone, is asked only where some case has it.

    >>> lines = ["relu(input=(3,))", "relu(input=(0,))", "relu(input=(3,))"]
    >>> [(one.hit, one.applicable) for one in hits(lines) if one.feature == "empty input"]
    [(1, 2)]
    """
    families: dict[str, list[list[int]]] = {}
    held: set[str] = set()
    for line in dict.fromkeys(case_lines):
        try:
            view = View(Case.parse(line))
            asked = [(bool(f.hit(view)), 1) if f.applies(view) else (False, 0) for f in FEATURES]
        except CnnspecError:
            continue  # a record may hold lines of another version: they cover nothing
        held |= {f"dtype {view.case.dtype}", f"padding_mode {view.arguments.get('padding_mode')}"}
        counts = families.setdefault(view.family, [[0, 0] for _ in FEATURES])
        for count, (hit, applicable) in zip(counts, asked, strict=True):
            count[0] += hit
            count[1] += applicable
    return [
        Coverage(family, feature.name, count[0], count[1], feature.why)
        for family in ops.FAMILIES
        for feature, count in zip(FEATURES, families.get(family, ()), strict=False)
        if count[1] and (feature.name in held or not feature.name.startswith(("dtype ", "padding_mode ")))
    ]
