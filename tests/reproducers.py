"""Writing and running reproducers, with a process of their own and without."""

import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cnnspec import reproduce
from cnnspec.bounds import FORMATS
from cnnspec.cases import Case
from cnnspec.judge import FORWARD
from cnnspec.models import direct, with_elementary


def written(folder: Path, case: Case, target: str, **options: Any) -> Path:
    """Write a script with the strictest model and return its path."""
    strict = direct(case.dtype) if case.dtype in FORMATS else None
    options = {"message": "it is wrong", "model": strict and with_elementary(strict, 20), **options}
    path = folder / reproduce.file_name(target, FORWARD, case)
    path.write_text(reproduce.script(case, target, **options), encoding="utf-8")
    return path


def run(script: Path, *arguments: str) -> tuple[int, str]:
    """Run a script as far from this checkout as can be: its exit status and what it says."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-I", str(script), *arguments]
    done = subprocess.run(
        command, cwd=script.parent, env=environment, capture_output=True, text=True, check=False, timeout=250
    )
    return done.returncode, done.stdout.strip() or done.stderr


def run_all(calls: Sequence[tuple[Path, str]]) -> list[tuple[int, str]]:
    """Run (script, target), two at a time; the script's own target where it is ""."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda call: run(call[0], *filter(None, call[1:])), calls))


def here(script: Path, target: str = "") -> str:
    """Return what a script's child process would report, status first, without that process."""
    functions, report = runpy.run_path(str(script)), script.with_suffix(".txt")
    functions["child"](target or functions["TARGET"], report)
    return report.read_text(encoding="utf-8")
