"""The benchmarks: what they measure is named, what they do not know is said, and nothing wrong is timed."""

from typing import Any

import pytest

from cnnspec.bench import counters, exact, paired, summary
from cnnspec.bench.desk import Desk
from cnnspec.bench.plan import PARTS, Plan
from cnnspec.bench.session import Session
from tests.timed_kernels import Refusing


def test_the_pairs_alternate_and_both_sides_run_as_often() -> None:
    order: list[str] = []
    row = paired.Row("row", lambda: order.append("ours"), lambda: order.append("theirs"), 1)
    found = paired.compared(row, pairs=3)

    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs", "theirs", "ours"]
    assert found.low <= found.median <= found.high


def test_a_row_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        exact.main(["resnet-19"])

    assert ended.value.code == 2
    assert "no row has 'resnet-19' in its name; they are 'A/A torch float64" in capsys.readouterr().err


def test_the_peak_of_a_call_is_what_it_holds() -> None:
    assert 2**20 <= exact.peak_bytes(lambda: bytearray(2**20)) < 2**21


def counter(name: str, *totals: int | None, package: str = "cnnspec") -> summary.Counter:
    def made(_: Any) -> Any:
        return lambda: summary.Totals(*totals)  # type: ignore[arg-type]

    return summary.Counter(name, package, made, "meta")


def broken(_: Any) -> Any:
    raise KeyError("aten::add")


def test_each_of_our_calls_is_timed_against_a_counter() -> None:
    found = list(summary.rows(counter("theirs", summary.PARAMETERS, 7), pairs=1))
    assert [row["cnnspec"] for row in found] == ["build and sum up", "sum up", "sum up again"]
    assert all(row["quartile 1"] <= row["times"] <= row["quartile 3"] for row in found)
    assert {row["its products"] for row in found} == {7}


def test_our_calls_count_what_is_published() -> None:
    assert [call() for call in summary.ours(0).values()] == [(60_192_808, 11_513_626_624)] * 3


@pytest.mark.parametrize(
    ("given", "note"),
    [
        (counter("wrong", 60_192_809, summary.MACS), "WRONG: there are 60192808 parameters"),
        (counter("lost", None, 0, package="cnnspec_nowhere"), "MISSING: No module named 'cnnspec_nowhere'"),
    ],
)
def test_what_is_wrong_or_missing_has_a_row_without_a_number(given: summary.Counter, note: str) -> None:
    (row,) = summary.rows(given, pairs=1)
    assert row["note"] == note
    assert not {"times", "its ms", "our ms"} & row.keys()


def test_nothing_is_timed_where_our_totals_are_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(summary, "MACS", summary.MACS + 1)
    with pytest.raises(SystemExit) as ended:
        summary.main(["A/A"])
    assert ended.value.code == 1
    assert "build and sum up: cnnspec counts Totals(parameters=60192808" in capsys.readouterr().err


def test_a_counter_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        summary.main(["flopcount"])
    assert ended.value.code == 2
    assert (
        "no counter has 'flopcount' in its name; they are 'A/A cnnspec', 'torchinfo'"
        in capsys.readouterr().err
    )


# As parts of a run


class Constant:
    """A timer for which a call takes what its name is said to."""

    mode = "cpu"

    def __init__(self, **seconds: float) -> None:
        self.seconds = seconds

    def sample(self, call: Any, count: int) -> float:
        """Return the seconds of one call, which is not made."""
        return self.seconds[getattr(call, "__name__", "")]


def ours() -> None:
    """Stand for the engine."""


def theirs() -> None:
    """Stand for torch."""


def entries(part: str, timer: Any, seconds: float = 1e6, **words: Any) -> list[dict[str, Any]]:
    plan = Plan("torch", parts=(part,), seconds=seconds, **words)
    return list(Session(plan, timers=[timer]).entries())


@pytest.fixture
def two_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [
        paired.Row("wide", ours, theirs, 2, against=exact.DOUBLE),
        paired.Row("small", ours, theirs, against=exact.SINGLE),
    ]
    monkeypatch.setattr(exact, "rows", lambda: iter(made))


@pytest.mark.usefixtures("two_rows")
def test_the_engine_is_held_against_torch_in_a_run() -> None:
    found = entries("exact", Constant(ours=4.0, theirs=1.0))
    names = ("kind", "what", "against", "target_ratio", "mode", "t_median_s", "against_t_median_s", "verdict")
    assert [tuple(one[name] for name in names) for one in found] == [
        ("engine", "wide", "torch float64", 2, "cpu", 4.0, 1.0, "SLOW"),
        ("engine", "small", "torch float32", None, "cpu", 4.0, 1.0, "SLOW"),
    ]
    assert {*found[0]["samples"]} == {(1.0, 4.0)}


@pytest.mark.usefixtures("two_rows")
def test_the_engine_is_cut_with_the_reason_and_smoke_times_nothing() -> None:
    found = entries("exact", Refusing(), seconds=0)
    assert [(one["layer"], one["reason"]) for one in found] == [
        ("wide", "the budget was spent"),
        ("small", "the budget was spent"),
    ]
    assert [one["mode"] for one in entries("exact", Refusing(), smoke=True)] == ["smoke"] * 2
    (cut,) = exact.entries(Desk(Plan("torch", device="cuda"), [Refusing()]), 1)
    assert cut["reason"] == "it runs on the CPU, and not on cuda"


def test_every_row_says_what_it_is_held_against() -> None:
    against = {row.name: row.against for row in exact.rows()}
    assert {*against.values()} == {"torch float64", "torch float32"}
    assert all((word == "torch float32") == ("gradient" in name) for name, word in against.items())


@pytest.fixture
def four_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    made = (
        counter("right", summary.PARAMETERS, 7),
        counter("wrong", 60_192_809, summary.MACS),
        counter("lost", None, 0, package="cnnspec_nowhere"),
        summary.Counter("broken", "cnnspec", broken, "meta"),
    )
    monkeypatch.setattr(counters, "COUNTERS", made)


@pytest.mark.usefixtures("four_counters")
def test_counters_are_held_against_ours_in_a_run() -> None:
    found = entries("counters", Constant(**{"quiet": 8.0, "<lambda>": 2.0}))
    told = [(one["kind"], one["counter"], one["call"], one["note"]) for one in found]
    assert told == [
        ("counter", "right", "build and sum up", ""),
        ("counter", "wrong", "", "WRONG: there are 60192808 parameters"),
        ("counter", "lost", "", "MISSING: No module named 'cnnspec_nowhere'"),
        ("counter", "broken", "", "FAILED: KeyError: 'aten::add'"),
        ("counter", "right", "sum up", ""),
        ("counter", "right", "sum up again", ""),
    ]
    timed = [one for one in found if one["call"]]
    assert {(one["t_median_s"], one["against_t_median_s"], one["verdict"]) for one in timed} == {
        (8.0, 2.0, "SLOW")
    }
    assert not {"ratio", "t_median_s"} & found[1].keys()


@pytest.mark.usefixtures("four_counters")
def test_counters_are_cut_with_the_reason_and_smoke_times_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = entries("counters", Refusing(), seconds=0)
    assert {one["reason"] for one in found} == {"the budget was spent"}
    assert [one["layer"] for one in found[:4]] == [
        f"{name}, build and sum up" for name in ("right", "wrong", "lost", "broken")
    ]
    found = entries("counters", Refusing(), smoke=True)
    assert [one["mode"] for one in found] == ["smoke", "", "", "", "smoke", "smoke"]
    monkeypatch.setattr(counters, "MACS", summary.MACS + 1)
    (cut,) = entries("counters", Refusing())
    assert cut["reason"].startswith("build and sum up: cnnspec does not count 60192808 parameters and")


def test_the_call_that_needs_new_networks_gets_as_many_as_it_makes() -> None:
    made = list[Any]()

    class Timer:
        mode = "cpu"

        def sample(self, call: Any, count: int) -> float:
            made.extend(call() for _ in range(count))
            return 1.0

    assert counters._new(Timer(), 2) == 1.0
    assert [one.parameter_count for one in made] == [summary.PARAMETERS] * 2


def test_the_parts_have_modules() -> None:
    assert [name for name in PARTS if name in ("networks", "exact", "counters")] == [
        "networks",
        "exact",
        "counters",
    ]
