"""What the fault tests share: a project with version 0, laid out anew for each fault, and rigs with real children."""

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
    """Return a project folder with version 0 published and no daemon; each call lays the same folder out anew."""
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
