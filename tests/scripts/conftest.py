"""A checkout without an installation, and a replacement for pip and the programs that dev.py starts."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts import dev
from scripts.devtools import install
from scripts.devtools.checkout import Checkout


@pytest.fixture
def root(tmp_path):
    """Make a checkout with a space in its path and nothing installed."""
    root = tmp_path / "hot lap"
    root.mkdir()
    (root / "pyproject.toml").write_text(
        "[project]\nname = 'hotlap'\ndependencies = [\n'rich>=14',\n\"torch>=2.4,<3\",\n'watchdog',\n]\n"
    )
    (root / "constraints.txt").write_text("# pins\nrich==15.0.0\ntorch==2.13.0\n")
    return root


@pytest.fixture
def fakes(root, monkeypatch):
    """Replace venv, pip and the started programs: record the commands, and fail if the test requires it."""
    fakes = SimpleNamespace(steps=[], ran=[], fail="", output="", codes={})

    def stream(argv, cwd, on_line, on_idle):
        assert cwd == root
        fakes.steps.append(argv[1:])
        if argv[2] == "venv":
            home = Checkout(root, Path(argv[-1]).name)
            home.python.parent.mkdir(parents=True)
            home.python.touch()
            home.config.write_text("home = somewhere\nversion = 3.11.7\n")
        failed = bool(fakes.fail) and fakes.fail in argv
        well = "Installing collected packages: rich, torch, hotlap" if "-e" in argv else ""
        for line in (fakes.output if failed else well).splitlines():
            on_line(line)
        on_idle()
        return int(failed)

    def run(argv, cwd):
        assert cwd == root
        assert argv[0] == str(Checkout(root).python)
        fakes.ran.append(argv[1:])
        return fakes.codes.get(argv[2], 0)

    monkeypatch.setattr("scripts.devtools.install.stream", stream)
    monkeypatch.setattr(dev, "run", run)
    monkeypatch.setattr(install.subprocess, "call", lambda *args, **kwargs: 0)  # .venv has its pip
    return fakes
