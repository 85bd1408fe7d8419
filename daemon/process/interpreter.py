"""The Python that runs trainers, and the user's script: looked at before anything is asked of them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from daemon.errors import DaemonError
from schemas.settings.models import DaemonSettings

_PROBE = (
    "import importlib.util as u, sys; print('hotlap', *sys.version_info[:2], int(u.find_spec('torch') is not None))"
)
_PROBE_TIMEOUT_S = 30.0
_ASK_TORCH = (
    "import sys, torch; cuda = torch.cuda.is_available();"
    " print('hotlap', torch.__version__, torch.cuda.get_device_name() if cuda else 'cpu', sep='|')"
)
_TORCH_TIMEOUT_S = 120.0


def command_line(arguments: Sequence[str]) -> str:
    """Return a command as a person would type it."""
    return subprocess.list2cmdline(arguments) if sys.platform == "win32" else shlex.join(arguments)


def python_for(executable: str) -> str:
    """Return the Python that runs trainers. Raises DaemonError where `executable` is none."""
    if not executable:
        return sys.executable
    path = Path(executable).expanduser()
    if not path.is_file():
        raise DaemonError(
            f"python_executable {executable} is not there",
            hint="give the full path of a python with torch, or leave it empty",
            code="E_PYTHON",
        )
    if not os.access(path, os.X_OK):
        raise DaemonError(
            f"python_executable {executable} cannot be executed", hint=f"chmod +x {executable}", code="E_PYTHON"
        )
    return str(path)


def script_for(training_script: str, project: Path) -> Path:
    """Return the user's training script, relative to the project. Raises DaemonError where it is not there."""
    script = project / training_script
    if not script.is_file():
        raise DaemonError(
            f"training_script {training_script} is not there",
            hint="give its path, relative to the project folder or absolute",
            code="E_SCRIPT",
        )
    return script


def check_launch(settings: DaemonSettings, project: Path) -> None:
    """Make sure that what a cycle starts is still there, in no time. Raises DaemonError."""
    python = python_for(settings.python_executable)
    if not Path(python).is_file():
        raise DaemonError(f"{python}, which runs the daemon, is gone", hint="install it again", code="E_PYTHON")
    if settings.training_script:
        script_for(settings.training_script, project)


def check_python(executable: str) -> None:
    """Make sure that `executable` is a Python of at least 3.11 with torch. Raises DaemonError naming what is wrong."""
    python = python_for(executable)
    if python == sys.executable:
        if find_spec("torch") is None:
            raise _no_torch(python)
        return
    probe = [python, "-I", "-c", _PROBE]
    said = ""
    try:
        done = subprocess.run(
            probe, capture_output=True, timeout=_PROBE_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
        answer = done.stdout.decode("utf-8", "replace").split()
        said = next(iter(reversed(done.stderr.decode("utf-8", "replace").strip().splitlines())), "")
    except OSError as error:
        answer, said = [], error.strerror or str(error)
    except subprocess.TimeoutExpired:
        answer, said = [], f"no answer within {_PROBE_TIMEOUT_S:.0f} s"
    if len(answer) != 4 or answer[0] != "hotlap":
        why = f": {said}" if said else ""
        raise DaemonError(
            f"python_executable {executable} is no Python{why} (asked with: {command_line(probe)})",
            hint="give the full path of a python with torch, or leave it empty",
            code="E_PYTHON",
        )
    if (int(answer[1]), int(answer[2])) < (3, 11):
        raise DaemonError(
            f"python_executable is Python {answer[1]}.{answer[2]}", hint="3.11 or newer is needed", code="E_PYTHON"
        )
    if answer[3] != "1":
        raise _no_torch(python)


def torch_in(python: str) -> tuple[str, str]:
    """Import torch in a process of its own; give its version and the device it sees. Raises DaemonError."""
    ask = [python, "-P", "-c", _ASK_TORCH]
    try:
        done = subprocess.run(ask, capture_output=True, timeout=_TORCH_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DaemonError(
            f"{python} does not answer: {error}", hint="correct python_executable", code="E_PYTHON"
        ) from None
    said = done.stdout.decode("utf-8", "replace").strip().splitlines()
    words = said[-1].split("|") if said else []
    if done.returncode != 0 or len(words) != 3 or words[0] != "hotlap":
        raise _no_torch(python)
    return words[1], words[2]


def _no_torch(python: str) -> DaemonError:
    return DaemonError(
        f"{python} has no torch", hint=f"{command_line([python, '-m', 'pip', 'install', 'torch'])}", code="E_TORCH"
    )
