"""The catalogue: one file per operator family, loaded when an operator of it is asked for."""

import importlib
from functools import cache

from cnnspec.errors import UsageError
from cnnspec.spec import Spec

FAMILIES = {
    "conv": ("conv1d", "conv2d", "conv3d"),
    "pool": ("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"),
    "adaptive_pool": (
        "adaptive_max_pool1d",
        "adaptive_max_pool2d",
        "adaptive_max_pool3d",
        "adaptive_avg_pool1d",
        "adaptive_avg_pool2d",
        "adaptive_avg_pool3d",
    ),
    "global_pool": ("global_avg_pool",),
    "fractional_pool": ("fractional_max_pool2d", "fractional_max_pool3d"),
    "lp_pool": ("lp_pool1d", "lp_pool2d", "lp_pool3d"),
    "unpool": ("max_unpool1d", "max_unpool2d", "max_unpool3d"),
    "pad": ("pad",),
    "conv_transpose": ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    "unfold": ("unfold",),
    "fold": ("fold",),
    "rearrange": ("pixel_shuffle", "pixel_unshuffle"),
    "upsample": ("interpolate",),
    "batch_norm": ("batch_norm1d", "batch_norm2d", "batch_norm3d"),
    "instance_norm": ("instance_norm1d", "instance_norm2d", "instance_norm3d"),
    "group_norm": ("group_norm",),
    "layer_norm": ("layer_norm",),
    "lrn": ("local_response_norm",),
    "dropout": ("dropout",),
    "linear": ("linear",),
    "flatten": ("flatten",),
    "pointwise": ("relu", "sigmoid", "tanh"),
    "relu6": ("relu6",),
    "leaky_relu": ("leaky_relu",),
    "prelu": ("prelu",),
    "hardswish": ("hardswish",),
    "elu": ("elu",),
    "gelu": ("gelu",),
    "silu": ("silu",),
    "softplus": ("softplus",),
    "softmax": ("softmax", "log_softmax"),
    "losses": ("mse_loss",),
    "nll_loss": ("nll_loss",),
    "cross_entropy": ("cross_entropy",),
    "combine": ("add", "concat"),
}
"""Operator names, as in torch.nn.functional, by the module that defines them."""

NAMES = tuple(name for names in FAMILIES.values() for name in names)


@cache
def spec(name: str) -> Spec:
    """Return the Spec of the operator `name`; UsageError, with the nearest names, where there is none.

    >>> spec("conv2d").layer
    'Conv2d'
    """
    for module, names in FAMILIES.items():
        if name in names:
            specs: tuple[Spec, ...] = importlib.import_module(f"cnnspec.ops.{module}").SPECS
            return next(spec for spec in specs if spec.name == name)
    import difflib

    near = difflib.get_close_matches(name, NAMES)
    hint = f"; did you mean {' or '.join(near)}?" if near else f"; known are {', '.join(NAMES)}"
    raise UsageError(f"unknown operator {name!r}{hint}", operator=name)


def family(name: str) -> str:
    """Return the family of the operator `name`: the module that defines it."""
    return next(module for module, names in FAMILIES.items() if name in names)
