"""How large the last-level cache is, and how calls are timed whose operands lie in none."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cnnspec.bench import caches
from cnnspec.bench.timers import MOST, Cold, Wall, counts, quickest


def of_processor(root: Path, number: int, *indices: tuple[int, str, str]) -> None:
    for place, told in enumerate(indices):
        directory = root / f"cpu{number}" / "cache" / f"index{place}"
        directory.mkdir(parents=True)
        for name, value in zip(("level", "size", "shared_cpu_list"), told, strict=True):
            (directory / name).write_text(f"{value}\n")


def test_the_last_level_counts_once_for_all_that_share_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, shared in enumerate(("0-1", "0-1", "2")):
        of_processor(tmp_path, number, (1, "48K", str(number)), (3, "32768K", shared), (2, "1M", str(number)))
    for allowed, wanted in (([0], 32), ([0, 1], 32), ([1, 2], 64), ([7], None)):
        monkeypatch.setattr("cnnspec.bench.machine.allowed", lambda found=allowed: found)
        found = caches.last_level_bytes(system=tmp_path)
        assert found == (wanted * 2**20 if wanted else caches.FALLBACK_BYTES)


def test_a_size_that_is_not_understood_is_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnspec.bench.machine.allowed", lambda: [0])
    of_processor(tmp_path, 0, (1, "48K", "0"), (3, "many", "0"))
    assert caches.last_level_bytes(system=tmp_path) == 48 * 2**10


class Clock:
    """Nanoseconds that pass while calls and fillers run."""

    def __init__(self) -> None:
        self.now, self.told = 0, list[str]()

    def __call__(self) -> int:
        return self.now

    def passing(self, word: str, nanoseconds: int) -> Callable[[], None]:
        def run() -> None:
            self.told.append(word)
            self.now += nanoseconds

        return run


def test_each_cold_call_is_timed_alone_after_the_caches_were_filled() -> None:
    clock = Clock()
    cold, call = Cold(clock, clock.passing("fill", 7_000_000)), clock.passing("call", 2_000)
    assert cold.sample(call, 3) == 2e-6
    assert clock.told == ["fill", "call"] * 3
    assert cold.mode == "cpu_cold"
    clock.told.clear()
    assert Wall(clock).sample(lambda: (cold.fill(), call()), 3) == 7.002e-3


def test_a_cold_sample_is_of_few_calls_however_short_they_are() -> None:
    clock = Clock()
    cold = Cold(clock, clock.passing("fill", 7_000_000))
    assert cold.sample(clock.passing("call", 1_000), *counts(1e-6)) == 1e-6
    assert clock.told.count("call") == MOST
    clock.told.clear()
    assert quickest(lambda count: cold.sample(clock.passing("call", 1_000), count)) == 1e-6
    assert clock.told.count("fill") <= 20 * MOST
