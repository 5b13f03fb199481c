"""Architectures: one file per family, each definition laid out as its paper's table; loaded when asked for.

Every definition takes `width` (the channels of its first layer, with which all others scale), `in_channels`,
`classes` and `input_size`; its defaults are those of its source. Parameters are named as in torchvision where the
model stands there, so that a state_dict fits.

>>> from cnnspec import nets
>>> nets.resnet18().parameter_count
11689512
>>> nets.resnet18(width=4, classes=10, input_size=32).output_shape((1, 3, 32, 32))
(1, 10)
"""

import importlib
from collections.abc import Callable
from typing import Any

from cnnspec.errors import UsageError
from cnnspec.graph import Network

FAMILIES = {
    "lenets": ("lenet5", "lenet_fleuret"),
    "small": ("cs428_net", "mlp"),
    "alexnets": ("alexnet",),
    "vggs": (
        *("vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
        *("vgg11_d2l", "vgg11_narrow"),
    ),
    "nins": ("nin",),
    "googlenets": ("googlenet", "googlenet_d2l"),
    "resnets": (
        *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
        *("resnext50_32x4d", "wide_resnet50_2", "resnet18_d2l"),
    ),
    "densenets": ("densenet121", "densenet161", "densenet169", "densenet201"),
}
"""The names of architectures by the module that defines them; no module has the name of an architecture."""

NAMES = tuple(name for names in FAMILIES.values() for name in names)

_HOME = {name: module for module, names in FAMILIES.items() for name in names}


def __getattr__(name: str) -> Callable[..., Network]:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: Callable[..., Network] = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *NAMES])


def build(name: str, **arguments: Any) -> Network:
    """Return the architecture `name`; UsageError, with the nearest names, where there is none.

    >>> build("lenet5", classes=2).output_shape((7, 1, 28, 28))
    (7, 2)
    """
    if name not in _HOME:
        import difflib

        near = difflib.get_close_matches(name, NAMES)
        known = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(NAMES)}"
        raise UsageError(f"unknown network {name!r}: {known}", network=name)
    return __getattr__(name)(**arguments)
