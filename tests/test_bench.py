"""The benchmarks: what they measure is named, what they do not know is said, and nothing wrong is timed."""

from typing import Any

import pytest

from cnnspec.bench import exact, paired, summary


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
