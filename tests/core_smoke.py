"""Run the doctests of the floors that need the standard library only, and see that they load nothing else.

`python tests/core_smoke.py` works where nothing but cnnspec is installed.
"""

import doctest
import importlib
import sys
from pathlib import Path


def main() -> int:
    """Return the exit code: 0 if every doctest passes and no library was loaded."""
    sys.path.append(str(Path(__file__).parent.parent))  # last, so that cnnspec itself is the installed one
    from tests.floors import DEPENDENCY_FREE, FLOORS

    before = set(sys.modules)
    names = [f"cnnspec.{entry.rstrip('/')}" for floor in FLOORS[:DEPENDENCY_FREE] for entry in floor]
    results = [doctest.testmod(importlib.import_module(name)) for name in ["cnnspec", *names]]
    roots = {name.partition(".")[0] for name in set(sys.modules) - before}
    foreign = sorted(roots - sys.stdlib_module_names - {"cnnspec"})
    failed = sum(result.failed for result in results)
    passed = sum(result.attempted for result in results) - failed
    python = sys.version.partition(" ")[0]
    print(f"Python {python}, {len(results)} modules, libraries loaded: {', '.join(foreign) or 'none'}")
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0 or bool(foreign))


if __name__ == "__main__":
    sys.exit(main())
