"""Reports that several tests read, made once."""

from pathlib import Path

import pytest

from cnnspec.report import Results, write_reports
from tests.performance_page import RUNS, line_of_history, remembered, rendered
from tests.report.synthetic import Entry, hostile, large, scripts_of, story


def written(entries: list[Entry], directory: Path) -> tuple[Results, Path]:
    results = Results.from_entries(entries, scripts=scripts_of(entries))
    assert write_reports(results, directory) == []
    return results, directory


@pytest.fixture(scope="session")
def story_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    return written(story(), tmp_path_factory.mktemp("story"))


@pytest.fixture(scope="session")
def large_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    return written(large(), tmp_path_factory.mktemp("large"))


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    return written(hostile(), tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("runs")
    remembered(directory, [line_of_history(seconds) for seconds in (1.0, 1.1, 1.2)])
    return {name: rendered(entries(), directory) for name, entries in RUNS.items()}
