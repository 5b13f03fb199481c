"""The published example of both reports: `nox -s example` runs torch for it, and takes the pictures of the README.

The pictures are photographs of the pages by Chromium; where it is not installed they stay as they are.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cnnspec.cli import main

EXAMPLE = Path(__file__).parents[1] / "reports" / "example"
OPERATORS = (
    "conv2d",
    "conv_transpose1d",
    "linear",
    "max_pool2d",
    "avg_pool2d",
    "batch_norm2d",
    "relu",
    "softmax",
)
CHECK = ("check", "torch", "torch-native", "--op", *OPERATORS, "--examples", "80")
VARIANTS = ("plain", "channels_last", "onednn_off", "im2col")
BENCH = ("bench", "torch", "--measure", "all", "--net", "lenet5", "--variant", *VARIANTS, "--budget", "3m")
KEPT = {
    CHECK: ("conformance.html", "conformance.csv", "summary.md"),
    BENCH: ("performance.html", "perf.csv", "summary.md"),
}
"""What is published of each run; both have a summary, that of the benchmarks as performance.md."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1280, 900
MOST_BYTES = 2 * 2**20


def run(command: tuple[str, ...]) -> int:
    """Run a command and publish what is kept of it; return its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        code = main([*command, "--out", folder])
        for name in KEPT[command]:
            renamed = "performance.md" if (command, name) == (BENCH, "summary.md") else name
            shutil.copyfile(Path(folder) / name, EXAMPLE / renamed)
    return code


def pictures() -> Iterator[str]:
    """Photograph the top of each page; yield why one was not taken."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    for page in ("conformance", "performance"):
        if browser is None:
            yield f"{page}.png stays as it is: Chromium is not installed"
            continue
        with tempfile.TemporaryDirectory() as profile:
            options = (
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                f"--user-data-dir={profile}",
            )
            size, picture = f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={EXAMPLE / page}.png"
            address = (EXAMPLE / f"{page}.html").as_uri()
            command = [browser, *options, size, picture, address]
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - a browser, on our own page


if __name__ == "__main__":
    codes = [run(command) for command in KEPT]
    for problem in pictures():
        print(problem, file=sys.stderr)
    total = sum(file.stat().st_size for file in EXAMPLE.iterdir())
    print(f"{EXAMPLE}: {total / 2**20:.2f} MiB")
    sys.exit(max(codes) > 1 or total > MOST_BYTES)  # what fails is shown, too
