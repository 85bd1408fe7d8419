"""The commands that messages name are the ones that work for this installation."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from schemas.program import commands
from schemas.program.children import CODE_ROOT, child_environment, import_path, module_command
from tests.platforms import needs_posix


@pytest.fixture
def found(monkeypatch, tmp_path):
    """Put a program named hotlap on the PATH, and return it."""
    commands.hotlap_command.cache_clear()
    script = tmp_path / "bin" / ("hotlap.exe" if sys.platform == "win32" else "hotlap")
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent))
    monkeypatch.setattr(sys, "argv", ["pytest"])
    yield script
    commands.hotlap_command.cache_clear()


def test_hotlap_of_another_installation_is_not_named(found):
    assert commands.hotlap_command() == f"{commands.quoted(sys.executable)} -m daemon"


def test_hotlap_beside_this_python_is_named(found, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(found.with_name("python")))
    assert commands.hotlap_command() == "hotlap"


def test_the_hotlap_that_started_this_process_is_named(found, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(found), "status"])
    assert commands.hotlap_command() == "hotlap"


@needs_posix("pipx and uv copy the command on Windows")
def test_a_link_to_the_command_of_this_environment_is_named(found, monkeypatch, tmp_path):
    """As pipx and uv install it."""
    venv = tmp_path / "venv"
    venv.mkdir()
    found.rename(venv / "hotlap")
    found.symlink_to(venv / "hotlap")
    monkeypatch.setattr(sys, "executable", str(venv / "python"))
    assert commands.hotlap_command() == "hotlap"


def test_messages_name_the_command_that_works(monkeypatch):
    monkeypatch.setattr(commands, "hotlap_command", lambda: "/my python -m daemon")
    text = "paused: `hotlap resume` first, or `hotlap`; hotlap and `hotlap.toml` stay"
    assert commands.usable(text) == (
        "paused: `/my python -m daemon resume` first, or `/my python -m daemon`; hotlap and `hotlap.toml` stay"
    )


def test_an_extra_is_named_by_its_packages():
    assert commands.packages_of("online") == ("gymnasium", "PyYAML")
    assert commands.packages_of("rocket") == ("gymnasium", "rocketsim")


def test_an_installed_packages_extra_is_read_from_its_metadata(monkeypatch, tmp_path):
    monkeypatch.setattr(commands, "CODE_ROOT", tmp_path)
    asked = ["numpy>=2.0", 'gymnasium>=1.1; extra == "online"', 'x>=1; sys_platform != "darwin" and extra == "dev"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: asked)
    assert commands.packages_of("online") == ("gymnasium",)
    assert commands.packages_of("dev") == ("x",)


def test_packages_are_installed_with_what_the_environment_has(monkeypatch):
    python = commands.quoted(sys.executable)
    assert commands.install_command("online") == f"{python} -m pip install gymnasium PyYAML"
    monkeypatch.setattr(commands.PathFinder, "find_spec", lambda name: None)
    assert commands.install_command("online") == f"uv pip install --python {python} gymnasium PyYAML"


def test_a_process_that_uses_distutils_gets_no_warning_of_setuptools(monkeypatch):
    """importlib.util.find_spec("pip") would warn in a process that has imported distutils."""
    monkeypatch.setitem(sys.modules, "distutils", ModuleType("distutils"))
    assert "-m pip install " in commands.install_command("online")
    assert "distutils" in sys.modules


def test_the_import_path_of_a_child_has_hotlaps_packages_and_no_relative_entries(monkeypatch):
    separator = ";" if sys.platform == "win32" else ":"
    absolute = str(Path(sys.prefix).resolve())
    variables = {"PYTHONPATH": separator.join(["", ".", "here", absolute])}
    assert import_path(environment=variables) == {"PYTHONPATH": separator.join([str(CODE_ROOT), absolute])}
    monkeypatch.setenv("PYTHONPATH", separator)
    assert child_environment()["PYTHONPATH"] == str(CODE_ROOT)
    assert module_command("trainer", "serve") == (sys.executable, "-P", "-m", "trainer", "serve")


def test_an_installed_package_does_not_put_site_packages_before_the_standard_library(monkeypatch):
    root = Path(sys.prefix, "lib", "site-packages")
    monkeypatch.setattr("schemas.program.children.CODE_ROOT", root)
    assert import_path(environment={}) == {}
    assert import_path(environment={}, python="/another/python") == {"PYTHONPATH": str(root)}
