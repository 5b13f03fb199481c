"""What the README shows is run.

- All blocks marked `python` run in order, in one namespace and one folder, as a reader would paste them. A
  block whose first line is a comment with a file name, `# kernels.py`, is saved under that name instead.
- A block marked `console` that begins with `$ cnnspec` is run line by line in a folder with those files. A
  command has to exit with 0, or with what the block shows after `$ echo $?`. Its output is not compared.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([\w-]+\.py)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block and the line that its text begins on."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Command:
    """One command of a console block and the exit code that the block states."""

    text: str
    exit_code: int = 0


def blocks_of(page: str) -> list[Block]:
    """Return a page's fenced blocks that name a language."""
    return [
        Block(found[1], found[2], page.count("\n", 0, found.start()) + 2) for found in FENCE.finditer(page)
    ]


def commands_of(console: str) -> list[Command]:
    """Return the commands of a console block; `$ echo $?` states the exit code of the one before."""
    commands: list[Command] = []
    lines = iter(console.replace("\\\n", " ").splitlines())
    for line in lines:
        if line == "$ echo $?":
            commands[-1] = Command(commands[-1].text, int(next(lines)))
        elif line.startswith("$ "):
            commands.append(Command(line.removeprefix("$ ")))
    return commands


def save_files(blocks: list[Block], folder: Path) -> None:
    """Write the blocks that begin with a file name into a folder."""
    for block in blocks:
        if block.language == "python" and (name := FILE_NAME.match(block.text)):
            (folder / name[1]).write_text(block.text, encoding="utf-8")


def run_python(blocks: list[Block]) -> None:
    """Run the Python blocks of a page; a traceback names the page's own lines."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        if block.language != "python" or FILE_NAME.match(block.text):
            continue
        if ">>> " in block.text:
            test = doctest.DocTestParser().get_doctest(
                block.text, namespace, README.name, str(README), block.line - 1
            )
            doctest.DebugRunner().run(test, clear_globs=False)
            namespace = test.globs
        else:
            exec(compile("\n" * (block.line - 1) + block.text, README, "exec"), namespace)


def run_console(console: str, folder: Path) -> None:
    """Run a console block in a folder, with the running interpreter's `cnnspec` first on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    for command in commands_of(console):
        process = subprocess.run(
            command.text,
            shell=True,
            cwd=folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        said = f"$ {command.text}\n{process.stdout}{process.stderr}"
        assert process.returncode == command.exit_code, said


BLOCKS = blocks_of(README.read_text(encoding="utf-8")) if README.exists() else []
CONSOLES = [block for block in BLOCKS if block.language == "console" and block.text.startswith("$ cnnspec")]


def test_readme_shows_python_and_commands() -> None:
    assert [block for block in BLOCKS if block.language == "python"]
    assert CONSOLES


def test_readme_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_files(BLOCKS, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    run_python(BLOCKS)


@pytest.mark.parametrize("block", CONSOLES, ids=lambda block: f"line {block.line}")
def test_readme_console(block: Block, tmp_path: Path) -> None:
    save_files(BLOCKS, tmp_path)
    run_console(block.text, tmp_path)


PAGE = """# Title
```python
# kernels.py
def double(x): return 2 * x
```
```python
from kernels import double
four = double(2)
```
```python
>>> four
4
```
```console
$ echo one \\
    two
one two
$ exit 3
$ echo $?
3
```
"""


def test_page_is_read_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = blocks_of(PAGE)
    assert [(block.language, block.line) for block in blocks] == [
        ("python", 3),
        ("python", 7),
        ("python", 11),
        ("console", 15),
    ]
    assert commands_of(blocks[-1].text) == [Command("echo one      two"), Command("exit 3", 3)]
    save_files(blocks, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    run_python(blocks)
    run_console(blocks[-1].text, tmp_path)


@pytest.mark.parametrize(
    ("page", "error"),
    [
        ("```python\n1 / 0\n```\n", ZeroDivisionError),
        ("```python\n>>> 1 + 1\n3\n```\n", doctest.DocTestFailure),
        ("```python\n>>> 1 / 0\n```\n", doctest.UnexpectedException),
    ],
)
def test_wrong_python_is_caught(page: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        run_python(blocks_of(page))


@pytest.mark.parametrize("console", ["$ exit 1\n", "$ true\n$ echo $?\n1\n", "$ no-such-command\n"])
def test_wrong_exit_code_is_caught(console: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"^\$ "):
        run_console(console, tmp_path)
