"""Fixtures of the fault tests: a new project with version 0 for each fault, and daemons with real child processes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.conftest import make_harness  # noqa: F401  a fixture
from tests.faults.support.harness import InstantHarness
from tests.faults.support.inputs import make_input_harness  # noqa: F401  a fixture


@pytest.fixture(scope="session")
def fresh_project(tmp_path_factory) -> Callable[[], Path]:
    """Return a function that makes a project with version 0 and no daemon, in the same folder at each call."""
    base = tmp_path_factory.mktemp("fresh")
    folder, template = base / "project", base / "template"
    with InstantHarness(folder) as harness:
        harness.until_version(0)
    shutil.copytree(folder, template)

    def make_project() -> Path:
        shutil.rmtree(folder)
        shutil.copytree(template, folder)
        return folder

    return make_project
