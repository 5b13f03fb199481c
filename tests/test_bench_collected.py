"""Benchmarks that pytest collects from a file are timed by pytest-benchmark, and nothing that is wrong is."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cnnspec.bench.collected import benchmarks, plan
from cnnspec.bench.sides import DIRECTIONS
from cnnspec.errors import UsageError
from tests.timed_kernels import KERNELS

ONCE = ("--benchmark-min-rounds=2", "--benchmark-max-time=0.001", "--benchmark-warmup=off")


def written(folder: Path, *lines: str, head: str = "benchmarks = 1") -> Path:
    (folder / "kernels.py").write_text(KERNELS)
    file = folder / "speed.toml"
    file.write_text("\n".join((head, *lines, 'op = ["sigmoid"]', 'net = ["lenet5"]', "")))
    return file


def collected(file: Path, *words: str) -> tuple[int, str, list[dict[str, Any]]]:
    """Run pytest on a file of benchmarks; return its exit code, its output and the benchmarks of its JSON."""
    told = file.with_name("told.json")
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", file.name]
    done = subprocess.run(
        [*command, f"--benchmark-json={told.name}", *words],
        cwd=file.parent,
        env={**outside, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(told.read_text())["benchmarks"] if told.exists() and told.stat().st_size else []
    return done.returncode, done.stdout, found


def test_both_sides_of_each_layer_are_timed_in_groups(tmp_path: Path) -> None:
    file = written(tmp_path, 'target = "kernels.py:same"', 'against = "torch"')
    code, told, found = collected(file, *ONCE)
    assert (code, len(found)) == (0, 8), told
    groups = {one["group"] for one in found}
    assert "Sigmoid() on 1x6x28x28 float32 forward" in groups
    assert {one["name"].removeprefix(one["group"]) for one in found} == {" torch", " kernels.py:same"}
    facts = next(one["extra_info"] for one in found if "1x6x28x28" in one["name"])
    assert facts["provenance"] == "lenet5 sigmoid1"
    assert facts["bytes_compulsory"] == 2 * 4 * 6 * 28 * 28
    assert all(len(one["stats"]["data"]) >= 2 for one in found)


def test_what_is_wrong_fails_and_is_not_timed(tmp_path: Path) -> None:
    file = written(tmp_path, 'target = "kernels.py:wrong"', 'against = "torch"')
    code, told, found = collected(file, *ONCE)
    assert code == 1
    assert "not ranked: fails forward at (0, " in told
    assert {one["name"].rpartition(" ")[2] for one in found} == {"torch"}


def test_disabled_each_call_runs_once(tmp_path: Path) -> None:
    code, told, found = collected(written(tmp_path, 'target = "torch"'), "--benchmark-disable")
    assert (code, found) == (0, [])
    assert "4 passed" in told


def test_a_file_without_the_mark_is_not_collected(tmp_path: Path) -> None:
    code, told, _ = collected(written(tmp_path, 'target = "torch"', head="benchmarks = 2"))
    assert code == pytest.ExitCode.USAGE_ERROR, told


def test_the_words_of_a_file_are_those_of_the_command(tmp_path: Path) -> None:
    lines = (
        'target = "torch"',
        'variant = ["bfloat16"]',
        "backward = true",
        "seed = 3",
        'dtype = ["float64"]',
    )
    found = plan(written(tmp_path, *lines))
    assert (found.networks, found.only, found.dtypes) == (("lenet5",), ("sigmoid",), ("float64",))
    assert (found.variants, found.directions, found.seed) == (("bfloat16",), DIRECTIONS, 3)
    names = [one.side.name for one in benchmarks(written(tmp_path, *lines))]
    assert sorted({*names}) == ["torch", "torch bfloat16"]
    assert len(names) == 4 * 2 * 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (('net_ = ["a"]',), "unknown key 'net_': did you mean 'net'?"),
        (('target = "torch"', "threads = true"), "threads = True is no int"),
        (('target = "torch"', 'dtype = "float32"'), "dtype = 'float32' is no list"),
        ((), 'names no target, such as target = "torch"'),
        (("target = ",), "cannot read"),
        (('target = "torch"', 'variant = ["plane"]'), "unknown variant 'plane': did you mean 'plain'?"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError) as told:
        plan(written(tmp_path, *lines))
    assert message in str(told.value)


def test_a_mistake_is_no_traceback_of_pytest(tmp_path: Path) -> None:
    code, told, _ = collected(written(tmp_path, "target = 3"))
    assert code == pytest.ExitCode.INTERRUPTED
    assert "speed.toml: target = 3 is no str" in told
    assert "Traceback" not in told
