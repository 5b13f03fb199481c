"""The part of a run that measures ceilings: what matrix products and copies reach, and where a call lies below them.

    P FLOPs per second    B bytes per second    I = flops / bytes
    roof = min(P, B * I)    efficiency = max(flops / P, bytes / B) / seconds

B is the cache's for what fits in the last-level cache, and the memory's for the rest and where caches are cold. Both
ceilings are the best that one process measured on data that are not zeros, with the threads of the run: no data sheet.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import torch

from cnnspec.bench import caches, variants
from cnnspec.bench.desk import Desk
from cnnspec.bench.figures import SPENT, Entry, cut
from cnnspec.bench.plan import Plan
from cnnspec.bench.timers import PROBES, Sample, Timer, counts
from cnnspec.bench.verdicts import Interval
from cnnspec.bench.work import Work

COMPUTE, MEMORY, CACHE = LIMITS = ("compute", "memory", "cache")
TF32 = "tf32"
SIDES = (128, 256, 512, 1024, 2048, 4096, 8192)
"""Of the square matrices whose products are timed: the small ones where the large ones would take too long."""
OPERAND = 4
"""An operand in memory has so many times the bytes of the last-level cache."""
FRACTIONS = (4, 16, 64, 256)
"""What is copied within a cache takes this part of the last-level one: the nearer ones are faster."""
CALLS = 30
"""About how many calls a measurement makes: what takes longer than the time allows is not tried."""
SMALL = 2**30
"""FLOPs or bytes up to which a call is made where nothing is timed."""
LOWS = (0.5, 2.0)
"""The least of the numbers of the first operand, and of the second: they reach to 1 above it."""
FEWER = ("winograd", "fft")
CHOOSERS = ("nnpack", "cudnn", "miopen")
"""Libraries that choose among algorithms, Winograd and FFT among them, and do not say which."""
COUNTING = "a direct algorithm with cold caches cannot lie above the roof: a counting error?"


class Ceilings(NamedTuple):
    """GFLOP/s, GB/s from memory and within a cache, and the bytes of that cache; None for what was not measured."""

    compute: float | None = None
    memory: float | None = None
    cache: float | None = None
    cache_bytes: int = 0

    @classmethod
    def of(cls, roofs: Sequence[Entry], dtype: str) -> "Ceilings":
        """Return the highest ceilings of a dtype ("tf32" is one) among the entries of this part."""
        known = [one for one in roofs if one["dtype"] == dtype]
        best = {
            limit: max((_rate(one) for one in known if one["limit"] == limit), default=None)
            for limit in LIMITS
        }
        size = max((one["cache_bytes"] for one in known), default=0)
        return cls(best[COMPUTE], best[MEMORY], best[CACHE], size)


def placed(work: Work, seconds: float, mode: str, ceilings: Ceilings, path: str = "") -> Entry:
    """Return the roof over a call, what limits it, the part of it that the call reaches, and why that is above 1.

    >>> ceilings = Ceilings(compute=100.0, memory=10.0, cache=50.0, cache_bytes=1000)
    >>> placed(Work(8000, 8000, 2000), 1e-6, "cpu", ceilings)["roof_gflops_per_s"]  # 10 GB/s * 4 FLOPs per byte
    40.0
    >>> placed(Work(8000, 8000, 1000), 1e-6, "cpu", ceilings)["roof_limit"]  # it fits: 50 GB/s * 8 exceed 100 GFLOP/s
    'compute'
    """
    nothing = {"roof_gflops_per_s": None, "roof_limit": None, "efficiency": None, "above_roof": ""}
    near = work.bytes <= ceilings.cache_bytes and not is_cold(mode)
    moved, limit = (ceilings.cache, CACHE) if near else (ceilings.memory, MEMORY)
    if moved is None:
        return nothing
    moving = work.bytes / moved / 1e9
    if not work.flops:
        efficiency = moving / seconds
        above = _reason(efficiency, efficiency, limit, mode, path)
        return nothing | {"roof_limit": limit, "efficiency": efficiency, "above_roof": above}
    if ceilings.compute is None:
        return nothing
    computing, needed = (flops / ceilings.compute / 1e9 for flops in (work.flops, work.flops_effective))
    limit = COMPUTE if computing >= moving else limit
    efficiency, least = (max(one, moving) / seconds for one in (computing, needed))
    return {
        "roof_gflops_per_s": min(ceilings.compute, moved * work.flops / work.bytes),
        "roof_limit": limit,
        "efficiency": efficiency,
        "above_roof": _reason(efficiency, least, limit, mode, path),
    }


def is_cold(mode: str) -> bool:
    """Tell whether no cache holds operands when a call starts."""
    return mode.endswith("_cold")


def is_direct(path: str) -> bool:
    """Tell whether a kernel is known to make the products that are counted.

    >>> [is_direct(path) for path in ("Mkldnn", "Winograd3x3Depthwise", "NnpackSpatial", "")]
    [True, False, False, False]
    """
    return bool(path) and not any(word in path.lower() for word in (*FEWER, *CHOOSERS))


def _reason(efficiency: float, least: float, limit: str, mode: str, path: str) -> str:
    """Return why a call may lie above its roof, `least` without products on padding; "" for one that does not."""
    known = f"{path} does not say its algorithm" if path else "its algorithm is not known"
    reasons = (
        (efficiency <= 1, ""),
        (least <= 1, "products on padding are counted, and need not be made"),
        (limit == CACHE, "its operands were in a cache that is faster than the one that was measured"),
        (limit == MEMORY and not is_cold(mode), "its operands were in a cache in part"),
        (is_direct(path) and is_cold(mode), COUNTING),
        (is_direct(path), "the ceiling was measured too low, or a counting error?"),
        (limit == MEMORY, "what it wrote is still in a cache, or the ceiling was measured too low"),
        (any(word in path.lower() for word in FEWER), f"{path} does fewer operations than are counted"),
        (True, f"{known}: Winograd and FFT do fewer operations, and coarser formats faster ones"),
    )
    return next(reason for holds, reason in reasons if holds)


def dtypes(plan: Plan) -> list[str]:
    """Return the dtypes that a run measures, those of variants too; with float32 on CUDA also "tf32".

    >>> dtypes(Plan("torch", variants=("plain", "channels_last+bfloat16")))
    ['float32', 'bfloat16']
    """
    words = [word for variant in plan.variants for word in variants.parts(variant)]
    found = dict.fromkeys([*plan.dtypes, *(word for word in words if word in variants.DTYPES)])
    coarse = [TF32] * (plan.device.startswith("cuda") and "float32" in found)
    return [*found, *coarse]


def dtype_of(dtype: str, variant: str) -> str:
    """Return whose ceilings a row of a dtype and a variant has."""
    return TF32 if TF32 in variants.parts(variant) else dtype


class Candidate(NamedTuple):
    """What may reach a ceiling: words for it, its FLOPs or bytes, and what makes the call."""

    how: str
    amount: int
    made: Callable[[], Callable[[], Any]]


def entries(desk: Desk, seconds: float) -> Iterator[Entry]:
    """Yield the ceilings of each dtype that the run measures, and leave them at `desk.roofs`."""
    Interval.of([1.0, 2.0], 0.5)  # loads scipy, which takes a second that a small share does not have
    plan, started = desk.plan, desk.now()
    operands = Operands(plan.device, caches.last_level_bytes(plan.device))
    wanted = [(dtype, limit) for dtype in dtypes(plan) for limit in LIMITS]
    for place, (dtype, limit) in enumerate(wanted):
        left = seconds - (desk.now() - started)
        what = f"roof of {dtype}, {limit}"
        if left <= 0 and not plan.smoke:
            yield cut(what, SPENT)
            continue
        named = {"kind": "roof", "dtype": dtype, "threads": plan.threads, "limit": limit}
        named["cache_bytes"] = operands.cache_bytes
        try:
            found = _measured(desk, operands.candidates(dtype, limit), dtype, left / (len(wanted) - place))
        except RuntimeError as error:  # a device lacks a dtype, or the memory
            yield cut(what, str(error).partition("\n")[0])
            continue
        amount = found.pop("amount")
        if not plan.smoke:
            rate = "gflops_per_s" if limit == COMPUTE else "gbytes_per_s"
            found[rate] = amount / found["t_min_s"] / 1e9
            desk.roofs.append({**named, **{name: one for name, one in found.items() if name != "samples"}})
        yield {**named, **found}


@dataclass
class Operands:
    """What is multiplied and copied; the large operands are made once for all dtypes, and filled for each."""

    device: str
    cache_bytes: int
    _large: list[torch.Tensor] = field(default_factory=list, init=False)

    def candidates(self, dtype: str, limit: str) -> Iterator[Candidate]:
        """Yield what may reach a ceiling, the small before the large."""
        element = getattr(torch, "float32" if dtype == TF32 else dtype)
        if limit == COMPUTE:
            for n in SIDES:
                words = f"matrix product of {n} x {n} by {n} x {n}"
                yield Candidate(words, 2 * n**3, partial(self._product, n, element))
                if self.device == "cpu" and _in_onednn(element):
                    inside = partial(self._product_in_onednn, n, element)
                    yield Candidate(f"{words} in oneDNN", 2 * n**3, inside)
        elif limit == MEMORY:
            self._large = self._large or [
                torch.empty(OPERAND * self.cache_bytes, dtype=torch.uint8, device=self.device) for _ in "ab"
            ]
            a, b = (
                self._filled(large.view(element), low) for large, low in zip(self._large, LOWS, strict=True)
            )
            yield from _passes(a, b, f"of {_size(OPERAND * self.cache_bytes)}")
        else:
            for fraction in FRACTIONS:
                count = self.cache_bytes // fraction // 2 // element.itemsize
                a, b = (self._random(count, element, low) for low in LOWS)
                yield from _passes(a, b, f"within {_size(self.cache_bytes // fraction)}")

    def _product(self, n: int, element: torch.dtype) -> Callable[[], Any]:
        a, b = (self._random(n * n, element, low).view(n, n) for low in LOWS)
        return partial(torch.mm, a, b, out=torch.empty_like(a))

    def _product_in_onednn(self, n: int, element: torch.dtype) -> Callable[[], Any]:
        """Return a product by what makes convolutions: torch.mm is another library, on some CPUs half as fast."""
        a, b = (self._random(n * n, element, low).view(n, n).to_mkldnn() for low in LOWS)
        return partial(torch.nn.functional.linear, a, b)

    def _random(self, count: int, element: torch.dtype, low: float) -> torch.Tensor:
        return self._filled(torch.empty(count, dtype=element, device=self.device), low)

    @staticmethod
    def _filled(flat: torch.Tensor, low: float) -> torch.Tensor:
        """Fill with numbers from `low` to `low` + 1, the same in every block: random numbers take long."""
        block = flat[: 2**16].uniform_(low, low + 1)
        for start in range(block.numel(), flat.numel(), block.numel()):
            part = flat[start : start + block.numel()]
            part.copy_(block[: part.numel()])
        return flat


def _in_onednn(element: torch.dtype) -> bool:
    """Tell whether oneDNN multiplies matrices of a dtype here."""
    try:
        one = torch.ones(1, 1, dtype=element).to_mkldnn()
        torch.nn.functional.linear(one, one)
    except RuntimeError:
        return False
    return True


def _passes(a: torch.Tensor, b: torch.Tensor, size: str) -> Iterator[Candidate]:
    """Yield ways over two operands: to read one and write the other, to do both with one, and to read alone.

    A line that is written without being read costs a read as well, which copies do not count: a triad in place, and
    a sum, have none of these. a = b - a / 2 tends to 2 b / 3, in any order with a = b: there are never zeros.
    """
    ways: list[tuple[str, int, Callable[[], Any]]] = [
        ("copy", 2, partial(torch.Tensor.copy_, a, b)),
        ("triad", 3, partial(torch.sub, b, a, alpha=0.5, out=a)),
        ("sum", 1, partial(torch.sum, a)),
    ]
    for word, times, call in ways:
        yield Candidate(f"{word} {size}", times * a.numel() * a.element_size(), partial(_same, call))


def _same(call: Callable[[], Any]) -> Callable[[], Any]:
    return call


def _measured(desk: Desk, candidates: Iterator[Candidate], dtype: str, seconds: float) -> Entry:
    """Return the times of the candidate that reaches most, found in half of the time."""
    timer = next((one for one in desk.timers if not is_cold(one.mode)), desk.timers[0])
    around = variants.switches(TF32 if dtype == TF32 else variants.PLAIN)
    tried = list[str]()
    if desk.plan.smoke:
        for one in candidates:
            if one.amount <= SMALL:
                with around():
                    one.made()()
                tried.append(one.how)
        return {"mode": "smoke", "how": "; ".join(tried), "tried": tried, "amount": 0}
    best: tuple[Candidate, Sample] | None = None
    rate, first = 0.0, next(candidates)  # which may make the operands of all
    deadline, half = desk.now() + seconds, desk.until(seconds / 2)
    for one in chain([first], candidates):
        if best is not None and (half() or CALLS * one.amount > rate * (deadline - desk.now())):
            continue
        tried.append(one.how)
        sample = _sample(one.made(), timer, around)
        found = one.amount / _probed(sample)
        if found > rate:
            best, rate = (one, sample), found
    assert best
    told = {"mode": timer.mode, "how": best[0].how, "tried": tried, "amount": best[0].amount}
    return told | desk.alone(best[1], max(0.0, deadline - desk.now()))


def _probed(sample: Sample) -> float:
    """Return about the seconds of a call, the least of few samples: what takes most is left to the best candidate."""
    (count,) = counts(min(sample(1), sample(1)))
    return min(sample(count) for _ in range(PROBES))


def _sample(call: Callable[[], Any], timer: Timer, around: variants.Around) -> Sample:
    def sample(count: int) -> float:
        with around():
            return timer.sample(call, count)

    return sample


def _rate(roof: Entry) -> float:
    return float(roof["gflops_per_s" if roof["limit"] == COMPUTE else "gbytes_per_s"])


def _size(count: int) -> str:
    """Return a number of bytes in words.

    >>> _size(2**20), _size(3 * 2**17)
    ('1 MiB', '384 KiB')
    """
    return f"{count // 2**20} MiB" if count >= 2**20 else f"{count // 2**10} KiB"
