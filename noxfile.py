"""The project's commands: `nox --list` names them, `nox -s NAME -- ARGUMENTS` passes arguments on."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nox

ROOT = Path(__file__).parent
CONSTRAINTS = ("-c", str(ROOT / "constraints.txt"))  # for every install: an unpinned torch is gigabytes
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # workers share the cores, so torch must not

NETWORKS = (
    "lenet5",
    "alexnet(width=8, classes=10, input_size=96)",
    "vgg11(width=8, classes=10, input_size=32, hidden=64)",
    "nin(width=16, input_size=96)",
    "googlenet(width=16, classes=10, input_size=64)",
    "resnet18(width=16, classes=10, input_size=64)",
    "densenet121(width=8, classes=10, input_size=64)",
)
"""Networks that a run holds node by node, small enough for seconds."""
MEASURED = ("lenet5", "alexnet", "resnet18", "googlenet")
"""Networks whose layers are timed."""

nox.needs_version = ">=2025.2.9"  # requires=
nox.options.default_venv_backend = "virtualenv"  # uv would not see where pip is told to find wheels
nox.options.error_on_missing_interpreters = "GITHUB_ACTIONS" in os.environ
nox.options.sessions = ["lint", "types", "specs", "tests"]


def python_of(environment: Path) -> str:
    """Return the path of the interpreter of a virtual environment."""
    return str(environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def run_shared(session: nox.Session, *arguments: str) -> None:
    """Run Python in the environment that the session `environment` made."""
    python = python_of(session.env_dir.with_name("environment"))
    session.run(python, *arguments, env=ONE_THREAD, external=True)


@nox.session(reuse_venv=True)
def environment(session: nox.Session) -> None:
    """Make the environment, with torch, that most sessions share: about a minute once, seconds later."""
    session.install(*CONSTRAINTS, "-e", ".[dev]")


@nox.session(venv_backend="none", requires=["environment"])
def tests(session: nox.Session) -> None:
    """Test cnnspec itself. Arguments go to pytest."""
    run_shared(session, "-m", "pytest", *(session.posargs or ("-n", "auto", "--dist", "worksteal")))


@nox.session(venv_backend="none", requires=["environment"])
def specs(session: nox.Session) -> None:
    """Hold cnnspec and torch to the casebook, which says what the world says. Arguments go to pytest."""
    backends = ("--cnnspec-backend", "torch", "--cnnspec-backend", "torch-nn")
    run_shared(session, "-m", "pytest", *(session.posargs or ("specs", *backends)))


@nox.session(venv_backend="none", requires=["environment"])
def conformance(session: nox.Session) -> None:
    """Hold torch to cnnspec, operators and networks, and write reports/latest. Arguments go to the first check."""
    command = ["check", "torch", "torch-nn", "--out", "reports/latest", "--budget", "120s"]
    run_shared(session, "-m", "cnnspec", *command, *session.posargs)
    networks = ["check", "torch", "--net", *NETWORKS, "--out", "reports/latest/networks"]
    run_shared(session, "-m", "cnnspec", *networks)


@nox.session(venv_backend="none", requires=["environment"])
def bench(session: nox.Session) -> None:
    """Measure torch and write reports/latest/performance.html. Arguments go to the command.

    `-- exact [ROW ...]` and `-- summary [COUNTER ...]` print ratios of the exact engine and of the calculators alone.
    """
    what, *rows = session.posargs or [""]
    if what in ("exact", "summary"):
        run_shared(session, "-m", f"cnnspec.bench.{what}", *rows)
        return
    variants = ("plain", "channels_last", "im2col")
    command = ["bench", "torch", "--measure", "all", "--net", *MEASURED, "--variant", *variants]
    command += ["--budget", "7m", "--out", "reports/latest"]
    run_shared(session, "-m", "cnnspec", *command, *session.posargs)


@nox.session(venv_backend="none", requires=["environment"])
def example(session: nox.Session) -> None:
    """Write reports/example: a small run of each kind, and the pictures of the README."""
    run_shared(session, "docs/example.py")


@nox.session(venv_backend="none", requires=["environment"])
def mutants(session: nox.Session) -> None:
    """Ask whether the suite catches known bugs, and write the table of the README. Arguments go to the command."""
    run_shared(session, "docs/mutants.py", *session.posargs)


@nox.session(venv_backend="none", requires=["environment"])
def figures(session: nox.Session) -> None:
    """Measure what docs/no-tolerance.md shows, and write its pictures, its table and its numbers."""
    run_shared(session, "docs/figures.py", *session.posargs)


@nox.session(venv_backend="none", requires=["environment"])
def types(session: nox.Session) -> None:
    """Check the annotations. Arguments go to mypy."""
    run_shared(session, "-m", "mypy", *session.posargs)


@nox.session(venv_backend="none", requires=["environment"])
def docs(session: nox.Session) -> None:
    """Run every example of the docstrings and of the README. Arguments go to pytest."""
    run_shared(
        session, "-m", "pytest", "--doctest-modules", "cnnspec", "tests/test_docs.py", *session.posargs
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting. Arguments go to `ruff check`, for example `--fix`."""
    session.install(*CONSTRAINTS, "ruff")
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")


@nox.session(python=["3.11", "3.12", "3.13"])
def core(session: nox.Session) -> None:
    """Run the part without dependencies where nothing but cnnspec is installed."""
    session.install(*CONSTRAINTS, ".")
    session.run("python", "tests/core_smoke.py", *session.posargs)


CALCULATION = """
import cnnspec
stem = cnnspec.Conv2d(in_channels=3, out_channels=64, kernel_size=7, stride=2, padding=3)
assert stem.output_shape((1, 3, 224, 224)) == (1, 64, 112, 112)
assert stem.macs((1, 3, 224, 224)) == 118_013_952
"""
BARE_COMMANDS = (
    ("-c", "import cnnspec"),
    ("-c", CALCULATION),
    ("-m", "cnnspec", "summary", "Conv2d(3, 64, 7, stride=2, padding=3)", "ReLU()", "--input", "1,3,224,224"),
)
SHORT_CHECK = ("-m", "cnnspec", "check", "torch", "--examples", "3", "--op", "conv2d", "--out", "report")


@nox.session
def build(session: nox.Session) -> None:
    """Build the distributions and use the wheel far from the checkout: bare first, then with torch."""
    session.install(*CONSTRAINTS, "build")
    with tempfile.TemporaryDirectory() as outside:
        session.run("python", "-m", "build", "--outdir", outside, str(ROOT))
        [wheel] = map(str, Path(outside).glob("*.whl"))
        session.run("python", "-m", "venv", f"{outside}/venv")
        python = python_of(Path(outside, "venv"))
        with session.chdir(outside):
            session.run(python, "-m", "pip", "install", *CONSTRAINTS, wheel, external=True, silent=True)
            for arguments in BARE_COMMANDS:
                session.run(python, *arguments, external=True)
            extra = f"{wheel}[check]"
            session.run(python, "-m", "pip", "install", *CONSTRAINTS, extra, external=True, silent=True)
            session.run(python, *SHORT_CHECK, *session.posargs, env=ONE_THREAD, external=True)
