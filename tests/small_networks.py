"""Small networks that several tests build."""

from cnnspec.blocks import Seq, Shared
from cnnspec.graph import Network
from cnnspec.ops.linear import Linear
from cnnspec.ops.pointwise import ReLU


def linear(inputs: int, outputs: int) -> Linear:
    return Linear(inputs, outputs, bias=False)


def nested_blocks() -> Network:
    """Return the nested blocks of Dive into Deep Learning, 6.2.1: four of 4-8-4, and a line to 1."""
    block = {f"block {i}": Seq(Linear(4, 8), ReLU(), Linear(8, 4), ReLU()) for i in range(4)}
    return Network(Seq(Seq(**block), Linear(4, 1)))


def tied_mlp() -> Network:
    """Return Dive into Deep Learning's tied layers, 6.3.2."""
    shared = Shared(Linear(8, 8))
    return Network(Seq(Linear(4, 8), ReLU(), shared, ReLU(), shared, ReLU(), Linear(8, 1)))
