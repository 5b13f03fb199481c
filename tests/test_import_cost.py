"""`import cnnspec` serves projects that only calculate, so it loads nothing that has to be installed."""

import json
import subprocess
import sys

import pytest

CALCULATE = (
    "import cnnspec; cnnspec.Conv2d(in_channels=1, out_channels=1, kernel_size=1).output_shape((1, 1, 1, 1))"
)


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules outside the standard library that a statement loads in a new process."""
    report = "print(json.dumps([*set(sys.modules) - before]))"
    program = f"import json, sys; before = set(sys.modules); {statement}; {report}"
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    roots = {name.partition(".")[0] for name in json.loads(process.stdout)}
    return roots - sys.stdlib_module_names - {"cnnspec"}


SUMMARISE = "import cnnspec; assert cnnspec.summary(cnnspec.nets.resnet18()).parameter_count == 11689512"


@pytest.mark.parametrize(
    "statement", ["import cnnspec", CALCULATE, SUMMARISE, "import cnnspec.cli", "import cnnspec.casebook"]
)
def test_nothing_third_party(statement: str) -> None:
    assert loaded_by(statement) == set()


def test_a_library_would_be_seen() -> None:
    assert "numpy" in loaded_by("import cnnspec, numpy")
