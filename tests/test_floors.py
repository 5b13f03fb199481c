"""A module imports lower floors, and on its own floor only what stands left of it."""

from pathlib import Path

import pytest

from tests.floors import DEPENDENCY_FREE, FLOORS, Rules, covers, imports_of, modules_of, objection, violations

PACKAGE = Path(__file__).parent.parent / "cnnspec"
SMALL = Rules(
    floors=(("low", "lower"), ("mid", "pack/"), ("high",)),
    third_party={"high": ("numpy",), "pack.torch": ("torch",)},
    deferred={("mid", "high"): "to_high"},
)
SMALL_PACKAGE = ("__init__", "_version", "low", "lower", "mid", "pack/__init__", "pack/torch", "high")


def test_every_import_obeys() -> None:
    assert violations(PACKAGE, Rules()) == []


def test_no_entry_is_a_ghost() -> None:
    modules = modules_of(PACKAGE)
    entries = [entry for floor in FLOORS for entry in floor] + list(Rules().third_party)
    assert [entry for entry in entries if not any(covers(entry, module) for module in modules)] == []


def test_no_exception_is_idle() -> None:
    strict = Rules(deferred={})
    used = {
        (item.module, item.target)
        for item in imports_of(PACKAGE)
        if item.deferred and objection(item, strict)
    }
    assert set(Rules().deferred) <= used


def test_lowest_floors_are_promised_no_library() -> None:
    free = [entry for floor in FLOORS[:DEPENDENCY_FREE] for entry in floor]
    assert [entry for entry in free if entry in Rules().third_party] == []


def complaints(tmp_path: Path, path: str, source: str) -> list[str]:
    """Judge a small package in which one file has this source and all others are empty."""
    package = tmp_path / "cnnspec"
    for name in {*SMALL_PACKAGE, path}:
        file = package / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source if name == path else "", encoding="utf-8")
    return violations(package, SMALL)


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("low", "from cnnspec.mid import name", "low:1 imports upward: mid on floor 1 from floor 0"),
        ("low", "import os\nimport cnnspec.mid", "low:2 imports upward: mid on floor 1 from floor 0"),
        ("low", "from cnnspec import mid", "low:1 imports upward: mid on floor 1 from floor 0"),
        ("low", "from . import mid", "low:1 imports upward: mid on floor 1 from floor 0"),
        ("low", "from .mid import name", "low:1 imports upward: mid on floor 1 from floor 0"),
        (
            "low",
            "try:\n    import cnnspec.mid\nexcept ImportError: pass",
            "low:2 imports upward: mid on floor 1 from floor 0",
        ),
        ("low", "def call():\n    import cnnspec.mid", "low:2 imports upward: mid on floor 1 from floor 0"),
        ("low", "from cnnspec.lower import name", "low:1 imports sideways: lower on floor 0 from floor 0"),
        (
            "mid",
            "from cnnspec.pack.torch import name",
            "mid:1 imports sideways: pack.torch on floor 1 from floor 1",
        ),
        (
            "pack/torch",
            "from ..high import name",
            "pack.torch:1 imports upward: high on floor 2 from floor 1",
        ),
        ("mid", "from cnnspec.high import name", "mid:1 imports upward: high on floor 2 from floor 1"),
        ("high", "from cnnspec import Conv2d", "high:1 imports cnnspec itself"),
        ("high", "import cnnspec", "high:1 imports cnnspec itself"),
        ("low", "import numpy", "low:1 imports the library numpy"),
        ("low", "def call():\n    from numpy.linalg import norm", "low:2 imports the library numpy"),
        ("high", "import torch", "high:1 imports the library torch"),
        ("pack/other", "import torch", "pack.other:1 imports the library torch"),
        ("__init__", "import numpy", "__init__:1 imports the library numpy"),
        ("stray", "import os", "stray stands on no floor"),
        ("high", "from cnnspec.gone import name", "high:1 imports gone, which no floor lists"),
    ],
)
def test_planted_violation_is_found(tmp_path: Path, path: str, source: str, complaint: str) -> None:
    assert complaints(tmp_path, path, source) == [complaint]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("lower", "import ast, os.path\nfrom cnnspec.low import name"),
        (
            "high",
            "import numpy as np\nfrom cnnspec import low, pack\nfrom cnnspec._version import __version__",
        ),
        (
            "pack/torch",
            "import torch.nn\nfrom cnnspec.pack import name\nfrom . import other\nfrom ..low import name",
        ),
        ("mid", "def to_high():\n    from cnnspec.high import name"),
        ("mid", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from cnnspec.high import name"),
        ("__init__", "from cnnspec._version import __version__\ndef load():\n    import cnnspec.high"),
    ],
)
def test_obedient_import_is_left_alone(tmp_path: Path, path: str, source: str) -> None:
    assert complaints(tmp_path, path, source) == []
