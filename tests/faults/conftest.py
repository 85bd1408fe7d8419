"""Fixtures of the fault tests: a new project with version 0 for each fault, and daemons with real children."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.conftest import rig  # noqa: F401  a fixture
from tests.faults.support.inputs import input_site  # noqa: F401  a fixture
from tests.faults.support.site import Site


@pytest.fixture(scope="session")
def fresh_project(tmp_path_factory) -> Callable[[], Path]:
    """Return a function that makes a project folder with version 0 and no daemon; each call resets the same folder."""
    base = tmp_path_factory.mktemp("laid_out")
    folder, template = base / "project", base / "template"
    with Site(folder) as site:
        site.until_version(0)
    shutil.copytree(folder, template)

    def lay_out() -> Path:
        shutil.rmtree(folder)
        shutil.copytree(template, folder)
        return folder

    return lay_out
