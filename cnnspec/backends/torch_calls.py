"""Calls of ATen as operators of cnnspec: for each name a function from its arguments to an operator."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnspec import ops
from cnnspec.nested import Shape
from cnnspec.op import Operator


@dataclass(frozen=True)
class Match:
    """The operator that a call is; which of its arguments are the inputs, and which the operands by their word."""

    operator: Operator
    inputs: tuple[str, ...] = ("input",)
    operands: Mapping[str, str] = field(default_factory=dict)


class Arguments(dict[str, Any]):
    """The arguments of a call by name, and the shapes of those that are tensors."""

    def __init__(self, values: Mapping[str, Any], shapes: Mapping[str, Any], output: Shape) -> None:
        super().__init__(values)
        self.shapes, self.output = shapes, output

    @property
    def input_shape(self) -> Shape:
        """The shape of the first tensor."""
        shape: Shape = next(iter(self.shapes.values()))
        return shape


def matched(name: str, arguments: Arguments) -> Match | None:
    """Return the operator that a call of ATen is; None for one that the catalogue does not have."""
    rule = _RULES.get(name)
    return rule(name, arguments) if rule else None


def products(name: str, arguments: Arguments) -> int | None:
    """Return the products of a call that the catalogue does not have: of matrices, or none; None if unknown.

    >>> products("mm", Arguments({}, {"self": (2, 3), "mat2": (3, 5)}, (2, 5)))
    30
    """
    name = _plain(name)
    shapes = list(arguments.shapes.values())
    if name in PRODUCTS:
        at = PRODUCTS[name]
        return int(math.prod(arguments.output) * shapes[at][-1]) if len(shapes) > at else None
    if name == "einsum":
        return _einsum(arguments)
    if name == "scaled_dot_product_attention":
        query, key, value = shapes[:3]
        return int(math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))
    return 0 if name in WITHOUT_PRODUCTS else None


def broadcasts(name: str) -> bool:
    """Say whether a call takes each element by itself, so that its result has the common shape of its operands."""
    return _plain(name) in ELEMENTWISE


def _plain(name: str) -> str:
    return name.removesuffix("_") if not name.endswith("__") else name


def _einsum(arguments: Arguments) -> int | None:
    """Count one product for each value of all the indices of two operands; one operand has none."""
    shapes = arguments.shapes.get("tensors", ())
    terms = arguments["equation"].replace(" ", "").split("->")[0].split(",")
    if len(shapes) == 1:
        return 0
    if len(shapes) != 2 or any("." in term for term in terms):
        return None
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for index, size in zip(term, shape, strict=True):
            sizes[index] = max(size, sizes.get(index, 1))
    return math.prod(sizes.values())


def _class(name: str) -> Any:
    return ops.spec(name).operator


def _conv(name: str, a: Arguments) -> Match:
    out, per_group, *kernel = a.shapes["weight"]
    padding = a["padding"] if isinstance(a["padding"], str) else tuple(a["padding"])
    operator = _class(name)(
        per_group * a["groups"],
        out,
        tuple(kernel),
        stride=tuple(a["stride"]),
        padding=padding,
        dilation=tuple(a["dilation"]),
        groups=a["groups"],
        bias=a["bias"] is not None,
    )
    return Match(operator, ("input",), _given(a, "weight", "bias"))


def _transposed(name: str, a: Arguments) -> Match:
    channels, per_group, *kernel = a.shapes["weight"]
    operator = _class(name)(
        channels,
        per_group * a["groups"],
        tuple(kernel),
        stride=tuple(a["stride"]),
        padding=tuple(a["padding"]),
        output_padding=tuple(a["output_padding"]),
        groups=a["groups"],
        bias=a["bias"] is not None,
        dilation=tuple(a["dilation"]),
    )
    return Match(operator, ("input",), _given(a, "weight", "bias"))


def _linear(name: str, a: Arguments) -> Match:
    outputs, features = a.shapes["weight"]
    return Match(
        _class(name)(features, outputs, bias=a["bias"] is not None),
        ("input",),
        _given(a, "weight", "bias"),
    )


def _channel_norm(name: str, a: Arguments) -> Match:
    tracked = a["running_mean"] is not None
    training = a.get("training", a.get("use_input_stats"))
    operator = _class(f"{name}{max(1, len(a.input_shape) - 2)}d")(
        a.input_shape[1],
        eps=a["eps"],
        momentum=a["momentum"],
        affine=a["weight"] is not None,
        track_running_stats=tracked,
        bias=a["bias"] is not None,
        training=bool(training),
    )
    return Match(operator, ("input",), _given(a, "running_mean", "running_var", "weight", "bias"))


def _group_norm(name: str, a: Arguments) -> Match:
    operator = _class(name)(
        a["num_groups"],
        a.input_shape[1],
        eps=a["eps"],
        affine=a["weight"] is not None,
        bias=a["bias"] is not None,
    )
    return Match(operator, ("input",), _given(a, "weight", "bias"))


def _layer_norm(name: str, a: Arguments) -> Match:
    operator = _class(name)(
        tuple(a["normalized_shape"]),
        eps=a["eps"],
        elementwise_affine=a["weight"] is not None,
        bias=a["bias"] is not None,
    )
    return Match(operator, ("input",), _given(a, "weight", "bias"))


def _pool(name: str, a: Arguments) -> Match:
    """Max and average pooling; an empty stride is that of the kernel."""
    words = ("padding", "dilation", "ceil_mode", "count_include_pad", "divisor_override")
    given = {word: _tuple(a[word]) for word in words if word in a}
    operator = _class(name.removesuffix("_with_indices"))(
        _tuple(a["kernel_size"]), stride=_tuple(a["stride"]) or None, **given
    )
    return Match(operator, ("self",))


def _adaptive(name: str, a: Arguments) -> Match:
    return Match(_class(name)(_tuple(a["output_size"])), ("self",))


def _pointwise(*words: str) -> Callable[[str, Arguments], Match]:
    """Return the rule of an activation with these arguments."""

    def rule(name: str, a: Arguments) -> Match:
        operator = _class(name.removesuffix("_"))(
            **{word.rpartition(":")[2]: a[word.partition(":")[0]] for word in words}
        )
        return Match(operator, (next(iter(a.shapes)),))

    return rule


def _elu(name: str, a: Arguments) -> Match | None:
    plain = (a["scale"], a["input_scale"]) == (1, 1)
    return Match(_class("elu")(a["alpha"]), ("self",)) if plain else None


def _hardtanh(name: str, a: Arguments) -> Match | None:
    return Match(_class("relu6")(), ("self",)) if (a["min_val"], a["max_val"]) == (0, 6) else None


def _prelu(name: str, a: Arguments) -> Match:
    return Match(_class("prelu")(math.prod(a.shapes["weight"])), ("self",), {"weight": "weight"})


def _softmax(name: str, a: Arguments) -> Match:
    return Match(_class(name)(a["dim"]), ("self",))


def _dropout(name: str, a: Arguments) -> Match:
    return Match(_class("dropout")(a["p"], training=a["train"]), ("input",))


def _flatten(name: str, a: Arguments) -> Match:
    return Match(_class("flatten")(a["start_dim"], a["end_dim"]), ("self",))


def _view(name: str, a: Arguments) -> Match | None:
    """A view that joins neighbouring axes is a Flatten; any other is none."""
    shape, output = a.input_shape, a.output
    for start in range(len(shape)):
        for end in range(start + 1, len(shape)):
            if (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]) == output:
                return Match(_class("flatten")(start, end - len(shape)), ("self",))
    return None


def _add(name: str, a: Arguments) -> Match | None:
    both = len(a.shapes) == 2 and a.get("alpha", 1) == 1
    return Match(_class("add")(), ("self", "other")) if both else None


def _cat(name: str, a: Arguments) -> Match:
    return Match(_class("concat")(a["dim"]), ("tensors",))


def _mean(name: str, a: Arguments) -> Match | None:
    axes = len(a.input_shape)
    spatial = sorted(dim % axes for dim in a.get("dim") or ()) == list(range(2, axes))
    return Match(_class("global_avg_pool")(), ("self",)) if spatial and a["keepdim"] and axes > 2 else None


def _pad(name: str, a: Arguments) -> Match:
    return Match(_class("pad")(tuple(a["pad"]), mode=a["mode"], value=a["value"] or 0), ("self",))


def _upsample(name: str, a: Arguments) -> Match:
    mode = name.removeprefix("upsample_").rstrip("0123456789d")
    factors = a.get("scale_factors")
    given: dict[str, Any] = {"scale_factor": tuple(factors)} if factors else {"size": tuple(a["output_size"])}
    if mode != "nearest":
        given["align_corners"] = a["align_corners"]
    return Match(_class("interpolate")(mode=mode, **given), ("input",))


def _shuffle(name: str, a: Arguments) -> Match:
    factor = a["upscale_factor"] if "upscale_factor" in a else a["downscale_factor"]
    return Match(_class(name)(factor), ("self",))


def _given(a: Arguments, *words: str) -> dict[str, str]:
    return {word: word for word in words if a[word] is not None}


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value


def _axes(pattern: str) -> list[str]:
    return [pattern.format(axes) for axes in (1, 2, 3)]


_RULES: Mapping[str, Callable[[str, Arguments], Match | None]] = {
    **dict.fromkeys(_axes("conv{}d"), _conv),
    **dict.fromkeys(_axes("conv_transpose{}d"), _transposed),
    "linear": _linear,
    "batch_norm": _channel_norm,
    "instance_norm": _channel_norm,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    **dict.fromkeys(
        [*_axes("max_pool{}d"), *_axes("max_pool{}d_with_indices"), *_axes("avg_pool{}d")], _pool
    ),
    **dict.fromkeys([*_axes("adaptive_avg_pool{}d"), *_axes("adaptive_max_pool{}d")], _adaptive),
    **dict.fromkeys(
        [
            f"{name}{end}"
            for name in ("relu", "sigmoid", "tanh", "relu6", "hardswish", "silu")
            for end in ("", "_")
        ],
        _pointwise(),
    ),
    **dict.fromkeys(("leaky_relu", "leaky_relu_"), _pointwise("negative_slope")),
    "gelu": _pointwise("approximate"),
    "softplus": _pointwise("beta", "threshold"),
    **dict.fromkeys(("elu", "elu_"), _elu),
    **dict.fromkeys(("hardtanh", "hardtanh_"), _hardtanh),
    "prelu": _prelu,
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    **dict.fromkeys(("dropout", "dropout_"), _dropout),
    "flatten": _flatten,
    **dict.fromkeys(("view", "reshape", "_unsafe_view"), _view),
    **dict.fromkeys(("add", "add_"), _add),
    "cat": _cat,
    "mean": _mean,
    "pad": _pad,
    **dict.fromkeys([*_axes("upsample_nearest{}d"), "upsample_linear1d", "upsample_bilinear2d"], _upsample),
    "upsample_trilinear3d": _upsample,
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle"), _shuffle),
}

WITH_BIAS = ("addmm", "baddbmm", "addmv")
"""Products of matrices that are added to the first operand."""

PRODUCTS: Mapping[str, int] = {
    **dict.fromkeys(("mm", "matmul", "bmm", "mv", "dot", "vdot", "inner"), 0),
    **dict.fromkeys(WITH_BIAS, 1),
}
"""Products of matrices: the operand whose last axis is summed over."""

_ELEMENTWISE = """
    abs add addcdiv addcmul atan atan2 bitwise_and bitwise_not bitwise_or ceil celu clamp clamp_max clamp_min clone
    contiguous copy cos cosh detach div elu eq erf exp expm1 fill floor fmod ge gelu gt hardshrink hardsigmoid hardswish
    hardtanh isfinite isnan le leaky_relu log log10 log1p log2 log_sigmoid logical_and logical_not logical_or lt
    masked_fill maximum minimum mish mul ne neg pow prelu reciprocal relu relu6 remainder round rsqrt rsub selu sigmoid
    sign silu sin sinh softplus softshrink sqrt square sub tan tanh threshold to _to_copy true_divide where zero
    floor_divide alias lift_fresh_copy lift_fresh __and__ __or__ detach_copy
"""
ELEMENTWISE = frozenset(_ELEMENTWISE.split())
"""Calls that take each element by itself."""

_REARRANGING = """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
    adaptive_max_pool3d all alpha_dropout amax amin any arange argmax argmin as_strided avg_pool1d avg_pool2d avg_pool3d
    broadcast_tensors broadcast_to cat channel_shuffle chunk col2im concat concatenate constant_pad_nd cumsum diagonal
    diff dropout embedding empty expand expand_as eye feature_dropout feature_alpha_dropout flatten flip full full_like
    gather getitem glu im2col index index_add index_select linspace log_softmax logsumexp max max_pool1d max_pool2d
    max_pool3d mean median meshgrid min movedim moveaxis narrow native_channel_shuffle norm ones ones_like pad permute
    pixel_shuffle pixel_unshuffle rand rand_like randn randn_like repeat repeat_interleave reshape reshape_as
    resolve_conj resolve_neg roll scatter scatter_add select slice softmax sort split split_with_sizes squeeze
    stack std std_mean sum swapaxes swapdims t take tensor_split tile topk transpose tril triu type_as unbind unflatten
    unfold unsqueeze upsample_bicubic2d upsample_nearest2d upsample_bilinear2d var var_mean view view_as _unsafe_view
    weight_norm _weight_norm _weight_norm_interface zeros zeros_like linalg_vector_norm mT new_zeros new_ones
    new_full new_empty tensor scalar_tensor empty_like cumprod grid_sampler affine_grid_generator one_hot isin
    slice_scatter select_scatter index_put masked_select rot90 fliplr flipud aminmax count_nonzero prod
"""
WITHOUT_PRODUCTS = ELEMENTWISE | frozenset(_REARRANGING.split())
"""Calls that move, compare or sum elements, or change each by itself: they have no products that are counted."""
