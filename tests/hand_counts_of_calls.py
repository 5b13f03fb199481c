"""What else a forward calls, with its products and parameters worked out by hand as in `hand_counts`.

Products of matrices, in-place writes, views, resampling, parametrizations, attention, branches that depend on values;
and what has no count that can be stated.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from tests import torch_models as made
from tests.torch_models import IMAGE, Calls, Model, parameter

# Attention of 2 heads of 4 on 2 sequences of 5: in, scores and sums of each head, out.
HEADS = 10 * (24 * 8) + 2 * (2 * 2) * (5 * 5 * 4) + 10 * (8 * 8)

# fmt: off
CALLS: tuple[Model, ...] = (
    # Layers
    Model("padding='valid'", lambda: nn.Conv2d(3, 8, 3, padding="valid"), IMAGE,
          macs=6 * 6 * (8 * 27), parameters=8 * 27 + 8, bias_adds=8 * 6 * 6),
    Model("empty batch", lambda: nn.Conv2d(3, 8, 3), ((0, 3, 8, 8),), macs=0, parameters=8 * 27 + 8),
    Model("nothing", nn.Identity, ((2, 3),), macs=0, parameters=0),
    Model("norms",
          lambda: nn.Sequential(nn.GroupNorm(3, 3), nn.InstanceNorm2d(3, affine=True), nn.LayerNorm([3, 8, 8])), IMAGE,
          macs=0, parameters=2 * 3 + 2 * 3 + 2 * 192, norm_ops=3 * 6 * 192),
    Model("batch norm in training",
          lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)), IMAGE,
          macs=6 * 6 * (4 * 27), parameters=4 * 27 + 4 + 2 * 4, bias_adds=4 * 36, norm_ops=6 * 4 * 36),
    Model("activations", lambda: nn.Sequential(
              nn.PReLU(3), nn.LeakyReLU(0.2), nn.GELU(), nn.SiLU(), nn.ReLU6(), nn.Hardswish(), nn.ELU()),
          IMAGE, macs=0, parameters=3),
    Model("dropout", lambda: nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.25), nn.Softmax(1)), ((2, 4),),
          macs=2 * (3 * 4), parameters=3 * 4 + 3, bias_adds=2 * 3),
    Model("embedding", lambda: Calls(lambda s, x: s.e(x.long()), e=nn.Embedding(5, 3)), ((2, 3),),
          macs=0, parameters=5 * 3),
    Model("lazy layers",
          lambda: nn.Sequential(nn.LazyConv2d(2, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(5)), IMAGE,
          macs=6 * 6 * (2 * 27) + 5 * 72, parameters=(2 * 27 + 2) + 2 * 2 + (5 * 72 + 5),
          bias_adds=2 * 36 + 5, norm_ops=6 * 72),
    Model("tied linear layers", lambda: made.tied(nn.Linear(6, 6, bias=False), nn.Linear(6, 6)), ((2, 6),),
          macs=2 * 2 * (6 * 6), parameters=6 * 6 + 6, bias_adds=2 * 6),
    Model("transposed groups with bias", lambda: nn.ConvTranspose2d(4, 6, 3, 2, groups=2), ((1, 4, 5, 5),),
          macs=5 * 5 * (4 * 3 * 9), parameters=4 * 3 * 9 + 6, bias_adds=6 * 11 * 11),

    # Parametrizations
    Model("weight_norm by hook", lambda: nn.utils.weight_norm(nn.Conv2d(3, 8, 3)), IMAGE,
          macs=6 * 6 * (8 * 27), parameters=8 + 8 * 27 + 8, bias_adds=8 * 36),
    Model("weight_norm transposed", lambda: parametrizations.weight_norm(nn.ConvTranspose2d(3, 4, 2, 2)), IMAGE,
          macs=8 * 8 * (3 * 4 * 4), parameters=3 + 3 * 4 * 4 + 4, bias_adds=4 * 16 * 16),
    # W / sigma, sigma = u^T W v: 3 x 4 products and 3.
    Model("spectral_norm", lambda: parametrizations.spectral_norm(nn.Linear(4, 3)).eval(), ((2, 4),),
          macs=2 * (3 * 4) + 3 * 4 + 3, parameters=3 * 4 + 3, bias_adds=2 * 3),

    # Products of matrices
    Model("functional linear",
          lambda: Calls(lambda s, x: F.linear(x, s.w, s.b), w=parameter(5, 3), b=parameter(5)), ((2, 3),),
          macs=2 * (5 * 3), parameters=5 * 3 + 5, bias_adds=2 * 5),
    Model("matrix product", lambda: Calls(lambda s, a, b: a @ b), ((2, 3, 4), (2, 4, 5)),
          macs=2 * (3 * 5 * 4), parameters=0),
    Model("matrix times parameter", lambda: Calls(lambda s, x: x @ s.w, w=parameter(4, 5)), ((2, 3, 4),),
          macs=2 * (3 * 5 * 4), parameters=4 * 5),
    Model("addmm", lambda: Calls(lambda s, x: torch.addmm(s.b, x, s.w), w=parameter(4, 5), b=parameter(5)), ((3, 4),),
          macs=3 * 5 * 4, parameters=4 * 5 + 5, bias_adds=3 * 5),
    Model("attention", lambda: Calls(made.attention, qkv=nn.Linear(4, 12), out=nn.Linear(4, 4)), ((2, 5, 4),),
          macs=10 * (12 * 4) + 2 * 2 * (5 * 5 * 4) + 10 * (4 * 4), parameters=(12 * 4 + 12) + (4 * 4 + 4),
          bias_adds=10 * 12 + 10 * 4),
    Model("multi-head attention", lambda: Calls(lambda s, x: s.m(x, x, x)[0], m=nn.MultiheadAttention(8, 2)),
          ((5, 2, 8),), macs=HEADS, parameters=(24 * 8 + 24) + (8 * 8 + 8), bias_adds=10 * 24 + 10 * 8),
    Model("transformer layer", lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), ((2, 5, 8),),
          macs=HEADS + 10 * (16 * 8 + 8 * 16),
          parameters=(24 * 8 + 24) + (8 * 8 + 8) + (16 * 8 + 16) + (8 * 16 + 8) + 2 * (8 + 8),
          bias_adds=10 * (24 + 8 + 16 + 8), norm_ops=2 * 6 * 80),

    # In place
    Model("residual in place", lambda: Calls(made.residual, conv=nn.Conv2d(3, 3, 3, padding=1)), IMAGE,
          macs=8 * 8 * (3 * 27), parameters=3 * 27 + 3, data=22 * 22 * (3 * 3), bias_adds=3 * 64),
    Model("in place", lambda: Calls(made.in_place, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 2, 1)), IMAGE,
          macs=8 * 8 * (4 * 3 + 2 * 4), parameters=(4 * 3 + 4) + (2 * 4 + 2), bias_adds=(4 + 2) * 64),
    Model("in a view", lambda: Calls(made.in_view, a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 2, 1)), IMAGE,
          macs=8 * 8 * (4 * 3 + 2 * 4), parameters=(4 * 3 + 4) + (2 * 4 + 2), bias_adds=(4 + 2) * 64),
    Model("into zeros", lambda: Calls(made.filled, l=nn.Linear(4, 5)), ((2, 3),),
          macs=2 * (5 * 4), parameters=5 * 4 + 5, bias_adds=2 * 5),

    # Shapes
    Model("flatten, permute and view", lambda: Calls(
              lambda s, x: s.l(x.permute(0, 2, 3, 1).flatten(0, 2)).view(1, 8, 8, 2), l=nn.Linear(3, 2)), IMAGE,
          macs=64 * (2 * 3), parameters=2 * 3 + 2, bias_adds=64 * 2),
    Model("class token", lambda: Calls(
              lambda s, x: torch.cat([s.t.expand(2, -1, -1), x], 1), t=parameter(1, 1, 4)), ((2, 3, 4),),
          macs=0, parameters=4),
    Model("interpolate", lambda: Calls(
              lambda s, x: s.c(F.interpolate(x, scale_factor=2, mode="bilinear")), c=nn.Conv2d(3, 2, 1)), IMAGE,
          macs=16 * 16 * (2 * 3), parameters=2 * 3 + 2, bias_adds=2 * 256),
    Model("interpolate to a size", lambda: nn.Sequential(nn.Upsample((5, 4)), nn.Conv2d(3, 2, 1)), IMAGE,
          macs=5 * 4 * (2 * 3), parameters=2 * 3 + 2, bias_adds=2 * 20),
    Model("pixel shuffle", lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.PixelShuffle(2)), IMAGE,
          macs=64 * (8 * 3), parameters=8 * 3 + 8, bias_adds=8 * 64),
    Model("concatenated branches", lambda: Calls(
              lambda s, x: torch.cat([s.a(x), s.b(x)], 1), a=nn.Conv2d(3, 2, 1), b=nn.Conv2d(3, 4, 1)), IMAGE,
          macs=64 * (2 * 3 + 4 * 3), parameters=(2 * 3 + 2) + (4 * 3 + 4), bias_adds=64 * (2 + 4)),

    # Control
    Model("without gradients", lambda: Calls(lambda s, x: torch.no_grad()(s.c)(x), c=nn.Conv2d(3, 2, 1)), IMAGE,
          macs=64 * (2 * 3), parameters=2 * 3 + 2, bias_adds=2 * 64),
    Model("depends on values", lambda: Calls(made.branching, a=nn.Linear(4, 4), b=nn.Linear(4, 2)), ((2, 4),),
          macs=2 * (4 * 4), parameters=(4 * 4 + 4) + (2 * 4 + 2), bias_adds=2 * 4),
    Model("computed weight", lambda: Calls(made.dynamic, make=nn.Linear(3, 12)), IMAGE,
          macs=12 * 3 + 64 * (4 * 3), parameters=12 * 3 + 12, bias_adds=12),

    # Unavailable
    Model("orthogonal", lambda: parametrizations.orthogonal(nn.Linear(4, 4)), ((2, 4),),
          macs=None, parameters=4 * 4 + 4, bias_adds=None, norm_ops=None),
    Model("recurrent", lambda: Calls(lambda s, x: s.r(x)[0], r=nn.LSTM(4, 3)), ((5, 2, 4),),
          macs=None, parameters=12 * 4 + 12 * 3 + 2 * 12, bias_adds=None, norm_ops=None),
    Model("unknown", lambda: nn.Sequential(nn.Linear(3, 3), Calls(lambda s, x: torch.linalg.inv(x))), ((3, 3),),
          macs=None, parameters=3 * 3 + 3, bias_adds=None, norm_ops=None),
)
# fmt: on
