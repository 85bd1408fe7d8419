"""No process of Hotlap imports modules from the folder in which a command is started, which is a game's folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.storage.layout import ProjectPaths
from tests.helpers import v1_bytes, write_rollout
from tests.platforms import PATIENCE

ROOT = Path(__file__).parents[2]
MODULES = (
    *("argparse", "ast", "copy", "dataclasses", "datetime", "difflib", "enum", "hashlib", "inspect", "json", "logging"),
    *("pathlib", "platform", "queue", "random", "shutil", "signal", "sqlite3", "subprocess", "tempfile", "threading"),
    *("time", "tomllib", "traceback", "typing", "uuid", "gymnasium", "msgspec", "numpy", "orjson", "psutil"),
    *("pydantic", "rich", "schemas", "threadpoolctl", "torch", "trainer", "typing_extensions", "watchdog"),
)
"""Python's own, other packages, and ours. `python -m` itself imports a few more before any of our code can run."""
PACKAGES = ("numpy", "schemas", "torch", "trainer", "rich")
NETWORK = """
import torch
from torch import nn

from trainer import Network, Stacks, hidden_layers, orthogonal

open("{marks}/my_net", "w").close()


class Net(Network):
    def __init__(self, shape):
        super().__init__(shape)
        self.trunk = hidden_layers(shape.observation_size, shape.hidden_sizes)
        self.policy_head = orthogonal(nn.Linear(shape.hidden_sizes[-1], shape.outputs), 0.01)
        self.value_head = orthogonal(nn.Linear(shape.hidden_sizes[-1], 1), 0.01)

    def forward(self, observation_BO):
        x = observation_BO
        for layer in self.trunk:
            x = torch.relu(layer(x))
        return self.policy_head(x), self.value_head(x).squeeze(1)

    def stacks(self):
        return Stacks((*self.trunk, self.policy_head), (*self.trunk, self.value_head))
"""


class Game:
    """Make a folder full of modules that write a mark when they run; return the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.marks = folder / "game", folder / "marks"
        for path in (self.folder, self.marks):
            path.mkdir()
        for name in MODULES:
            path = self.folder / (f"{name}/__init__.py" if name in PACKAGES else f"{name}.py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"open({str(self.marks / name)!r}, 'w').close()\n")
        self.script = folder / "bin" / "hotlap"
        self.script.parent.mkdir()
        self.script.write_text("import sys\nfrom schemas.program.entry import main\nsys.exit(main())\n")  # as pip does
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(folder / "home")}

    def run(self, entry: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder, by the console command or by `python -m daemon`."""
        start = [str(self.script)] if entry == "hotlap" else ["-m", "daemon"]
        return subprocess.run(
            [sys.executable, *start, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=110 * PATIENCE,
            check=False,
        )

    def ran(self) -> set[str]:
        return {path.name for path in self.marks.iterdir()}


@pytest.fixture
def game(tmp_path):
    return Game(tmp_path)


ENTRIES = pytest.mark.parametrize("entry", ["hotlap", "python -m daemon"])


def test_the_modules_leave_marks(game):
    """Check the control: without these precautions, Python runs the modules."""
    code = f"import {', '.join(sorted({*MODULES} - {*sys.builtin_module_names}))}"
    subprocess.run([sys.executable, "-S", "-c", code], cwd=game.folder, timeout=60, check=False)
    assert len(game.ran()) >= 20


@ENTRIES
@pytest.mark.parametrize("command", ["--version", "--help", "status --project .", "doctor", "docs", "train --version"])
def test_no_module_of_the_folder_runs(game, entry, command):
    done = game.run(entry, *command.split())
    assert done.returncode in {0, 1}, done.stderr
    assert game.ran() == set()


@pytest.mark.slow
@ENTRIES
def test_no_module_of_the_folder_runs_in_a_cycle(game, entry):
    """Check the daemon, its reader of large files, its trainer and the modules that it imports."""
    write_rollout(ProjectPaths(game.folder).exports if _made(game) else Path(), 1, v1_bytes(seed=1, n=16_000))
    done = game.run(entry, "--once", "--project", ".", "--epochs", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert game.ran() == set()


@pytest.mark.slow
@ENTRIES
@pytest.mark.parametrize(
    "command",
    [
        "--demo --cycles 1 --after-n-rollouts 1 --epochs 1 --no-dashboard",
        "online --config racing --steps 300",
        "dagger --milestone-config racing --milestone CHECKPOINT_1 --dagger-iterations 1 --no-record-video",
    ],
    ids=lambda command: command.split()[0],
)
def test_no_module_of_the_folder_runs_in_the_other_programs(game, entry, command):
    done = game.run(entry, *command.split())
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert game.ran() == set()


@pytest.mark.slow
@ENTRIES
def test_a_network_of_the_project_runs_once_it_is_approved_and_nothing_else_does(game, entry):
    (game.folder / "my_net.py").write_text(NETWORK.replace("{marks}", game.marks.as_posix()))
    (game.folder / "daemon.toml").write_text('[trainer]\nnetwork = "my_net:Net"\n')
    _made(game)
    write_rollout(ProjectPaths(game.folder).exports, 1)
    refused = game.run(entry, "--once", "--epochs", "1")
    assert (refused.returncode, "E_UNTRUSTED" in refused.stderr) == (2, True)
    assert game.ran() == set()
    assert game.run(entry, "trust").returncode == 0
    done = game.run(entry, "--once", "--epochs", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert game.ran() == {"my_net"}


def _made(game: Game) -> bool:
    ProjectPaths(game.folder).make()
    return True
