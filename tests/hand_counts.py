"""Fifty-two modules that counters of products get wrong, with their products and parameters worked out by hand.

`macs`: a convolution multiplies (outputs of a channel) x (weights), a transposed one (inputs of a channel) x (weights).
`data`: the taps on data, counted along each axis. On 8 pixels a kernel of 3 with padding 1 has 3*8 - 2 = 22 of them.
`bias_adds`: one for each output; `norm_ops`: 2 for each element where mean and variance are known, else 6.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from tests import torch_models as made
from tests.torch_models import IMAGE, Calls, Model, parameter, pointwise

# fmt: off
CASES: tuple[Model, ...] = (
    # Convolutions
    Model("conv2d root leaf", lambda: nn.Conv2d(3, 8, 3, padding=1, bias=False), IMAGE,
          macs=8 * 8 * (8 * 3 * 3 * 3), parameters=8 * 3 * 3 * 3, data=22 * 22 * (8 * 3)),
    Model("conv2d wrapped", lambda: nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False)), IMAGE,
          macs=8 * 8 * (8 * 3 * 3 * 3), parameters=8 * 3 * 3 * 3, data=22 * 22 * (8 * 3)),
    Model("conv2d bias", lambda: nn.Conv2d(3, 8, 3, padding=1), IMAGE,
          macs=8 * 8 * (8 * 3 * 3 * 3), parameters=8 * 3 * 3 * 3 + 8, data=22 * 22 * (8 * 3), bias_adds=8 * 8 * 8),
    Model("conv2d batch 4", lambda: nn.Conv2d(3, 8, 3, padding=1, bias=False), ((4, 3, 8, 8),),
          macs=4 * 8 * 8 * (8 * 3 * 3 * 3), parameters=8 * 3 * 3 * 3, data=4 * 22 * 22 * (8 * 3)),
    Model("conv2d unbatched", lambda: nn.Conv2d(3, 8, 3, padding=1, bias=False), ((3, 8, 8),),
          macs=8 * 8 * (8 * 3 * 3 * 3), parameters=8 * 3 * 3 * 3, data=22 * 22 * (8 * 3)),
    Model("conv2d groups 4", lambda: nn.Conv2d(8, 12, 3, groups=4), ((1, 8, 5, 5),),
          macs=3 * 3 * (12 * 2 * 3 * 3), parameters=12 * 2 * 3 * 3 + 12, bias_adds=12 * 3 * 3),
    Model("conv2d depthwise, multiplier 2", lambda: nn.Conv2d(4, 8, 3, groups=4, bias=False), ((1, 4, 5, 5),),
          macs=3 * 3 * (8 * 1 * 3 * 3), parameters=8 * 1 * 3 * 3),
    # On 9 pixels, starts at -2, 0, 2, 4, 6 and a span of 5: 2 + 3 + 3 + 3 + 2 = 13 taps on data.
    Model("conv2d stride 2, dilation 2", lambda: nn.Conv2d(3, 2, 3, 2, 2, 2, bias=False), ((1, 3, 9, 9),),
          macs=5 * 5 * (2 * 3 * 3 * 3), parameters=2 * 3 * 3 * 3, data=13 * 13 * (2 * 3)),
    # Of 8 * 7 taps in a row, 3 + 2 + 1 miss on each side.
    Model("conv2d 1x7", lambda: nn.Conv2d(3, 2, (1, 7), padding=(0, 3), bias=False), IMAGE,
          macs=8 * 8 * (2 * 3 * 1 * 7), parameters=2 * 3 * 1 * 7, data=8 * (8 * 7 - 12) * (2 * 3)),
    Model("conv1d", lambda: nn.Conv1d(3, 5, 4), ((2, 3, 9),),
          macs=2 * 6 * (5 * 3 * 4), parameters=5 * 3 * 4 + 5, bias_adds=2 * 5 * 6),
    Model("conv3d", lambda: nn.Conv3d(2, 3, 2), ((1, 2, 4, 4, 4),),
          macs=3 * 3 * 3 * (3 * 2 * 2 * 2 * 2), parameters=3 * 2 * 2 * 2 * 2 + 3, bias_adds=3 * 3 * 3 * 3),
    Model("padding='same', kernel 3", lambda: nn.Conv2d(3, 8, 3, padding="same", bias=False), IMAGE,
          macs=8 * 8 * (8 * 3 * 3 * 3), parameters=8 * 3 * 3 * 3, data=22 * 22 * (8 * 3)),
    # One pixel before and two behind: starts at -1 to 6, 3 + 5*4 + 3 + 2 = 28 taps on data.
    Model("padding='same', kernel 4", lambda: nn.Conv2d(3, 8, 4, padding="same", bias=False), IMAGE,
          macs=8 * 8 * (8 * 3 * 4 * 4), parameters=8 * 3 * 4 * 4, data=28 * 28 * (8 * 3)),
    # Taps at o - 3, o and o + 3: 5 + 8 + 5 = 18 on data.
    Model("padding='same', dilation 3", lambda: nn.Conv2d(3, 8, 3, padding="same", dilation=3, bias=False), IMAGE,
          macs=8 * 8 * (8 * 3 * 3 * 3), parameters=8 * 3 * 3 * 3, data=18 * 18 * (8 * 3)),
    Model("padding_mode circular", lambda: nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular", bias=False), IMAGE,
          macs=8 * 8 * (8 * 3 * 3 * 3), parameters=8 * 3 * 3 * 3),
    Model("padding_mode reflect", lambda: nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect", bias=False), IMAGE,
          macs=8 * 8 * (8 * 3 * 3 * 3), parameters=8 * 3 * 3 * 3),

    # Transposed convolutions. Of 8 pixels with stride 2 and padding 1, one of 3*8 copies falls before the output,
    # and output_padding=1 catches the last one.
    Model("conv_transpose2d kernel 3, stride 2, padding 1, output_padding 1",
          lambda: nn.ConvTranspose2d(3, 4, 3, 2, 1, 1, bias=False), IMAGE,
          macs=8 * 8 * (3 * 4 * 3 * 3), parameters=3 * 4 * 3 * 3, data=23 * 23 * (3 * 4)),
    Model("conv_transpose2d stride 1", lambda: nn.ConvTranspose2d(3, 4, 3, bias=False), IMAGE,
          macs=8 * 8 * (3 * 4 * 3 * 3), parameters=3 * 4 * 3 * 3),
    Model("conv_transpose2d bias", lambda: nn.ConvTranspose2d(3, 4, 2, 2), IMAGE,
          macs=8 * 8 * (3 * 4 * 2 * 2), parameters=3 * 4 * 2 * 2 + 4, bias_adds=4 * 16 * 16),
    Model("conv_transpose2d groups 2", lambda: nn.ConvTranspose2d(4, 6, 3, 2, groups=2, bias=False), ((1, 4, 5, 5),),
          macs=5 * 5 * (4 * 3 * 3 * 3), parameters=4 * 3 * 3 * 3),
    Model("conv_transpose2d depthwise", lambda: nn.ConvTranspose2d(4, 4, 2, 2, groups=4, bias=False), ((1, 4, 5, 5),),
          macs=5 * 5 * (4 * 1 * 2 * 2), parameters=4 * 1 * 2 * 2),
    Model("conv_transpose1d", lambda: nn.ConvTranspose1d(3, 2, 4, 2), ((1, 3, 7),),
          macs=7 * (3 * 2 * 4), parameters=3 * 2 * 4 + 2, bias_adds=2 * 16),
    Model("conv_transpose3d", lambda: nn.ConvTranspose3d(2, 3, 2, 2), ((1, 2, 3, 3, 3),),
          macs=3 * 3 * 3 * (2 * 3 * 2 * 2 * 2), parameters=2 * 3 * 2 * 2 * 2 + 3, bias_adds=3 * 6 * 6 * 6),
    Model("conv_transpose2d output_size",
          lambda: Calls(lambda s, x: s.up(x, output_size=[16, 16]), up=nn.ConvTranspose2d(3, 4, 3, 2, 1)), IMAGE,
          macs=8 * 8 * (3 * 4 * 3 * 3), parameters=3 * 4 * 3 * 3 + 4, data=23 * 23 * (3 * 4), bias_adds=4 * 16 * 16),

    # Functions instead of layers
    Model("functional conv2d by a parameter",
          lambda: Calls(lambda s, x: F.conv2d(x, s.k, padding=1), k=parameter(8, 3, 3, 3)), IMAGE,
          macs=8 * 8 * (8 * 3 * 3 * 3), parameters=8 * 3 * 3 * 3, data=22 * 22 * (8 * 3)),
    Model("functional conv2d in a block",
          lambda: nn.Sequential(Calls(lambda s, x: F.conv2d(x, s.k), k=parameter(8, 3, 3, 3)), pointwise(8, 4)), IMAGE,
          macs=6 * 6 * (8 * 3 * 3 * 3) + 6 * 6 * (4 * 8), parameters=8 * 3 * 3 * 3 + 4 * 8),
    Model("functional conv_transpose2d",
          lambda: Calls(lambda s, x: F.conv_transpose2d(x, s.k, stride=2), k=parameter(3, 8, 2, 2)), IMAGE,
          macs=8 * 8 * (3 * 8 * 2 * 2), parameters=3 * 8 * 2 * 2),
    # On 8 pixels, starts at -1, 1, 3, 5: 2 + 3 + 3 + 3 = 11 taps on data.
    Model("fixed kernel in a buffer", lambda: made.buffered(
              torch.ones(3, 1, 3, 3), lambda s, x: s.c(F.conv2d(x, s.kernel, None, 2, 1, 1, 3)), c=pointwise(3, 2)),
          IMAGE, macs=4 * 4 * (3 * 3 * 3) + 4 * 4 * (2 * 3), parameters=2 * 3, data=11 * 11 * 3 + 4 * 4 * (2 * 3)),

    # What is used more than once. On 6 pixels 3*6 - 2 = 16 taps are on data, on 3 pixels 7.
    Model("module called twice",
          lambda: Calls(lambda s, x: s.c(s.c(x)), c=nn.Conv2d(4, 4, 3, padding=1, bias=False)), ((1, 4, 6, 6),),
          macs=2 * 6 * 6 * (4 * 4 * 3 * 3), parameters=4 * 4 * 3 * 3, data=2 * 16 * 16 * (4 * 4)),
    Model("module called on two sizes",
          lambda: Calls(lambda s, x: s.c(F.max_pool2d(s.c(x), 2)), c=nn.Conv2d(4, 4, 3, padding=1)), ((1, 4, 6, 6),),
          macs=(6 * 6 + 3 * 3) * (4 * 4 * 3 * 3), parameters=4 * 4 * 3 * 3 + 4,
          data=(16 * 16 + 7 * 7) * (4 * 4), bias_adds=4 * (6 * 6 + 3 * 3)),
    Model("module under two names", made.two_names, ((1, 4, 6, 6),),
          macs=2 * 6 * 6 * (4 * 4 * 3 * 3), parameters=4 * 4 * 3 * 3, data=2 * 16 * 16 * (4 * 4)),
    Model("module under two parents", made.two_parents, ((1, 4, 6, 6),),
          macs=2 * 6 * 6 * (4 * 4 * 3 * 3), parameters=4 * 4 * 3 * 3, data=2 * 16 * 16 * (4 * 4)),
    Model("weight tied in two modules",
          lambda: made.tied(nn.Conv2d(4, 4, 3, bias=False), nn.Conv2d(4, 4, 3)), ((1, 4, 6, 6),),
          macs=(4 * 4 + 2 * 2) * (4 * 4 * 3 * 3), parameters=4 * 4 * 3 * 3 + 4, bias_adds=4 * 2 * 2),

    # Layers that are not what their class says
    Model("subclass of Conv2d", lambda: made.Wider(3, 8, 3, bias=False), IMAGE,
          macs=6 * 6 * (8 * 3 * 3 * 3), parameters=8 * 3 * 3 * 3),
    Model("subclass with a forward of its own", lambda: made.Standardized(3, 8, 3, bias=False), IMAGE,
          macs=6 * 6 * (8 * 3 * 3 * 3), parameters=8 * 3 * 3 * 3),
    Model("weight_norm", lambda: parametrizations.weight_norm(nn.Conv2d(3, 8, 3, bias=False)), IMAGE,
          macs=6 * 6 * (8 * 3 * 3 * 3), parameters=8 + 8 * 3 * 3 * 3),
    Model("LazyConv2d", lambda: nn.LazyConv2d(8, 3, bias=False), IMAGE,
          macs=6 * 6 * (8 * 3 * 3 * 3), parameters=8 * 3 * 3 * 3),
    Model("frozen first layer", made.frozen, IMAGE,
          macs=6 * 6 * (8 * 3 * 3 * 3) + 6 * 6 * (4 * 8), parameters=8 * 3 * 3 * 3 + 4 * 8),

    # Linear layers
    Model("linear on a sequence", lambda: nn.Linear(6, 5, bias=False), ((2, 7, 6),),
          macs=2 * 7 * (5 * 6), parameters=5 * 6),
    Model("linear with bias on a batch", lambda: nn.Linear(6, 5), ((4, 6),),
          macs=4 * (5 * 6), parameters=5 * 6 + 5, bias_adds=4 * 5),

    # Parameters that multiply nothing, and what has none
    Model("group norm", lambda: nn.Sequential(pointwise(4, 8), nn.GroupNorm(2, 8)), ((1, 4, 8, 8),),
          macs=8 * 8 * (8 * 4), parameters=8 * 4 + 2 * 8, norm_ops=6 * 8 * 8 * 8),
    Model("batch norm", lambda: nn.Sequential(pointwise(4, 8), nn.BatchNorm2d(8)).eval(), ((1, 4, 8, 8),),
          macs=8 * 8 * (8 * 4), parameters=8 * 4 + 2 * 8, norm_ops=2 * 8 * 8 * 8),
    Model("scale of a layer, on its parent",
          lambda: Calls(lambda s, x: s.scale * s.c(x), c=pointwise(4, 8), scale=parameter(8, 1, 1)), ((1, 4, 8, 8),),
          macs=8 * 8 * (8 * 4), parameters=8 * 4 + 8),
    Model("pools without parameters",
          lambda: nn.Sequential(nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)), IMAGE,
          macs=0, parameters=0),
    Model("ceil mode and adaptive pool", lambda: nn.Sequential(
              nn.Conv2d(3, 4, 3, bias=False), nn.MaxPool2d(3, 2, ceil_mode=True), nn.AdaptiveAvgPool2d((2, 1))),
          IMAGE, macs=6 * 6 * (4 * 3 * 3 * 3), parameters=4 * 3 * 3 * 3),

    # What no hook sees
    Model("direct call of forward", lambda: Calls(lambda s, x: s.c.forward(x), c=pointwise(4, 8)), ((1, 4, 8, 8),),
          macs=8 * 8 * (8 * 4), parameters=8 * 4),
    Model("unused layer",
          lambda: Calls(lambda s, x: s.a(x), a=pointwise(4, 8), b=nn.Conv2d(4, 8, 3, bias=False)), ((1, 4, 8, 8),),
          macs=8 * 8 * (8 * 4), parameters=8 * 4 + 8 * 4 * 3 * 3),
    Model("non-local products", lambda: Calls(made.non_local, conv=pointwise(4, 4)), ((1, 4, 8, 8),),
          macs=8 * 8 * (4 * 4) + 2 * (64 * 64 * 4), parameters=4 * 4),
    # As many products as the convolution, whose padding unfold has made data.
    Model("unfold and matrix product",
          lambda: Calls(lambda s, x: s.w @ F.unfold(x, 3, padding=1), w=parameter(8, 27)), IMAGE,
          macs=8 * 8 * (8 * 3 * 3 * 3), parameters=8 * 27),
    Model("einsum as a 1x1 convolution",
          lambda: Calls(lambda s, x: torch.einsum("nchw,oc->nohw", x, s.w), w=parameter(8, 4)), ((1, 4, 8, 8),),
          macs=8 * 8 * (8 * 4), parameters=8 * 4),

    # 8x8 -> 4x4 with 11 taps on data along an axis -> 2x2 by groups -> transposed 4x4 -> 3x3 by a function -> linear
    Model("mixed blocks", made.mixed, IMAGE,
          macs=4 * 4 * (4 * 3 * 9) + 2 * 2 * (4 * 2 * 9) + 2 * 2 * (4 * 2 * 4) + 3 * 3 * (2 * 2 * 4) + 5 * 2,
          parameters=4 * 3 * 9 + 2 * 4 + 4 * 2 * 9 + 4 * 2 * 4 + 2 * 2 * 4 + 5 * 2 + 5,
          data=11 * 11 * (4 * 3) + 2 * 2 * (4 * 2 * 9) + 2 * 2 * (4 * 2 * 4) + 3 * 3 * (2 * 2 * 4) + 5 * 2,
          bias_adds=5, norm_ops=2 * 4 * 4 * 4),
    Model("bfloat16", lambda: nn.Conv2d(3, 8, 3, padding=1, bias=False).to(torch.bfloat16), IMAGE,
          macs=8 * 8 * (8 * 3 * 3 * 3), parameters=8 * 3 * 3 * 3, data=22 * 22 * (8 * 3)),
)
# fmt: on
