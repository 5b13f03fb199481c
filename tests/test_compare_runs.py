"""Two runs side by side, shards made one, and what --strict takes for an error."""

import csv
import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch.nn.functional as F

from cnnspec import run
from cnnspec.backends import Backend
from cnnspec.cli import main
from cnnspec.errors import UsageError
from cnnspec.plan import Plan
from cnnspec.report.comparison import COLUMNS, as_text, changes
from cnnspec.report.expected import uncovered
from cnnspec.report.merging import merged
from cnnspec.report.results import Results

PLAN = Plan(
    ("mine",), ("relu", "linear"), ("float32",), ("forward", "repeatable"), examples=30, expect="none"
)


def row(law: str, status: str = "pass", **more: Any) -> dict[str, Any]:
    cell = {
        "kind": "row",
        "operator": "relu",
        "backend": "mine",
        "device": "cpu",
        "dtype": "float32",
        "law": law,
    }
    failing = (
        {"failure_id": f"relu-mine-float32-{law}", "message": f"{law} is wrong"} if status != "pass" else {}
    )
    return {**cell, "status": status, "discriminating": True, "case": "relu(input=(2,))", **failing, **more}


BEFORE = Results(
    {}, [row("batch"), row("bias", "fail"), row("forward", "fail"), row("parts", "fail"), row("ones")]
)
AFTER = Results(
    {}, [row("batch", "crash"), row("bias"), row("forward", "fail"), row("ones", discriminating=False)]
)


def test_what_is_new_fixed_gone_and_still_there() -> None:
    found = {change.cell[-1]: (change.kind, change.before, change.after) for change in changes(BEFORE, AFTER)}

    assert found == {
        "batch": ("new", "pass", "crash"),
        "forward": ("still failing", "fail", "fail"),
        "bias": ("fixed", "fail", "pass"),
        "parts": ("gone", "fail", ""),
        "ones": ("gone", "pass", "vacuous"),
    }
    assert [change.kind for change in changes(BEFORE, AFTER)] == [
        "new",
        "still failing",
        "fixed",
        "gone",
        "gone",
    ]
    assert changes(AFTER, AFTER)[0].kind == "still failing"
    assert changes(Results({}), BEFORE)[0].kind == "new"


def test_a_comparison_in_plain_words() -> None:
    assert (
        as_text(changes(BEFORE, AFTER))
        == """\
new:
  relu mine cpu float32 batch: pass -> crash
    batch is wrong
    case: relu(input=(2,))

still failing:
  relu mine cpu float32 forward: fail -> fail

fixed:
  relu mine cpu float32 bias: fail -> pass

gone:
  relu mine cpu float32 parts: fail -> not there
  relu mine cpu float32 ones: pass -> vacuous

1 new, 1 still failing, 1 fixed, 2 gone of 5 cells that changed or fail"""
    )
    assert as_text([]) == "0 new, 0 still failing, 0 fixed, 0 gone of 0 cells that changed or fail"


def saved(results: Results, directory: Path) -> str:
    directory.mkdir()
    lines = [{"kind": "header", "schema_version": 1, **results.header}, *results.rows]
    (directory / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(directory)


def test_compare_exits_with_1_for_what_is_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = saved(BEFORE, tmp_path / "a"), saved(AFTER, tmp_path / "b")

    assert main(["report", "compare", before, after, "--format", "csv"]) == 1
    header, *lines = csv.reader(capsys.readouterr().out.splitlines())
    assert tuple(header) == COLUMNS
    assert lines[0][:2] == ["new", "relu-mine-float32-batch"]
    assert lines[0][-1] == "batch is wrong"
    assert [line[0] for line in lines] == ["new", "still failing", "fixed", "gone", "gone"]
    assert main(["report", "compare", after, after]) == 0
    assert main(["report", "compare", before]) == 2
    assert "report compare takes two directories, not 1" in capsys.readouterr().err


def part(shard: tuple[int, int] = (1, 1), **changes: Any) -> Results:
    wrong: dict[str, Any] = {"relu": lambda x: F.relu(x) + (x.ndim == 2), "linear": F.linear}
    return run.run_here(dataclasses.replace(PLAN, shard=shard, **changes), [Backend("mine", wrong)])


def verdicts(rows: Iterable[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    keys = ("operator", "dtype", "law", "index", "status")
    return sorted((*(one[key] for key in keys), one.get("original_case") or one["case"]) for one in rows)


def test_shards_are_the_run_they_are_parts_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [str(tmp_path / name) for name in "abc"]
    for place, name in enumerate(names, 1):
        part((place, 3)).save(name)
    whole = part()

    assert main(["report", "merge", *reversed(names), "--out", str(tmp_path / "out")]) == whole.exit_code == 1
    found = Results.read(tmp_path / "out")
    assert verdicts(found.rows) == verdicts(whole.rows)
    assert {(c.law, c.operator, c.status) for c in found.cells} == {
        (c.law, c.operator, c.status) for c in whole.cells
    }
    assert found.header["plan"] == json.loads(json.dumps(whole.header["plan"]))
    assert found.warnings == []
    assert (tmp_path / "out" / "conformance.html").exists()
    shown = found.failures[0].row["reproducer"]
    assert (tmp_path / "out" / "reproducers" / shown).exists()

    assert main(["report", "merge", *names]) == 2
    assert main(["report", "merge", *names, "--out", names[0]]) == 2
    assert main(["report", "merge", *names[:2], "--out", str(tmp_path / "none")]) == 2
    said = capsys.readouterr().err
    for told in ("--out is missing", "is one of the shards", "shard 3/3 is there 0 times"):
        assert told in said
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([((1, 2), {}), ((2, 2), {"seed": 5})], "a and b are not shards of one run: seed is 0 and 5"),
        ([((1, 2), {}), ((2, 3), {})], "the number of shards is 2 and 3"),
        ([((1, 2), {}), ((1, 2), {})], "shard 1/2 is there 2 times"),
    ],
)
def test_what_is_no_set_of_shards_is_refused(parts: list[Any], told: str) -> None:
    results = [part(shard, examples=4, **changes) for shard, changes in parts]
    with pytest.raises(UsageError, match=told):
        merged(results, ["a", "b"])


def test_the_first_cut_of_the_shards_is_that_of_the_run() -> None:
    cut = {"kind": "cut", "operator": "relu", "dtype": "float32", "of": 30}
    parts = [
        dataclasses.replace(part((place, 2), examples=4), cuts=[{**cut, "ran": ran}], end=end)
        for place, ran, end in ((1, 25, {"kind": "end", "seconds": 3}), (2, 10, None))
    ]
    found = merged(parts, ["a", "b"])
    assert [one["ran"] for one in found.cuts] == [10]
    assert found.warnings == ["the run did not finish: its results have no closing line"]


ENTRY = """
[[expect]]
operator = "relu"
backend = "mine"
dtype = "float32"
law = "{law}"
status = "{status}"
reason = "known"
witness = "relu(input=(2, 2), dtype='float32', seed={seed})"
{more}
"""


def expecting(tmp_path: Path, *entries: str, **changes: Any) -> Results:
    (tmp_path / "mine.toml").write_text("".join(entries))
    return part(expect=str(tmp_path / "mine.toml"), operators=("relu",), examples=4, **changes)


def entry(law: str = "forward", status: str = "xfail", more: str = "", seed: int = 1) -> str:
    return ENTRY.format(law=law, status=status, more=more, seed=seed)


def test_an_expectation_that_matches_nothing_is_said(tmp_path: Path) -> None:
    assert expecting(tmp_path, entry()).unmatched == []
    unasked, varies = entry(law="updates"), entry(law="repeatable", status="varies")
    assert expecting(tmp_path, entry(), unasked, varies).unmatched == []
    whole = expecting(tmp_path, entry(), entry(law="updates"), laws=())
    assert whole.unmatched == ["the expectation of relu float32 on mine, law updates, matches nothing: known"]
    assert whole.warnings == whole.unmatched
    assert expecting(tmp_path, entry(), entry(seed=2)).unmatched == []  # each has its own witness


def test_an_expectation_that_has_expired_is_said_and_excuses_nothing(tmp_path: Path) -> None:
    results = expecting(tmp_path, entry(more="expires = 2020-01-31"))
    told = "the expectation of relu float32 on mine, law forward, expired on 2020-01-31: known"

    assert results.unmatched == [told]
    assert results.exit_code == 1
    bad = next(one for one in results.rows if one["status"] == "fail")
    assert bad["reason"] == "listed as a known deviation until 2020-01-31: known"


def test_known_failures_are_not_made_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnspec.conformance.shrink", lambda *args: pytest.fail("a known failure was shrunk"))
    results = expecting(tmp_path, entry())
    assert {one["status"] for one in results.rows} == {"xfail", "pass"}
    assert results.exit_code == 0


def test_strict_makes_errors_of_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("import torch\ndef relu(x): return torch.relu(x)\n")
    Path("mine.toml").write_text(entry(law="updates").replace('"mine"', '"mine.py"'))
    words = [
        "check",
        "mine.py",
        "--dtype",
        "float32",
        "--examples",
        "3",
        "--jobs",
        "1",
        "--expect",
        "mine.toml",
    ]

    assert main([*words, "--strict"]) == 1
    said = capsys.readouterr().err
    assert "warning: the expectation of relu float32 on mine.py, law updates, matches nothing: known" in said
    assert "error: the expectation of relu float32 on mine.py, law updates, matches nothing: known" in said
    assert "error: no case of pointwise has: " in said
    assert Results.read("reports/latest").exit_code == 0


def test_proposed_expectations_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("import torch\ndef relu(x): return torch.relu(x) + 1\n")
    words = [
        "check",
        "mine.py:relu",
        "--dtype",
        "float32",
        "--examples",
        "2",
        "--jobs",
        "1",
        "--law",
        "forward",
    ]

    assert main([*words, "--update-expectations", "--out", "out"]) == 1
    assert main([*words, "--expect", "out/expectations.toml", "--out", "again"]) == 0
    assert {row["status"] for row in Results.read("again").rows} == {"xfail"}


def test_features_that_no_case_has_are_named() -> None:
    [told] = uncovered(Results({}, [row("forward")]))
    assert told.startswith("no case of pointwise has: ")
    assert "empty input" in told
