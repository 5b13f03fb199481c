"""The fields of entries that hold times and ratios, and the entry of what has none for lack of time or means."""

import math
from collections.abc import Sequence
from statistics import median, quantiles
from typing import Any

from cnnspec.bench.adaptive import CONFIDENCE, Comparison
from cnnspec.bench.timers import cold_calls
from cnnspec.bench.verdicts import Interval
from cnnspec.bench.work import Work

Entry = dict[str, Any]
TIMES_CONFIDENCE = 0.95
"""Of the interval of a median time; of a ratio it is `adaptive.CONFIDENCE`."""
SPENT = "the budget was spent"
"""Why what is left when a part's time is over is not measured."""


def cut(what: str, reason: str, **told: Any) -> Entry:
    """Return the entry of what is not measured, and why.

    >>> cut("roof of float32, memory", SPENT)
    {'kind': 'cut', 'layer': 'roof of float32, memory', 'reason': 'the budget was spent'}
    """
    return {"kind": "cut", "layer": what, **told, "reason": reason}


def times(samples: Sequence[float], count: int) -> Entry:
    """Return the seconds of one call, and the interval of their median."""
    interval = Interval.of(samples, TIMES_CONFIDENCE)
    quarters = quantiles(samples, n=4) if len(samples) > 1 else [samples[0]] * 3
    return {
        "t_median_s": median(samples),
        "t_min_s": min(samples),
        "t_iqr_s": quarters[2] - quarters[0],
        "t_ci95_lo_s": _or_none(interval.low),
        "t_ci95_hi_s": _or_none(interval.high),
        "calls_per_sample": count,
    }


def timed(samples: Sequence[float], count: int) -> Entry:
    """Return the times of a call that is compared with none, and its samples."""
    return {**times(samples, count), "samples": tuple((None, one) for one in samples)}


def ratios(found: Comparison, delta: float) -> Entry:
    """Return the ratio of a comparison, its interval, its verdict, and its samples."""
    ratio = found.ratio
    return {
        "pairs": len(found.pairs),
        "ratio": ratio.median,
        "ratio_ci_lo": _or_none(ratio.low),
        "ratio_ci_hi": _or_none(ratio.high),
        "ratio_confidence": CONFIDENCE,
        "delta": delta,
        "autocorrelation": found.autocorrelation,
        "verdict": ratio.verdict(delta),
        "complete": found.complete,
        "samples": found.pairs,
    }


def compared(found: Comparison, delta: float) -> Entry:
    """Return the times of both sides of a comparison, those of the reference as against_..., and its ratio."""
    reference, candidate = ([pair[side] for pair in found.pairs] for side in (0, 1))
    against = {f"against_{name}": value for name, value in times(reference, found.counts[0]).items()}
    return {**times(candidate, found.counts[1]), **against, **ratios(found, delta)}


def calls_made(found: Entry, mode: str) -> Entry:
    """Return how many calls each sample of a timer made, which may be fewer than were asked for."""
    return {name: cold_calls(mode, found[name]) for name in found if name.endswith("calls_per_sample")}


def counted(work: Work) -> Entry:
    """Return what a call must do at least."""
    return {
        "flops": work.flops,
        "flops_effective": work.flops_effective,
        "bytes_compulsory": work.bytes,
        "intensity": work.intensity,
    }


def rates(work: Work, seconds: float) -> Entry:
    """Return the FLOPs and the bytes per second of a call."""
    return {"gflops_per_s": work.flops / seconds / 1e9, "gbytes_per_s": work.bytes / seconds / 1e9}


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
