"""Values of options that several subcommands take."""

import argparse
from collections.abc import Sequence

from cnnspec.errors import UsageError

BREAKDOWN, INTERRUPTED = 4, 130
"""Exit codes: nothing ran, or cnnspec itself failed; interrupted before anything was found."""


def positive(text: str) -> int:
    """Return a positive whole number."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a positive whole number")
    return int(text)


def seconds(text: str) -> float:
    """Return a duration in seconds.

    >>> [seconds(text) for text in ("90", "90s", "2m", "1h")]
    [90.0, 90.0, 120.0, 3600.0]
    """
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
    try:
        value = float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        value = 0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} must be a duration such as 90s, 2m or 1h")
    return value


def size(text: str) -> int:
    """Return a number of bytes.

    >>> [size(text) for text in ("4GB", "512MB", "0.5gb")]
    [4000000000, 512000000, 500000000]
    """
    unit = {"gb": 10**9, "mb": 10**6}.get(text[-2:].lower(), 0)
    try:
        value = float(text[:-2]) * unit
    except ValueError:
        value = 0
    if not 0 < value < 1e15:
        raise argparse.ArgumentTypeError(f"{text!r} must be a size such as 4GB or 512MB")
    return int(value)


def shard(text: str) -> tuple[int, int]:
    """Return a part of a run and the number of parts."""
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} must be I/N with 1 <= I <= N")
    return int(part), int(parts)


def whole_shape(text: str) -> tuple[int, ...]:
    """Return the shape of an input; UsageError for what is none.

    >>> whole_shape("1,3,224,224")
    (1, 3, 224, 224)
    """
    return _sizes(text, _words(text))


def shape(text: str) -> tuple[int | str, ...]:
    """Return the shape of an input, whose batch may be a name; UsageError for what is none.

    >>> shape("N,3,224,224"), shape("1x3x224x224")
    (('N', 3, 224, 224), (1, 3, 224, 224))
    """
    batch, *sizes = _words(text)
    return (batch, *_sizes(text, sizes)) if batch.isidentifier() else whole_shape(text)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.replace("x", ",").split(",")]


def _sizes(text: str, words: Sequence[str]) -> tuple[int, ...]:
    if not all(word.isdecimal() for word in words):
        raise UsageError(f"--input {text!r} must be sizes such as 1,3,224,224")
    return tuple(map(int, words))
