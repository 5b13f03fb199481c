"""House rules that a reader of the sources can rely on."""

import io
import re
import subprocess
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "cnnspec").rglob("*.py"))
TOLERANT = {
    "rtol",
    "atol",
    "rel_tol",
    "abs_tol",
    "allclose",
    "isclose",
    "approx",
    "assert_allclose",
    "assert_close",
}
MACHINE_PATH = re.compile(r"(?<![\w./-])(?:/(?:work|tmp|root|home|Users)/|[A-Z]:\\Users\\)")


def tolerant_names(source: str) -> set[str]:
    """Return the names in code, not in comments or strings, that stand for a tolerance chosen by hand."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.string for token in tokens if token.type == tokenize.NAME} & TOLERANT


def repository_files() -> list[Path]:
    """Return the files that git knows or would take in."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git repository")
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_source_is_short_and_names_no_tolerance(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) < 400
    assert tolerant_names(source) == set()


def test_a_tolerance_would_be_seen() -> None:
    assert tolerant_names("import math\nmath.isclose(a, b, rel_tol=1e-5)  # atol") == {"isclose", "rel_tol"}
    assert tolerant_names('"""No rtol here."""  # nor atol') == set()


def test_no_file_names_a_machine_path() -> None:
    texts = {path: path.read_bytes().decode("utf-8", errors="ignore") for path in repository_files()}
    found = {path.relative_to(ROOT).as_posix(): MACHINE_PATH.findall(text) for path, text in texts.items()}
    assert {name: paths for name, paths in found.items() if paths} == {}


def test_a_machine_path_would_be_seen() -> None:
    for folder in ("work", "tmp", "home", "root", "Users"):
        assert MACHINE_PATH.search(f'open("/{folder}/x")')
    assert not MACHINE_PATH.search("https://example.org/home/page and ./tmp/x and network/work/x")
