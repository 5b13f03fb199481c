"""The benchmark of the exact engine: what it measures is named, and what it does not know is said."""

import pytest

from cnnspec.bench import exact


def test_the_pairs_alternate_and_both_sides_run_as_often() -> None:
    order: list[str] = []
    row = exact.Row("row", lambda: order.append("ours"), lambda: order.append("theirs"), 1)
    found = exact.compared(row, pairs=3)

    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs", "theirs", "ours"]
    assert found.low <= found.median <= found.high


def test_a_row_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        exact.main(["resnet-19"])

    assert ended.value.code == 2
    assert "no row has 'resnet-19' in its name; they are 'A/A torch float64" in capsys.readouterr().err


def test_the_peak_of_a_call_is_what_it_holds() -> None:
    assert 2**20 <= exact.peak_bytes(lambda: bytearray(2**20)) < 2**21
