"""A limit on the memory that a target may take: it holds while the target runs, and the judge keeps what it needs."""

import contextlib
import importlib.util
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

resource: Any = importlib.import_module("resource") if importlib.util.find_spec("resource") else None
"""None on Windows, where no limit is kept."""

_REFUSALS = ("can't allocate memory", "not enough memory", "cannot allocate memory", "out of memory")
_limit = 0


def keep_to(limit: int) -> None:
    """Let no target that this process calls make it allocate more than so many bytes; 0 for any number."""
    global _limit  # noqa: PLW0603 - a process has one limit
    _limit = limit


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Hold this process to its limit."""
    if resource is None or not _limit:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    held = _limit if hard == resource.RLIM_INFINITY else min(_limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (held, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def ran_out(error: BaseException) -> bool:
    """Say whether an exception means that no memory was left; torch says so in a sentence.

    >>> ran_out(MemoryError()), ran_out(RuntimeError("CUDA out of memory.")), ran_out(ValueError("3"))
    (True, True, False)
    """
    told = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in told for words in _REFUSALS)
    )


def allocated() -> int:
    """Return how many bytes this process has allocated; where only a peak is known, that; else 0."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[5]) * int(resource.getpagesize())
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024 if resource else 0


class Kept:
    """How much of this process's memory the calls of each backend have kept since it was made."""

    def __init__(self) -> None:
        self._at_first = allocated()
        self._by: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """How many bytes all have kept."""
        return allocated() - self._at_first

    @property
    def share(self) -> float:
        """The part of what the limit leaves that all have kept."""
        return self.total / max(1, _limit - self._at_first) if _limit else 0.0

    def note(self, backend: str) -> None:
        """Lay what is new since the last time to a backend."""
        self._by[backend] += self.total - self._by.total()

    def is_most_of(self, backend: str) -> bool:
        """Say whether no other backend has kept more."""
        return self._by[backend] >= max(self._by.values(), default=0)


def spelled(size: int) -> str:
    """Return a number of bytes for people.

    >>> spelled(4_000_000_000), spelled(512_000_000)
    ('4 GB', '512 MB')
    """
    return f"{size / 1e9:.3g} GB" if size >= 10**9 else f"{size / 1e6:.3g} MB"


def limit_sentence() -> str:
    """Return what a target that ran out of memory did."""
    return f"ran out of memory (limit {spelled(_limit)})" if _limit else "ran out of memory"
